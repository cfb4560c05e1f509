"""What callers may rely on, with a scripted backend and in virtual time."""

from __future__ import annotations

import asyncio
import gc
import io
import weakref
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from python_executor.executions import admission, service
from python_executor.executions.lifecycle import KILL_PATIENCE
from python_executor.executions.service import RECORD_DELAY
from python_executor.model.errors import BackendError, NotFound, QueueFull, StoreError, Unavailable
from python_executor.model.events import Stdout, Termination
from python_executor.model.execution import Status
from python_executor.model.spec import FileTree
from python_executor.sandboxes.fake import USAGE, FakeSandbox, always, exited
from python_executor.storage.memory import MemoryStore

from .support import World, make_spec, now, run, settle, until_recorded, world


def blocked(*before):
    """A script that never ends by itself."""
    return always(*before, asyncio.Event(), exited(0))


class BrokenStore(MemoryStore):
    """Fails to record, or takes for ever over it, executions of a certain kind."""

    def __init__(self, fails=lambda execution: True, hangs=False):
        super().__init__(max_bytes=1_000_000)
        self.fails, self.hangs = fails, hangs

    async def put(self, *executions):
        if any(map(self.fails, executions)):
            if self.hangs:
                await asyncio.Event().wait()
            raise StoreError("the disk is full")
        await super().put(*executions)


def is_final(execution) -> bool:
    return execution.status.is_final


# Running


def test_a_run_answers_with_what_the_code_did():
    async def check():
        async with world() as w:
            shown = await w.executions.run(make_spec())
            assert (shown.status, shown.stdout, shown.exit_code) == (Status.COMPLETED, b"Hello, World!\n", 0)
            assert (shown.backend, shown.python, shown.owner, shown.usage) == ("fake", "3.12.1", "this-server", USAGE)
            assert shown.execution_id.startswith("exe_")

    run(check())


def test_each_end_is_one_line_in_the_log_that_tells_nothing_of_what_ran():
    async def check():
        async with world() as w:
            shown.append(await w.executions.run(make_spec(), "192.0.2.7"))
            await until_recorded()

    shown = []
    with capture_logs() as logs:
        run(check())
    (line,) = [line for line in logs if line["event"] == "execution ended"]
    assert set(line) == {"event", "log_level", "execution_id", "caller", "ending", "ms"}
    assert (line["execution_id"], line["caller"], line["ending"]) == (shown[0].execution_id, "192.0.2.7", "exited")


def test_an_execution_that_a_stop_ends_has_its_line_in_the_log():
    async def check():
        async with world(blocked()) as w:
            ids.append(await w.executions.submit(make_spec()))

    ids = []
    with capture_logs() as logs:
        run(check())
    (line,) = [line for line in logs if line["event"] == "execution ended"]
    assert (line["execution_id"], line["caller"]) == (ids[0], None)


def test_a_submitted_execution_is_on_record_before_its_id_is_known():
    async def check():
        async with world(blocked()) as w:
            execution_id = await w.executions.submit(make_spec())
            recorded = await w.store.get(execution_id)
            assert recorded is not None and recorded.status is Status.PENDING

    run(check())


def test_a_submitted_execution_is_pending_then_running_then_final_and_on_record():
    async def check():
        gate, more = asyncio.Event(), asyncio.Event()
        async with world(always(Stdout(b"one"), more, Stdout(b"two"), exited(0))) as w:
            w.backend.acquiring = [gate]
            execution_id = await w.executions.submit(make_spec())
            assert (await w.executions.get(execution_id)).status is Status.PENDING
            gate.set()
            await settle()
            shown = await w.executions.get(execution_id)
            assert (shown.status, shown.stdout) == (Status.RUNNING, b"one")
            more.set()
            final = await w.executions.wait(execution_id, 60)
            assert (final.status, final.stdout) == (Status.COMPLETED, b"onetwo")
            await until_recorded()
            assert w.executions._lives == {}
            assert await w.store.get(execution_id) == await w.executions.get(execution_id) == final

    run(check())


