"""Counts the bytes of a request while they come in, and refuses what there is no room for before it is read.

Plain ASGI, behind the guard: who has no key holds nothing. JSON is held in memory, an upload in a file in the data
directory (its metadata in memory). From the moment that an execution is made of them `executions` counts them.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..executions.holdings import Hold, Holdings
from ..model.errors import QueueFull
from ..settings import MEBIBYTE
from .errors import refusal_response

HOLD = "python_executor.hold"  # in the scope
MAX_JSON_BYTES = 16 * MEBIBYTE
MAX_UPLOAD_BYTES = 100 * MEBIBYTE


def hold_of(request: Request) -> Hold:
    """Return what is held for a request."""
    hold: Hold = request.scope[HOLD]
    return hold


class Intake:
    """Puts the request's `Hold` into the scope."""

    def __init__(self, app: ASGIApp, holdings: Holdings) -> None:
        self._app = app
        self._holdings = holdings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = _Body(self._holdings.hold(), receive, Headers(scope=scope))
        scope[HOLD] = body.hold
        try:
            body.expect()
        except QueueFull as refusal:
            body.hold.release()
            await refusal_response(refusal)(scope, receive, send)
            return
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.hold.release()


class _Body:
    """A body on its way in: what it declares is held from the start, what comes beyond as it comes."""

    def __init__(self, hold: Hold, receive: Receive, headers: Headers) -> None:
        self.hold = hold
        self._receive = receive
        self._length = headers.get("content-length", "")
        is_upload = headers.get("content-type", "").lower().startswith("multipart/")
        self._kind, self._most = ("files", MAX_UPLOAD_BYTES) if is_upload else ("memory", MAX_JSON_BYTES)
        self._expected = 0  # bytes that are held and have not come yet

    def expect(self) -> None:
        """Hold what the request declares, unless it will be refused for that. Raises `QueueFull`."""
        if self._length.isdecimal() and len(self._length) < 12 and int(self._length) <= self._most:
            self._expected = int(self._length)
            self.hold.take(**{self._kind: self._expected})

    async def receive(self) -> Message:
        """See `Receive`. Raises `QueueFull`."""
        message = await self._receive()
        beyond = len(message.get("body", b"")) - self._expected
        self._expected = max(0, -beyond)
        if beyond > 0:
            self.hold.take(**{self._kind: beyond})
        return message
