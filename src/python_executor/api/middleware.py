"""What every request passes before a route sees it, outermost first, as plain ASGI.

    ErrorBoundary   a failure of ours becomes a 500 in the one shape of all errors
    BodyDrain       an answer given before the body was read waits until the body is in, or its client never reads it
    Guard           who may speak to this server at all

Plain ASGI, because `BaseHTTPMiddleware` puts itself between a route and the news that its client went away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import time
from ipaddress import ip_address

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..model.errors import Forbidden, Refusal, Unauthorized, Unavailable
from ..settings import LOOPBACK_HOSTS, MEBIBYTE, Settings
from .errors import internal_error_response, refusal_response

log = structlog.get_logger(__name__)

DRAIN_BYTES = 1024 * MEBIBYTE
DRAIN_SECONDS = 30.0
CLOSE = (b"connection", b"close")
OPEN_PATHS = frozenset({"/health"})
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@?#\[\]]+)(:[0-9]*)?", re.IGNORECASE | re.ASCII)
REFUSALS_AT_ONCE = 20  # lines in the log
SECONDS_FOR_A_REFUSAL = 5.0  # and how often one more may follow: a flood of them must not fill a disk


class ErrorBoundary:
    """Catches what nobody expected, and notes each request where the log is that fine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except asyncio.CancelledError:
            # Only a server that is told to stop cancels requests. This one ends here, so the cancellation does, too.
            if not status:
                await refusal_response(Unavailable("the server was stopped: try again later."))(scope, receive, send)
        except Exception as error:
            if status:
                log.info("an answer could not be sent", failure=type(error).__name__)
                await asyncio.sleep(0)  # the client has just gone; in a moment uvicorn knows that, too
            else:
                await internal_error_response(error)(scope, receive, noting_send)
        finally:
            elapsed_ms = round((time.monotonic() - began) * 1000)
            log.debug("request", method=scope["method"], path=scope["path"], status=status, elapsed_ms=elapsed_ms)


class BodyDrain:
    """Reads what is left of a body before the answer goes out.

    Most clients send their whole body before they read; were the connection closed in between, the kernel would
    reset it and they would see a broken pipe in place of the 413. The reading is bounded; beyond that, so be it.
    An answer that closes its connection is not kept back: the connection reads on for a while (`protocol`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        if b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, invited=b"expect" not in headers)

        async def draining_send(message: Message) -> None:
            if message["type"] == "http.response.start" and CLOSE not in message["headers"]:
                is_read = scope["path"] not in OPEN_PATHS and await body.drain()  # nobody has shown a key there
                message = message if is_read else {**message, "headers": [*message["headers"], CLOSE]}
            await send(message)

        await self._app(scope, body.receive, draining_send)


class _Body:
    """A request's body on its way in."""

    def __init__(self, receive: Receive, invited: bool) -> None:
        self._receive = receive
        self._invited = invited  # False: the client waits for "100 Continue", which our first receive() sends
        self.complete = False

    async def receive(self) -> Message:
        self._invited = True
        message = await self._receive()
        self.complete = self.complete or not message.get("more_body", False)
        return message

    async def drain(self) -> bool:
        """Read the rest and throw it away; whether all of it came."""
        if self.complete or not self._invited:
            return self.complete
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.complete and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
        return self.complete


class Guard:
    """Asks for the API key; on a server without one, keeps web pages out.

    A page that a user of this machine looks at can send requests to a loopback server. What gives it away is its
    `Origin`, or, where its own host name was made to resolve to 127.0.0.1, the `Host`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._keys = _encodings(settings.api_key) if settings.api_key else []
        self._hosts = _own_hosts(settings)
        self._refusals = _RefusalLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                self._check(Headers(scope=scope))
            except Refusal as refusal:
                self._refusals.note(scope, refusal)
                await refusal_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        if not self._keys:
            self._check_host(headers)
            _check_origin(headers)
            return
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        scheme, credentials = scheme.lower(), credentials.strip()
        if scheme not in ("basic", "bearer") or not credentials:
            raise Unauthorized("this server wants its API key: send it as 'Authorization: Bearer KEY'.")
        given = _basic_password(credentials) if scheme == "basic" else credentials.encode("latin-1")
        if not self._is_key(given):
            raise Unauthorized("this key was refused: use the one that the server was started with.")
        if scheme == "basic":
            _check_origin(headers)  # a browser adds a remembered password to any page's requests

    def _is_key(self, given: bytes) -> bool:
        return any(hmac.compare_digest(given, key) for key in self._keys)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host_name(hosts[0]) not in self._hosts:
            raise Forbidden("this server does not answer to that Host: name it in PYEXEC_ALLOWED_HOSTS, or set a key.")


def _encodings(key: str) -> list[bytes]:
    # Some clients send what is not ASCII as UTF-8, some as Latin-1.
    try:
        return [key.encode(), key.encode("latin-1")]
    except UnicodeEncodeError:
        return [key.encode()]


def _own_hosts(settings: Settings) -> frozenset[str]:
    hosts = LOOPBACK_HOSTS | settings.allowed_hosts
    if not _is_wildcard(settings.host):
        hosts |= {settings.host}
    return frozenset(host.lower().strip("[]") for host in hosts)


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host


def _host_name(host: str) -> str | None:
    """Return the host of `host:port`, lower case, without the brackets of an IPv6 address; None where it is neither."""
    match = HOST.fullmatch(host)
    return match[1].strip("[]").lower() if match else None


def _check_origin(headers: Headers) -> None:
    for origin in headers.getlist("origin"):
        if origin.partition("://")[2].lower() != headers.get("host", "").lower():
            raise Forbidden("requests of other sites' pages are not taken: remove the Origin, or send a Bearer key.")


def _basic_password(credentials: str) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


class _RefusalLog:
    """Logs requests that are refused. Of a flood it logs a few, and how many others there were."""

    def __init__(self) -> None:
        self._lines = float(REFUSALS_AT_ONCE)  # that may be written now
        self._counted_at = time.monotonic()
        self._left_out = 0

    def note(self, scope: Scope, refusal: Refusal) -> None:
        now = time.monotonic()
        earned = (now - self._counted_at) / SECONDS_FOR_A_REFUSAL
        self._lines, self._counted_at = min(self._lines + earned, REFUSALS_AT_ONCE), now
        if self._lines < 1:
            self._left_out += 1
            return
        caller = scope["client"] and scope["client"][0]
        others = {"left_out": self._left_out} if self._left_out else {}
        log.warning("request refused", caller=caller, code=refusal.code, reason=refusal.message, **others)
        self._lines, self._left_out = self._lines - 1, 0