def test_the_clock_of_an_execution_starts_when_it_has_its_sandbox():
    async def check():
        gate, running = asyncio.Event(), asyncio.Event()
        async with world(always(running, exited(0))) as w:
            w.backend.acquiring = [gate]
            execution_id = await w.executions.submit(make_spec(timeout_seconds=10))
            await asyncio.sleep(100)
            gate.set()
            await asyncio.sleep(9)
            running.set()
            final = await w.executions.wait(execution_id, 60)
            assert (final.status, final.duration_ms) == (Status.COMPLETED, 9000)

    run(check())


def test_waiting_ends_with_the_seconds_or_with_the_execution():
    async def check():
        gate = asyncio.Event()
        async with world(always(gate, exited(0))) as w:
            execution_id = await w.executions.submit(make_spec())
            begun = now()
            assert (await w.executions.wait(execution_id, 5)).status is Status.RUNNING
            assert (now() - begun).total_seconds() == pytest.approx(5)
            asyncio.get_running_loop().call_later(7, gate.set)
            assert (await w.executions.wait(execution_id, 60)).status is Status.COMPLETED
            assert (now() - begun).total_seconds() == pytest.approx(12)
            assert (await w.executions.wait(execution_id, 60)).status is Status.COMPLETED

    run(check())


def test_an_id_that_nobody_has_is_not_found():
    async def check():
        async with world() as w:
            for call in (w.executions.get("exe_x"), w.executions.wait("", 1), w.executions.kill("\udc80")):
                with pytest.raises(NotFound):
                    await call

    run(check())


def test_the_answer_does_not_wait_for_the_destruction_but_the_slot_does():
    async def check():
        gate = asyncio.Event()
        async with world(max_concurrent=1) as w:
            w.backend.destroying = [gate]
            assert (await w.executions.run(make_spec())).status is Status.COMPLETED
            second = await w.executions.submit(make_spec())
            await settle()
            assert (await w.executions.get(second)).status is Status.PENDING
            gate.set()
            assert (await w.executions.wait(second, 1)).status is Status.COMPLETED

    run(check())


def test_an_uploaded_archive_is_closed_when_it_is_of_no_more_use():
    async def check():
        async with world(max_concurrent=1, queue_max=0) as w:
            files = [io.BytesIO(b"tar") for _ in range(3)]
            first, refused, last = (make_spec(tree=FileTree((), file)) for file in files)
            execution_id = await w.executions.submit(first)
            with pytest.raises(QueueFull):
                await w.executions.submit(refused)
            await w.executions.wait(execution_id, 1)
            await settle()
            await w.executions.run(last)
            await settle()
            assert all(file.closed for file in files)

    run(check())


# Admission


def test_a_full_queue_refuses_and_runs_nothing():
    async def check():
        async with world(blocked(), max_concurrent=1, queue_max=1) as w:
            for _ in range(2):
                await w.executions.submit(make_spec())
            for refused in (w.executions.submit(make_spec()), w.executions.run(make_spec())):
                with pytest.raises(QueueFull):
                    await refused
            assert len(w.executions._lives) == 2

    run(check())


def test_executions_start_in_the_order_in_which_they_came():
    async def check():
        async with world(max_concurrent=1) as w:
            specs = [make_spec(memory_mb=1 + number % 3, args=(str(number),)) for number in range(9)]
            await asyncio.gather(*(w.executions.run(spec) for spec in specs))
            assert w.specs_run == specs

    run(check())


def test_what_runs_at_once_stays_within_the_memory_budget():
    async def check():
        async with world(blocked(), memory_budget_mb=100) as w:
            for memory_mb in (60, 50, 45):
                await w.executions.submit(make_spec(memory_mb=memory_mb))
            await settle()
            assert len(w.specs_run) == 1

    run(check())


# Ending from outside


def test_kill_while_pending_never_runs_the_code():
    async def check():
        async with world(blocked(), max_concurrent=1) as w:
            running, waiting, behind = [await w.executions.submit(make_spec()) for _ in range(3)]
            await settle()
            assert await w.executions.kill(waiting) is Status.KILLED
            shown = await w.executions.get(waiting)
            assert (shown.exit_code, shown.termination, shown.started_at) == (137, Termination.KILLED, None)
            await w.executions.kill(running)
            await settle()
            assert (await w.executions.get(behind)).status is Status.RUNNING
            assert len(w.specs_run) == 2

    run(check())


