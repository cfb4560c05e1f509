"""Two backends as one: interpreters of this machine run native, images on a container engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..model.engine import Engine
from ..model.environment import Environment
from ..model.spec import ExecutionSpec, Interpreter
from .base import Backend, Sandbox, Tell


class Either:
    """Implements `Backend`."""

    def __init__(self, native: Backend, containers: Backend) -> None:
        self._native, self._containers = native, containers

    def _of(self, spec: ExecutionSpec) -> Backend:
        return self._containers if spec.image else self._native

    @property
    def interpreters(self) -> Sequence[Interpreter]:
        """This machine's."""
        return self._native.interpreters

    @property
    def network_unavailable(self) -> str | None:
        """Why interpreters can have no network; see `Backend.network_unavailable`."""
        return self._native.network_unavailable

    @property
    def engine(self) -> Engine | None:
        """The container engine."""
        return self._containers.engine

    def name_of(self, spec: ExecutionSpec) -> str:
        """See `Backend.name_of`."""
        return self._of(spec).name_of(spec)

    def check(self, spec: ExecutionSpec) -> None:
        """See `Backend.check`."""
        self._of(spec).check(spec)

    def is_prepared(self, spec: ExecutionSpec) -> bool:
        """See `Backend.is_prepared`."""
        return self._of(spec).is_prepared(spec)

    async def prepare(self, spec: ExecutionSpec, tell: Tell) -> None:
        """See `Backend.prepare`."""
        await self._of(spec).prepare(spec, tell)

    async def start(self) -> None:
        """Both; see `Backend.start`."""
        await self._native.start()
        try:
            await self._containers.start()
        except BaseException:
            await self._native.close()
            raise

    async def acquire(self, spec: ExecutionSpec, environment: Environment | None = None) -> Sandbox:
        """See `Backend.acquire`."""
        return await self._of(spec).acquire(spec, environment)

    async def close(self) -> None:
        """Both; see `Backend.close`."""
        done = await asyncio.gather(self._native.close(), self._containers.close(), return_exceptions=True)
        for failure in filter(None, done):
            raise failure
