"""Bounds the output that answers on their way to their clients hold.

A client may take its answer as slowly as it likes, and all that while its execution's output stays in memory. What
several answers show of one execution is the same bytes and counts once. Beyond `FLIGHT_BYTES` an answer waits until
others are done. While one waits, those that have taken longer than `LEASE` are cut off, the oldest first: else four
clients that take a byte a second would keep everybody from large results.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..model.errors import Unavailable
from ..settings import MEBIBYTE

FLIGHT_BYTES = 64 * MEBIBYTE  # three results as large as they get by default; all that clients can make us keep
LEASE = 60.0  # seconds that an answer may take though others wait


@dataclass(frozen=True, slots=True, eq=False)
class _Hold:
    execution_id: str
    size: int
    since: float
    cut: Callable[[], object]


class Flight:
    """Knows the answers in flight."""

    def __init__(self, most: int = FLIGHT_BYTES) -> None:
        self._most = most
        self._holds: dict[_Hold, None] = {}  # the oldest first
        self._waiting = asyncio.Lock()  # has whoever is next
        self._landed = asyncio.Event()

    def has_room(self, execution_id: str, size: int) -> bool:
        """Whether `hold` would not wait."""
        others = self._others(execution_id)
        if len(others) < len(self._holds):  # its bytes are held already
            return True
        return not self._waiting.locked() and self._fits(others, size)

    @asynccontextmanager
    async def hold(
        self, execution_id: str, size: int, cut: Callable[[], object], patience: float | None
    ) -> AsyncIterator[None]:
        """Wait for room and keep it. `cut` ends the answer. Raises `Unavailable` after `patience` seconds, if any."""
        if not self.has_room(execution_id, size):
            await self._wait_for_room(execution_id, size, patience)
        hold = _Hold(execution_id, size, asyncio.get_running_loop().time(), cut)
        self._holds[hold] = None
        try:
            yield
        finally:
            del self._holds[hold]
            self._landed.set()

    async def _wait_for_room(self, execution_id: str, size: int, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience), self._waiting:
                while not self._fits(self._others(execution_id), size):
                    await self._change()
        except TimeoutError:
            raise Unavailable("too many large results are being sent: try again in a few seconds.") from None

    async def _change(self) -> None:
        """Wait until an answer lands, or until the oldest has had its time: that one is cut off."""
        self._landed.clear()
        oldest = next(iter(self._holds))
        try:
            async with asyncio.timeout_at(oldest.since + LEASE):
                await self._landed.wait()
        except TimeoutError:
            oldest.cut()
            await asyncio.sleep(0)

    def _others(self, execution_id: str) -> list[_Hold]:
        return [hold for hold in self._holds if hold.execution_id != execution_id]

    def _fits(self, others: list[_Hold], size: int) -> bool:
        """One that is larger than all the room goes when it is alone."""
        sizes = {hold.execution_id: hold.size for hold in others}
        return not sizes or sum(sizes.values()) + size <= self._most
