"""HTTP/1.1 on one connection: uvicorn's protocol, with six things that it leaves out.

- A request that can't be parsed is refused in the shape of all our errors.
- A head that never ends is refused: the parser itself would keep all of it.
- A head that does not come, and a body that stops coming, are given up: a connection costs a descriptor, and whoever
  holds it has not shown a key yet.
- A client that closes its sending side in the middle of a body gets its 400 before the connection goes. One that
  does so after the body is taken as gone, as uvicorn has it: the two can't be told apart.
- The request that is being answered learns at once that its client has gone. uvicorn tells only the newest of several
  that came together, and only after a moment in which writing to the connection fails already.
- Head and body of an answer go out together: one system call, and its client wakes up once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 64 * 1024
PATIENCE = 30.0  # seconds for a head, and between two parts of a body
CONTINUE = STATUS_LINE[100].rstrip()
CONNECTION = "python_executor.connection"  # a request's `Protocol` in its scope

Answer = TypeVar("Answer")


class Protocol(HttpToolsProtocol):
    """One connection."""

    _in_head = True
    _head_bytes = 0
    _answering: RequestResponseCycle | None = None
    _abandon: Callable[[], object] | None = None  # what to call when the client goes away
    _patience: asyncio.TimerHandle | None = None  # while a request has not come whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_more()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._wait_for_more()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._wait_no_more()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if not self._in_head and self._patience is not None:
            self._wait_for_more()
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "too_large", f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")

    def eof_received(self) -> None:
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_started:
            self._refuse(400, "invalid_request", "The request's body is cut short: send all of it.")
        self._client_has_gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._client_has_gone()
        super().connection_lost(exc)

    def _wait_for_more(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(PATIENCE, self._give_up)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if self.flow.read_paused:  # it is we who do not read
            self._wait_for_more()
        else:
            self._refuse(
                408, "request_timeout", f"The request did not come whole: {PATIENCE:g} s went by without more."
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        cycle.scope[CONNECTION] = self  # type: ignore[literal-required]
        if cycle.scope["method"] != "HEAD":  # whose answer is a head alone
            cycle.transport = _Together(self.transport)  # type: ignore[assignment]
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

    def _has_gone(self) -> bool:
        return self._answering is not None and self._answering.disconnected

    def _client_has_gone(self) -> None:
        cycle = self._answering
        if cycle is None or cycle.response_complete or cycle.disconnected:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self._abandon is not None:
            self._abandon()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid_request", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message, "code": code}).encode()
        head = [
            STATUS_LINE[status],
            *(b"%s: %s\r\n" % header for header in self.server_state.default_headers),
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body),
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()


class _Together:
    """What an answer is written to: keeps its head back until there is a body, and hands on both at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None  # b"" once it is out

    def write(self, data: bytes) -> None:
        if self._head is None and not data.startswith(CONTINUE):
            self._head = data
        elif self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
