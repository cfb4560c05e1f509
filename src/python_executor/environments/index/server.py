"""The package indexes as one build sandbox sees them: an HTTP server with three kinds of addresses.

    GET  /INDEX/simple/NAME/                            the index's page of a project, always as PEP 691 JSON
    GET  /INDEX/files/TOKEN/FILENAME, and HEAD          a file that such a page has named, whole or a range of it
    GET  /INDEX/files/TOKEN/FILENAME.metadata           what PEP 658 has beside a wheel

and those that the caller adds. The client may be hostile. What it can make the server hold is bounded: connections at a
time and altogether, requests, header sizes, bytes of pages and of files; bodies of requests are left unread, and a
client that doesn't read makes us read no further. When a bound is passed, nothing is served any more.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

import structlog
from aiohttp import web
from packaging.utils import InvalidName, canonicalize_name

from ...model.spec import MEBIBYTE
from .pages import ACCEPT, PAGE_TYPE, Files, Listed, Page, rewritten
from .settings import TORCH_PACKAGES
from .upstream import Answer, Upstream, joined, place
from .visit import Meter, Rules, Unavailable, Visit

PAGE_MAX = 64 * MEBIBYTE  # of one page; PyPI's largest have about 7
PAGES_MAX = 256 * MEBIBYTE  # of all pages of one build
SMALL_PAGE = 128 * 1024  # bytes that are rewritten without a thread
NAME_MAX = 200  # characters
REQUESTS_MAX = 20_000  # of one build, and as many connections
CONNECTIONS_MAX = 256  # at a time; uv has about 50
HEADER_MAX = 8190  # bytes of a header or of the request line
HEADERS_MAX = 64
KEEP_ALIVE_SECONDS = 60
SHUTDOWN_SECONDS = 0.1  # that answers get when the visit ends: nobody waits for them any more
RANGE = re.compile(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})")
PASSED_ON = ("Content-Length", "Content-Range", "Accept-Ranges")
CACHEABLE = {"Cache-Control": "max-age=3600"}  # for a build, the indexes stand still
QUIET = logging.getLogger(f"{__name__}.aiohttp")  # which would tell of every broken request
QUIET.disabled = True
log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class IndexServer:
    """Answers one build's requests."""

    def __init__(self, upstream: Upstream, rules: Rules, visit: Visit) -> None:
        self._upstream = upstream
        self._rules = rules
        self._visit = visit
        self._meter = Meter(rules, visit)
        self._pages: dict[tuple[int, int], Page] = {}  # by index and number
        self._page_numbers = itertools.count()
        self._pages_of: dict[tuple[int, str], Page] = {}  # by index and name
        self._page_bytes = 0
        self._rewriting = asyncio.Lock()
        self._absent: dict[str, set[int]] = {}  # by name, the indexes that don't have it
        self._requests = 0
        self._connections = 0

    @asynccontextmanager
    async def listening(self, listener: socket.socket, routes: Iterable[web.RouteDef]) -> AsyncIterator[None]:
        """Serve on this socket, which is closed at the end."""
        runner = self._runner(routes)
        await runner.setup()
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(partial(self._protocol, runner), sock=listener)
            try:
                yield
            finally:
                server.close()
        finally:
            await runner.cleanup()

    def _runner(self, routes: Iterable[web.RouteDef]) -> web.AppRunner:
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.get(r"/{index:\d\d?}/simple/{name}/", self._page, allow_head=False),
                web.get(r"/{index:\d\d?}/files/{page:\d{1,9}}-{number:\d{1,9}}/{filename}", self._file),
                *routes,
            ]
        )
        return web.AppRunner(
            application,
            access_log=None,
            logger=QUIET,
            shutdown_timeout=SHUTDOWN_SECONDS,
            handler_cancellation=True,
            auto_decompress=False,
            lingering_time=0,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            max_line_size=HEADER_MAX,
            max_field_size=HEADER_MAX,
            max_headers=HEADERS_MAX,
        )

    def _protocol(self, runner: web.AppRunner) -> asyncio.Protocol:
        """Who speaks on a new connection."""
        self._connections += 1
        server = runner.server
        if server is None or self._connections > REQUESTS_MAX or len(server.connections) >= CONNECTIONS_MAX:
            return _Refusal()
        return server()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around each request: what can't be had is noted, and our own mistakes are logged."""
        try:
            self._requests += 1
            if self._requests > REQUESTS_MAX:
                self._visit.failure = f"the build has sent more than {REQUESTS_MAX} requests"
                raise ConnectionAbortedError
            return await handler(request)
        except Unavailable as error:
            self._visit.failure = str(error)
            return web.Response(status=error.status, text=str(error))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            log.exception("a build's request failed")
            raise web.HTTPInternalServerError from None

    async def _page(self, request: web.Request) -> web.Response:
        index, name = self._index(request), request.match_info["name"]
        if (normalized := _normalized(name)) != name:
            raise web.HTTPMovedPermanently(f"/{index}/simple/{normalized}/")
        if not self._rules.allows(name):
            self._visit.refused.add(name)
            raise web.HTTPNotFound
        source = self._source(index, name)
        if source is None:
            if index in self._upstream.general:
                self._note_absence(index, name)
            raise web.HTTPNotFound
        page = self._pages_of.get((source, name)) or await self._load_page(source, name)
        return web.Response(body=page.body, headers={"Content-Type": PAGE_TYPE, **CACHEABLE})

    def _source(self, index: int, name: str) -> int | None:
        """The index that has the say on a name where this one is asked; None where that is another one."""
        if index not in self._upstream.general:
            return None
        if not self._rules.torch or name not in TORCH_PACKAGES:
            return index
        return len(self._upstream.general) if index == 0 else None

    def _index(self, request: web.Request) -> int:
        index = int(request.match_info["index"])
        if index >= len(self._upstream.indexes):
            raise web.HTTPNotFound
        return index

    async def _load_page(self, index: int, name: str) -> Page:
        try:
            return await self._fetch_page(index, name)
        except Unavailable as error:
            if index in self._upstream.general:
                self._visit.no_index = self._visit.no_index or error.is_unreachable
            else:
                self._visit.torch_failure = str(error)
            raise

    async def _fetch_page(self, index: int, name: str) -> Page:
        url = f"{self._upstream.indexes[index]}/{name}/"
        async with self._upstream.fetch("GET", url, index, {"Accept": ACCEPT}, decompress=True) as answer:
            if _is_absent(answer):
                self._note_absence(index, name)
                raise web.HTTPNotFound
            _expect(answer, 200)
            body = await self._body(answer)
        number = next(self._page_numbers)
        page = await self._rewrite(body, answer, name, f"/{index}/files/{number}-")
        self._pages[index, number] = self._pages_of[index, name] = page
        self._visit.pages.setdefault(name, []).append(Files(index, page.url, page.files))
        if self._rules.wheels_only:
            if page.only_sources:
                self._visit.only_sources.add(name)
            self._visit.source_versions[name] = page.source_versions
        return page

    def _note_absence(self, index: int, name: str) -> None:
        absent = self._absent.setdefault(name, set())
        absent.add(index)
        if len(absent) == len(self._upstream.general):
            self._visit.missing.add(name)

    async def _body(self, answer: Answer) -> bytes:
        body = bytearray()
        async for chunk in answer.chunks():
            body += chunk
            self._page_bytes += len(chunk)
            if len(body) > PAGE_MAX or self._page_bytes > PAGES_MAX:
                raise Unavailable(f"the pages of the package index {place(answer.url)} are too large", 413)
        return bytes(body)

    async def _rewrite(self, body: bytes, answer: Answer, name: str, files_at: str) -> Page:
        rewrite = partial(
            rewritten,
            body,
            answer.content_type,
            str(answer.url),
            name=name,
            files_at=files_at,
            wheels_only=self._rules.wheels_only,
        )
        try:
            if len(body) <= SMALL_PAGE:
                return rewrite()
            async with self._rewriting:  # one after the other: threads that compute hold up the event loop
                return await asyncio.to_thread(rewrite)
        except ValueError:
            raise Unavailable(f"the package index {place(answer.url)} answered with what is no page of it") from None

    async def _file(self, request: web.Request) -> web.StreamResponse:
        index, filename = self._index(request), request.match_info["filename"]
        page, listed = self._listed(request, index)
        is_whole = request.method == "GET" and filename == listed.filename
        headers = {"Accept-Encoding": "identity"}
        if RANGE.fullmatch(wanted := request.headers.get("Range", "")):
            headers["Range"] = wanted
            is_whole = False
        if is_whole:
            self._meter.admit(listed.size)
        url = joined(page.url, listed.url if filename == listed.filename else _beside(listed.url))
        async with self._upstream.fetch(request.method, url, index, headers) as answer:
            _expect(answer, 200, 206, 416, *(() if is_whole else (403, 404, 405, 501)))
            return await self._pass_on(request, answer, filename)

    def _listed(self, request: web.Request, index: int) -> tuple[Page, Listed]:
        """The file that the request names, and the page of this very index that has named it: for its credentials."""
        page, number = self._pages.get((index, int(request.match_info["page"]))), int(request.match_info["number"])
        if page is None or number >= len(page.files):
            raise web.HTTPNotFound
        listed = page.files[number]
        if request.match_info["filename"] not in (listed.filename, f"{listed.filename}.metadata"):
            raise web.HTTPNotFound
        return page, listed

    async def _pass_on(self, request: web.Request, answer: Answer, filename: str) -> web.StreamResponse:
        """The answer, to the sandbox as it comes. It is cut off where the upstream is, or where it is too much."""
        headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
        if answer.status not in (200, 206):
            headers.pop("Content-Length", None)  # of what is not passed on
            return web.Response(status=answer.status, headers=headers)
        if request.method == "GET":
            self._meter.expect(answer.length)
        headers |= {"Content-Type": "application/octet-stream", **CACHEABLE}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        if request.method == "GET":
            await self._pour(answer, response, filename)
        return response

    async def _pour(self, answer: Answer, response: web.StreamResponse, filename: str) -> None:
        try:
            async for chunk in answer.chunks():
                self._meter.count(filename, len(chunk))
                await response.write(chunk)
        except Unavailable as error:
            self._visit.failure = str(error)
            raise ConnectionAbortedError from error  # it is too late for another status


