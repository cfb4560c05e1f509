"""The pool of sandboxes that are made ahead: who gets which, how many wait, and what a failure does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from python_executor.model.errors import BackendError
from python_executor.sandboxes.pool import FILL_DELAY, MAKING_AHEAD, Pool


class MadeSandbox:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_usable = True
        self.is_destroyed = False

    async def destroy(self) -> None:
        self.is_destroyed = True


class Workshop:
    """Makes sandboxes when it is told to, one after the other or not at all."""

    def __init__(self, *, slow: bool = False) -> None:
        self.made: list[MadeSandbox] = []
        self.time = 1000.0
        self.begun = 0
        self._go = asyncio.Semaphore(0 if slow else 1_000_000)
        self.failure: Exception | None = None

    async def make(self) -> Any:
        self.begun += 1
        await self._go.acquire()
        if self.failure is not None:
            raise self.failure
        self.made.append(MadeSandbox(len(self.made)))
        return self.made[-1]

    def finish(self, count: int = 1) -> None:
        for _ in range(count):
            self._go.release()

    def pool(self, least: int = 0, most: int = 8) -> Pool:
        return Pool(self.make, least=least, most=most, now=lambda: self.time)


async def settle() -> None:
    """Until all is done that was begun, and what was put off as well."""
    await asyncio.sleep(2 * FILL_DELAY)
    for _ in range(50):
        await asyncio.sleep(0)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_sandbox_that_waits_is_taken_at_once_and_replaced() -> None:
    async def story() -> None:
        pool = (workshop := Workshop()).pool(least=2)
        pool.fill()
        await settle()
        assert pool.waiting == 2
        taken = await pool.take()
        assert taken is workshop.made[0]
        await settle()
        assert pool.waiting == 2

    run(story())


def test_a_pool_that_is_half_full_waits_for_the_answer_before_it_makes_another() -> None:
    async def story() -> None:
        pool = (workshop := Workshop()).pool(least=4)
        pool.fill()
        await settle()
        for taken, begun in ((1, 4), (2, 4), (3, 4 + MAKING_AHEAD)):
            await pool.take()
            await asyncio.sleep(0)
            assert (taken, workshop.begun) == (taken, begun)

    run(story())


def test_an_empty_pool_makes_one_for_each_request_at_once() -> None:
    async def story() -> None:
        pool = (workshop := Workshop(slow=True)).pool(most=0)
        requests = [asyncio.create_task(pool.take()) for _ in range(5)]
        await settle()
        assert workshop.begun == 5
        workshop.finish(5)
        assert len({(await request).number for request in requests}) == 5  # type: ignore[attr-defined]

    run(story())


def test_a_request_takes_what_is_ready_first_also_where_it_was_made_for_later() -> None:
    async def story() -> None:
        pool = (workshop := Workshop(slow=True)).pool(least=1)
        pool.fill()
        await settle()
        request = asyncio.create_task(pool.take())
        await settle()
        assert workshop.begun == 1  # the one on its way is for the request now
        workshop.finish()
        assert (await request) is workshop.made[0]
        await settle()
        assert workshop.begun == 2

    run(story())


def test_while_requests_wait_nothing_is_made_for_later() -> None:
    async def story() -> None:
        pool = (workshop := Workshop(slow=True)).pool(least=8)
        requests = [asyncio.create_task(pool.take()) for _ in range(3)]
        await settle()
        assert workshop.begun == 3
        workshop.finish()
        await settle()
        assert workshop.begun == 3
        workshop.finish(2)
        await asyncio.gather(*requests)
        await settle()
        assert workshop.begun == 3 + MAKING_AHEAD

    run(story())


def test_the_pool_grows_to_what_was_asked_for_at_once_and_shrinks_a_minute_later() -> None:
    async def story() -> None:
        pool = (workshop := Workshop()).pool(least=1, most=6)
        assert pool.size == 1
        for _ in range(4):
            await pool.take()
        assert pool.size == 4
        await settle()
        assert pool.waiting == 4
        for _ in range(40):
            await pool.take()
        assert pool.size == 6
        workshop.time += 30
        await pool.take()
        assert pool.size == 6
        workshop.time += 31
        assert pool.size == 1
        await settle()
        pool.trim()
        await settle()
        assert pool.waiting == 1
        assert sum(sandbox.is_destroyed for sandbox in workshop.made) > 0

    run(story())


def test_a_failure_reaches_the_request_it_was_made_for_and_the_next_one_tries_again() -> None:
    async def story() -> None:
        pool = (workshop := Workshop()).pool(least=2)
        workshop.failure = BackendError("no more uids")
        with pytest.raises(BackendError, match="no more uids"):
            await pool.take()
        await settle()
        begun = workshop.begun
        await settle()
        assert workshop.begun == begun  # and nothing is tried in vain meanwhile
        workshop.failure = None
        await pool.take()

    run(story())


def test_a_request_that_goes_away_leaves_its_sandbox_to_the_next() -> None:
    async def story() -> None:
        pool = (workshop := Workshop(slow=True)).pool(most=1)
        request = asyncio.create_task(pool.take())
        await settle()
        request.cancel()
        workshop.finish()
        await settle()
        assert (pool.waiting, workshop.begun) == (1, 1)
        second = asyncio.create_task(pool.take())
        await settle()
        assert second.result() is workshop.made[0]  # type: ignore[comparison-overlap]

    run(story())


def test_a_sandbox_that_died_while_it_waited_is_never_handed_out() -> None:
    async def story() -> None:
        pool = (workshop := Workshop()).pool(least=2)
        pool.fill()
        await settle()
        workshop.made[0].is_usable = False
        assert (await pool.take()) is workshop.made[1]
        await settle()
        assert workshop.made[0].is_destroyed

    run(story())


def test_a_pool_never_has_more_than_it_was_bound_to() -> None:
    async def story() -> None:
        pool = (workshop := Workshop()).pool(least=5, most=8)
        pool.bound(2)
        pool.fill()
        await settle()
        assert (pool.size, pool.waiting, workshop.begun) == (2, 2, 2)

    run(story())


def test_nobody_waits_for_ever_on_a_pool_that_is_closed() -> None:
    async def story() -> None:
        pool = Workshop(slow=True).pool()
        request = asyncio.create_task(pool.take())
        await settle()
        await pool.close()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(request, 1)

    run(story())
