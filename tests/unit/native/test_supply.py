"""Where sandboxes come from: when that may be closed."""

from __future__ import annotations

import asyncio
from typing import Any

from python_executor.sandboxes.native.supply import Supply


class FakeBox:
    is_alive = is_idle = True

    def __init__(self, started: asyncio.Event) -> None:
        self._started = started

    async def start(self) -> None:
        await self._started.wait()


def test_one_whose_box_is_starting_is_not_idle_and_neither_is_one_that_somebody_waits_for() -> None:
    async def check() -> None:
        started, tried, made = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def examine(_box: Any) -> None:
            await tried.wait()

        async def make(_box: Any) -> Any:
            await made.wait()
            return FakeBox(started)

        supply = Supply(lambda: FakeBox(started), examine, make, pool_min=0, pool_max=0)  # type: ignore[arg-type, return-value]
        assert supply.is_idle
        claim = asyncio.create_task(supply.pool.take())
        for event in (started, tried, made):
            await asyncio.sleep(0.01)
            assert not supply.is_idle
            event.set()
        await claim
        await asyncio.sleep(0.01)
        assert supply.is_idle

    asyncio.run(check())