def test_kill_while_a_sandbox_is_made_never_runs_the_code_and_destroys_the_sandbox():
    async def check():
        gate = asyncio.Event()
        async with world(blocked()) as w:
            w.backend.acquiring = [gate]
            execution_id = await w.executions.submit(make_spec())
            await settle()
            assert await w.executions.kill(execution_id) is Status.KILLED
            assert w.executions._admission.running == 1  # its memory may still come to be used
            gate.set()
            await settle()
            assert (w.destroyed, w.specs_run) == ([1], [])

    run(check())


def test_kill_while_running_keeps_output_and_usage_and_is_no_failure(capsys):
    async def check():
        async with world(blocked(Stdout(b"so far"))) as w:
            execution_id = await w.executions.submit(make_spec())
            await settle()
            assert await w.executions.kill(execution_id) is Status.KILLED
            shown = await w.executions.get(execution_id)
            assert (shown.stdout, shown.usage) == (b"so far", USAGE)
            assert (shown.exit_code, shown.termination, shown.error) == (137, Termination.KILLED, None)

    run(check())
    assert "error" not in capsys.readouterr().out


def test_kills_that_come_together_or_again_all_answer_killed():
    async def check():
        async with world(blocked()) as w:
            execution_id = await w.executions.submit(make_spec())
            await settle()
            kills = [w.executions.kill(execution_id) for _ in range(3)]
            assert set(await asyncio.gather(*kills)) == {Status.KILLED}
            await settle()
            assert await w.executions.kill(execution_id) is Status.KILLED

    run(check())


def test_kill_after_the_end_changes_nothing():
    async def check():
        async with world() as w:
            final = await w.executions.run(make_spec())
            assert await w.executions.kill(final.execution_id) is Status.COMPLETED
            assert await w.executions.get(final.execution_id) == final

    run(check())


def test_timeout_keeps_the_output_so_far():
    async def check():
        async with world(blocked(Stdout(b"so far"))) as w:
            shown = await w.executions.run(make_spec(timeout_seconds=7))
            assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.TIMEOUT, 124)
            assert (shown.error, shown.stdout) == ("execution timed out after 7 s", b"so far")
            assert (shown.duration_ms, shown.usage) == (7000, USAGE)

    run(check())


@pytest.mark.parametrize("exit_is_first", [True, False])
def test_an_exit_and_a_timeout_at_the_same_moment_give_one_end(exit_is_first):
    async def check():
        gate = asyncio.Event()
        async with world(always(gate, exited(0))) as w:
            execution_id = await w.executions.submit(make_spec(timeout_seconds=7))
            await settle()
            asyncio.get_running_loop().call_later(7 if exit_is_first else 7 + 1e-10, gate.set)
            final = await w.executions.wait(execution_id, 60)
            assert final.termination in (Termination.EXITED, Termination.TIMEOUT)
            await until_recorded()
            assert (w.destroyed, await w.store.get(execution_id)) == ([1], final)

    run(check())


def test_a_client_that_goes_away_kills_what_it_waited_for():
    async def check():
        async with world(blocked(Stdout(b"so far"))) as w:
            running = asyncio.create_task(w.executions.run(make_spec()))
            await settle()
            (execution_id,) = w.executions._lives
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await until_recorded()
            recorded = await w.store.get(execution_id)
            assert recorded is not None
            assert (recorded.status, recorded.stdout, w.destroyed) == (Status.KILLED, b"so far", [1])

    run(check())


def test_a_client_that_goes_away_while_it_is_queued_leaves_the_queue():
    async def check():
        async with world(blocked(), max_concurrent=1) as w:
            await w.executions.submit(make_spec())
            queued = asyncio.create_task(w.executions.run(make_spec()))
            await settle()
            queued.cancel()
            await settle()
            assert (w.executions._admission.running, w.executions._admission.waiting) == (1, 0)

    run(check())


def test_a_caller_who_stops_waiting_leaves_the_execution_and_the_others_alone():
    async def check():
        gate = asyncio.Event()
        async with world(always(gate, exited(0))) as w:
            execution_id = await w.executions.submit(make_spec())
            goes, stays = (asyncio.create_task(w.executions.wait(execution_id, 60)) for _ in range(2))
            await settle()
            goes.cancel()
            await settle()
            gate.set()
            assert (await stays).status is Status.COMPLETED

    run(check())


