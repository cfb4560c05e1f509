"""A loopback HTTP server that answers what a test tells it to, and keeps what it was asked, byte for byte."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Union

import pytest

from python_executor_client import PythonExecutorClient


@dataclass
class Part:
    """One part of a multipart/form-data body."""

    headers: str
    content: bytes


@dataclass
class Asked:
    """A request as it came over the wire. `connection` tells apart the TCP connections."""

    method: str
    target: str
    headers: Message
    body: bytes
    connection: tuple[str, int]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> list[Part]:
        boundary = self.headers.get_param("boundary", header="content-type")
        pieces = self.body.split(f"--{boundary}".encode())
        assert pieces[0] == b"" and pieces[-1].strip() == b"--"
        split = [piece[2:-2].partition(b"\r\n\r\n") for piece in pieces[1:-1]]  # without the CRLFs around it
        return [Part(head.decode(), content) for head, _, content in split]


@dataclass
class Answer:
    """What to answer: `body` is sent as JSON unless it is bytes."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Script = Union[Answer, Callable[[Asked], Answer]]


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # server_close() then waits for each connection to be closed
    request_queue_size = 64  # many threads may connect at once


class Loopback:
    """Answers with `script`, one item for each request, the last one again and again; keeps all in `asked`."""

    def __init__(self) -> None:
        self.script: list[Script] = []
        self.asked: list[Asked] = []
        self._connections: set[socket.socket] = set()
        self._http = _HTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        for connection in list(self._connections):  # urllib3 closes its own only when they are garbage
            with suppress(OSError):  # its thread has just closed it
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()

    def _answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        item = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return item if isinstance(item, Answer) else item(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                loopback._connections.add(self.connection)

            def finish(self) -> None:
                loopback._connections.discard(self.connection)
                super().finish()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.command, self.path, self.headers, body, self.client_address)
                answer = loopback._answer(asked)
                content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A server whose answer to everything is a finished execution, until a test writes another `script`."""
    server = Loopback()
    server.script = [Answer({"execution_id": "exe_1", "status": "completed", "exit_code": 0})]
    yield server
    server.close()


@pytest.fixture
def connect(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PythonExecutorClient]]:
    """Makes clients of the loopback server, away from this machine's own settings, and closes them."""
    monkeypatch.delenv("PYEXEC_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    clients: list[PythonExecutorClient] = []

    def make(base_url: str | None = None, **options: Any) -> PythonExecutorClient:
        clients.append(PythonExecutorClient(base_url or loopback.url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.session.close()


@pytest.fixture
def client(connect: Callable[..., PythonExecutorClient]) -> PythonExecutorClient:
    """A client of the loopback server."""
    return connect()


@pytest.fixture
def answer() -> type[Answer]:
    """The class of the loopback server's answers, for tests that write their own."""
    return Answer


@pytest.fixture(scope="session")
def index_url() -> str:
    """The registry: what is documented is tried as it stands."""
    return ""
