"""The native backend in this process, without HTTP: `run("print(1)")` gives what came out of a real sandbox."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from python_executor.environments.interpreters import find_interpreters
from python_executor.model.environment import Environment
from python_executor.model.events import Event, Exited, Raised, Result, Stderr, Stdout, Termination
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Limits
from python_executor.sandboxes.native.backend import NativeBackend
from python_executor.sandboxes.native.plan import NO_STORE, PackageStore
from python_executor.sandboxes.native.sandbox import NativeSandbox
from python_executor.settings import PRELOAD
from tests.support.machine import need
from tests.support.server import TOLERATED

T = TypeVar("T")
LIMITS = Limits(timeout_seconds=30, memory_mb=256, disk_mb=64, cpu_shares=1024)
INTERPRETERS = find_interpreters()
NEWEST = INTERPRETERS[0].minor_version


@dataclass
class Outcome:
    """All events of a run, summed up."""

    events: list[Event]

    @property
    def exited(self) -> Exited:
        assert isinstance(self.events[-1], Exited)
        return self.events[-1]

    @property
    def exit_code(self) -> int:
        return self.exited.exit_code

    @property
    def termination(self) -> Termination:
        return self.exited.termination

    @property
    def stdout(self) -> str:
        return b"".join(event.data for event in self.events if isinstance(event, Stdout)).decode(errors="replace")

    @property
    def stderr(self) -> str:
        return b"".join(event.data for event in self.events if isinstance(event, Stderr)).decode(errors="replace")

    @property
    def result(self) -> str | None:
        return next((event.text for event in self.events if isinstance(event, Result)), None)

    @property
    def raised(self) -> tuple[str, int | None] | None:
        return next(((event.error_type, event.line) for event in self.events if isinstance(event, Raised)), None)


def make_spec(code: str, files: dict[str, str | bytes] | None = None, **fields: Any) -> ExecutionSpec:
    """A spec of `main.py` with this code, and other files beside it."""
    entries, content = [], b""
    for path, text in {"main.py": code, **(files or {})}.items():
        data = text if isinstance(text, bytes) else text.encode()
        entries.append(FileEntry(path, 0o644, len(content), len(data)))
        content += data
    fields = {"entrypoint": "main.py", "python": NEWEST, "limits": LIMITS, **fields}
    return ExecutionSpec(tree=FileTree(tuple(entries), content), **fields)


class Engine:
    """A backend on an event loop of its own, in a thread that lives as long as it does."""

    def __init__(self, *, pool_min: int = 2, pool_max: int = 4, store: PackageStore = NO_STORE) -> None:
        self.store = store
        self._pool = {"pool_min": pool_min, "pool_max": pool_max}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.backend = self.wait(self._start())
        self.wait(self.backend.start())

    async def _start(self) -> NativeBackend:
        return NativeBackend(
            INTERPRETERS,
            default_python=NEWEST,
            default_limits=LIMITS,
            **self._pool,
            preload=PRELOAD,
            insecure_allow=frozenset(TOLERATED.split(",")),
            store=self.store,
        )

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def run(self, code: str, **fields: Any) -> Outcome:
        """Run the code in a sandbox of its own."""
        return self.wait(self.run_spec(make_spec(code, **fields)))

    async def run_spec(
        self,
        spec: ExecutionSpec,
        during: Callable[[NativeSandbox], object] | None = None,
        environment: Environment | None = None,
    ) -> Outcome:
        """Run a spec; `during` gets the sandbox as soon as its code has printed something."""
        return await self.run_in(await self.backend.acquire(spec, environment), spec, during)

    async def run_in(
        self, sandbox: NativeSandbox, spec: ExecutionSpec, during: Callable[[NativeSandbox], object] | None = None
    ) -> Outcome:
        """Run a spec in a sandbox that was acquired for it, and destroy that."""
        events: list[Event] = []

        def emit(event: Event) -> None:
            events.append(event)
            if during is not None and isinstance(event, Stdout):
                during(sandbox)

        try:
            async with asyncio.timeout(30):
                await sandbox.run(spec, emit)
        finally:
            await sandbox.destroy()
        return Outcome(events)

    def close(self) -> None:
        self.wait(self.backend.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """One backend for the whole run."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def run(engine: Engine) -> Callable[..., Outcome]:
    """Run code in a sandbox of its own."""
    return engine.run


@pytest.fixture
def needs_cgroups() -> None:
    """Some limits are weaker without cgroups, and shown as such."""
    need("cgroups")
