"""Processor time as a limit of its own: looked at when it may be used up, and once more at the end.

Nobody uses more in a second than there are processors, so the time left tells when to look next. Near the limit the
looks come every `pause` seconds, and a busy sandbox uses that much more for each processor that it keeps busy.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from ..model.events import Usage
from ..model.spec import Limits

PAUSE = 0.05  # seconds
PROCESSORS = os.cpu_count() or 1


def is_used_up(limits: Limits, usage: Usage) -> bool:
    """Tell whether it has used all the processor time that it may."""
    return limits.cpu_seconds is not None and usage.cpu_ms >= limits.cpu_seconds * 1000


@contextmanager
def limited(
    limits: Limits, used: Callable[[], Awaitable[Usage]], end: Callable[[], None], pause: float = PAUSE
) -> Iterator[None]:
    """Call `end` as soon as the processor time is used up; `used` tells what was used so far."""
    if limits.cpu_seconds is None:
        yield
        return
    watching = asyncio.create_task(_watch(limits, limits.cpu_seconds, used, end, pause))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(
    limits: Limits, seconds: float, used: Callable[[], Awaitable[Usage]], end: Callable[[], None], pause: float
) -> None:
    while True:
        usage = Usage()
        with suppress(OSError, ValueError):  # it is just ending
            usage = await used()
        if is_used_up(limits, usage):
            end()
            return
        await asyncio.sleep(max((seconds - usage.cpu_ms / 1000) / PROCESSORS, pause))
