"""The port of this room: all that `executions` sees of packages."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ..model.environment import Environment, NamedEnvironment
from ..model.errors import EnvironmentFailed
from ..model.events import Event, Preparing
from ..model.spec import ExecutionSpec

Tell = Callable[[Preparing], None]


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an execution gets. Nobody removes it until it is released."""

    environment: Environment | None = None
    hints: tuple[str, ...] = ()  # about imports that could not be had, for whoever fails to import them
    warnings: tuple[str, ...] = ()  # about what was asked for, for everybody
    release: Callable[[], None] = field(default=_nothing, compare=False)


class PackagesUnavailable(EnvironmentFailed):
    """Some packages can't be had, perhaps just these; or no index could be asked."""

    def __init__(
        self, message: str, names: frozenset[str], *, no_index: bool = False, torch_failure: str | None = None
    ) -> None:
        super().__init__(message, names)
        self.names = names
        self.no_index = no_index
        self.torch_failure = torch_failure  # why PyTorch's own index has no answer

    def __str__(self) -> str:
        return str(self.args[0])


class PackagesTooLarge(PackagesUnavailable):
    """They take more than one environment may have."""


class Environments(Protocol):
    """Sees to it that the packages an execution asks for are there."""

    async def start(self) -> None:
        """Get ready; raises `BackendError` with what to change on the host."""
        ...

    def concerns(self, spec: ExecutionSpec) -> bool:
        """Whether `prepare()` may have anything to do; quickly."""
        ...

    async def prepare(self, spec: ExecutionSpec, tell: Tell) -> Prepared:
        """Make sure that its packages are there. Raises `EnvironmentFailed` where they can't be had."""
        ...

    def named(self) -> Sequence[NamedEnvironment]:
        """The environments that the operator has named, by name."""
        ...

    def lock(self, key: str) -> str | None:
        """The lock of an environment that is there: a requirements.txt with exact versions and hashes."""
        ...

    def bill_of_materials(self, key: str) -> dict[str, object] | None:
        """The same as CycloneDX JSON."""
        ...

    async def close(self) -> None:
        """Give up what is being made."""
        ...


class NoEnvironments:
    """Implements `Environments` where there are none: nobody gets packages."""

    async def start(self) -> None:
        """Nothing to do."""

    def concerns(self, _spec: ExecutionSpec) -> bool:
        """Never."""
        return False

    async def prepare(self, _spec: ExecutionSpec, _tell: Tell) -> Prepared:
        """Nothing."""
        return Prepared()

    def named(self) -> Sequence[NamedEnvironment]:
        """None."""
        return ()

    def lock(self, _key: str) -> None:
        """None."""

    def bill_of_materials(self, _key: str) -> None:
        """None."""

    async def close(self) -> None:
        """Nothing to do."""


NO_ENVIRONMENTS = NoEnvironments()


class Sandbox(Protocol):
    """Of the backend's sandboxes, what this room needs."""

    async def run(self, spec: ExecutionSpec, emit: Callable[[Event], None]) -> None:
        """Run the spec; the last event is `Exited`."""
        ...

    async def destroy(self) -> None:
        """Kill everything inside and return once nothing of it is left."""
        ...


class Work(Enum):
    """What this room does in sandboxes of its own, on behalf of a request: each kind has places of its own."""

    READER = 8, 8, 128  # of imports of a few small files: milliseconds
    LARGE_READER = 4, 4, 512  # of imports of much source: a second
    BUILD = 16, 4, 512  # of small packages, and finding out versions: as long as the index takes
    LARGE_BUILD = 2, 2, 1024  # of those that turned out to be larger

    def __init__(self, places: int, part: int, usual_mb: int) -> None:
        self.places = places  # how many at once
        self.part = part  # all of them take at most the memory budget divided by this
        self.usual_mb = usual_mb  # MiB that one is to have; less where half of the budget is less


class Places(Protocol):
    """Of admission, what this room needs: a place and memory for each sandbox of its own."""

    def place(self, work: Work, memory_mb: int) -> AbstractAsyncContextManager[int]:
        """Wait for a place and for this memory, as far as that kind of work may have it; the MiB that it has."""
        ...


class Workshop(Protocol):
    """Of the backend, what this room needs: sandboxes to read imports in, and to build in."""

    async def acquire(self, spec: ExecutionSpec, environment: Environment | None = None) -> Sandbox:
        """A sandbox for this spec, with these packages."""
        ...

    async def acquire_to_build(self, spec: ExecutionSpec, port: int) -> tuple[Sandbox, socket.socket]:
        """One that has uv at /venv, and the socket that listens at this port of its loopback."""
        ...

    async def forget(self, environment: Environment) -> None:
        """Let go of an environment that is about to be removed."""
        ...
