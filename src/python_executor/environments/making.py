"""Environments that are being made: once for all who ask, and what has failed is known for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..model.environment import Stage
from ..model.errors import EnvironmentFailed
from ..model.events import Preparing
from .base import PackagesTooLarge, Tell

FAILURE_KEPT = 30.0  # seconds
TOO_LARGE_KEPT = 3600.0  # since that changes with a release, if it does
REMEMBERED = 4096

Make = Callable[[Tell], Awaitable[str]]  # to the key of the environment
K = TypeVar("K")
T = TypeVar("T")


class Making:
    """One of them, and who waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[str] | None = None
        self._progress = Preparing(Stage.RESOLVING)
        self._listeners: list[Tell] = []

    def tell(self, progress: Preparing) -> None:
        """All who wait."""
        self._progress = progress
        for listener in self._listeners:
            listener(progress)

    def join(self, listener: Tell) -> None:
        """One more waits, and learns how far it is."""
        self._listeners.append(listener)
        listener(self._progress)

    def leave(self, listener: Tell) -> None:
        """One waits no longer."""
        self._listeners.remove(listener)

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits."""
        return bool(self._listeners)


class Makings:
    """All of them, by what was asked for."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._going: dict[str, Making] = {}
        self._failed: dict[str, tuple[float, EnvironmentFailed]] = {}  # until when it is not tried again

    async def made(self, request: str, make: Make, tell: Tell) -> str:
        """The key, when it is there. It goes on when one of those who wait is cancelled, and ends with the last."""
        until, failure = self._failed.get(request, (0.0, None))
        if failure is not None and self._now() < until:
            raise failure.with_traceback(None)
        making = self._going.get(request)
        if making is None:
            making = self._going[request] = Making()
            making.task = asyncio.create_task(self._run(request, make, making))
            making.task.add_done_callback(_look_at)  # all who waited may have been killed
        making.join(tell)
        assert making.task is not None  # noqa: S101 - as above
        try:
            return await asyncio.shield(making.task)
        finally:
            making.leave(tell)
            if not making.is_awaited and not making.task.done():
                self._forget(request, making)
                making.task.cancel()

    async def close(self) -> None:
        """Give up all of them."""
        tasks = [making.task for making in self._going.values() if making.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, request: str, make: Make, making: Making) -> str:
        try:
            return await make(making.tell)
        except EnvironmentFailed as failure:
            kept = TOO_LARGE_KEPT if isinstance(failure, PackagesTooLarge) else FAILURE_KEPT
            put(self._failed, request, (self._now() + kept, failure))
            raise
        finally:
            self._forget(request, making)

    def _forget(self, request: str, making: Making) -> None:
        """Whoever asks from now on starts anew."""
        if self._going.get(request) is making:
            del self._going[request]


def put(table: dict[K, T], key: K, value: T) -> None:
    """Into a table of bounded size, the oldest of which goes."""
    table.pop(key, None)
    table[key] = value
    while len(table) > REMEMBERED:
        del table[next(iter(table))]


def _look_at(task: asyncio.Task[str]) -> None:
    """At how it ended, which asyncio would complain of else."""
    if not task.cancelled():
        task.exception()