# Failures of ours


def test_no_sandbox_to_be_had_is_our_failure_and_gives_the_slot_back(capsys):
    async def check():
        async with world(max_concurrent=1) as w:
            w.backend.acquiring = [BackendError("no cgroup left: delegate more")]
            shown = await w.executions.run(make_spec(args=("a secret",)))
            assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.ERROR, 125)
            assert shown.error is not None and "cgroup" not in shown.error
            w.backend.acquiring = []
            assert (await w.executions.run(make_spec())).status is Status.COMPLETED

    run(check())
    logged = capsys.readouterr().out
    assert "no cgroup left: delegate more" in logged and "memory_mb" in logged and "a secret" not in logged


@pytest.mark.parametrize("failure", [BackendError("socket closed"), ValueError("quotes what the code printed")])
def test_a_sandbox_lost_on_the_way_is_our_failure_and_keeps_the_output(failure, capsys):
    async def check():
        async with world(always(Stdout(b"so far"), failure)) as w:
            shown = await w.executions.run(make_spec())
            assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.ERROR, 125)
            assert shown.stdout == b"so far"
            await settle()
            assert w.destroyed == [1]

    run(check())
    logged = capsys.readouterr().out
    assert "the sandbox was lost" in logged and "quotes what" not in logged


def test_a_sandbox_that_ends_without_saying_how_is_our_failure():
    async def check():
        async with world(always(Stdout(b"x"))) as w:
            assert (await w.executions.run(make_spec())).termination is Termination.ERROR

    run(check())


@pytest.mark.parametrize("by", ["kill", "timeout"])
def test_a_sandbox_that_does_not_die_is_our_failure_and_is_destroyed_all_the_same(by):
    async def check():
        async with world(blocked(Stdout(b"so far"))) as w:
            w.backend.unkillable = True
            execution_id = await w.executions.submit(make_spec(timeout_seconds=7))
            await settle()
            if by == "kill":
                await w.executions.kill(execution_id)
            final = await w.executions.wait(execution_id, 60)
            assert (final.termination, final.exit_code, final.stdout) == (Termination.ERROR, 125, b"so far")
            assert final.duration_ms == 1000 * (KILL_PATIENCE + (0 if by == "kill" else 7))
            await settle()
            assert w.destroyed == [1]

    run(check())


def test_a_sandbox_that_lingers_after_its_end_is_killed_and_destroyed():
    async def check():
        async with world(always(exited(3), asyncio.Event())) as w:
            w.backend.unkillable = True
            begun = now()
            assert (await w.executions.run(make_spec())).exit_code == 3
            assert now() == begun
            await asyncio.sleep(KILL_PATIENCE + 1)
            assert w.destroyed == [1]

    run(check())


@pytest.mark.parametrize("where", ["acquire", "run"])
def test_a_cancellation_inside_the_backend_leaves_nobody_waiting(where, capsys):
    async def cancelled(*_):
        raise asyncio.CancelledError

    async def check():
        async with world(blocked()) as w:
            if where == "acquire":
                w.backend.acquire = cancelled
            else:
                w.backend.script = lambda spec: [Cancelled()]
            assert (await w.executions.run(make_spec())).termination is Termination.ERROR

    class Cancelled(asyncio.Event):
        wait = cancelled

    run(check())
    assert "the sandbox was lost" in capsys.readouterr().out or where == "acquire"


def test_a_sandbox_that_cannot_be_killed_is_our_failure_and_destroyed(monkeypatch, capsys):
    def fail(self):
        raise OSError("no such descriptor")

    async def check():
        async with world(blocked()) as w:
            execution_id = await w.executions.submit(make_spec())
            await settle()
            with monkeypatch.context() as patch:
                patch.setattr(FakeSandbox, "kill", fail)
                assert await w.executions.kill(execution_id) is Status.FAILED
            await settle()
            assert w.destroyed == [1]

    run(check())
    assert "could not be killed" in capsys.readouterr().out


