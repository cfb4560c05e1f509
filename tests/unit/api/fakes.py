"""A service that runs nothing, and an application around it that answers over real HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from python_executor.api.server import Server, bind, configure, new_event_loop, url_of
from python_executor.executions.holdings import Holdings
from python_executor.model.engine import Engine
from python_executor.model.environment import Environment, NamedEnvironment, Package
from python_executor.model.errors import NotFound
from python_executor.model.events import Termination, Usage
from python_executor.model.execution import Execution, Status
from python_executor.model.spec import ExecutionSpec, Interpreter
from python_executor.sandboxes.fake import ISOLATION
from python_executor.settings import Settings

INTERPRETERS = (
    Interpreter("3.13.0", "/opt/python3.13/bin/python3.13", "/opt/python3.13"),
    Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12"),
    Interpreter("3.11.7", "/usr/bin/python3.11", "/usr"),
)
DATA = TemporaryDirectory(prefix="unit-api-")  # goes with the process
ID = "exe_550e8400-e29b-41d4-a716-446655440000"
T = TypeVar("T")
MOMENT = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
KEY = "env_0123456789abcdef0123456789abcdef"
PENDING = Execution(execution_id=ID, owner="here", status=Status.PENDING, created_at=MOMENT)
DONE = Execution(
    execution_id=ID,
    owner="here",
    status=Status.COMPLETED,
    created_at=MOMENT,
    started_at=MOMENT,
    finished_at=MOMENT.replace(microsecond=12_000),
    stdout=b"hi\n",
    exit_code=0,
    termination=Termination.EXITED,
    backend="fake",
    python="3.12.1",
    usage=Usage(3, 9_437_184),
    isolation=ISOLATION,
    environment=Environment(KEY, (Package("six", "1.17.0"),)),
)


class FakeExecutions:
    """Keeps the specs that it gets; `failure` is raised, `hanging` never ends, else `execution` is the answer."""

    interpreters = INTERPRETERS
    backend_name = "fake"
    network_unavailable: str | None = None

    def named_environments(self) -> list[NamedEnvironment]:
        return [NamedEnvironment("science", "3.12", "six\n", ("six",), KEY)]

    def lock_of(self, key: str) -> str:
        return self._known(key, "six==1.17.0\n")

    def bill_of_materials_of(self, key: str) -> dict[str, object]:
        return self._known(key, {"bomFormat": "CycloneDX"})

    @staticmethod
    def _known(key: str, answer: T) -> T:
        if key != KEY:
            raise NotFound("there is no such environment")
        return answer

    def __init__(self) -> None:
        self.ready = True
        self.holdings = Holdings(32 << 20, 256 << 20)
        self.reset()

    def reset(self) -> None:
        """As it was at first."""
        self.ready = True
        self.engine: Engine | None = None
        self.failure: Exception | None = None
        self.hanging = False
        self.execution = DONE
        self.specs: list[ExecutionSpec] = []
        self.callers: list[str | None] = []
        self.contents: list[bytes] = []
        self.entered = threading.Event()
        self.cancelled = threading.Event()

    @property
    def spec(self) -> ExecutionSpec:
        """The one spec that it got."""
        (spec,) = self.specs
        return spec

    def files(self) -> dict[str, bytes]:
        """The content of each file of that spec."""
        (content,) = self.contents
        return {
            entry.path: content[entry.offset : entry.offset + entry.size]
            for entry in self.spec.tree.entries
            if hasattr(entry, "offset")
        }

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self, grace: float) -> None:
        """Take no more work."""
        self.ready = False

    async def run(self, spec: ExecutionSpec, caller: str | None = None) -> Execution:
        """Answer as told."""
        self._take(spec)
        self.callers.append(caller)
        return await self._answer()

    async def submit(self, spec: ExecutionSpec, caller: str | None = None) -> str:
        """Answer as told."""
        self._take(spec)
        self.callers.append(caller)
        return (await self._answer()).execution_id

    async def get(self, execution_id: str) -> Execution:
        """The execution, if it is that one."""
        if execution_id != ID:
            raise NotFound("there is no such execution")
        return self.execution

    async def wait(self, execution_id: str, seconds: float) -> Execution:
        """Answer as told."""
        await self.get(execution_id)
        return await self._answer()

    async def kill(self, execution_id: str) -> Status:
        """Kill it."""
        return replace(await self.get(execution_id), status=Status.KILLED).status

    def _take(self, spec: ExecutionSpec) -> None:
        self.specs.append(spec)
        content = spec.tree.content
        if isinstance(content, bytes):
            self.contents.append(content)
        else:
            content.seek(0)
            self.contents.append(content.read())
            content.close()

    async def _answer(self) -> Execution:
        if self.failure is not None:
            raise self.failure
        if self.hanging:
            self.entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.execution


def settings(**given: object) -> Settings:
    """Settings that don't depend on this machine."""
    sizes = {"max_memory_mb": 4096, "max_disk_mb": 4096, "memory_budget": 4096, "data_dir": Path(DATA.name)}
    return Settings.model_validate({"host": "127.0.0.1", "port": 0, **sizes, **given})


@contextmanager
def serving(executions: FakeExecutions, settings: Settings) -> Iterator[str]:
    """Serve it from a thread; the URL."""
    listener = bind(settings.host, settings.port)
    started = threading.Event()
    server = Server(configure(executions, settings), started.set)

    def serve() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert started.wait(10)
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
