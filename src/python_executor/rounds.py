"""Work that is done again and again while the server lives."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable

import structlog

log = structlog.get_logger()


async def repeat(failed: str, interval: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work every `interval` seconds, for ever. A round that fails is logged as `failed`; the next one comes."""
    said: dict[str, str] | None = None
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Exception as failure:
            if said != (said := _describe(failure)):  # what fails ten times a second is said once
                log.error(failed, **said)
        else:
            said = None


def _describe(failure: Exception) -> dict[str, str]:
    """Return its kind and where it came from; a message may quote what code has printed."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return {"failure": type(failure).__name__, "where": "".join(traceback.format_tb(failure.__traceback__))}


def do_all(works: Iterable[Callable[[], object]]) -> None:
    """Do each of them, whatever the others come to; then raise what has failed."""
    failures = []
    for work in works:
        try:
            work()
        except Exception as failure:
            failures.append(failure)
    if failures:
        raise ExceptionGroup("in one round", failures)
