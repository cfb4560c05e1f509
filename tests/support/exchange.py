"""Requests as bytes on a socket, for what no HTTP library would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


def connect(url: str) -> socket.socket:
    """A connection to the server."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_SECONDS)


def read_answer(connection: socket.socket) -> Answer:
    """The next response on the connection."""
    response = HTTPResponse(connection)
    try:
        response.begin()
        return Answer(response.status, response.headers, response.read())
    finally:
        response.close()


def exchange(url: str, data: bytes, *, half_close: bool = False) -> Answer:
    """Send these bytes and read one response."""
    with connect(url) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def request(
    url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, length: int = -1
) -> bytes:
    """A request as bytes; `length` is the Content-Length to claim, where that is not the body's."""
    fields = {
        "Host": urlsplit(url).netloc,
        "Content-Length": str(len(body) if length < 0 else length),
        **(headers or {}),
    }
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n" + body


BOUNDARY = "7d1f3a9be6c24f0c"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def multipart(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A multipart body of (name, content) or (whole Content-Disposition, content) parts."""
    pieces = []
    for name, content in parts:
        disposition = name if ";" in name else f'form-data; name="{name}"'
        pieces.append(f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(pieces) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")
