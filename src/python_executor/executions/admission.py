"""May it start now? Bounded concurrency, a bounded budget of memory, and a bounded queue in order of arrival.

What is not ready (its image or its packages are not there) waits beside the queue, and joins its end when it is.

The head of the queue is never passed by: a smaller execution behind it would fit sooner, but then a large one might
wait for ever on a busy server. One that asks for more than the whole budget runs when it is alone.

Nothing starts while more output waits for the store than we want in memory: code prints faster than disks write, and
nobody waits for a record.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..model.errors import QueueFull

BACKLOG_BYTES = 256 * 1024 * 1024  # output that may wait for the store before nothing more is started


class Ticket:
    """A place in the queue, later a slot; given back once, whichever of the two it is by then."""

    def __init__(self, admission: Admission, memory_mb: int) -> None:
        self.memory_mb = memory_mb
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


class Admission:
    """Hands out tickets and turns them into slots."""

    def __init__(self, max_concurrent: int, memory_budget_mb: int, queue_max: int) -> None:
        self._max_concurrent = max_concurrent
        self._memory_budget_mb = memory_budget_mb
        self._queue_max = queue_max
        self._backlog = 0
        self._running: set[Ticket] = set()
        self._running_mb = 0
        self._queue: deque[Ticket] = deque()
        self._unready: set[Ticket] = set()

    @property
    def running(self) -> int:
        """Slots that are taken."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Tickets in the queue, or on their way to it."""
        return len(self._queue) + len(self._unready)

    @property
    def backlog(self) -> int:
        """Bytes of output that wait for the store."""
        return self._backlog

    def add_backlog(self, size: int) -> None:
        """So many bytes wait for the store, or, where negative, no longer do."""
        self._backlog += size
        self._admit()

    def join(self, memory_mb: int, *, ready: bool = True) -> Ticket:
        """A ticket, admitted at once where there is room and it is ready. Raises `QueueFull`."""
        ticket = Ticket(self, memory_mb)
        self._unready.add(ticket)
        if ready:
            self.queue(ticket)
        if len(self._queue if ready else self._unready) > self._queue_max + (0 if ready else self._max_concurrent):
            self._leave(ticket)
            raise QueueFull(
                f"the server is busy and its queue of {self._queue_max} is full: try again in a few seconds"
            )
        return ticket

    def is_unready(self, ticket: Ticket) -> bool:
        """Whether it waits beside the queue."""
        return ticket in self._unready

    def queue(self, ticket: Ticket) -> None:
        """Let a ticket join the queue, unless it was withdrawn."""
        if ticket in self._unready:
            self._unready.remove(ticket)
            self._queue.append(ticket)
            self._admit()

    def _leave(self, ticket: Ticket) -> bool:
        """Whether it was waiting; it is not any more."""
        if ticket in self._unready:
            self._unready.remove(ticket)
            return True
        if ticket in self._queue:
            self._queue.remove(ticket)
            return True
        return False

    def withdraw(self, ticket: Ticket) -> None:
        """Take the ticket out of the queue, if it is there."""
        if self._leave(ticket):
            ticket.settle(False)
            self._admit()  # it may have been the head that did not fit

    def give_back(self, ticket: Ticket) -> None:
        """Take the ticket back, wherever it stands."""
        if ticket not in self._running:
            self.withdraw(ticket)
            return
        self._running.remove(ticket)
        self._running_mb -= ticket.memory_mb
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._has_room(self._queue[0]):
            ticket = self._queue.popleft()
            self._running.add(ticket)
            self._running_mb += ticket.memory_mb
            ticket.settle(True)

    def _has_room(self, ticket: Ticket) -> bool:
        if self._backlog > BACKLOG_BYTES:
            return False
        if not self._running:
            return True
        fits = self._running_mb + ticket.memory_mb <= self._memory_budget_mb
        return fits and len(self._running) < self._max_concurrent
