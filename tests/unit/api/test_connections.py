"""What is no body is bounded, connections are, and so is the time that an answer waits to be taken."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from python_executor.api import connections, server
from python_executor.api.protocol import FRAMING_BYTES, LINGER_BYTES, MAX_FIELDS, MAX_HEAD_BYTES
from tests.support.api import Api
from tests.support.archives import tar_of
from tests.support.exchange import MULTIPART, Answer, connect, exchange, multipart, read_answer, request
from tests.unit.api import fakes
from tests.unit.api.fakes import ID, FakeExecutions, serving, settings

CHUNKED = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
KEY = "s3cret"


@pytest.fixture
def locked() -> Iterator[str]:
    with serving(FakeExecutions(), settings(api_key=KEY)) as url:
        yield url


def chunked(url: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """An eval whose body is these bytes, chunk lines and all."""
    data = request(url, "POST", "/api/v1/eval", headers={**CHUNKED, **(headers or {})})
    return re.sub(rb"Content-Length: \d+\r\n", b"", data) + body


def in_chunks(body: bytes, size: int = 1, extension: bytes = b"") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n\r\n"


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


# --- what is no body ---


def test_a_trailer_is_no_header(locked: str, api: Api) -> None:
    body = b"2\r\n{}\r\n0\r\nAuthorization: Bearer %s\r\n\r\n" % KEY.encode()
    assert exchange(locked, chunked(locked, body)).status == 401
    body = in_chunks(b'{"code": "1"}')[:-2] + b"Origin: https://evil.example\r\nHost: evil.example\r\n\r\n"
    assert exchange(api.url, chunked(api.url, body)).status == 200


def test_trailers_without_end_are_refused(api: Api) -> None:
    for trailers in (b"a:\r\n" * FRAMING_BYTES, b"a: " + b"x" * 3 * FRAMING_BYTES):
        body = in_chunks(b'{"code": "1"}')[:-2] + trailers
        assert refusal(exchange(api.url, chunked(api.url, body))) == (431, "too_large")


def test_chunk_lines_are_bounded(api: Api) -> None:
    for body in (
        b"2;" + b"x" * 3 * FRAMING_BYTES + b"\r\n{}\r\n0\r\n\r\n",  # in one go
        in_chunks(b" " * 2000, extension=b";" + b"x" * 100),  # and in all
    ):
        assert refusal(exchange(api.url, chunked(api.url, body))) == (431, "too_large")


@pytest.mark.parametrize("size", [1, 2, 7, 5000])
def test_a_body_may_come_in_small_chunks(api: Api, service: FakeExecutions, size: int) -> None:
    stdin = "x" * 50_000
    body = json.dumps({"code": "1", "stdin": stdin}).encode()
    assert exchange(api.url, chunked(api.url, in_chunks(body, size))).status == 200
    assert service.spec.stdin == stdin.encode()


def test_an_upload_in_chunks_may_hold_what_looks_like_an_end(api: Api, service: FakeExecutions) -> None:
    content = b"\r\n\r\n0\r\n\r\n" * 20_000
    body = multipart(("tar", tar_of({"main.py": "1", "data": content})), ("metadata", b"{}"))
    for size in (1000, 100_000):
        service.reset()
        data = request(api.url, "POST", "/api/v1/exec/sync", headers={"Transfer-Encoding": "chunked", **MULTIPART})
        data = re.sub(rb"Content-Length: \d+\r\n", b"", data) + in_chunks(body, size)
        assert exchange(api.url, data).status == 200
        assert service.files()["data"] == content


def test_requests_may_follow_each_other_without_waiting_however_they_are_cut(api: Api) -> None:
    one = chunked(api.url, in_chunks(b'{"code": "1"}', 3))
    two = request(api.url, "POST", "/api/v1/eval", b'{"code": "1"}')
    three = request(api.url, "GET", "/health")
    data = (one + two + three) * 3
    for size in (1, 2, 3, 5, 64, len(data)):
        with connect(api.url) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(data), size):
                connection.sendall(data[at : at + size])
            with connection.makefile("rb") as answers:
                for _ in range(9):
                    assert _status(answers) == 200


def _status(answers: object) -> int:
    status = int(answers.readline().split()[1])  # type: ignore[attr-defined]
    length = 0
    while (line := answers.readline().strip()) != b"":  # type: ignore[attr-defined]
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    answers.read(length)  # type: ignore[attr-defined]
    return status


def test_headers_are_bounded_in_number(api: Api) -> None:
    few = {f"x{number}": "1" for number in range(MAX_FIELDS - 2)}
    assert exchange(api.url, request(api.url, "GET", "/health", headers=few)).status == 200
    many = {**few, "one": "more"}
    assert refusal(exchange(api.url, request(api.url, "GET", "/health", headers=many))) == (431, "too_large")


def test_a_head_is_bounded_in_bytes_also_where_it_comes_whole(api: Api) -> None:
    for size, status in ((MAX_HEAD_BYTES - 200, 200), (MAX_HEAD_BYTES, 431), (4 * MAX_HEAD_BYTES, 431)):
        data = request(api.url, "GET", "/health", headers={"x": "y" * size})
        assert exchange(api.url, data).status == status


# --- an answer to somebody who still sends ---


def test_a_refusal_can_be_read_by_whoever_still_sends(locked: str) -> None:
    head = request(locked, "POST", "/api/v1/eval", length=LINGER_BYTES)
    with connect(locked) as connection:
        connection.sendall(head)
        time.sleep(0.2)  # it is answered by now
        connection.sendall(bytes(LINGER_BYTES))
        assert read_answer(connection).status == 401


def test_what_follows_a_refusal_is_read_only_so_far(locked: str) -> None:
    with connect(locked) as connection:
        connection.sendall(request(locked, "POST", "/api/v1/eval", length=1 << 40))
        sent = 0
        with pytest.raises(OSError):
            while sent < 50 * LINGER_BYTES:
                sent += connection.send(bytes(1 << 20))
        assert read_answer(connection).status == 401  # which does not get lost


# --- how many connections there are ---


@contextmanager
def at_most(count: int, monkeypatch: pytest.MonkeyPatch, executions: FakeExecutions) -> Iterator[str]:
    monkeypatch.setattr(server, "connections_max", lambda *_: count)
    with serving(executions, settings()) as url:
        yield url


def test_the_oldest_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch, service: FakeExecutions) -> None:
    with at_most(3, monkeypatch, service) as url, ExitStack() as stack:
        silent, half, used, new = (stack.enter_context(connect(url)) for _ in range(4))
        assert silent.recv(1) == b""
        half.sendall(b"GET / HTTP/1.1\r\n")
        used.sendall(request(url, "GET", "/health"))
        assert read_answer(used).status == 200
        newest = stack.enter_context(connect(url))
        assert half.recv(1) == b""  # it has sent something, and yet no request is being answered
        for connection in (used, new, newest):
            connection.sendall(request(url, "GET", "/health"))
            assert read_answer(connection).status == 200


def test_no_connection_is_closed_for_another_while_it_is_being_answered(
    monkeypatch: pytest.MonkeyPatch, service: FakeExecutions
) -> None:
    service.hanging = True
    with at_most(2, monkeypatch, service) as url, ExitStack() as stack:
        busy = [stack.enter_context(connect(url)) for _ in range(2)]
        for connection in busy:
            connection.sendall(request(url, "POST", "/api/v1/eval", b'{"code": "1"}'))
        assert service.entered.wait(10)
        time.sleep(0.1)
        assert refusal(read_answer(stack.enter_context(connect(url)))) == (503, "unavailable")
        for connection in busy:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_requests_that_wait_leave_half_of_the_connections_to_others(
    monkeypatch: pytest.MonkeyPatch, service: FakeExecutions
) -> None:
    service.hanging = True
    with at_most(4, monkeypatch, service) as url, ExitStack() as stack:
        waiting = [stack.enter_context(connect(url)) for _ in range(3)]
        for connection in waiting:
            connection.sendall(request(url, "GET", f"/api/v1/executions/{ID}?wait=60"))
            assert service.entered.wait(10)
            service.entered.clear()
        answer = read_answer(waiting[0])  # the one that has waited for longest
        assert (answer.status, answer.headers["Preference-Applied"]) == (200, None)  # so our client polls from now on
        for connection in waiting[1:]:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_descriptors_are_kept_for_what_runs() -> None:
    given = settings(max_concurrent=32, pool_max=64, queue_max=1000)
    assert server.connections_max(given, 1 << 20, 6) == 1024 + 32 + 1000
    for files in (1100, 2048, 4096, 20_000):
        count = server.connections_max(given, files, 6)
        runs = files - count - min(64 * 6 * server.FILES_OF_A_RUN, files // 2)  # what is left beside the pools
        assert count == 2056 or count >= files // 8
        assert runs >= 32 * server.FILES_OF_A_RUN or count == files // 8
    assert (
        server.connections_max(settings(max_concurrent=4, pool_max=4), 1100, 1)
        == 1100 - 2 * 4 * server.FILES_OF_A_RUN - 128
    )


# --- answers ---


@contextmanager
def answering(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with that application."""
    monkeypatch.setattr(server, "create_app", lambda *_: app)
    with serving(FakeExecutions(), settings()) as url:
        yield url


