"""Bytes that come in are counted before anything waits: who finds no room is told before it sends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.api import Api, assert_error
from tests.support.archives import tar_of
from tests.support.exchange import MULTIPART, connect, exchange, multipart, request
from tests.unit.api.fakes import DATA, FakeExecutions

EVAL, ASYNC = "/api/v1/eval", "/api/v1/exec/async"
JSON = {"Content-Type": "application/json"}
ASKS = {"Expect": "100-continue"}  # so that the refusal comes before the body
MEBIBYTE = 1 << 20


@contextmanager
def coming_in(api: Api, service: FakeExecutions, path: str, mebibytes: int, count: int) -> Iterator[None]:
    """Requests that have declared so much each and send none of it."""
    kind = MULTIPART if path == ASYNC else JSON
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(api.url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(request(api.url, "POST", path, b"", kind, length=mebibytes * MEBIBYTE))
        wait_for(service, count * mebibytes * MEBIBYTE)
        yield
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)
    wait_for(service, 0)


def wait_for(service: FakeExecutions, held: int) -> None:
    deadline = time.monotonic() + 20
    while service.holdings.memory + service.holdings.files != held:
        assert time.monotonic() < deadline, (service.holdings.memory, service.holdings.files)
        time.sleep(0.01)


def test_an_upload_that_finds_no_room_beside_those_that_come_in_is_a_429_before_it_is_sent(
    api: Api, service: FakeExecutions
) -> None:
    head = request(api.url, "POST", ASYNC, b"", MULTIPART | ASKS, length=99 * MEBIBYTE)
    with coming_in(api, service, ASYNC, 99, count=2):
        answer = exchange(api.url, head)
        assert (answer.status, answer.json["code"]) == (429, "queue_full")
        assert "SPOOL_MAX_MB" in answer.json["error"] and int(answer.headers["Retry-After"]) > 0
        assert api.eval("1")
        api.submit({"main.py": "1"})
    api.submit({"main.py": "1", "data": bytes(3 * MEBIBYTE)})


def test_input_that_finds_no_room_in_memory_is_a_429_and_small_requests_go_on(
    api: Api, service: FakeExecutions
) -> None:
    with coming_in(api, service, EVAL, 15, count=2):
        assert_error(api.post_eval({"code": "1", "stdin": "x" * (3 * MEBIBYTE)}), 429, "queue_full", "QUEUE_MAX_MB")
        large = multipart(
            ("tar", tar_of({"main.py": "1"})), ("metadata", b'{"stdin": "' + b"x" * (3 * MEBIBYTE) + b'"}')
        )
        assert_error(api.request("POST", ASYNC, data=large, headers=MULTIPART), 429, "queue_full", "QUEUE_MAX_MB")
        assert api.eval("1", stdin="x" * 50_000)
    assert api.eval("1", stdin="x" * (3 * MEBIBYTE))


def test_a_body_of_no_declared_length_is_counted_as_it_comes(api: Api, service: FakeExecutions) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"code": "1", "stdin": "'
        yield from (b"x" * MEBIBYTE for _ in range(5))
        yield b'"}'

    with coming_in(api, service, EVAL, 15, count=2):
        assert_error(api.request("POST", EVAL, data=chunks(), headers=JSON), 429, "queue_full", "QUEUE_MAX_MB")
    assert api.request("POST", EVAL, data=chunks(), headers=JSON).status_code == 200
    wait_for(service, 0)


def test_what_is_declared_to_be_larger_than_is_taken_is_still_told_so(api: Api, service: FakeExecutions) -> None:
    with coming_in(api, service, EVAL, 15, count=2):
        head = request(api.url, "POST", EVAL, b"", JSON | ASKS, length=17 * MEBIBYTE)
        assert exchange(api.url, head).status == 413


def test_an_upload_on_disk_is_in_the_data_directory_and_has_no_name(api: Api, service: FakeExecutions) -> None:
    spool = Path(DATA.name) / "spool"
    body = multipart(("tar", tar_of({"main.py": "1", "data": bytes(3 * MEBIBYTE)})), end=False)
    with connect(api.url) as connection:
        connection.sendall(request(api.url, "POST", ASYNC, body, MULTIPART, length=len(body) + 100))
        deadline = time.monotonic() + 20
        while not any(link.startswith(f"{spool}/") for link in open_files()):
            assert time.monotonic() < deadline, open_files()
            time.sleep(0.01)
        assert list(spool.iterdir()) == []
        assert spool.stat().st_mode & 0o777 == 0o700


def open_files() -> list[str]:
    """What this process has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return links
