"""The port that every store implements: executions by id, kept until they expire."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ..model.execution import Execution


class Store(Protocol):
    """Keeps executions. One writer; every method may be called concurrently from one event loop."""

    async def open(self) -> None:
        """Make it usable: lock it to this process, bring its schema up to date."""
        ...

    async def put(self, execution: Execution) -> None:
        """Insert or replace. On return it survives the death of this process."""
        ...

    async def get(self, execution_id: str) -> Execution | None:
        """The execution as it was last put, or None."""
        ...

    async def mark_lost(self, now: datetime) -> int:
        """Turn every execution that is not final into `failed`, `lost`, 125, finished now; how many there were.

        Called once after `open()`: whoever ran them is dead.
        """
        ...

    async def expire(self, finished_before: datetime) -> int:
        """Drop final executions that finished earlier, then the oldest final ones beyond the store's size limit.

        Returns how many were dropped.
        """
        ...

    async def close(self) -> None:
        """Write what is under way and give the store up; idempotent."""
        ...
