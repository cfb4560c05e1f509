"""Fetching from the operator's package indexes, and from wherever their pages lead.

    a URL ──► is its host one of the operator's?  ──yes──► wherever that is
                     │no
                     ├─ an address itself: must be public
                     └─ a name: what it resolves to must be public, and is what we connect to

An index page may name any host, and a redirect may lead anywhere, so each hop is checked. aiohttp asks the resolver
about names only; addresses are checked before. Where the operator has a proxy, the proxy resolves names and decides.

aiohttp's `trust_env` is off. It knows no ALL_PROXY, and looks every host up in netrc, also those that a page names. It
follows no redirects either: credentials are for one origin, the index's own, and the proxy is chosen for each hop.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .addresses import is_public, literal
from .settings import IndexSettings
from .visit import Unavailable

FILE_HOSTS = {"pypi.org": "files.pythonhosted.org", "test.pypi.org": "test-files.pythonhosted.org"}  # theirs as well
CONNECT_TIMEOUT = 15.0  # seconds, with name resolution and TLS
READ_TIMEOUT = 30.0  # seconds without a byte
REDIRECTS_MAX = 5
REDIRECTS = (301, 302, 303, 307, 308)
PLAIN = re.compile(r"[A-Za-z0-9%:/?#\[\]@!$&'()*+,;=._~|-]+")  # nothing that a URL would have to quote


@dataclass(frozen=True, slots=True)
class _Login:
    origin: URL
    authorization: str = field(repr=False)


class Answer:
    """An answer's head, and its body as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.url = response.url
        self.status = response.status
        self.headers = response.headers
        self.content_type = response.content_type

    @property
    def length(self) -> int | None:
        """Bytes of the body, as declared."""
        return self._response.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises Unavailable."""
        with _explained(self.url):
            async for chunk in self._response.content.iter_any():
                yield chunk


class Upstream:
    """The operator's indexes, as an HTTP client sees them. To be made in a running event loop."""

    def __init__(self, settings: IndexSettings) -> None:
        urls = (*settings.urls, *((settings.torch,) if settings.torch else ()))
        self.indexes = tuple(str(URL(url).with_user(None)).rstrip("/") for url in urls)
        self.general = range(len(settings.urls))  # the numbers of those that have packages of any name
        self._logins = tuple(_login(URL(url)) for url in urls)
        self._proxies = settings.proxies
        self._own = _Own(settings)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._own), ssl=_certificates(settings.ca_bundle), limit=0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT),
            headers={"User-Agent": "python-executor"},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def fetch(
        self, method: str, url: str, index: int, headers: Mapping[str, str], *, decompress: bool = False
    ) -> AsyncIterator[Answer]:
        """What is at a URL that this index, or a page of it, has named. Raises Unavailable if nobody answers."""
        response = await self._follow(method, url, index, headers, decompress)
        try:
            yield Answer(response)
        finally:
            response.release()

    async def _follow(
        self, method: str, url: str, index: int, headers: Mapping[str, str], decompress: bool
    ) -> aiohttp.ClientResponse:
        here = _parsed(url)
        for _ in range(REDIRECTS_MAX + 1):
            response = await self._send(method, here, self._logins[index], headers, decompress)
            if response.status not in REDIRECTS or "Location" not in response.headers:
                return response
            response.release()
            here = _parsed(joined(str(here), response.headers["Location"]))
        raise Unavailable(f"the package index {place(here)} redirects more than {REDIRECTS_MAX} times")

    async def _send(
        self, method: str, url: URL, login: _Login | None, headers: Mapping[str, str], decompress: bool
    ) -> aiohttp.ClientResponse:
        self._check(url)
        if login is not None and login.origin == url.origin():
            headers = {**headers, "Authorization": login.authorization}
            url = url.with_user(None)
        with _explained(url):
            return await self._session.request(
                method,
                url,
                headers=headers,
                proxy=self._proxies.of(url.scheme, url.raw_host or ""),
                allow_redirects=False,
                auto_decompress=decompress,
            )

    def _check(self, url: URL) -> None:
        """Raises Unavailable for an address that is neither public nor the operator's."""
        host = (url.raw_host or "").lower()
        if self._own.has(host, url.port):
            return
        try:
            address = literal(host)
        except ValueError:
            raise Unavailable(_closed(url)) from None
        if address is not None and not is_public(address):
            raise Unavailable(_closed(url))