def test_an_end_told_while_patience_is_over_is_still_taken(monkeypatch):
    async def late(self, spec, emit):
        try:
            await asyncio.Event().wait()
        finally:
            emit(exited(137))

    async def check():
        async with world() as w:
            shown = await w.executions.run(make_spec(timeout_seconds=7))
            assert (shown.termination, shown.usage) == (Termination.TIMEOUT, USAGE)
            await settle()
            assert w.destroyed == [1]

    monkeypatch.setattr(FakeSandbox, "run", late)
    run(check())


@pytest.mark.parametrize("end", ["exit", "failure", "kill"])
def test_what_has_ended_and_is_on_record_is_let_go_of_without_the_garbage_collector(end, monkeypatch):
    async def ending(self, spec, emit):
        emit(Stdout(b"x"))
        if end == "failure":
            raise ValueError
        await (asyncio.Event().wait() if end == "kill" else asyncio.sleep(0))
        emit(exited(0))

    async def check():
        async with world() as w:
            running = asyncio.create_task(w.executions.run(make_spec(timeout_seconds=1)))
            await asyncio.sleep(0)
            (life,) = w.executions._lives.values()
            gone = weakref.ref(life.live)
            del life
            await running
            del running
            await until_recorded()
            assert gone() is None

    monkeypatch.setattr(FakeSandbox, "run", ending)
    gc.disable()
    try:
        run(check())
    finally:
        gc.enable()


def test_what_a_run_raises_when_nobody_waits_for_it_any_more_is_not_shown(monkeypatch):
    async def stubborn(self, spec, emit):
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("quotes what the code printed")

    async def check():
        shown = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: shown.append(context))
        async with world() as w:
            assert (await w.executions.run(make_spec())).termination is Termination.ERROR
        gc.collect()
        assert shown == []

    monkeypatch.setattr(FakeSandbox, "run", stubborn)
    run(check())


def test_a_destruction_that_fails_is_logged_and_gives_the_slot_back(capsys):
    async def check():
        async with world(max_concurrent=1) as w:
            w.backend.destroying = [OSError("busy")]
            for _ in range(2):
                assert (await w.executions.run(make_spec())).status is Status.COMPLETED
            await settle()
            assert w.executions._admission.running == 0

    run(check())
    assert "could not be destroyed" in capsys.readouterr().out


# The store


def test_a_result_is_not_held_up_by_its_record():
    async def check():
        store = BrokenStore(hangs=True)
        async with world(store=store, max_concurrent=1) as w:
            for _ in range(3):
                shown = await w.executions.run(make_spec())
                assert shown.status is Status.COMPLETED
                assert await w.executions.get(shown.execution_id) == shown

    run(check())


class CountingStore(MemoryStore):
    """Notes what is written together, and when."""

    def __init__(self):
        super().__init__(max_bytes=1_000_000)
        self.writes = []

    async def put(self, *executions):
        self.writes.append((now(), executions))
        await super().put(*executions)


def test_what_ends_at_about_the_same_time_is_recorded_in_one_write():
    async def check():
        store = CountingStore()
        async with world(store=store) as w:
            shown = []
            for _ in range(5):
                shown.append(await w.executions.run(make_spec()))
                await asyncio.sleep(RECORD_DELAY / 10)
            assert store.writes == []
            await until_recorded()
            assert [set(executions) for _, executions in store.writes] == [set(shown)]
            assert w.executions._lives == {}

    run(check())


def test_the_record_of_what_waits_for_its_id_is_not_held_up():
    async def check():
        store = CountingStore()
        async with world(blocked(), store=store) as w:
            begun = now()
            await w.executions.submit(make_spec())
            assert [at for at, _ in store.writes] == [begun] == [now()]

    run(check())


def test_a_result_can_be_read_between_its_end_and_its_record():
    async def check():
        async with world() as w:
            shown = await w.executions.run(make_spec())
            assert await w.store.get(shown.execution_id) is None
            for read in (w.executions.get(shown.execution_id), w.executions.wait(shown.execution_id, 1)):
                assert await read == shown
            assert await w.executions.kill(shown.execution_id) is Status.COMPLETED
            await until_recorded()
            assert await w.store.get(shown.execution_id) == await w.executions.get(shown.execution_id) == shown

    run(check())


