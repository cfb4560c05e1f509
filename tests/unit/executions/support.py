"""Time that jumps, and the few things that every test of an execution needs."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from python_executor.environments.base import NO_ENVIRONMENTS, Environments
from python_executor.executions.service import RECORD_DELAY, Executions, Policy
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Limits
from python_executor.sandboxes.fake import HELLO, FakeBackend, Script
from python_executor.storage.base import Store
from python_executor.storage.memory import MemoryStore

BEGINNING = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
LONGEST_TEST = 10_000  # seconds of virtual time


class JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, sets the clock forward to it; a wait for nothing at all is a failed test."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout is None:
            raise AssertionError("deadlock: everybody waits and no timer is set")
        if self.time > LONGEST_TEST:
            raise AssertionError("deadlock: nothing happens but the periodic sweep")
        if not events and timeout:
            self.time += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose hours take no time; only for what does no real I/O and has no threads."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def now() -> datetime:
    """The wall clock of virtual time."""
    return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


def make_spec(memory_mb: int = 64, timeout_seconds: float = 300, **fields: Any) -> ExecutionSpec:
    """A spec that is told apart, if need be, by its `args`."""
    code = b"print('Hello, World!')"
    tree = FileTree((FileEntry("main.py", 0o644, 0, len(code)),), code)
    limits = Limits(timeout_seconds, memory_mb, disk_mb=64, cpu_shares=1024)
    return ExecutionSpec(**{"tree": tree, "entrypoint": "main.py", "python": "3.12", "limits": limits} | fields)


def make_policy(**numbers: Any) -> Policy:
    """A policy that only stands in the way where a test says so."""
    defaults = {
        "max_concurrent": 100,
        "memory_budget_mb": 100_000,
        "queue_max": 100,
        "queue_max_bytes": 1 << 30,
        "spool_max_bytes": 1 << 30,
        "max_output_bytes": 1000,
        "cleanup_ttl_seconds": 300,
    }
    return Policy(**defaults | numbers)


class World:
    """A started service with everything below it at hand."""

    def __init__(
        self,
        script: Script = HELLO,
        store: Store | None = None,
        environments: Environments = NO_ENVIRONMENTS,
        **policy: Any,
    ) -> None:
        self.backend = FakeBackend(script)
        self.store = store or MemoryStore(max_bytes=1_000_000)
        self.executions = Executions(self.backend, self.store, make_policy(**policy), "this-server", now, environments)

    @property
    def destroyed(self) -> list[int]:
        """How often each sandbox was destroyed."""
        return [sandbox.destroyed for sandbox in self.backend.sandboxes]

    @property
    def specs_run(self) -> list[ExecutionSpec]:
        """What the sandboxes were told to run, in order."""
        return [spec for sandbox in self.backend.sandboxes for spec in sandbox.specs]


@asynccontextmanager
async def world(script: Script = HELLO, **options: Any) -> AsyncIterator[World]:
    """A world that is closed after the test, without grace, and must have cleaned up behind itself."""
    made = World(script, **options)
    await made.executions.start()
    yield made
    await made.executions.close(grace=0)
    assert made.executions._admission.running == made.executions._admission.waiting == 0
    assert set(made.destroyed) <= {1}
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def settle() -> None:
    """Let everybody go on who can, without setting the clock forward."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until_recorded() -> None:
    """Let time go by until what has ended is on record."""
    await asyncio.sleep(2 * RECORD_DELAY)
    await settle()
