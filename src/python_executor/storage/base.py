"""The port that every store implements: executions by id, kept until they expire.

To add a store, implement this protocol beside `sqlite.py` and add it to the contract suite in `tests/unit/storage/`.
Failures are raised as `StoreError`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from ..model.events import Termination
from ..model.execution import Execution, Status


class Store(Protocol):
    """Keeps executions. One writer; every method may be called concurrently from one event loop."""

    async def open(self) -> None:
        """Make it usable: lock it to this process, bring its schema up to date."""
        ...

    async def put(self, *executions: Execution) -> None:
        """Insert or replace, all or none. On return they survive the death of this process.

        Puts of one execution take effect in the order of the calls, even when the earlier one has not returned yet.
        """
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


def lost(execution: Execution, now: datetime) -> Execution:
    """What `mark_lost` makes of an execution that is not final."""
    return replace(
        execution,
        status=Status.FAILED,
        termination=Termination.LOST,
        exit_code=125,
        error="the server died before the execution had finished",
        finished_at=now,
    )
