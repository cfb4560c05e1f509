"""Takes one execution through admission, a sandbox, and its end.

`drive()` is the execution's one task. It waits for its image, its packages and a slot, gets a sandbox, runs it,
destroys it, and gives the slot back, in that order and on every path. `stop()` may come at any moment, from a kill, a
shutdown or the clock; what it does depends on how far the execution is:

    preparing           final at once; what is being made goes on for others, `drive()` ends
    in the queue        final at once; the ticket is withdrawn and `drive()` ends
    acquiring           final at once; `drive()` destroys the sandbox that it gets without ever having run anything
    running             the sandbox is killed; final when `Exited` comes, or when KILL_PATIENCE is over
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

from ..environments.base import Environments, Prepared
from ..model.errors import EnvironmentFailed, ExecutorError, ImageFailed
from ..model.events import Event
from ..model.execution import Execution
from ..model.spec import ExecutionSpec
from ..sandboxes.base import Backend, Sandbox
from .admission import Ticket
from .execution import OUR_FAILURE, Ending, LiveExecution, timed_out, without_image, without_packages

KILL_PATIENCE = 5.0  # seconds that a sandbox has to end after it was killed

NOTHING = Prepared()

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
        self._running: tuple[Sandbox, asyncio.Timeout] | None = None  # and how long the run may still take
        self._ended = asyncio.Event()

    async def ended(self) -> Execution:
        """Wait for the end."""
        await self._ended.wait()
        return self.live.snapshot()

    def stop(self, ending: Ending) -> None:
        """End it this way, unless it is decided already how it ends."""
        if not self.live.decide(ending):
            return
        if self._running is not None:
            self._kill(*self._running)
        else:
            self._settle()
            self._ticket.withdraw()

    async def drive(self, spec: ExecutionSpec, backend: Backend, environments: Environments | None = None) -> None:
        """Its whole life; raises nothing but cancellation. `environments` where it may need packages."""
        prepared = NOTHING
        try:
            if self._ticket.is_unready:
                prepared = await self._prepare(spec, backend, environments)
            if await self._ticket.admitted() and not self.live.is_decided:
                await self._use_sandbox(spec, backend, prepared)
        except EnvironmentFailed as failure:
            self.stop(without_packages(str(failure)))
        except ImageFailed as failure:
            self.stop(without_image(str(failure)))
        except Exception as failure:
            self._fail("no sandbox could be had", failure)
        finally:
            prepared.release()
            self._ticket.give_back()
            self._settle()  # somebody waits for the end, even where this task was cancelled
            close_content(spec)

    async def _prepare(self, spec: ExecutionSpec, backend: Backend, environments: Environments | None) -> Prepared:
        """Wait for its image and its packages, unless it is ended before."""
        preparing = asyncio.create_task(self._gather(spec, backend, environments))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({preparing, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                return NOTHING
        finally:
            ended.cancel()
            preparing.cancel()  # which gives up what it holds, and changes nothing about one that is done
        prepared = preparing.result()
        self.live.equip(prepared.environment, prepared.hints, prepared.warnings)
        self._ticket.is_ready()
        return prepared

    async def _gather(self, spec: ExecutionSpec, backend: Backend, environments: Environments | None) -> Prepared:
        await backend.prepare(spec, self.live.prepare)
        return NOTHING if environments is None else await environments.prepare(spec, self.live.prepare)

    async def _use_sandbox(self, spec: ExecutionSpec, backend: Backend, prepared: Prepared) -> None:
        sandbox = await backend.acquire(spec, prepared.environment)
        try:
            if self.live.start(sandbox.python, sandbox.isolation, self._now()):
                await self._watch(sandbox, spec)
                await asyncio.sleep(0)  # whoever waits for the end goes first
        finally:
            await self._destroy(sandbox)

    async def _watch(self, sandbox: Sandbox, spec: ExecutionSpec) -> None:
        """Run the spec until it ends; the clock, or whoever else stops it, sees to it that it does."""
        limits = spec.limits
        clock = asyncio.get_running_loop().call_later(limits.timeout_seconds, lambda: self.stop(timed_out(limits)))
        try:
            async with asyncio.timeout(None) as patience:
                self._running = sandbox, patience
                await sandbox.run(spec, self._take)
        except Exception as failure:
            self._conclude(patience, failure)
        finally:
            clock.cancel()
            self._conclude(patience)

    def _take(self, event: Event) -> None:
        if self.live.feed(event):
            self._settle()
            if self._running is not None and not self._running[1].expired():
                self._running[1].reschedule(0)  # that was the last of it: what it still does is cut off

    def _kill(self, sandbox: Sandbox, patience: asyncio.Timeout) -> None:
        patience.reschedule(asyncio.get_running_loop().time() + KILL_PATIENCE)
        try:
            sandbox.kill()
        except Exception as failure:
            self._log_failure("the sandbox could not be killed", failure)

    def _conclude(self, patience: asyncio.Timeout, failure: Exception | None = None) -> None:
        """See to it that a run that is over has an end."""
        if self.live.final is not None:
            return
        if patience.expired():
            self.live.give_up()
            self._fail("the sandbox did not end when it was killed")
        else:
            self._fail("the sandbox was lost", failure)

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
