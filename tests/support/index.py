"""A package index of a test's own: real HTTP on loopback, in threads, with wheels made by hand, and with faults.

    with FakeIndex() as index:
        index.add("demo-1.0-py3-none-any.whl", make_wheel("demo", "1.0"))
        index.faults["/simple/demo/"] = fails(500)
        ...index.url...
        assert index.requests[0].path == "/simple/demo/"

It also answers as a proxy would: a request for `http://anywhere/simple/demo/` gets the page of demo.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import re
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

JSON = "application/vnd.pypi.simple.v1+json"
POLL_SECONDS = 0.02
ZEROS = bytes(64 * 1024)


def make_wheel(
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    entry_points: str = "",
    metadata_extra: str = "",
) -> bytes:
    """A wheel that installers accept: its RECORD is right, and the same arguments give the same bytes."""
    stem = f"{_escaped(name)}-{version}"
    contents: dict[str, bytes] = {path: _bytes(text) for path, text in (files or {}).items()}
    contents[f"{stem}.dist-info/METADATA"] = _metadata(name, version, requires, metadata_extra)
    contents[f"{stem}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {str(tag.endswith('-any')).lower()}\nTag: {tag}\n"
    ).encode()
    if entry_points:
        contents[f"{stem}.dist-info/entry_points.txt"] = entry_points.encode()
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{path},sha256={_record_hash(data)},{len(data)}" for path, data in contents.items()]
    contents[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    return _zipped(contents)


def make_sdist(
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    metadata_extra: str = "",
) -> bytes:
    """A source distribution: PKG-INFO and the given files, such as pyproject.toml or setup.py."""
    stem = f"{_escaped(name)}-{version}"
    contents = {"PKG-INFO": _metadata(name, version, requires, metadata_extra)}
    contents |= {path: _bytes(text) for path, text in (files or {}).items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data in contents.items():
            member = tarfile.TarInfo(f"{stem}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def sha256(data: bytes) -> str:
    """As indexes and lock files write it."""
    return hashlib.sha256(data).hexdigest()


def _escaped(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _metadata(name: str, version: str, requires: Sequence[str], extra: str) -> bytes:
    lines = ["Metadata-Version: 2.2", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return "\n".join([*lines, *extra.splitlines(), ""]).encode()


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            member = zipfile.ZipInfo(path)  # of 1980
            member.external_attr = 0o644 << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


@dataclass(frozen=True)
class Request:
    """One that came."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case


