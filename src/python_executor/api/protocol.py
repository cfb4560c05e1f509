"""HTTP/1.1 on one connection: uvicorn's protocol, and what it leaves out.

- A request that can't be parsed is refused in the shape of all our errors.
- All bytes that are no body are counted: head, header fields, chunk lines, trailers. A trailer is never a header.
- A head has to come within PATIENCE, and a body at a certain pace: a connection costs a descriptor, and whoever holds
  it has not shown a key yet.
- What arrives is parsed when somebody wants it: a chunked body as the application asks for it, a second request once
  the first is answered. So a request that is refused costs its head, whatever comes behind it.
- A client that closes its sending side in the middle of a body gets its 400 before the connection goes. One that
  does so after the body is taken as gone, as uvicorn has it: the two can't be told apart.
- The request that is being answered learns at once that its client has gone. uvicorn tells only after a moment in which
  writing to the connection fails already.
- A client that is still sending when its answer is complete can read it: closed at once, the connection would be reset.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .connections import BODY_READ_BYTES, HEAD_READ_BYTES, Connections, Outlet, Reader

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 16 * 1024  # Node's bound; twice the longest line that Apache and nginx take
MAX_FIELDS = 100  # Apache's bound; a field costs some 150 bytes of ours beside its own
FRAMING_BYTES = 16 * 1024  # of chunk lines and trailers: without a byte of body between, or beside their share
FRAMING_SHARE = 8  # bytes of them for each byte of body: one that comes in chunks of one byte takes five
PIECE_BYTES = 4 * 1024  # parsed at a time, where each byte may be work: at most a millisecond of it
PATIENCE = 30.0  # seconds for a head, and between two looks at how far a body has come
PACE = 1024  # bytes a second that a body has to come with
LINGER_SECONDS = 5.0
LINGER_BYTES = 16 * 1024 * 1024  # the largest JSON body: its client may not look for an answer before it has sent all
LINGER_HEAD_BYTES = 1024 * 1024  # where it was no body that came
WRITE_BUFFER_BYTES = 128 * 1024  # of answers in memory, before whoever makes them has to wait
END_OF_HEAD = b"\r\n\r\n"
CONNECTION = "python_executor.connection"  # a request's `Protocol` in its scope

Answer = TypeVar("Answer")


def connection_factory(connections: Connections) -> Callable[..., asyncio.BaseProtocol]:
    """Return what uvicorn makes connections with."""
    buffer = memoryview(bytearray(BODY_READ_BYTES))

    def create(**given: Any) -> Reader:
        return Reader(Protocol(connections, **given), buffer)

    return create


class Protocol(HttpToolsProtocol):
    """One connection."""

    # Of the message that comes in
    _in_head = True
    _head_bytes = 0
    _head_tail = b""  # its last bytes, in which its end may have begun
    _body_left = 0  # bytes, where the head told the length
    _is_chunked = False
    _body_bytes = 0
    _framing_bytes = 0
    _framing_in_one_go = 0
    _message: RequestResponseCycle | None = None  # from its head to its end

    _pending = b""  # what has arrived and is not parsed
    _is_wanted = False  # more of the body, by the application
    _answering: RequestResponseCycle | None = None
    _abandon: Callable[[], object] | None = None  # what to call when the client goes away
    _patience: asyncio.TimerHandle | None = None  # while a request has not come whole
    _arrived = 0  # bytes since `_patience` began
    _linger_bytes: int | None = None  # that are still read and thrown away; None: it is not over

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connections = connections

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._outlet = Outlet(transport, self._close)
        super().connection_made(cast(asyncio.Transport, self._outlet))
        self.flow = _Flow(self.transport, self)
        if self._connections.admit(self):
            self._wait_for_more()
        else:
            self._refuse(503, "unavailable", "The server has as many connections as it can take: try again later.")
            self._outlet.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.forget(self)
        self._wait_no_more()
        self._pending = b""
        self._client_has_gone()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        cycle = self._message
        if cycle is not None and cycle.more_body and not cycle.response_started and self._linger_bytes is None:
            self._refuse(400, "invalid_request", "The request's body is cut short: send all of it.")
        self._client_has_gone()

    def shutdown(self) -> None:
        if self._linger_bytes is not None or self.cycle is None or self.cycle.response_complete:
            self._outlet.end()
        else:
            super().shutdown()

    def drop(self) -> None:
        """See `Connection.drop`."""
        self._outlet.abort()

    def _close(self) -> None:
        """Close the connection, at once where its client has nothing more to say."""
        if self._linger_bytes is not None or self.transport.is_closing():
            return
        if self._in_head and not self._head_bytes and not self._pending:
            self._outlet.end()
        else:
            self._linger()

    def _linger(self) -> None:
        """Read on for a while without looking at it: most clients send their whole request before they read."""
        self._linger_bytes, self._pending = LINGER_HEAD_BYTES if self._in_head else LINGER_BYTES, b""
        self._outlet.finish()
        self._client_has_gone()
        self._connections.end(self)
        self._wait_no_more()
        self._patience = self.loop.call_later(LINGER_SECONDS, self.drop)
        self.flow.resume_reading()

    # --- what arrives ---

    def reads_plain_body(self) -> bool:
        """See `Connection.reads_plain_body`."""
        return self._body_left > HEAD_READ_BYTES or self._linger_bytes is not None

    def data_received(self, data: bytes) -> None:
        if self._linger_bytes is not None:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self._outlet.end()
            return
        self._arrived += len(data)
        if self._pending:
            self._hold(data)
            return
        while data and self._is_parsed_at_once():
            data = self._parse_piece(data)
        if data:
            self._hold(data)
        self._mind_the_time()

    def _is_parsed_at_once(self) -> bool:
        """Return whether what comes next is a head that nobody is before, or a body of known length."""
        if self._in_head:
            return self.cycle is None or self.cycle.response_complete
        return not self._is_chunked

    def _hold(self, data: bytes) -> None:
        self._pending += data
        if not self._in_head or len(self._pending) >= HEAD_READ_BYTES:
            self.flow.pause_reading()
        if self._is_wanted:
            self._connections.parse_in_turn(self)

    def has_room(self) -> bool:
        """Return whether to read on, now that the application has room for more. What waits comes first."""
        self._is_wanted = True
        if not self._pending:
            return True
        self._connections.parse_in_turn(self)
        return False

    def parse_more(self) -> bool:
        """See `Connection.parse_more`."""
        if not self._can_parse_more():
            return False
        self._pending = self._parse_piece(self._pending)
        if self._linger_bytes is None and len(self._pending) < HEAD_READ_BYTES:
            self._read_on()
        self._mind_the_time()
        return self._can_parse_more()

    def _can_parse_more(self) -> bool:
        return bool(self._pending) and (self._is_parsed_at_once() or (not self._in_head and self._is_wanted))

    def _read_on(self) -> None:
        if self._in_head or not self._is_chunked:
            FlowControl.resume_reading(self.flow)
        elif not self._pending:
            self._is_wanted = not self.cycle.body  # else the application takes that first
            if self._is_wanted:
                FlowControl.resume_reading(self.flow)

    def _parse_piece(self, data: bytes) -> bytes:
        """Parse up to the end of the head or the body (or a place where a chunked one may end), and return the rest."""
        if self._in_head or self._is_chunked:
            end = self._empty_line(data[:PIECE_BYTES])
        else:
            end = min(len(data), self._body_left)
            self._body_left -= end
        piece, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        was_in_head, body_bytes = self._in_head, self._body_bytes
        if was_in_head and not self._count_head(piece):
            return b""
        super().data_received(piece)
        if self._is_chunked and not was_in_head:
            self._count_framing(len(piece), self._body_bytes - body_bytes)
        if self._linger_bytes is not None or self.transport.is_closing():
            return b""
        return rest

    def _empty_line(self, data: bytes) -> int:
        """Return where the first empty line of what comes in ends, or all of it."""
        if self._head_tail:
            seen = len(self._head_tail)
            at = (self._head_tail + data[:3]).find(END_OF_HEAD)
            if at >= 0:
                self._head_tail = b""
                return at + 4 - seen
        at = data.find(END_OF_HEAD)
        end = len(data) if at < 0 else at + 4
        self._head_tail = (self._head_tail + data[-3:])[-3:] if at < 0 else b""
        return end

    def _count_head(self, piece: bytes) -> bool:
        if not self._head_bytes:
            self._wait_no_more()  # the time for a head begins with its first byte
        self._head_bytes += len(piece)
        if self._head_bytes <= MAX_HEAD_BYTES:
            return True
        self._refuse(431, "too_large", f"The request's head is larger than {MAX_HEAD_BYTES} bytes: send fewer headers.")
        return False

    def _count_framing(self, count: int, body: int) -> None:
        """Bound what comes with a chunked body and is none of it. Trailers, which come last, are such."""
        if not self._in_head:
            self._framing_bytes += count - body
            self._framing_in_one_go = 0 if body else self._framing_in_one_go + count
            most = FRAMING_BYTES + FRAMING_SHARE * self._body_bytes
            if self._framing_in_one_go > FRAMING_BYTES or self._framing_bytes > most:
                self._refuse(431, "too_large", "Too much is no body: send larger chunks and shorter trailers.")

    # --- what the parser tells ---

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: nobody has asked for any
        if len(self.headers) >= MAX_FIELDS:
            self._refuse(431, "too_large", f"The request has more than {MAX_FIELDS} headers: send fewer.")
            raise ValueError  # so that the parser stops
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = self._is_wanted = False
        self._wait_no_more()
        for name, value in self.headers:
            if name == b"content-length":
                self._body_left = int(value)
            elif name == b"transfer-encoding":
                self._is_chunked = True
        if not self.url.startswith(b"/"):
            self._take_authority()
        super().on_headers_complete()
        self._message = self.cycle
        self._connections.begin(self)

    def _take_authority(self) -> None:
        """Let the authority of `GET http://host/path` stand for the Host, as RFC 9112, 3.2.2 has it."""
        authority = urlsplit(self.url).netloc
        if authority:
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", authority))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._wait_no_more()
        self._in_head, self._head_bytes, self._head_tail = True, 0, b""
        self._body_left, self._is_chunked, self._is_wanted = 0, False, False
        self._body_bytes = self._framing_bytes = self._framing_in_one_go = 0
        self._message = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._connections.end(self)
        super().on_response_complete()

    # --- time ---

    def _mind_the_time(self) -> None:
        """Wait for more only so long, where a request has begun and is not whole."""
        if self._patience is None and (self._head_bytes or not self._in_head):
            self._wait_for_more()

    def _wait_for_more(self) -> None:
        self._arrived = 0
        self._patience = self.loop.call_later(PATIENCE, self._look_at_pace)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _look_at_pace(self) -> None:
        self._patience = None
        if self._in_head:
            self._refuse(
                408, "request_timeout", f"The request's head did not come within {PATIENCE:g} s: send it at once."
            )
        elif self.flow.read_paused or self._arrived >= PACE * PATIENCE:  # paused: it is we who do not read
            self._wait_for_more()
        else:
            seen = f"{self._arrived} bytes in {PATIENCE:g} s"
            self._refuse(408, "request_timeout", f"The body came too slowly ({seen}): send {PACE} bytes a second.")

    # --- the application ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        cycle.scope[CONNECTION] = self  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)

    async def while_connected(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Await the work for the request that is answered now, and cancel it when its client goes away.

        Raises `ClientDisconnect` then.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - where else
        if self._has_gone():
            work.close()
            raise ClientDisconnect
        self._abandon = task.cancel
        try:
            return await work
        except asyncio.CancelledError:
            if self._has_gone() and task.uncancel() == 0:  # else it is the server that is told to stop
                raise ClientDisconnect from None
            raise
        finally:
            self._abandon = None

    def waiting(self, patience: asyncio.Timeout) -> AbstractContextManager[None]:
        """See `Connections.waiting`."""
        return self._connections.waiting(patience)

    def _has_gone(self) -> bool:
        return self._answering is not None and self._answering.disconnected

    def _client_has_gone(self) -> None:
        cycle = self._answering
        if cycle is None or cycle.response_complete or cycle.disconnected:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self._abandon is not None:
            self._connections.abandon_in_turn(self)

    def abandon(self) -> None:
        """Do no more for a client that has gone away."""
        if self._abandon is not None and self._has_gone():
            self._abandon()

    # --- refusals ---

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid_request", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in place of the application, unless it has begun to, and close."""
        if self.transport.is_closing():
            return
        if self._message is None or not self._message.response_started:
            body = json.dumps({"error": message, "code": code}).encode()
            head = [
                STATUS_LINE[status],
                *(b"%s: %s\r\n" % header for header in self.server_state.default_headers),
                b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body),
            ]
            self.transport.write(b"".join([*head, body]))
        self.transport.close()


class _Flow(FlowControl):
    """Reads on only when what has arrived is parsed."""

    def __init__(self, transport: asyncio.Transport, connection: Protocol) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if self._connection.has_room():
            super().resume_reading()
