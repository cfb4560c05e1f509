"""What the connections of a server share, so that none of them takes what belongs to all.

    Connections   how many there may be, whose turn it is to be parsed, and who has stopped reading
    Reader        hands what arrives to a connection, in pieces that one turn of the event loop can bear
    Outlet        what a connection writes to: head and body of an answer in one system call

A connection is *idle* unless it has sent the whole head of a request that is not answered yet. Whoever has shown no key
is answered at once, so strangers only ever have idle connections, and those make room for others. Requests that wait
for something to happen have half of the connections at most: beyond that, the one that has waited for longest is
answered with how things stand.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

HEAD_READ_BYTES = 16 * 1024  # read at a time where each byte may be work: heads, chunked bodies
BODY_READ_BYTES = 64 * 1024  # and where it is only copied
TURN_SECONDS = 0.001  # of each turn of the event loop, for parsing what waits
ABANDONED_AT_ONCE = 4  # requests in each turn, whose work is then called off
READ_PATIENCE = 30.0  # seconds in which a client has to take at least a byte of its answer
LOOK_SECONDS = 1.0  # between two looks at that
BYTES_ACKED = slice(120, 128)  # of Linux's struct tcp_info


class Connection(Protocol):
    """One connection, as far as it concerns the others and its reader."""

    transport: asyncio.Transport

    def parse_more(self) -> bool:
        """Parse a piece of what waits. Return whether more of it can be parsed now."""

    def drop(self) -> None:
        """Close at once, whatever is lost."""

    def abandon(self) -> None:
        """Do no more for a client that has gone away."""

    def reads_plain_body(self) -> bool:
        """Return whether what arrives next is a body of known length."""

    # As asyncio has them:
    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Connections:
    """All open connections of a server, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[Connection, _Delivery] = {}
        self._idle: dict[Connection, None] = {}  # the one that has been idle for longest comes first
        self._waiting: dict[Connection, None] = {}  # those with something to parse, the next one first
        self._left: deque[Connection] = deque()  # whose clients went away while they were being answered
        self._patient: dict[asyncio.Timeout, None] = {}  # of requests that wait, the one that does for longest first
        self._looking: asyncio.TimerHandle | None = None  # for stuck ones, while there are any connections

    def admit(self, connection: Connection) -> bool:
        """Return whether there is room for a new connection; the one that has been idle for longest makes some."""
        if len(self._open) >= self._limit:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.forget(oldest)
            oldest.drop()
        self._open[connection] = _Delivery()
        self._idle[connection] = None
        self._look_again()
        return True

    def forget(self, connection: Connection) -> None:
        """Count a connection no longer."""
        self._open.pop(connection, None)
        self._idle.pop(connection, None)

    def begin(self, connection: Connection) -> None:
        """Note that a request is being answered, so that its connection is not closed for others."""
        self._idle.pop(connection, None)

    def end(self, connection: Connection) -> None:
        """Note that nothing is being answered any more."""
        if connection in self._open:
            self._idle[connection] = None

    @contextmanager
    def waiting(self, patience: asyncio.Timeout) -> Iterator[None]:
        """Note that a request waits until then; where too many do, the patience of one is over now."""
        if len(self._patient) >= max(1, self._limit // 2):
            oldest = next(iter(self._patient))
            del self._patient[oldest]
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        self._patient[patience] = None
        try:
            yield
        finally:
            self._patient.pop(patience, None)

    def parse_in_turn(self, connection: Connection) -> None:
        """Have `parse_more` called soon, and again while it says so."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._parse_waiting)
        self._waiting[connection] = None

    def abandon_in_turn(self, connection: Connection) -> None:
        """Have `abandon` called soon: hundreds of clients may go away at once."""
        if not self._left:
            asyncio.get_running_loop().call_soon(self._abandon_left)
        self._left.append(connection)

    def _abandon_left(self) -> None:
        for _ in range(min(len(self._left), ABANDONED_AT_ONCE)):
            self._left.popleft().abandon()
        if self._left:
            asyncio.get_running_loop().call_soon(self._abandon_left)

    def _parse_waiting(self) -> None:
        end = time.perf_counter() + TURN_SECONDS
        while self._waiting and time.perf_counter() < end:
            connection = next(iter(self._waiting))
            has_more = connection.parse_more()
            del self._waiting[connection]
            if has_more:
                self._waiting[connection] = None  # after all others
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._parse_waiting)

    def _look_for_stuck(self) -> None:
        """Close the connections whose clients have stopped taking their answers."""
        self._looking = None
        now = time.monotonic()
        for connection, delivery in list(self._open.items()):
            if delivery.is_stuck(connection.transport, now):
                connection.drop()
        self._look_again()

    def _look_again(self) -> None:
        if self._open and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_for_stuck)


class _Delivery:
    """How far the answers on one connection have come."""

    __slots__ = ("_since", "_taken")

    def __init__(self) -> None:
        self._taken = -1
        self._since = 0.0

    def is_stuck(self, transport: asyncio.Transport, now: float) -> bool:
        if not transport.get_write_buffer_size():  # all is with the kernel and costs us nothing
            self._taken = -1
            return False
        # Counted by the kernel: our own buffer shrinks only after a good part of the kernel's is free again, and would
        # make a slow reader look like none.
        taken = _bytes_acked(transport)
        if taken != self._taken:
            self._taken, self._since = taken, now
        return now - self._since > READ_PATIENCE


def _bytes_acked(transport: asyncio.Transport) -> int:
    connected = transport.get_extra_info("socket")
    info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.stop)
    return int.from_bytes(info[BYTES_ACKED], "little")


class Reader(asyncio.BufferedProtocol):
    """Reads for a connection. An event loop by itself reads up to 256 KiB and hands over all of it at once.

    Each piece is copied out of the buffer within one callback, so all connections can share one.
    """

    def __init__(self, connection: Connection, buffer: memoryview) -> None:
        self._connection = connection
        self._buffer = buffer
        self._small = buffer[:HEAD_READ_BYTES]

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer if self._connection.reads_plain_body() else self._small

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(self._buffer[:nbytes]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.connection_made(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def eof_received(self) -> None:
        self._connection.eof_received()  # and the event loop closes

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


class Outlet:
    """A transport that sends the head of an answer together with the body that follows in the same turn of the loop.

    So a small answer is one system call, and its client wakes up once. A head whose body comes later goes out at the
    end of the turn. What it means to close is the connection's business.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self.close = close
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what is held back."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def finish(self) -> None:
        """Tell the client that nothing more comes, and go on reading."""
        self.flush()
        self._transport.write_eof()
        self.is_closing = lambda: True  # to all that write

    def end(self) -> None:
        """Close, once all is sent."""
        self.flush()
        self._transport.close()
