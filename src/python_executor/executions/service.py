"""Executions by id: submitted, run, looked at, waited for, killed. All that the rest of the program sees of this room.

An execution is looked up in two places. From its submission until its final record is durable it is in `_lives`, and
every answer comes from there; then only the store has it. So no answer depends on how fast the store is, a
synchronous result does not wait for its record, and an execution whose record could not be written can be read until
it would have expired anyway, as long as memory allows.

Every execution has one task (`lifecycle.py`). The records of all that end within RECORD_DELAY are written together: a
write costs as much for many as for one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from ..environments.base import NO_ENVIRONMENTS, Environments
from ..model.engine import Engine
from ..model.environment import NamedEnvironment
from ..model.errors import NotFound, Refusal, Unavailable
from ..model.execution import Execution, Status
from ..model.spec import ExecutionSpec, Interpreter
from ..rounds import repeat
from ..sandboxes.base import Backend
from ..storage.base import Store
from .admission import BACKLOG_BYTES, Admission, Ticket
from .execution import KILLED, OUR_FAILURE, SHUT_DOWN, LiveExecution
from .holdings import Hold, Holdings, files_of, memory_of
from .lifecycle import KILL_PATIENCE, Lifecycle, close_content, describe
from .spool import Spool, price_of

T = TypeVar("T")
CLOSE_PATIENCE = 2 * KILL_PATIENCE  # seconds for kills, destructions and records, once the grace is over
MAX_EXPIRY_INTERVAL = 10.0  # seconds
READERS = 2  # records that are read at once: each may be as large as output gets
RECORD_DELAY = 0.015  # seconds that a final record waits for others to be written with

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much is run at once, and how much is kept for how long."""

    max_concurrent: int
    memory_budget_mb: int  # MiB that running executions may have been promised together
    queue_max: int
    queue_max_bytes: int  # of memory that requests may hold that wait or run
    spool_max_bytes: int  # of files
    max_output_bytes: int  # of each stream
    cleanup_ttl_seconds: float


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class Executions:
    """Runs specs on one backend and keeps what became of them in one store."""

    def __init__(
        self,
        backend: Backend,
        store: Store,
        policy: Policy,
        owner: str,
        now: Callable[[], datetime] = utc_now,
        environments: Environments = NO_ENVIRONMENTS,
        admission: Admission | None = None,  # where others share it
        spool: Path | None = None,  # a directory for long output, which is else in memory
    ) -> None:
        self._backend = backend
        self._environments = environments
        self._store = store
        self._policy = policy
        self._owner = owner
        self._now = now
        self._admission = admission or Admission(policy.max_concurrent, policy.memory_budget_mb, policy.queue_max)
        self.holdings = Holdings(policy.queue_max_bytes, policy.spool_max_bytes)
        self._spool = Spool(spool)
        self._lives: dict[str, Lifecycle] = {}
        self._unrecorded: list[tuple[Execution, str | None]] = []  # final, not handed to the store yet; whose they are
        self._prices: dict[str, int] = {}  # of what is final and not recorded
        self._held: WeakValueDictionary[str, Execution] = WeakValueDictionary()  # final, and held by somebody
        self._reading = asyncio.Semaphore(READERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._expiring: asyncio.Task[None] | None = None  # from start() to close()
        self._ready = False

    @property
    def interpreters(self) -> Sequence[Interpreter]:
        """What the backend can run, newest first."""
        return self._backend.interpreters

    @property
    def network_unavailable(self) -> str | None:
        """Why no execution can have the network here; None where it can."""
        return self._backend.network_unavailable

    def named_environments(self) -> Sequence[NamedEnvironment]:
        """The environments that a request can name."""
        return self._environments.named()

    def lock_of(self, key: str) -> str:
        """The lock of an environment: what it takes to have it again. Raises `NotFound`."""
        return self._found(self._environments.lock(key))

    def bill_of_materials_of(self, key: str) -> dict[str, object]:
        """What is in an environment, as CycloneDX JSON. Raises `NotFound`."""
        return self._found(self._environments.bill_of_materials(key))

    @staticmethod
    def _found(answer: T | None) -> T:
        if answer is None:
            raise NotFound("there is no such environment, or no longer: unused ones are removed when room is needed")
        return answer

    @property
    def engine(self) -> Engine | None:
        """The container engine that the backend uses, if any."""
        return self._backend.engine

    @property
    def ready(self) -> bool:
        """Whether it takes work: started, and not draining."""
        return self._ready

    async def start(self) -> None:
        """Open the store, end what an earlier life left behind, start the backend, take work."""
        await self._store.open()
        try:
            if lost := await self._store.mark_lost(self._now()):
                log.warning("executions were lost when the server died", count=lost)
            await self._environments.start()
            await self._backend.start()
        except BaseException:
            await self._store.close()
            raise
        self._expiring = asyncio.create_task(self._expire_for_ever())
        self._ready = True

    async def submit(self, spec: ExecutionSpec, caller: str | None = None) -> str:
        """Take the spec, to be run when there is room; the id, once the execution is on record.

        `caller` is the address that the log names.
        Raises `QueueFull` and `Unavailable`; nothing is run then. `spec.tree.content` is closed in every case, as
        soon as it is of no more use.
        """
        life, drive = self._accept(spec, caller)
        try:
            await self._store.put(life.live.snapshot())
        except Exception as failure:
            life.stop(OUR_FAILURE)
            self._forget(life.live.execution_id)
            self._log_unrecorded(life.live.execution_id, failure)
            raise Unavailable("the server cannot record executions at the moment: try again later") from failure
        except asyncio.CancelledError:
            life.stop(KILLED)  # nobody will ever know its id
            raise
        finally:
            self._spawn(drive)
        return life.live.execution_id

    async def run(self, spec: ExecutionSpec, caller: str | None = None) -> Execution:
        """Run the spec and wait for its end; it is killed if the waiting task is cancelled. Otherwise as `submit`."""
        life, drive = self._accept(spec, caller)
        self._spawn(drive)
        try:
            return await life.ended()
        except asyncio.CancelledError:
            life.stop(KILLED)
            raise

    async def get(self, execution_id: str) -> Execution:
        """How it stands, with the output so far. Raises `NotFound`."""
        life = self._lives.get(execution_id)
        execution = life.live.snapshot() if life else await self._recorded(execution_id)
        if execution is None or self._is_gone(execution):
            raise NotFound("there is no such execution, or no longer: finished ones are kept only for a while")
        return execution

    async def _recorded(self, execution_id: str) -> Execution | None:
        """What the store has. Those who hold a final execution at the same time share its output."""
        async with self._reading:
            execution = self._held.get(execution_id) or await self._store.get(execution_id)
        if execution is not None and execution.status.is_final:
            self._held[execution_id] = execution
        return execution

    async def wait(self, execution_id: str, seconds: float) -> Execution:
        """How it stands as soon as it is final, or when the seconds are over. Raises `NotFound`."""
        if life := self._lives.get(execution_id):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await life.ended()
        return await self.get(execution_id)

    async def kill(self, execution_id: str) -> Status:
        """End it; its status, once that is final. Changes nothing about one that has ended. Raises `NotFound`."""
        if life := self._lives.get(execution_id):
            life.stop(KILLED)
            return (await life.ended()).status
        return (await self.get(execution_id)).status

    async def close(self, grace: float) -> None:
        """Take no more work, let all that was taken finish for `grace` seconds, end the rest, give everything up.

        Called again with no grace while it does that, it is not patient any longer.
        """
        self._ready = False
        lives = list(self._lives.values())
        expiring, self._expiring = self._expiring, None
        if expiring is None:
            for life in lives if grace == 0 else ():
                life.stop(SHUT_DOWN)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for life in lives:
                    await life.ended()
        for life in lives:
            life.stop(SHUT_DOWN)
        await self._finish_tasks()
        expiring.cancel()
        try:
            await self._environments.close()
            await self._backend.close()
        finally:
            await self._store.close()
            self._spool.close()

    def _accept(self, spec: ExecutionSpec, caller: str | None) -> tuple[Lifecycle, Coroutine[None, None, None]]:
        """A place in the queue and an id, and what drives it, to be run in any case. Raises a `Refusal`."""
        hold = self.holdings.hold()
        try:
            self._backend.check(spec)
            hold.take(memory=memory_of(spec), files=files_of(spec))
            environments = self._environments if self._environments.concerns(spec) else None
            ticket = self._join_queue(spec, ready=environments is None and self._backend.is_prepared(spec))
        except Refusal:
            hold.release()
            close_content(spec)
            raise
        execution_id = f"exe_{uuid.uuid4()}"
        live = LiveExecution(
            execution_id,
            self._owner,
            self._backend.name_of(spec),
            spec,
            self._now(),
            self._policy.max_output_bytes,
            self._spool.keeper(),
        )
        life = Lifecycle(live, ticket, self._now, lambda final: self._finished(final, caller))
        self._lives[execution_id] = life
        return life, self._drive(life, spec, environments, hold)

    async def _drive(self, life: Lifecycle, spec: ExecutionSpec, environments: Environments | None, hold: Hold) -> None:
        try:
            await life.drive(spec, self._backend, environments)
        finally:
            hold.release()

    def _join_queue(self, spec: ExecutionSpec, *, ready: bool) -> Ticket:
        if not self._ready:
            raise Unavailable("the server takes no work at the moment: try again in a few seconds")
        return self._admission.join(spec.limits.memory_mb, ready=ready)

    def _finished(self, final: Execution, caller: str | None) -> None:
        self._held[final.execution_id] = final
        self._prices[final.execution_id] = price_of(final)
        self._admission.add_backlog(self._prices[final.execution_id])
        if not self._unrecorded:
            asyncio.get_running_loop().call_later(RECORD_DELAY, self._record_waiting)
        self._unrecorded.append((final, caller))

    def _record_waiting(self) -> None:
        ended, self._unrecorded = self._unrecorded, []
        for final, caller in ended:
            _log_end(final, caller)
        if ended:  # else close() was faster
            self._spawn(self._record([final for final, _ in ended]))

    async def _record(self, finals: Sequence[Execution]) -> None:
        try:
            await self._store.put(*finals)
        except Exception as failure:
            if len(finals) > 1:  # one that cannot be written takes no other with it
                for final in finals:
                    await self._record([final])
                return
            self._log_unrecorded(finals[0].execution_id, failure)
            if self._admission.backlog < BACKLOG_BYTES // 2:  # what is kept in vain must not stop others from starting
                return
        for final in finals:
            self._forget(final.execution_id)

    def _forget(self, execution_id: str) -> None:
        """Let go of a final execution: from now on the store alone has it, if anybody."""
        self._lives.pop(execution_id, None)
        self._admission.add_backlog(-self._prices.pop(execution_id, 0))

    def _log_unrecorded(self, execution_id: str, failure: Exception) -> None:
        log.error("an execution could not be recorded", execution_id=execution_id, **describe(failure))

    def _is_gone(self, execution: Execution) -> bool:
        """Whether it has expired; or it is on record as unfinished, but its end was lost with a failing store."""
        if execution.finished_at is not None:
            return execution.finished_at < self._horizon()
        return execution.owner == self._owner and execution.execution_id not in self._lives

    def _horizon(self) -> datetime:
        return self._now() - timedelta(seconds=self._policy.cleanup_ttl_seconds)

    async def _expire_for_ever(self) -> None:
        interval = min(self._policy.cleanup_ttl_seconds / 2, MAX_EXPIRY_INTERVAL)
        await repeat("old executions could not be dropped from the store", interval, self._expire)

    async def _expire(self) -> None:
        for execution_id, life in list(self._lives.items()):
            if life.live.final and self._is_gone(life.live.final):
                self._forget(execution_id)
        await self._store.expire(self._horizon())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_tasks(self) -> None:
        """Wait for destructions and records, also those that come up meanwhile; not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_PATIENCE):
                while self._tasks or self._unrecorded:
                    self._record_waiting()
                    await asyncio.wait(self._tasks)
        if self._tasks:
            log.error("sandboxes or records were not done with at shutdown", count=len(self._tasks))
        for task in self._tasks:
            task.cancel()


def _log_end(final: Execution, caller: str | None) -> None:
    """Write the one line that the log has about each execution. It tells nothing of what ran."""
    assert final.finished_at is not None  # noqa: S101 - it is final
    took = final.finished_at - final.created_at
    ms = round(took.total_seconds() * 1000)
    log.info("execution ended", execution_id=final.execution_id, caller=caller, ending=final.termination, ms=ms)