class SlowStore(MemoryStore):
    """A store that takes its time and gives everybody a record of their own, as one on a disk does."""

    reading = most = reads = 0

    async def put(self, *executions):
        await super().put(*map(replace, executions))

    async def get(self, execution_id):
        self.reads += 1
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(1)
        self.reading -= 1
        found = await super().get(execution_id)
        return found and replace(found)


def test_those_who_look_at_one_recorded_result_share_it():
    async def check():
        store = SlowStore(max_bytes=1_000_000)
        async with world(store=store) as w:
            execution_id = (await w.executions.run(make_spec())).execution_id
            await until_recorded()
            gc.collect()
            shown = await asyncio.gather(*(w.executions.get(execution_id) for _ in range(100)))
            assert (store.reads, len(set(map(id, shown)))) <= (2, 2)
            held = weakref.ref(shown[0])
            del shown
            await settle()
            gc.collect()
            assert held() is None

    run(check())


def test_no_more_than_a_few_records_are_read_at_once():
    async def check():
        store = SlowStore(max_bytes=1_000_000)
        async with world(store=store) as w:
            ids = [(await w.executions.run(make_spec())).execution_id for _ in range(20)]
            await until_recorded()
            gc.collect()
            for reading in asyncio.as_completed([w.executions.get(each) for each in ids]):
                await reading
            assert store.most <= 2

    run(check())


def test_close_loses_no_record():
    async def check():
        w = World()
        await w.executions.start()
        ended = await w.executions.run(make_spec())
        w.backend.script = blocked()
        running = await w.executions.submit(make_spec())
        begun = now()
        await w.executions.close(grace=0)
        assert now() == begun
        assert await w.store.get(ended.execution_id) == ended
        assert (await w.store.get(running)).termination is Termination.LOST

    run(check())


def test_a_record_that_cannot_be_written_takes_no_other_with_it(capsys):
    async def check():
        store = BrokenStore(fails=lambda execution: execution.stdout == b"bad")
        async with world(lambda spec: [Stdout(spec.stdin), exited(0)], store=store) as w:
            shown = [await w.executions.run(make_spec(stdin=stdin)) for stdin in (b"one", b"bad", b"two")]
            await until_recorded()
            assert set(store._executions.values()) == {shown[0], shown[2]}
            assert list(w.executions._lives) == [shown[1].execution_id]

    run(check())
    assert capsys.readouterr().out.count("could not be recorded") == 1


def test_what_cannot_be_recorded_is_not_taken_and_never_runs():
    async def check():
        async with world(store=BrokenStore(), max_concurrent=1) as w:
            with pytest.raises(Unavailable):
                await w.executions.submit(make_spec())
            await settle()
            assert (w.backend.sandboxes, w.executions._admission.running, w.executions._lives) == ([], 0, {})

    run(check())


def test_a_client_that_goes_away_before_it_has_an_id_leaves_no_execution_behind():
    async def check():
        store = BrokenStore(fails=lambda execution: not is_final(execution), hangs=True)
        async with world(store=store) as w:
            submitting = asyncio.create_task(w.executions.submit(make_spec()))
            await settle()
            submitting.cancel()
            await until_recorded()
            assert (w.backend.sandboxes, w.executions._lives) == ([], {})
            (recorded,) = store._executions.values()
            assert recorded.status is Status.KILLED

    run(check())


def test_an_end_that_cannot_be_recorded_can_be_read_until_it_expires(capsys):
    async def check():
        async with world(store=BrokenStore(fails=is_final), cleanup_ttl_seconds=300) as w:
            execution_id = await w.executions.submit(make_spec())
            final = await w.executions.wait(execution_id, 1)
            await asyncio.sleep(290)
            assert await w.executions.get(execution_id) == final
            await asyncio.sleep(30)
            with pytest.raises(NotFound):  # although it is on record as pending
                await w.executions.get(execution_id)
            assert w.executions._lives == {}

    run(check())
    assert "could not be recorded" in capsys.readouterr().out


