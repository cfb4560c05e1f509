"""What every store promises; one suite over all of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.model.events import Termination, Usage
from python_executor.model.execution import Execution, Status
from python_executor.storage.memory import MemoryStore
from python_executor.storage.rows import to_execution, to_row
from python_executor.storage.sqlite import SqliteStore

BEGINNING = datetime(2026, 1, 15, 10, 30, 0, 123456, tzinfo=UTC)
MAX_BYTES = 100_000


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request, tmp_path):
    """Makes an empty store."""
    if request.param == "memory":
        return lambda: MemoryStore(MAX_BYTES)
    return lambda: SqliteStore(tmp_path / "data", MAX_BYTES)


def with_store(make_store, check) -> None:
    """Run a check with an open store."""

    async def run():
        store = make_store()
        await store.open()
        try:
            await check(store)
        finally:
            await store.close()

    asyncio.run(run())


def pending(number: int = 0) -> Execution:
    return Execution(
        execution_id=f"exe_{number}", owner="me", status=Status.PENDING, created_at=BEGINNING, warnings=("a", "b")
    )


def ended(number: int = 0, after: float = 1, **fields) -> Execution:
    """Execution number N, finished so many seconds after the beginning."""
    made = Execution(
        execution_id=f"exe_{number}",
        owner="me",
        status=Status.COMPLETED,
        created_at=BEGINNING,
        started_at=BEGINNING,
        finished_at=BEGINNING + timedelta(seconds=after),
        stdout=b"\x00\xff",
        exit_code=0,
        termination=Termination.EXITED,
        usage=Usage(3, 4),
    )
    return replace(made, **fields)


def test_what_was_put_is_what_one_gets(make_store):
    async def check(store):
        for execution in (
            pending(1),
            ended(2),
            ended(3, stdout_truncated=True, stderr=b"e", error_type="É\x00", error_line=3, warnings=("w",)),
            ended(4, status=Status.FAILED, termination=Termination.LOST, error="é😀", result="'\udc80'", usage=None),
            ended(5, backend="native", python="3.12.1", stderr_truncated=True, stdout=b"x" * 50_000),
        ):
            await store.put(execution)
            assert await store.get(execution.execution_id) == execution

    with_store(make_store, check)


def test_a_later_put_replaces_an_earlier_one_even_before_that_has_returned(make_store):
    async def check(store):
        await asyncio.gather(store.put(pending()), store.put(ended()))
        assert await store.get("exe_0") == ended()

    with_store(make_store, check)


def test_what_was_put_together_is_there_together(make_store):
    async def check(store):
        await store.put(ended(1), pending(2), ended(3))
        assert [await store.get(f"exe_{number}") for number in (1, 2, 3)] == [ended(1), pending(2), ended(3)]

    with_store(make_store, check)


@pytest.mark.parametrize("execution_id", ["exe_1", "", "\x00", "\udc80", "é" * 10_000])
def test_an_unknown_id_of_whatever_shape_is_none(make_store, execution_id):
    async def check(store):
        await store.put(ended(0))
        assert await store.get(execution_id) is None

    with_store(make_store, check)


def test_many_puts_and_gets_at_once_all_come_through(make_store):
    async def check(store):
        await asyncio.gather(*(store.put(ended(number)) for number in range(100)))
        found = await asyncio.gather(*(store.get(f"exe_{number}") for number in range(100)))
        assert found == [ended(number) for number in range(100)]

    with_store(make_store, check)


def test_what_is_not_final_is_marked_lost_and_the_rest_is_left_alone(make_store):
    async def check(store):
        running = replace(pending(2), status=Status.RUNNING, started_at=BEGINNING, stdout=b"so far")
        for execution in (pending(1), running, ended(3)):
            await store.put(execution)
        now = BEGINNING + timedelta(seconds=9)
        assert await store.mark_lost(now) == 2
        shown = await store.get("exe_2")
        assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.LOST, 125)
        assert (shown.finished_at, shown.stdout) == (now, b"so far")
        assert (await store.get("exe_1")).error == "the server died before the execution had finished"
        assert await store.get("exe_3") == ended(3)
        assert await store.mark_lost(now) == 0

    with_store(make_store, check)


def test_only_what_finished_before_is_dropped(make_store):
    async def check(store):
        for execution in (pending(0), ended(1, after=1), ended(2, after=2), ended(3, after=3)):
            await store.put(execution)
        assert await store.expire(BEGINNING + timedelta(seconds=2)) == 1
        assert [await store.get(f"exe_{number}") is not None for number in range(4)] == [True, False, True, True]

    with_store(make_store, check)


def test_beyond_the_size_limit_the_oldest_go_first_and_unfinished_ones_stay(make_store):
    async def check(store):
        await store.put(pending(0))
        for number, after in ((1, 3), (2, 1), (3, 2)):
            await store.put(ended(number, after=after, stderr=b"x" * (MAX_BYTES * 4 // 10)))
        await store.expire(BEGINNING)
        assert [await store.get(f"exe_{number}") is not None for number in range(4)] == [True, True, False, True]

    with_store(make_store, check)


def test_closing_twice_is_closing_once(make_store):
    async def check(store):
        await store.close()

    with_store(make_store, check)


TIMES = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(
    execution=st.builds(
        Execution,
        execution_id=st.text(),
        owner=st.text(),
        created_at=TIMES,
        started_at=st.none() | TIMES,
        finished_at=st.none() | TIMES,
        result=st.none() | st.text(st.characters()),
        warnings=st.lists(st.text()).map(tuple),
    )
)
def test_a_row_holds_all_of_an_execution(execution):
    assert to_execution(to_row(execution)) == execution
