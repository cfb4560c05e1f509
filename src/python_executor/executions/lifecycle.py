"""Takes one execution through admission, a sandbox, and its end.

`drive()` is the execution's one task. It waits for a slot, gets a sandbox, watches it run, destroys it, and gives the
slot back, in that order and on every path. `stop()` may come at any moment, from a kill, a shutdown or the clock; it
only decides, and where it acts depends on how far the execution is:

    in the queue        final at once; the ticket is withdrawn and `drive()` ends
    acquiring           final at once; `drive()` destroys the sandbox that it gets without ever having run anything
    running             `drive()` is woken and kills; final when `Exited` comes, or when KILL_PATIENCE is over
    final               nothing

Whoever waits for the end is told the moment that `Exited` comes. What follows (the sandbox's destruction, then the
slot, which stands for memory that must be free before it is promised again) holds nobody up but the queue.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

import structlog

from ..model.errors import ExecutorError
from ..model.events import Event
from ..model.execution import Execution
from ..model.spec import ExecutionSpec
from ..sandboxes.base import Backend, Sandbox
from .admission import Ticket
from .execution import OUR_FAILURE, Ending, LiveExecution, timed_out

KILL_PATIENCE = 5.0  # seconds that a sandbox has to end after it was killed

log = structlog.get_logger()


class Lifecycle:
    """One execution, driven. `on_final` is called once, with the final snapshot, when the others are told."""

    def __init__(
        self,
        live: LiveExecution,
        ticket: Ticket,
        now: Callable[[], datetime],
        on_final: Callable[[Execution], None],
    ) -> None:
        self.live = live
        self._ticket = ticket
        self._now = now
        self._on_final = on_final
        self._decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    async def ended(self) -> Execution:
        """Wait for the end."""
        await self._ended.wait()
        return self.live.snapshot()

    def stop(self, ending: Ending) -> None:
        """End it this way, unless it is decided already how it ends."""
        if self.live.decide(ending):
            self._wake()
            if not self.live.is_started:
                self._settle()
                self._ticket.withdraw()

    async def drive(self, spec: ExecutionSpec, backend: Backend) -> None:
        """Its whole life; raises nothing but cancellation."""
        try:
            if await self._ticket.admitted() and not self.live.is_decided:
                await self._use_sandbox(spec, backend)
        except Exception as failure:
            self._fail("no sandbox could be had", failure)
        finally:
            self._ticket.give_back()
            self._settle()  # somebody waits for the end, even where this task was cancelled
            close_content(spec)

    async def _use_sandbox(self, spec: ExecutionSpec, backend: Backend) -> None:
        sandbox = await backend.acquire(spec)
        try:
            if self.live.start(sandbox.python, sandbox.isolation, self._now()):
                await self._watch(sandbox, spec)
        finally:
            await self._destroy(sandbox)

    async def _watch(self, sandbox: Sandbox, spec: ExecutionSpec) -> None:
        """Run the spec until it ends, its time is over, or somebody stops it."""
        running = asyncio.create_task(sandbox.run(spec, self._take))
        running.add_done_callback(_retrieve)
        try:
            seconds = spec.limits.timeout_seconds
            await asyncio.wait({running, self._decided}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self.stop(timed_out(spec.limits))  # changes nothing where somebody else was first
                sandbox.kill()
                await asyncio.wait({running}, timeout=KILL_PATIENCE)
            self._conclude(running)
        finally:
            running.cancel()

    def _take(self, event: Event) -> None:
        if self.live.feed(event):
            self._wake()
            self._settle()

    def _conclude(self, running: asyncio.Task[None]) -> None:
        """See to it that a run that is over, or should be, has an end."""
        if self.live.final is not None:
            return
        if not running.done():
            self.live.give_up()
            self._fail("the sandbox did not end when it was killed")
        else:
            self._fail("the sandbox was lost", None if running.cancelled() else running.exception())

    def _fail(self, what: str, failure: BaseException | None = None) -> None:
        """Tell the operator what went wrong, and the caller that it did."""
        self._log_failure(what, failure)
        self.live.decide(OUR_FAILURE)
        self._settle()

    async def _destroy(self, sandbox: Sandbox) -> None:
        try:
            await sandbox.destroy()
        except Exception as failure:
            self._log_failure("the sandbox could not be destroyed", failure)

    def _wake(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)

    def _settle(self) -> None:
        if self.live.final is None:
            self._on_final(self.live.finish(self._now()))
            self._ended.set()

    def _log_failure(self, what: str, failure: BaseException | None) -> None:
        limits = asdict(self.live.limits)
        log.error(what, execution_id=self.live.execution_id, **limits, **describe(failure))


def describe(failure: BaseException | None) -> dict[str, str]:
    """A failure for the log. Only messages of ours are shown: those of others may quote what the code printed."""
    if failure is None:
        return {}
    if isinstance(failure, ExecutorError):
        return {"failure": str(failure)}
    where = "".join(traceback.format_tb(failure.__traceback__))
    return {"failure": type(failure).__name__, "where": where}


def close_content(spec: ExecutionSpec) -> None:
    """Let go of the uploaded archive, where it is a file."""
    if not isinstance(spec.tree.content, bytes):
        spec.tree.content.close()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Look at a task's exception, so that asyncio does not complain where nobody else will."""
    if not task.cancelled():
        task.exception()