def test_output_that_waits_for_a_slow_store_is_bounded_and_queued_ones_can_still_be_killed(monkeypatch):
    monkeypatch.setattr(admission, "BACKLOG_BYTES", 100)
    gate = asyncio.Event()

    class Slow(MemoryStore):
        async def put(self, *executions):
            await (gate.wait() if any(map(is_final, executions)) else asyncio.sleep(0))
            await super().put(*executions)

    async def check():
        async with world(always(Stdout(b"x" * 60), exited(0)), store=Slow(1_000_000)) as w:
            for _ in range(2):
                await w.executions.run(make_spec())
            killed, waiting = [await w.executions.submit(make_spec()) for _ in range(2)]
            assert await w.executions.kill(killed) is Status.KILLED
            assert (await w.executions.wait(waiting, 60)).status is Status.PENDING
            gate.set()
            assert (await w.executions.wait(waiting, 60)).status is Status.COMPLETED
            await until_recorded()
            assert w.executions._admission.backlog == 0

    run(check())


def test_what_cannot_be_recorded_is_kept_only_as_long_as_others_can_still_start(monkeypatch, capsys):
    monkeypatch.setattr(admission, "BACKLOG_BYTES", 100)
    monkeypatch.setattr(service, "BACKLOG_BYTES", 100)

    async def check():
        async with world(always(Stdout(b"x" * 20), exited(0)), store=BrokenStore()) as w:
            for _ in range(10):
                assert (await w.executions.run(make_spec())).status is Status.COMPLETED
                await until_recorded()
            assert 0 < w.executions._admission.backlog < 100
            await asyncio.sleep(400)
            assert (w.executions._admission.backlog, w.executions._lives) == (0, {})

    run(check())


def test_finished_executions_expire_even_before_they_are_swept():
    async def check():
        async with world(cleanup_ttl_seconds=3) as w:
            final = await w.executions.run(make_spec())
            await until_recorded()
            await asyncio.sleep(2.9)
            assert await w.executions.get(final.execution_id) == final
            await asyncio.sleep(0.2)
            assert await w.store.get(final.execution_id) == final
            with pytest.raises(NotFound):
                await w.executions.get(final.execution_id)
            await asyncio.sleep(2)
            assert await w.store.get(final.execution_id) is None

    run(check())


def test_a_sweep_that_fails_is_not_the_last(capsys):
    class Failing(MemoryStore):
        sweeps = 0

        async def expire(self, finished_before):
            self.sweeps += 1
            raise StoreError("the disk is full")

    async def check():
        async with world(store=Failing(max_bytes=1), cleanup_ttl_seconds=3) as w:
            await asyncio.sleep(10)
            assert w.store.sweeps > 3

    run(check())
    assert "the disk is full" in capsys.readouterr().out


# Starting and closing


def test_work_is_taken_from_start_to_close():
    async def check():
        w = World()
        assert not w.executions.ready
        with pytest.raises(Unavailable):
            await w.executions.submit(make_spec())
        await w.executions.start()
        assert w.executions.ready and w.backend.started
        await w.executions.close(grace=0)
        assert not w.executions.ready and w.backend.closed
        with pytest.raises(Unavailable):
            await w.executions.run(make_spec())
        await w.executions.close(grace=0)

    run(check())


def test_a_backend_that_cannot_start_leaves_the_store_closed():
    class NoBackend:
        async def start(self):
            raise BackendError("user namespaces are off: sysctl kernel.unprivileged_userns_clone=1")

    class Watched(MemoryStore):
        closed = False

        async def close(self):
            self.closed = True

    async def check():
        w = World(store=Watched(max_bytes=1))
        w.executions._backend = NoBackend()
        with pytest.raises(BackendError):
            await w.executions.start()
        assert w.store.closed and not w.executions.ready

    run(check())


def test_what_an_earlier_life_left_is_lost():
    async def check():
        store = MemoryStore(max_bytes=1)
        async with world(store=store) as w:
            final = await w.executions.run(make_spec())
            await until_recorded()
            left = replace(final, execution_id="exe_left", status=Status.PENDING, finished_at=None, exit_code=None)
            await store.put(left)
        async with world(store=store) as w:
            shown = await w.executions.get("exe_left")
            assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.LOST, 125)
            assert shown.finished_at == now()

    run(check())


