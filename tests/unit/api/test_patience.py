"""A request that does not come whole is given up; one that comes slowly is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from python_executor.api import protocol
from tests.support.exchange import connect, read_answer, request
from tests.unit.api.fakes import FakeExecutions, serving, settings

PATIENCE = 0.4  # seconds


@pytest.fixture
def executions() -> FakeExecutions:
    return FakeExecutions()


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, executions: FakeExecutions) -> Iterator[str]:
    monkeypatch.setattr(protocol, "PATIENCE", PATIENCE)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", PATIENCE)
    with serving(executions, settings()) as url:
        yield url


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_head_that_does_not_come_is_given_up(url: str, sent: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(sent)
        answer = read_answer(connection)
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")


def test_a_head_in_small_pieces_does_not_get_longer(url: str) -> None:
    with connect(url) as connection:
        start = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < start + 20 * PATIENCE:
                connection.sendall(b"X")
                time.sleep(PATIENCE / 4)


def test_a_body_that_stops_coming_is_given_up(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(request(url, "POST", "/api/v1/eval", b'{"code"', length=100))
        assert read_answer(connection).status == 408


def test_a_body_that_comes_slowly_is_awaited(url: str) -> None:
    body = b'{"code": "1", "colour": "%s"}' % (b"x" * 10_000)
    whole = request(url, "POST", "/api/v1/eval", body, {"Content-Type": "application/json"})
    head = len(whole) - len(body)
    with connect(url) as connection:
        connection.sendall(whole[:head])
        for at in range(head, len(whole), 400):
            time.sleep(PATIENCE / 8)
            connection.sendall(whole[at : at + 400])
        assert read_answer(connection).status == 200


def test_a_body_that_comes_slower_than_its_pace_is_given_up(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(request(url, "POST", "/api/v1/eval", b"{", length=1000))
        with suppress(OSError):  # it has been closed
            for _ in range(24):  # never silent for long
                connection.sendall(b" ")
                time.sleep(PATIENCE / 8)
        answer = read_answer(connection)
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")
    assert "1024 bytes a second" in answer.json["error"]


@pytest.mark.parametrize("sent", [b"\r\n", b"GET /health HTTP/1.1\r\n"])
def test_a_second_head_that_begins_and_does_not_come_is_given_up(url: str, sent: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(request(url, "GET", "/health"))
        assert read_answer(connection).status == 200
        connection.sendall(sent)
        assert read_answer(connection).status == 408


def test_a_request_that_waits_behind_another_is_not_given_up(url: str, executions: FakeExecutions) -> None:
    executions.hanging = True
    with connect(url) as connection:
        connection.sendall(request(url, "POST", "/api/v1/eval", b'{"code": "1"}') + b"GET /health HTTP/1.1\r\n")
        connection.settimeout(3 * PATIENCE)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_connection_that_has_had_its_answer_may_idle_longer(url: str) -> None:
    with connect(url) as connection:
        for _ in range(2):
            connection.sendall(request(url, "GET", "/health"))
            assert read_answer(connection).status == 200
            time.sleep(PATIENCE * 1.5)