class _Refusal(asyncio.Protocol):
    """Ends a connection without a word."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _normalized(name: str) -> str:
    try:
        if len(name) <= NAME_MAX:
            return canonicalize_name(name, validate=True)
    except InvalidName:
        pass  # as below
    raise web.HTTPNotFound


def _is_absent(answer: Answer) -> bool:
    """Whether the index has no such project. PyTorch's says so with 403, as everybody who asks it has to know."""
    is_pytorch = (answer.url.host or "").endswith(".pytorch.org")
    return answer.status in (404, 410) or (answer.status == 403 and is_pytorch)


def _expect(answer: Answer, *statuses: int) -> None:
    if answer.status in statuses:
        return
    where = f"the package index {place(answer.url)}"
    if answer.status in (401, 403):
        raise Unavailable(f"{where} refused access ({answer.status}): are its credentials right?", answer.status)
    if answer.status in (404, 410):
        raise Unavailable(f"{where} lacks a file that its page names", answer.status)
    raise Unavailable(f"{where} answered {answer.status}", answer.status if 400 <= answer.status < 500 else 502)


def _beside(url: str) -> str:
    """Where a wheel's metadata is."""
    path, query, rest = url.partition("?")
    return f"{path.partition('#')[0]}.metadata{query}{rest}"
