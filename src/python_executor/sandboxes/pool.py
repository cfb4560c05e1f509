"""Sandboxes of one interpreter, or of one image, that are made ahead, as many as recent demand calls for.

A request takes one that waits. Where none does, it becomes a claim: one more is made at once, and whichever is ready
first goes to the oldest claim. While there are claims nothing is made for later; else the pool is filled up, a few at
a time, and off the path of requests: as long as half of it is there, not before the request that took one is likely to
have its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

import structlog

MAKING_AHEAD = 2  # at a time; more would only compete with the requests
FILL_DELAY = 0.004  # seconds
WINDOW = 60  # seconds for which demand is remembered
MOMENT = 0.1  # seconds; a pool that is used up by as many requests at once is full again after about that time
log = structlog.get_logger()


class Waiting(Protocol):
    """What a pool needs of a sandbox."""

    @property
    def is_usable(self) -> bool:
        """Whether it still waits for a spec."""
        ...

    async def destroy(self) -> None:
        """See `Sandbox.destroy`."""
        ...


W = TypeVar("W", bound=Waiting)


class Demand:
    """How many sandboxes were asked for in the busiest moment of the last minute."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._moment = 0  # number of the current one, and how many were asked for in it
        self._count = 0
        self._busiest: deque[tuple[int, int]] = deque()  # number of a moment, how many in it: ever fewer

    def note(self) -> None:
        """One more was asked for."""
        moment = int(self._now() / MOMENT)
        if moment != self._moment:
            self._moment, self._count = moment, 0
        self._count += 1
        while self._busiest and self._busiest[-1][1] <= self._count:
            self._busiest.pop()
        self._busiest.append((moment, self._count))

    @property
    def peak(self) -> int:
        """Sandboxes in the busiest moment."""
        oldest = int((self._now() - WINDOW) / MOMENT)
        while self._busiest and self._busiest[0][0] < oldest:
            self._busiest.popleft()
        return self._busiest[0][1] if self._busiest else 0


class Pool(Generic[W]):
    """Sandboxes that wait for a spec, `least` to `most` of them."""

    def __init__(
        self,
        make: Callable[[], Awaitable[W]],
        *,
        least: int,
        most: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._least = least
        self._most = self._configured = most
        self._demand = Demand(now)
        self._waiting: deque[W] = deque()
        self._claims: deque[asyncio.Future[W]] = deque()
        self._making = 0
        self._filling: asyncio.TimerHandle | None = None  # in a moment
        self._tasks: set[asyncio.Task[None]] = set()

    def bound(self, most: int) -> None:
        """Never have more than this wait, whatever was asked for."""
        self._most = min(self._configured, most)

    @property
    def size(self) -> int:
        """How many are to wait, as demand was lately."""
        return min(self._most, max(self._least, self._demand.peak))

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for one, or one is being made."""
        return bool(self._making or any(not claim.done() for claim in self._claims))

    @property
    def waiting(self) -> int:
        """How many do."""
        return len(self._waiting)

    async def take(self) -> W:
        """One that waits, else the next that is made. Raises what making one raised."""
        self._demand.note()
        while self._waiting:
            sandbox = self._waiting.popleft()
            if sandbox.is_usable:
                self._fill_soon()
                return sandbox
            self._spawn(sandbox.destroy())
        claim: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._claims.append(claim)
        self.fill()
        try:
            return await claim
        except asyncio.CancelledError:
            if claim.done() and not claim.cancelled() and claim.exception() is None:  # both at once
                self._receive(claim.result())
            raise

    def fill(self) -> None:
        """Start making what is missing: for claims all at once, for later a few at a time."""
        missing = len(self._claims) or min(MAKING_AHEAD, self.size - len(self._waiting))
        while self._making < missing:
            self._making += 1
            self._spawn(self._make_one())

    def _fill_soon(self) -> None:
        if len(self._waiting) < self.size / 2:
            self.fill()
        elif self._filling is None:
            self._filling = asyncio.get_running_loop().call_later(FILL_DELAY, self._fill_now)

    def _fill_now(self) -> None:
        self._filling = None
        self.fill()

    def trim(self) -> None:
        """Give up what is no longer called for."""
        while len(self._waiting) > self.size:
            self._spawn(self._waiting.popleft().destroy())

    async def close(self) -> None:
        """Stop making and trimming; whoever still waits is cancelled, the sandboxes that wait end with their box."""
        if self._filling is not None:
            self._filling.cancel()
        self.bound(0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while (claim := self._next_claim()) is not None:
            claim.cancel()
        self._waiting.clear()

    async def _make_one(self) -> None:
        try:
            sandbox = await self._make()
        except Exception as failure:
            self._making -= 1
            claim = self._next_claim()
            if claim is None:
                log.error("the pool could not be filled", failure=str(failure))
            else:
                claim.set_exception(failure)
        except BaseException:
            self._making -= 1
            raise
        else:
            self._making -= 1
            self._receive(sandbox)
            self.fill()

    def _receive(self, sandbox: W) -> None:
        """To the oldest claim, else to those that wait."""
        claim = self._next_claim()
        if claim is not None:
            claim.set_result(sandbox)
        else:
            self._waiting.append(sandbox)

    def _next_claim(self) -> asyncio.Future[W] | None:
        while self._claims:
            claim = self._claims.popleft()
            if not claim.done():  # cancelled, where its request was
                return claim
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
