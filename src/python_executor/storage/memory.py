"""A store that forgets all when the process ends: for tests, and for a server that lives for one command."""

from __future__ import annotations

from datetime import datetime

from ..model.execution import Execution
from .base import lost


class MemoryStore:
    """Keeps executions in a dictionary; `max_bytes` bounds the output of those that are final."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._executions: dict[str, Execution] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def put(self, *executions: Execution) -> None:
        """Keep them, in place of what was there."""
        self._executions.update({execution.execution_id: execution for execution in executions})

    async def get(self, execution_id: str) -> Execution | None:
        """The execution as it was last put, or None."""
        return self._executions.get(execution_id)

    async def mark_lost(self, now: datetime) -> int:
        """End all that is not final."""
        unfinished = [execution for execution in self._executions.values() if not execution.status.is_final]
        self._executions.update({execution.execution_id: lost(execution, now) for execution in unfinished})
        return len(unfinished)

    async def expire(self, finished_before: datetime) -> int:
        """Drop what finished earlier, then the oldest beyond the size limit."""
        dropped, kept_bytes = 0, 0
        for finished_at, execution in self._newest_first():
            kept_bytes += execution.output_bytes
            if finished_at < finished_before or kept_bytes > self._max_bytes:
                del self._executions[execution.execution_id]
                dropped += 1
        return dropped

    async def close(self) -> None:
        """Nothing to do."""

    def _newest_first(self) -> list[tuple[datetime, Execution]]:
        ended = [(each.finished_at, each) for each in self._executions.values() if each.finished_at is not None]
        return sorted(ended, key=lambda pair: pair[0], reverse=True)
