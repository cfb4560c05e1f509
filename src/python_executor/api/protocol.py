"""HTTP/1.1 on one connection: uvicorn's protocol, with five things that it leaves out.

- A request that can't be parsed is refused in the shape of all our errors.
- A head that never ends is refused: the parser itself would keep all of it.
- A head that does not come, and a body that stops coming, are given up: a connection costs a descriptor, and whoever
  holds it has not shown a key yet.
- A client that closes its sending side in the middle of a body gets its 400 before the connection goes. One that
  does so after the body is taken as gone, as uvicorn has it: the two can't be told apart.
- The request that is being answered learns at once that its client has gone. uvicorn tells only the newest of several
  that came together, and only after a moment in which writing to the connection fails already.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 64 * 1024
PATIENCE = 30.0  # seconds for a head, and between two parts of a body


class Protocol(HttpToolsProtocol):
    """One connection."""

    _in_head = True
    _head_bytes = 0
    _answering: RequestResponseCycle | None = None
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
        super()._start_asgi_task(cycle, app)

    def _client_has_gone(self) -> None:
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

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