class _Own:
    """Where the operator's settings lead, which may be anywhere: indexes and proxies, hosts that files come from."""

    def __init__(self, settings: IndexSettings) -> None:
        ways = [*settings.urls, *filter(None, (settings.torch, settings.proxies.http, settings.proxies.https))]
        self._places = {((url.raw_host or "").lower(), url.port) for url in map(URL, ways)}
        self._hosts = {*settings.hosts, *(FILE_HOSTS[host] for host, _ in self._places if host in FILE_HOSTS)}

    def has(self, host: str, port: int | None) -> bool:
        """Whether such an address needs no check."""
        return host.lower() in self._hosts or (host.lower(), port) in self._places


class _NotPublic(OSError):
    """A name leads where nothing but the operator's own indexes may be."""


class _CheckedResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to an address that is not public, but for the operator's hosts."""

    def __init__(self, own: _Own) -> None:
        self._own = own
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not self._own.has(host, port) and not all(is_public(ip_address(each["host"])) for each in found):
            raise _NotPublic(host)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def place(url: URL) -> str:
    """The host that a URL is at, for people: neither credentials nor a path, which may hold some."""
    port = "" if url.is_default_port() else f":{url.port}"
    return f"{url.scheme}://{url.host_subcomponent}{port}/…"


def joined(base: str, location: str) -> str:
    """Where a link on a page leads; nowhere, if it is broken."""
    try:
        return urljoin(base, location)
    except ValueError:
        return ""


def _login(url: URL) -> _Login | None:
    if url.user is None and url.password is None:
        return None
    return _Login(url.origin(), aiohttp.encode_basic_auth(url.user or "", url.password or ""))


def _certificates(bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # with SSL_CERT_FILE and SSL_CERT_DIR
    if bundle:
        context.load_verify_locations(**({"capath": bundle} if os.path.isdir(bundle) else {"cafile": bundle}))
    return context


def _parsed(url: str) -> URL:
    """A URL spelled as the index has spelled it: %2B and + are two different files to some. Raises Unavailable."""
    try:
        parsed = URL(url, encoded=PLAIN.fullmatch(url) is not None)
        if parsed.scheme in ("http", "https") and parsed.raw_host and parsed.port:
            return parsed.with_fragment(None)
    except ValueError:
        pass  # as below
    raise Unavailable("a package index names a file at an address that is not http:// or https://")


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    """Whatever aiohttp raises becomes Unavailable."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _explanation(error, url) from error


def _explanation(error: Exception, url: URL) -> Unavailable:
    where = f"the package index {place(url)}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Unavailable(
                f"{where} could not be connected to within {CONNECT_TIMEOUT:g} s", 504, is_unreachable=True
            )
        case TimeoutError():
            return Unavailable(f"{where} did not answer within {READ_TIMEOUT:g} s", 504, is_unreachable=True)
        case aiohttp.ClientHttpProxyError():
            return Unavailable(f"the proxy refused the way to {where}: it answered {error.status}")
        case aiohttp.ClientProxyConnectionError():
            return Unavailable(
                f"the proxy on the way to {where} can't be reached: {_reason(error.os_error)}", is_unreachable=True
            )
        case aiohttp.ClientConnectorCertificateError():
            return Unavailable(f"{where} has a certificate that is not trusted: {_reason(error.certificate_error)}")
        case aiohttp.ClientConnectorDNSError(os_error=_NotPublic()):
            return Unavailable(_closed(url))
        case aiohttp.ClientConnectorDNSError():
            return Unavailable(
                f"{where} can't be reached: its name is not known ({_reason(error.os_error)})", is_unreachable=True
            )
        case aiohttp.ClientConnectorError():
            return Unavailable(f"{where} can't be reached: {_reason(error.os_error)}", is_unreachable=True)
        case _:
            return Unavailable(f"{where} broke off in the middle of an answer")


def _reason(error: Exception) -> str:
    """What the system says, without the addresses that asyncio adds."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason})"
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError) or error.errno is None:
        return str(error.args[-1]) if error.args else type(error).__name__
    return os.strerror(error.errno)


def _closed(url: URL) -> str:
    return f"a package index leads to {place(url)}, which is not on the public internet"
