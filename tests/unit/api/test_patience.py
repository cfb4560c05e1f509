"""A request that does not come whole is given up; one that comes slowly is not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from python_executor.api import protocol
from tests.support.exchange import connect, read_answer, request
from tests.unit.api.fakes import FakeExecutions, serving, settings

PATIENCE = 0.4  # seconds


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(protocol, "PATIENCE", PATIENCE)
    with serving(FakeExecutions(), settings()) as url:
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
    body = b'{"code": "1"}'
    whole = request(url, "POST", "/api/v1/eval", body, {"Content-Type": "application/json"})
    with connect(url) as connection:
        connection.sendall(whole[: -len(body)])
        for byte in body:
            time.sleep(PATIENCE / 4)
            connection.sendall(bytes([byte]))
        assert read_answer(connection).status == 200


def test_a_connection_that_has_had_its_answer_may_idle_longer(url: str) -> None:
    with connect(url) as connection:
        for _ in range(2):
            connection.sendall(request(url, "GET", "/health"))
            assert read_answer(connection).status == 200
            time.sleep(PATIENCE * 1.5)