class FakeIndex:
    """A package index at `url`, with what was added to it; its requests, and what is to go wrong by path."""

    def __init__(
        self, *, as_html: bool = False, login: tuple[str, str] | None = None, metadata: bool = True, ranges: bool = True
    ) -> None:
        self.as_html = as_html
        self.metadata = metadata  # PEP 658
        self.ranges = ranges
        self.requests: list[Request] = []
        self.faults: dict[str, Fault] = {}
        self.pages: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.closing = threading.Event()
        self._login = login
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,))

    def __enter__(self) -> FakeIndex:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections, and wait for their threads."""
        self.closing.set()
        self._server.shutdown()
        self._server.disconnect()
        self._server.server_close()
        self._thread.join()

    @property
    def root(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """Of the index, without credentials."""
        return f"{self.root}/simple"

    @property
    def authorization(self) -> str | None:
        """The header that it wants."""
        return None if self._login is None else "Basic " + base64.b64encode(":".join(self._login).encode()).decode()

    def asked(self, method: str = "GET") -> list[str]:
        """The paths of the requests so far."""
        return [request.path for request in self.requests if request.method == method]

    def add(
        self,
        filename: str,
        data: bytes,
        *,
        hashes: dict[str, str] | None = None,
        size: int | None = None,
        requires_python: str | None = None,
        url: str | None = None,
        yanked: bool | str = False,
    ) -> None:
        """Offer a file. Its hashes, size and address may be lies."""
        project = re.sub(r"[-_.]+", "-", filename.removesuffix(".tar.gz").split("-")[0]).lower()
        self.files[f"/files/{filename}"] = data
        entry: dict[str, Any] = {
            "filename": filename,
            "url": url or f"../../files/{filename}",
            "hashes": {"sha256": sha256(data)} if hashes is None else hashes,
            "size": len(data) if size is None else size,
            "yanked": yanked,
        }
        if requires_python:
            entry["requires-python"] = requires_python
        if filename.endswith(".whl") and self.metadata:
            metadata = _metadata_of(data)
            self.files[f"/files/{filename}.metadata"] = metadata
            entry["core-metadata"] = {"sha256": sha256(metadata)}
        self.pages.setdefault(project, []).append(entry)


def _metadata_of(wheel: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return archive.read(next(path for path in archive.namelist() if path.endswith(".dist-info/METADATA")))


class _Server(ThreadingHTTPServer):
    """Knows its connections, so that it can end them."""

    daemon_threads = False  # they are joined
    request_queue_size = 128

    def __init__(self, index: FakeIndex) -> None:
        self.index = index
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def disconnect(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    @property
    def index(self) -> FakeIndex:
        """Whose this is."""
        return self.server.index

    def log_message(self, format: str, *args: object) -> None:
        """Tests look at the requests."""

    def do_GET(self) -> None:
        """A page, a file, or what a fault makes of them."""
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.index.requests.append(Request(self.command, path, headers))
        if self.index.authorization not in (None, headers.get("authorization")):
            self.answer(401, b"")
        elif path in self.index.faults:
            self.index.faults[path](self)
        else:
            self.serve(path)

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        """It is no proxy for TLS."""
        self.answer(405, b"")

    def serve(self, path: str, *, ranges: bool = True) -> None:
        """What the index has there."""
        if path.startswith("/simple/"):
            self._page(path.split("/")[2])
        elif path in self.index.files:
            self._file(self.index.files[path], ranges=ranges and self.index.ranges)
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer."""
        self.begin(status, len(body), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, status: int, length: int, **headers: str) -> None:
        """An answer's head."""
        self.send_response(status)
        for name, value in {"Content_Length": str(length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _page(self, project: str) -> None:
        entries = self.index.pages.get(project)
        if entries is None:
            self.answer(404, b"")
        elif self.index.as_html:
            self.answer(200, _as_html(entries), Content_Type="text/html; charset=utf-8")
        else:
            page = {"meta": {"api-version": "1.1"}, "name": project, "files": entries}
            self.answer(200, json.dumps(page).encode(), Content_Type=JSON)

    def _file(self, data: bytes, *, ranges: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not ranges:
            self.answer(200, data)
        elif wanted is None:
            self.answer(200, data, Accept_Ranges="bytes")
        else:
            first = int(wanted[1]) if wanted[1] else len(data) - int(wanted[2])
            last = min(int(wanted[2] or len(data)), len(data) - 1) if wanted[1] else len(data) - 1
            self.answer(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}")


def _as_html(entries: Sequence[Mapping[str, Any]]) -> bytes:
    lines = []
    for entry in entries:
        attributes = {"href": entry["url"] + "".join(f"#{kind}={value}" for kind, value in entry["hashes"].items())}
        attributes["data-requires-python"] = entry.get("requires-python", "")
        if metadata := entry.get("core-metadata"):
            attributes["data-dist-info-metadata"] = f"sha256={metadata['sha256']}"
        if entry["yanked"] is not False:
            attributes["data-yanked"] = "" if entry["yanked"] is True else entry["yanked"]
        shown = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
        lines.append(f"<a {shown}>{entry['filename']}</a><br/>")
    return f"<!DOCTYPE html><html><body>{''.join(lines)}</body></html>".encode()


Fault = Callable[[Handler], None]  # what to do instead of answering


def hangs(handler: Handler) -> None:
    """Says nothing until the index is closed."""
    handler.index.closing.wait()
    handler.close_connection = True


def fails(status: int) -> Fault:
    """Answers with this status."""
    return lambda handler: handler.answer(status, b"a fault")


def redirects(url: str) -> Fault:
    """Leads elsewhere."""
    return lambda handler: handler.answer(302, b"", Location=url)


def drips(seconds: float) -> Fault:
    """Sends the file a byte at a time."""

    def drip(handler: Handler) -> None:
        data = handler.index.files[handler.path]
        handler.begin(200, len(data))
        for byte in data:
            if handler.index.closing.wait(seconds):
                break
            handler.wfile.write(bytes([byte]))

    return drip


def is_cut(handler: Handler) -> None:
    """Ends the connection in the middle of the file."""
    data = handler.index.files[handler.path]
    handler.begin(200, len(data))
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def has_no_ranges(handler: Handler) -> None:
    """Sends the whole file, whatever part was asked for."""
    handler.serve(handler.path, ranges=False)


def is_endless(declared: int | None) -> Fault:
    """Streams zeros: so many bytes, or without saying how many."""

    def stream(handler: Handler) -> None:
        if declared is None:
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.end_headers()
        else:
            handler.begin(200, declared)
        handler.close_connection = True
        until = time.monotonic() + 60
        while handler.command != "HEAD" and not handler.index.closing.is_set() and time.monotonic() < until:
            handler.wfile.write(ZEROS)

    return stream
