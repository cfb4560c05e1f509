"""The state machine alone: which ending wins, and what is kept."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.executions.execution import KILLED, OUR_FAILURE, SHUT_DOWN, Ending, LiveExecution, timed_out
from python_executor.model.events import Exited, Raised, Result, Stderr, Stdout, Termination
from python_executor.model.execution import Blocks, Status, pieces
from python_executor.model.spec import MEBIBYTE
from python_executor.sandboxes.fake import ISOLATION, USAGE, exited

from .support import BEGINNING, make_spec

LATER = BEGINNING + timedelta(seconds=1.5)


def make_live(started: bool = True, max_output: int = 10, **fields) -> LiveExecution:
    live = LiveExecution("exe_1", "me", "fake", make_spec(**fields), BEGINNING, max_output)
    if started:
        assert live.start("3.12.1", ISOLATION, BEGINNING)
    return live


def test_a_new_execution_is_pending_and_shows_nothing_of_an_end():
    shown = make_live(started=False).snapshot()
    assert (shown.status, shown.started_at, shown.finished_at) == (Status.PENDING, None, None)
    assert (shown.exit_code, shown.termination, shown.error, shown.usage) == (None, None, None, None)


def test_a_started_execution_is_running_and_shows_its_output_so_far():
    live = make_live()
    live.feed(Stdout(b"so "))
    live.feed(Stdout(b"far"))
    live.feed(Stderr(b"err"))
    shown = live.snapshot()
    assert (shown.status, shown.stdout, shown.stderr, shown.exit_code) == (Status.RUNNING, b"so far", b"err", None)
    assert (shown.started_at, shown.python, shown.backend) == (BEGINNING, "3.12.1", "fake")


@pytest.mark.parametrize(
    ("event", "termination", "exit_code", "error"),
    [
        (exited(0), Termination.EXITED, 0, None),
        (exited(3), Termination.EXITED, 3, None),
        (exited(139, Termination.SIGNALED), Termination.SIGNALED, 139, None),
        (
            exited(137, Termination.MEMORY),
            Termination.MEMORY,
            137,
            "out of memory: the limit is 64 MiB (memory_mb)",
        ),
        (
            exited(1, Termination.MEMORY),
            Termination.MEMORY,
            137,
            "out of memory: the limit is 64 MiB (memory_mb)",
        ),
    ],
)
def test_code_that_came_to_its_own_end_is_completed(event, termination, exit_code, error):
    live = make_live()
    assert live.feed(event)
    shown = live.finish(LATER)
    assert (shown.status, shown.termination) == (Status.COMPLETED, termination)
    assert (shown.exit_code, shown.error, shown.usage) == (exit_code, error, USAGE)
    assert (shown.finished_at, shown.duration_ms) == (LATER, 1500)


def test_code_that_used_up_its_processor_time_has_failed():
    live = make_live(limits=replace(make_spec().limits, cpu_seconds=0.5))
    assert live.feed(exited(152, Termination.CPU))
    shown = live.finish(LATER)
    assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.CPU, 152)
    assert shown.error == "execution used up its 0.5 s of processor time (cpu_seconds)"


@pytest.mark.parametrize(
    ("ending", "status", "termination", "exit_code", "error"),
    [
        (KILLED, Status.KILLED, Termination.KILLED, 137, None),
        (
            timed_out(make_spec(timeout_seconds=0.25).limits),
            Status.FAILED,
            Termination.TIMEOUT,
            124,
            "execution timed out after 0.25 s",
        ),
        (timed_out(make_spec().limits), Status.FAILED, Termination.TIMEOUT, 124, "execution timed out after 300 s"),
        (
            SHUT_DOWN,
            Status.FAILED,
            Termination.LOST,
            125,
            "the server was shut down before the execution had finished",
        ),
        (
            OUR_FAILURE,
            Status.FAILED,
            Termination.ERROR,
            125,
            "the server failed to run this; it was not the code's doing: try again",
        ),
    ],
)
def test_an_end_from_outside_keeps_output_and_usage(ending, status, termination, exit_code, error):
    live = make_live()
    live.feed(Stdout(b"before"))
    live.decide(ending)
    live.feed(Stdout(b"!"))
    live.feed(exited(137, Termination.SIGNALED))
    shown = live.finish(LATER)
    assert (shown.status, shown.termination) == (status, termination)
    assert (shown.exit_code, shown.error) == (exit_code, error)
    assert (shown.stdout, shown.usage) == (b"before!", USAGE)


ENDS = (KILLED, SHUT_DOWN, OUR_FAILURE, timed_out(make_spec().limits), exited(0))


@pytest.mark.parametrize("ends", list(permutations(ENDS)))
def test_of_all_ends_that_race_the_first_wins_whatever_the_order(ends):
    live, untouched = make_live(), make_live()
    for end in ends:
        live.decide(end) if isinstance(end, Ending) else live.feed(end)
    first = ends[0]
    untouched.decide(first) if isinstance(first, Ending) else untouched.feed(first)
    assert live.finish(LATER).termination == untouched.finish(LATER).termination


def test_a_decision_is_shown_only_once_it_is_final():
    live = make_live()
    live.decide(KILLED)
    assert live.snapshot().status is Status.RUNNING
    assert live.finish(LATER) is live.snapshot()
    assert live.snapshot().status is Status.KILLED


def test_what_was_decided_before_it_started_never_starts():
    live = make_live(started=False)
    live.decide(KILLED)
    assert not live.start("3.12.1", ISOLATION, LATER)
    shown = live.finish(LATER)
    assert (shown.status, shown.started_at, shown.python, shown.duration_ms) == (Status.KILLED, None, None, None)


def test_a_sandbox_that_does_not_die_is_our_failure_whatever_was_decided():
    live = make_live()
    live.decide(KILLED)
    live.give_up()
    assert live.finish(LATER).termination is Termination.ERROR


def test_nothing_changes_what_is_final():
    live = make_live()
    live.feed(exited(0))
    final = live.finish(LATER)
    assert not live.feed(Stdout(b"late"))
    assert not live.feed(exited(1))
    assert not live.decide(KILLED)
    live.give_up()
    assert live.finish(LATER + timedelta(hours=1)) is final
    assert live.snapshot() is final


def test_an_end_that_nobody_decided_is_our_failure():
    assert make_live().finish(LATER).termination is Termination.ERROR


def test_a_clock_that_is_set_back_gives_no_negative_times():
    live = make_live(started=False)
    live.start("3.12.1", ISOLATION, BEGINNING - timedelta(hours=1))
    live.feed(exited(0))
    shown = live.finish(BEGINNING - timedelta(hours=2))
    assert (shown.started_at, shown.finished_at, shown.duration_ms) == (BEGINNING, BEGINNING, 0)


@given(chunks=st.lists(st.binary(max_size=8)))
def test_output_is_kept_up_to_the_cap_and_marked_only_where_something_is_missing(chunks):
    live, whole = make_live(max_output=10), b"".join(chunks)
    for chunk in chunks:
        live.feed(Stdout(chunk))
    live.feed(exited(0))
    shown = live.finish(LATER)
    assert (shown.stdout, shown.stdout_truncated) == (whole[:10], len(whole) > 10)
    assert (shown.stderr, shown.stderr_truncated) == (b"", False)


def test_the_run_goes_on_past_the_cap_and_the_streams_have_one_each():
    live = make_live(max_output=3)
    live.feed(Stdout(b"12345"))
    live.feed(Stderr(b"123"))
    live.feed(exited(7))
    shown = live.finish(LATER)
    assert (shown.stdout, shown.stdout_truncated) == (b"123", True)
    assert (shown.stderr, shown.stderr_truncated) == (b"123", False)
    assert shown.exit_code == 7


def test_the_result_and_the_exception_are_shown_as_they_were_told():
    live = make_live()
    live.feed(Result("4"))
    live.feed(Raised("ValueError", 3))
    live.feed(exited(1))
    shown = live.finish(LATER)
    assert (shown.result, shown.error_type, shown.error_line, shown.error) == ("4", "ValueError", 3, None)
    assert shown.warnings == ()


def test_lone_surrogates_can_break_no_json():
    live = make_live()
    live.feed(Result("'\udc80é😀\x00'"))
    live.feed(Raised("E\ud800", None))
    live.feed(exited(1))
    shown = live.finish(LATER)
    assert shown.result is not None and shown.error_type is not None
    (shown.result + shown.error_type).encode("utf-8")
    assert shown.result.endswith("é😀\x00'")


def test_a_cut_result_is_told_after_the_warnings_of_the_request():
    live = make_live(warnings=("a link was left out",))
    live.feed(Result("abc", truncated=True))
    live.feed(exited(0))
    expected = ("a link was left out", "the result was too long: only its first 3 characters are shown")
    assert live.finish(LATER).warnings == expected


def test_the_last_event_is_told_from_the_others():
    live = make_live()
    assert [live.feed(event) for event in (Stdout(b"x"), Result("1"), Raised("E", 1))] == [False, False, False]
    assert live.feed(Exited(0, Termination.EXITED, USAGE))


def grown_by(work) -> int:
    """Bytes of memory that stay taken while the outcome of the work is held."""
    tracemalloc.start()
    try:
        kept = work()
        grown, _ = tracemalloc.get_traced_memory()
        del kept
        return grown
    finally:
        tracemalloc.stop()


def test_whoever_looks_at_a_running_execution_shares_its_output():
    live = make_live(max_output=10 * MEBIBYTE)
    for _ in range(10):
        live.feed(Stdout(bytes(MEBIBYTE)))
    assert grown_by(lambda: [live.snapshot() for _ in range(100)]) < MEBIBYTE


def test_output_that_comes_byte_by_byte_takes_little_more_than_its_bytes():
    live = make_live(max_output=10 * MEBIBYTE)
    assert grown_by(lambda: [live.feed(Stdout(b"x")) for _ in range(MEBIBYTE)] and live.snapshot()) < 12 * MEBIBYTE
    assert live.snapshot().stdout == b"x" * MEBIBYTE


@given(chunks=st.lists(st.binary(max_size=8)), size=st.integers(1, 5))
def test_blocks_are_the_same_bytes_whatever_the_pieces(chunks, size):
    whole, blocks = b"".join(chunks), Blocks(*chunks)
    assert (len(blocks), bytes(blocks), blocks, hash(blocks)) == (len(whole), whole, whole, hash(whole))
    for data in (whole, blocks):
        parts = list(pieces(data, size))
        assert b"".join(parts) == whole and all(len(part) <= size for part in parts)
