"""Long work in short steps, so that the event loop stays free for everybody else.

A thread is no help where one call into C keeps the interpreter's lock for all of it. A step handles at most some tens
of KiB, which takes a millisecond at most, and one step is done in each round of the loop, whoever asks: a hundred
answers that are encoded at the same time hold the loop no longer than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TypeVar

Step = TypeVar("Step")


class Turns:
    """Hands out the rounds of the loop, in the order of asking."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def next(self, work: Iterator[Step]) -> Step | None:
        """Do the next step; what it gives, or None when there is none left."""
        async with self._turn:
            await asyncio.sleep(0)
            return next(work, None)