def test_close_lets_what_runs_and_what_waits_finish_within_the_grace():
    async def check():
        w = World(always(Stdout(b"done"), exited(0)), max_concurrent=1)
        await w.executions.start()
        ids = [await w.executions.submit(make_spec()) for _ in range(5)]
        begun = now()
        await w.executions.close(grace=60)
        for execution_id in ids:
            recorded = await w.store.get(execution_id)
            assert recorded is not None and recorded.status is Status.COMPLETED
        assert (w.destroyed, now()) == ([1] * 5, begun)

    run(check())


def test_close_ends_what_is_left_after_the_grace_as_lost_and_records_it():
    async def check():
        w = World(blocked(Stdout(b"so far")), max_concurrent=1)
        await w.executions.start()
        running, waiting = [await w.executions.submit(make_spec()) for _ in range(2)]
        watching = asyncio.create_task(w.executions.wait(running, 1000))
        begun = now()
        await w.executions.close(grace=60)
        assert (now() - begun).total_seconds() == pytest.approx(60)
        for execution_id, output in ((running, b"so far"), (waiting, b"")):
            shown = await w.store.get(execution_id)
            assert shown is not None
            assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.LOST, 125)
            assert shown.error == "the server was shut down before the execution had finished"
            assert shown.stdout == output
        assert (await watching).termination is Termination.LOST
        assert (w.destroyed, len(w.specs_run), w.backend.closed) == ([1], 1, True)

    run(check())


def test_closing_again_without_grace_ends_the_grace():
    async def check():
        w = World(blocked())
        await w.executions.start()
        running = await w.executions.submit(make_spec())
        begun = now()
        closing = asyncio.create_task(w.executions.close(grace=60))
        await asyncio.sleep(2)
        await w.executions.close(grace=0)
        await closing
        assert (now() - begun).total_seconds() == pytest.approx(2)
        shown = await w.store.get(running)
        assert shown is not None and shown.termination is Termination.LOST

    run(check())


def test_a_backend_that_cannot_close_leaves_the_store_closed_all_the_same():
    class Watched(MemoryStore):
        closed = False

        async def close(self):
            self.closed = True

    async def fail():
        raise BackendError("a sandbox is left")

    async def check():
        w = World(store=Watched(max_bytes=1))
        await w.executions.start()
        w.backend.close = fail
        with pytest.raises(BackendError):
            await w.executions.close(grace=0)
        assert w.store.closed

    run(check())


def test_close_waits_for_destructions():
    async def check():
        w, gate = World(), asyncio.Event()
        await w.executions.start()
        w.backend.destroying = [gate]
        await w.executions.run(make_spec())
        asyncio.get_running_loop().call_later(3, gate.set)
        begun = now()
        await w.executions.close(grace=0)
        assert (now() - begun).total_seconds() == pytest.approx(3)

    run(check())


def test_close_takes_no_work_while_it_drains():
    async def check():
        gate = asyncio.Event()
        w = World(always(gate, exited(0)))
        await w.executions.start()
        running = asyncio.create_task(w.executions.run(make_spec()))
        await settle()
        closing = asyncio.create_task(w.executions.close(grace=60))
        await settle()
        with pytest.raises(Unavailable):
            await w.executions.submit(make_spec())
        gate.set()
        await closing
        assert (await running).status is Status.COMPLETED

    run(check())


@pytest.mark.parametrize("what", ["acquire", "destroy", "record", "die"])
def test_close_does_not_hang_on_what_hangs(what, capsys):
    async def check():
        store = BrokenStore(fails=is_final, hangs=True) if what == "record" else None
        w = World(blocked() if what == "die" else always(exited(0)), store=store)
        w.backend.unkillable = what == "die"
        w.backend.acquiring = [asyncio.Event()] if what == "acquire" else []
        w.backend.destroying = [asyncio.Event()] if what == "destroy" else []
        await w.executions.start()
        execution_id = await w.executions.submit(make_spec())
        await settle()
        await w.executions.close(grace=5)
        assert (await w.executions.get(execution_id)).status.is_final
        assert w.backend.closed

    run(check())
    assert "shutdown" in capsys.readouterr().out or what == "die"
