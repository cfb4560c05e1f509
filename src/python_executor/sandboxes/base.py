"""The port that every backend implements: a backend makes sandboxes, a sandbox runs one execution and is destroyed.

To add a backend, implement these two protocols in a folder beside `native/`, and let `tests/api` run over it: what a
caller sees is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..model.engine import Engine
from ..model.environment import Environment
from ..model.events import Event, Preparing
from ..model.isolation import Isolation
from ..model.spec import ExecutionSpec, Interpreter

Emit = Callable[[Event], None]
Tell = Callable[[Preparing], None]


class Sandbox(Protocol):
    """One isolated place that serves one execution and is then destroyed."""

    @property
    def python(self) -> str:
        """Full version of its interpreter: "3.12.1"."""
        ...

    @property
    def isolation(self) -> Isolation:
        """How each boundary around it stood when its backend tried them."""
        ...

    async def run(self, spec: ExecutionSpec, emit: Emit) -> None:
        """Run the spec. Each event goes to `emit` as it comes; the last is `Exited`, also after `kill()`.

        What it would still do after that is cut off, by a cancellation as any other.

        Raises `BackendError` where the failure is ours; then no `Exited` came.
        """
        ...

    def kill(self) -> None:
        """Kill everything inside, now, without waiting; may be called at any time and repeatedly."""
        ...

    async def destroy(self) -> None:
        """Kill everything inside and return once nothing of it is left on the machine; idempotent."""
        ...


class Backend(Protocol):
    """Makes sandboxes."""

    def name_of(self, spec: ExecutionSpec) -> str:
        """The word that results show for what runs this spec: "native"."""
        ...

    def check(self, spec: ExecutionSpec) -> None:
        """Raise the `Refusal` of a spec that it can't run, as things stand; quickly."""
        ...

    def is_prepared(self, spec: ExecutionSpec) -> bool:
        """Whether `prepare()` has nothing to do; quickly."""
        ...

    async def prepare(self, spec: ExecutionSpec, tell: Tell) -> None:
        """Fetch what its sandbox is made from, outside of queue and clock. Raises `ImageFailed` and `BackendError`."""
        ...

    @property
    def interpreters(self) -> Sequence[Interpreter]:
        """The interpreters it can run, newest first."""
        ...

    @property
    def network_unavailable(self) -> str | None:
        """Why none of its interpreters can have the network, with what to change; None where they can."""
        ...

    @property
    def engine(self) -> Engine | None:
        """The container engine that it uses; None where it uses none."""
        ...

    async def start(self) -> None:
        """Get ready to make sandboxes; raises `BackendError` with what to change on the host."""
        ...

    async def acquire(self, spec: ExecutionSpec, environment: Environment | None = None) -> Sandbox:
        """A sandbox for this spec, with its limits in force and its packages there.

        Raises `BackendError`, and `ImageFailed` where the image is what it fails for.
        """
        ...

    async def close(self) -> None:
        """Destroy all that it made and return once nothing is left."""
        ...
