"""A backend that runs nothing: tests script what its sandboxes say, where they block and how they fail.

    gate = asyncio.Event()
    backend = FakeBackend(always(Stdout(b"one"), gate, Stdout(b"two"), exited(0)))

A script is a list of steps: an event is emitted, an `asyncio.Event` is waited for, an exception is raised.
`kill()` ends a run at once, with `Exited` as the kernel would tell it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..model.engine import Engine
from ..model.environment import Environment
from ..model.errors import Refusal
from ..model.events import Event, Exited, Preparing, Stdout, Termination, Usage
from ..model.isolation import State
from ..model.spec import ExecutionSpec, Interpreter
from .base import Emit, Tell

Step = Event | asyncio.Event | Exception
Script = Callable[[ExecutionSpec], Sequence[Step]]

USAGE = Usage(cpu_ms=3, memory_peak_bytes=9_437_184)
ISOLATION = {"seccomp": State.OK, "memory": State.WEAKER}
INTERPRETERS = (
    Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12"),
    Interpreter("3.11.7", "/usr/bin/python3.11", "/usr"),
)


def always(*steps: Step) -> Script:
    """The script that is the same for every spec."""
    return lambda spec: steps


def exited(exit_code: int, termination: Termination = Termination.EXITED) -> Exited:
    """The last step of a run that ends by itself."""
    return Exited(exit_code, termination, USAGE)


HELLO = always(Stdout(b"Hello, World!\n"), exited(0))


class FakeSandbox:
    """Plays a script once; counts what was asked of it."""

    def __init__(self, backend: FakeBackend, python: str) -> None:
        self.python = python
        self.isolation = ISOLATION
        self.specs: list[ExecutionSpec] = []  # those that it was told to run
        self.destroyed = 0  # times
        self._backend = backend
        self._killed = asyncio.Event()

    async def run(self, spec: ExecutionSpec, emit: Emit) -> None:
        """Play the script until it ends or `kill()` comes."""
        self.specs.append(spec)
        playing = asyncio.create_task(play(self._backend.script(spec), emit))
        killing = asyncio.create_task(self._killed.wait())
        try:
            await asyncio.wait({playing, killing}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()
            else:
                emit(exited(137, Termination.SIGNALED))
        finally:
            playing.cancel()
            killing.cancel()

    def kill(self) -> None:
        """End the run, unless the backend is one whose sandboxes can't be killed."""
        if not self._backend.unkillable:
            self._killed.set()

    async def destroy(self) -> None:
        """Count, and play the backend's `destroying` steps."""
        self.destroyed += 1
        self.kill()
        await play(self._backend.destroying)


class FakeBackend:
    """Makes `FakeSandbox`es and keeps them in `sandboxes`, oldest first; what it does may be changed at any time."""

    def __init__(self, script: Script = HELLO, *, interpreters: Sequence[Interpreter] = INTERPRETERS) -> None:
        self.script = script
        self.interpreters = interpreters
        self.network_unavailable: str | None = None
        self.engine: Engine | None = None
        self.refusal: Refusal | None = None  # of every spec
        self.preparing: Sequence[Step | Preparing] = ()  # steps before a spec that names an image is prepared
        self.acquiring: Sequence[Step] = ()  # steps before a sandbox is handed out
        self.destroying: Sequence[Step] = ()  # steps before a sandbox is gone
        self.unkillable = False
        self.sandboxes: list[FakeSandbox] = []
        self.environments: list[Environment | None] = []  # that were asked for with each
        self.started = self.closed = False

    def name_of(self, _spec: ExecutionSpec) -> str:
        """Always "fake"."""
        return "fake"

    def check(self, _spec: ExecutionSpec) -> None:
        """Raise its `refusal`, if it has one."""
        if self.refusal is not None:
            raise self.refusal

    def is_prepared(self, spec: ExecutionSpec) -> bool:
        """Where there is no image to prepare."""
        return not spec.image

    async def prepare(self, _spec: ExecutionSpec, tell: Tell) -> None:
        """Play the `preparing` steps."""
        for step in self.preparing:
            if isinstance(step, Preparing):
                tell(step)
            else:
                await play([step])

    async def start(self) -> None:
        """Note that it was called."""
        self.started = True

    async def acquire(self, spec: ExecutionSpec, environment: Environment | None = None) -> FakeSandbox:
        """Play the `acquiring` steps, then make a sandbox."""
        self.environments.append(environment)
        await play(self.acquiring)
        version = next(i.version for i in self.interpreters if spec.python in (i.minor_version, ""))
        sandbox = FakeSandbox(self, version)
        self.sandboxes.append(sandbox)
        return sandbox

    async def close(self) -> None:
        """Note that it was called."""
        self.closed = True


async def play(steps: Sequence[Step], emit: Emit = lambda event: None) -> None:
    """Do one step after the other."""
    for step in steps:
        if isinstance(step, asyncio.Event):
            await step.wait()
        elif isinstance(step, Exception):
            raise step
        else:
            emit(step)
