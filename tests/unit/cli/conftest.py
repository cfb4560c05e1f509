"""The command line in this process, and a server that answers what a test tells it to."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from python_executor.cli import main

ID = "exe_00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Asked:
    """A request that reached the stub."""

    method: str
    path: str
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._part("metadata"))
        return found

    @property
    def files(self) -> dict[str, str]:
        """The regular files of the uploaded archive."""
        with tarfile.open(fileobj=io.BytesIO(self._part("tar"))) as archive:
            members = [member for member in archive if member.isfile()]
            return {member.name: archive.extractfile(member).read().decode() for member in members}  # type: ignore[union-attr]

    def _part(self, name: str) -> bytes:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        for part in message_from_bytes(head + self.body).get_payload():
            if part.get_param("name", header="content-disposition") == name:  # type: ignore[union-attr]
                content = part.get_payload(decode=True)  # type: ignore[union-attr]
                assert isinstance(content, bytes)
                return content
        raise AssertionError(f"no part {name}")


class Stub:
    """A server whose every execution ends with `result`; `refusal` (status, body) comes first where there is one."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}
        self.refusal: tuple[int, bytes] | None = None
        self.asked: list[Asked] = []
        self.before_result: Callable[[], None] = lambda: None
        self._http = HTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def submitted(self) -> Asked:
        """The one upload or eval."""
        (asked,) = [asked for asked in self.asked if asked.method == "POST"]
        return asked

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        if self.refusal:
            return self.refusal
        if asked.path.endswith("/exec/async"):
            return 202, json.dumps({"execution_id": ID}).encode()
        if asked.method == "GET":
            self.before_result()
        ended = {"execution_id": ID, "status": "completed", "stdout": "", "stderr": "", "exit_code": 0}
        return 200, json.dumps({**ended, **self.result}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = stub.answer(Asked(self.command, self.path, self.headers, body))
                with contextlib.suppress(ConnectionError):  # Ctrl-C hangs up
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


Cli = Callable[..., Outcome]


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server of the test's own."""
    server = Stub()
    yield server
    server.close()


@pytest.fixture
def cli(stub: Stub, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Runs a command line against the stub: `cli("run", "main.py", stdin="…")`."""
    monkeypatch.setenv("PYEXEC_SERVER", stub.url)
    monkeypatch.delenv("PYEXEC_API_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str, stdin: str | bytes = b"") -> Outcome:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        code = main(arguments)
        sys.stdout.flush()
        stdout, stderr = capfdbinary.readouterr()
        return Outcome(code, stdout.decode(), stderr.decode())

    return run
