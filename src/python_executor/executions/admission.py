"""May it start now? Tickets for all that a request causes: executions, builds of packages, readers of imports.

All of them share one budget of memory, and each kind of work has a lane: places of its own, a part of the budget that
it may take at most, and a queue. So a small package does not wait behind a large one, and nobody's import behind a
package. What is light and brief goes first, then executions, then what is large.

What is not ready (its image or its packages are not there) waits beside the queue, and joins its end when it is. It
holds no memory meanwhile, so that nothing ever waits for memory while it has some.

Within a lane the order is that of arrival, but what does not fit lets smaller ones pass. Once it has waited for
PATIENCE they have to make way: nothing more is started that would take what it needs. That holds only as long as it
can be expected to help. Who has run for longer than half of the time that it has waited may go on for long, and others
are not held up for that: what does not fit beside those never stops anybody.

No execution starts while more output waits for the store than we want to keep: code prints faster than disks write, and
nobody waits for a record.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from ..environments.base import Work
from ..model.errors import InvalidRequest, QueueFull

BACKLOG_BYTES = 64 * 1024 * 1024  # of output, by its price, that waits for the store before nothing more is started
PATIENCE = 10.0  # seconds that smaller ones may pass by one that does not fit
LOOK_AGAIN = 1.0  # seconds after which time alone may have changed who may start


class Ticket:
    """A place in the queue, later a slot; given back once, whichever of the two it is by then."""

    def __init__(self, admission: Admission, lane: Lane, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.lane = lane
        self.since = 0.0  # when it joined the queue, later when it got its slot
        self._admission = admission
        self._admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def admitted(self) -> bool:
        """Wait for the slot; False if the ticket was given back before."""
        return await self._admitted

    @property
    def is_unready(self) -> bool:
        """Whether something else has to happen before it joins the queue."""
        return self._admission.is_unready(self)

    def is_ready(self) -> None:
        """Nothing else has to happen first: join the queue, unless it was left."""
        self._admission.queue(self)

    def withdraw(self) -> None:
        """Leave the queue; changes nothing for one that has its slot."""
        self._admission.withdraw(self)

    def give_back(self) -> None:
        """Leave the queue, or free the slot for the next; idempotent."""
        self._admission.give_back(self)

    def settle(self, admitted: bool) -> None:
        """For `Admission`: end the wait."""
        if not self._admitted.done():  # cancelled, where the one who waited was
            self._admitted.set_result(admitted)


class Lane:
    """One kind of work: its places, the memory that it may have at most, and who waits for either."""

    def __init__(self, places: int, most_mb: int) -> None:
        self.places = places
        self.most_mb = most_mb
        self.running: set[Ticket] = set()
        self.running_mb = 0
        self.queue: deque[Ticket] = deque()
        self._sizes: Counter[int] = Counter()  # of those in the queue

    @property
    def is_full(self) -> bool:
        """Whether each place is taken."""
        return len(self.running) >= self.places

    @property
    def room_mb(self) -> int:
        """Memory that one more may have, as far as the lane goes."""
        return self.most_mb - self.running_mb

    @property
    def smallest_mb(self) -> int:
        """Memory that the smallest in the queue asks for; somebody is in it."""
        return min(self._sizes)

    def lasting_mb(self, since: float) -> int:
        """Return the memory of those that have run since before that moment."""
        return sum(ticket.memory_mb for ticket in self.running if ticket.since < since)

    def append(self, ticket: Ticket) -> None:
        """Put one at the end of the queue."""
        self.queue.append(ticket)
        self._sizes[ticket.memory_mb] += 1

    def remove(self, ticket: Ticket) -> None:
        """Take one out of the queue."""
        if self.queue[0] is ticket:
            self.queue.popleft()
        else:
            self.queue.remove(ticket)
        self._sizes[ticket.memory_mb] -= 1
        if not self._sizes[ticket.memory_mb]:
            del self._sizes[ticket.memory_mb]


class Admission:
    """Hands out tickets and turns them into slots. Implements `environments.base.Places`."""

    def __init__(self, max_concurrent: int, memory_budget_mb: int, queue_max: int) -> None:
        self._max_concurrent = max_concurrent
        self._memory_budget_mb = memory_budget_mb
        self._queue_max = queue_max
        self._backlog = 0
        self._running_mb = 0
        self._runs = Lane(max_concurrent, memory_budget_mb)
        self._lanes = {work: Lane(work.places, most_mb(work, memory_budget_mb)) for work in Work}
        self._in_order = (
            self._lanes[Work.READER],
            self._lanes[Work.BUILD],
            self._runs,
            self._lanes[Work.LARGE_READER],
            self._lanes[Work.LARGE_BUILD],
        )
        self._unready: set[Ticket] = set()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Executions that have a slot."""
        return len(self._runs.running)

    @property
    def waiting(self) -> int:
        """Executions in the queue, or on their way to it."""
        return len(self._runs.queue) + len(self._unready)

    @property
    def running_mb(self) -> int:
        """MiB that are promised to all that has a slot."""
        return self._running_mb

    @property
    def sandboxes(self) -> int:
        """The most that may run at once."""
        return sum(lane.places for lane in self._in_order)

    @property
    def backlog(self) -> int:
        """The price of the output that waits for the store, in bytes."""
        return self._backlog

    def add_backlog(self, size: int) -> None:
        """So many bytes wait for the store, or, where negative, no longer do."""
        self._backlog += size
        self._admit()

    def join(self, memory_mb: int, *, ready: bool = True) -> Ticket:
        """A ticket, admitted at once where there is room and it is ready. Raises `QueueFull` and `InvalidRequest`."""
        if memory_mb > self._memory_budget_mb:
            raise InvalidRequest(f"config.memory_mb must be at most {self._memory_budget_mb}: this server has no more.")
        ticket = Ticket(self, self._runs, memory_mb)
        self._unready.add(ticket)
        if ready:
            self.queue(ticket)
        waiting = self._runs.queue if ready else self._unready
        if len(waiting) > self._queue_max + (0 if ready else self._max_concurrent):
            self._leave(ticket)
            raise QueueFull(
                f"the server is busy and its queue of {self._queue_max} is full: try again in a few seconds"
            )
        return ticket

    @asynccontextmanager
    async def place(self, work: Work, memory_mb: int) -> AsyncIterator[int]:
        """See `environments.base.Places.place`."""
        lane = self._lanes[work]
        ticket = Ticket(self, lane, min(memory_mb, lane.most_mb))
        self._enter(ticket)
        try:
            await ticket.admitted()
            yield ticket.memory_mb
        finally:
            ticket.give_back()

    def is_unready(self, ticket: Ticket) -> bool:
        """Whether it waits beside the queue."""
        return ticket in self._unready

    def queue(self, ticket: Ticket) -> None:
        """Let a ticket join the queue, unless it was withdrawn."""
        if ticket in self._unready:
            self._unready.remove(ticket)
            self._enter(ticket)

    def _enter(self, ticket: Ticket) -> None:
        if not any(lane.queue for lane in self._in_order) and self._may_start(ticket, 0):
            self._start(ticket)
            return
        ticket.since = asyncio.get_running_loop().time()
        ticket.lane.append(ticket)
        self._admit()

    def _leave(self, ticket: Ticket) -> bool:
        """Whether it was waiting; it is not any more."""
        if ticket in self._unready:
            self._unready.remove(ticket)
            return True
        if ticket in ticket.lane.queue:
            ticket.lane.remove(ticket)
            return True
        return False

    def withdraw(self, ticket: Ticket) -> None:
        """Take the ticket out of the queue, if it is there."""
        if self._leave(ticket):
            ticket.settle(False)
            self._admit()  # it may have been one for which others made way

    def give_back(self, ticket: Ticket) -> None:
        """Take the ticket back, wherever it stands."""
        if ticket not in ticket.lane.running:
            self.withdraw(ticket)
            return
        ticket.lane.running.remove(ticket)
        ticket.lane.running_mb -= ticket.memory_mb
        self._running_mb -= ticket.memory_mb
        self._admit()

    def _admit(self) -> None:
        """Start whoever may; and look again in a while, where somebody is left whom memory keeps waiting."""
        waiting = [lane for lane in self._in_order if lane.queue]
        if not waiting:
            return
        first = self._due(lane.queue[0] for lane in waiting)
        if first is not None and self._may_start(first, 0):
            self._start_queued(first)
            first = None
        for lane in waiting:
            self._start_what_fits(lane, 0 if first is None else first.memory_mb)
        if self._looking is None and any(lane.queue and self._has_place(lane) for lane in waiting):
            self._looking = asyncio.get_running_loop().call_later(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self._admit()

    def _start_what_fits(self, lane: Lane, kept_mb: int) -> None:
        """Start those at the head, then those that fit though some before them do not."""
        while lane.queue and self._may_start(lane.queue[0], kept_mb):
            self._start_queued(lane.queue[0])
        if lane.queue and lane.smallest_mb <= self._room(lane, kept_mb):
            for ticket in list(lane.queue):
                if not self._has_place(lane):
                    return
                if self._may_start(ticket, kept_mb):
                    self._start_queued(ticket)

    def _due(self, waiting: Iterable[Ticket]) -> Ticket | None:
        """Return the one that has waited longest, of those for whom others have to make way now."""
        now = asyncio.get_running_loop().time()
        due = [each for each in waiting if self._is_due(each, now - each.since, now)]
        return min(due, key=lambda each: each.since, default=None)

    def _is_due(self, ticket: Ticket, waited: float, now: float) -> bool:
        """Tell whether it has waited for long, and would start if all ended that has not run for long."""
        if waited < PATIENCE or not self._has_place(ticket.lane):
            return False
        lasting = {lane: lane.lasting_mb(now - waited / 2) for lane in self._in_order}
        fits_lane = lasting[ticket.lane] + ticket.memory_mb <= ticket.lane.most_mb
        return fits_lane and sum(lasting.values()) + ticket.memory_mb <= self._memory_budget_mb

    def _start_queued(self, ticket: Ticket) -> None:
        ticket.lane.remove(ticket)
        self._start(ticket)

    def _start(self, ticket: Ticket) -> None:
        lane = ticket.lane
        lane.running.add(ticket)
        lane.running_mb += ticket.memory_mb
        self._running_mb += ticket.memory_mb
        ticket.since = asyncio.get_running_loop().time()
        ticket.settle(True)

    def _may_start(self, ticket: Ticket, kept_mb: int) -> bool:
        return ticket.memory_mb <= self._room(ticket.lane, kept_mb) and self._has_place(ticket.lane)

    def _has_place(self, lane: Lane) -> bool:
        return not lane.is_full and (lane is not self._runs or self._backlog <= BACKLOG_BYTES)

    def _room(self, lane: Lane, kept_mb: int) -> int:
        """MiB that one more of this lane may have."""
        return min(lane.room_mb, self._memory_budget_mb - self._running_mb - kept_mb)


def most_mb(work: Work, memory_budget_mb: int) -> int:
    """Return the MiB of the budget that a kind of work may take: enough for one, but never more than half."""
    return max(1, min(memory_budget_mb // 2, max(memory_budget_mb // work.part, work.usual_mb)))