def streaming(pieces: Callable[[], object]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(pieces())(scope, receive, send)  # type: ignore[arg-type]

    return app


def test_the_head_of_an_answer_does_not_wait_for_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        await asyncio.Event().wait()
        yield b""

    with answering(streaming(pieces), monkeypatch) as url, connect(url) as connection:
        connection.sendall(request(url, "GET", "/"))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_head_and_body_of_a_small_answer_come_together(api: Api) -> None:
    with connect(api.url) as connection:
        for _ in range(100):
            connection.sendall(request(api.url, "GET", "/health"))
            assert connection.recv(1 << 16).endswith(b'{"status":"ok"}')


def slow_reader(url: str) -> socket.socket:
    """A connection whose kernel takes next to nothing by itself."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    host, _, port = url.removeprefix("http://").partition(":")
    connection.connect((host, int(port)))
    connection.sendall(request(url, "GET", "/"))
    return connection


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(connections, "READ_PATIENCE", 0.5)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    return 0.5


def test_whoever_takes_no_byte_of_an_answer_is_closed(monkeypatch: pytest.MonkeyPatch, patience: float) -> None:
    with answering(Response(bytes(50 << 20)), monkeypatch) as url, slow_reader(url) as connection:
        time.sleep(4 * patience)
        received = 0
        with pytest.raises(ConnectionError):
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
            raise ConnectionError  # where it ends without a reset
        assert received < 50 << 20


def test_whoever_takes_an_answer_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch, patience: float) -> None:
    with answering(Response(bytes(1 << 20)), monkeypatch) as url, slow_reader(url) as connection:
        received, pause = 0, patience / 25
        while received < 1 << 20:
            chunk = connection.recv(1 << 14)
            assert chunk
            received += len(chunk)
            time.sleep(pause)


def test_who_makes_a_long_answer_waits_for_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    async def pieces():  # type: ignore[no-untyped-def]
        nonlocal made
        for _ in range(1000):
            made += 1
            yield bytes(1 << 16)

    with answering(streaming(pieces), monkeypatch) as url, slow_reader(url):
        time.sleep(0.5)
        assert 1 <= made < 30  # of 64 KiB: what fits into our buffer and the kernel's


# --- the event loop ---


@pytest.fixture
def beaten(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[float]]]:
    """A server, and the seconds of processor time between a millisecond's beats of its event loop."""
    gaps: list[float] = []

    def new_event_loop() -> asyncio.AbstractEventLoop:
        loop = server.new_event_loop()

        def beat(before: float) -> None:
            now = time.thread_time()  # what the machine does besides does not count
            gaps.append(now - before)
            loop.call_later(0.001, beat, now)

        loop.call_later(0.001, lambda: beat(time.thread_time()))
        return loop

    monkeypatch.setattr(fakes, "new_event_loop", new_event_loop)
    with serving(FakeExecutions(), settings()) as url:
        exchange(url, request(url, "GET", "/health"))
        yield url, gaps


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\n\r\n" * 10_000,
        b"GET /health HTTP/1.1\r\n" + b"a:\r\n" * 20_000,
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 50_000,
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"a:\r\n" * 90_000,
    ],
    ids=["pipelined", "fields", "chunks", "trailers"],
)
def test_nothing_that_arrives_holds_the_event_loop(beaten: tuple[str, list[float]], sent: bytes) -> None:
    url, gaps = beaten
    with ExitStack() as stack:
        attackers = [stack.enter_context(connect(url)) for _ in range(4)]
        for attacker in attackers:
            attacker.settimeout(0.3)
        gaps.clear()
        with suppress(OSError):
            for attacker in attackers:
                attacker.send(sent)
        for _ in range(5):
            assert exchange(url, request(url, "GET", "/health")).status == 200
            time.sleep(0.1)
        assert max(gaps) < 0.02
