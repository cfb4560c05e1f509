"""Long answers: the same bytes as short ones, in pieces, and bounded in what they hold meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from unittest.mock import Mock, patch

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from python_executor.api import answers
from python_executor.api.answers import PATIENCE, SHORT_BYTES, Answers
from python_executor.api.flight import FLIGHT_BYTES, LEASE, Flight
from python_executor.api.protocol import CONNECTION
from python_executor.api.responses import execution_content
from python_executor.api.turns import Turns
from python_executor.model.errors import NotFound, Unavailable
from python_executor.model.execution import Blocks, Execution
from python_executor.model.spec import MEBIBYTE
from tests.support.api import Api
from tests.support.exchange import connect, read_answer
from tests.unit.api.fakes import DONE, FakeExecutions
from tests.unit.executions.support import run

HOSTILE = {
    "control characters": b"\x01" * (10 * MEBIBYTE),
    "zeros": bytes(10 * MEBIBYTE),
    "text": b"Some words, and a line's end.\n" * 300_000,
    "what is no UTF-8": b"\xff\xfe\xf0\x9f" * (2 * MEBIBYTE),
    "many bytes a character": "\N{GRINNING FACE}é".encode() * 1_000_000,
}


def plain(execution: Execution) -> bytes:
    """The answer in one go, as the standard library makes it."""
    return json.dumps(execution_content(execution), ensure_ascii=False, separators=(",", ":")).encode()


class Connection:
    """A client's connection that takes all that it gets."""

    def __init__(self) -> None:
        self.drop = Mock()

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        await work


async def sent(execution: Execution, **how: Any) -> list[dict[str, Any]]:
    """The messages of an answer."""
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def get(_execution_id: str) -> Execution:
        return execution

    answer = Answers(Turns(), get).of(execution, **how)
    await answer({"type": "http", CONNECTION: Connection()}, None, send)  # type: ignore[arg-type]
    return messages


def body_of(messages: list[dict[str, Any]]) -> bytes:
    length = dict(messages[0]["headers"])[b"content-length"]
    body = b"".join(message.get("body", b"") for message in messages[1:])
    assert int(length) == len(body)
    return body


nasty = st.lists(st.sampled_from([b"\x00", b"\x1f", b'"', b"\\", b"\n", b"\x7f", b"\xff", b"\xed\xa0\x80"])).map(
    b"".join
)
outputs = st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")) | nasty


@given(stdout=st.lists(outputs), stderr=outputs)
def test_a_long_answer_has_the_bytes_of_a_short_one_whatever_is_in_it(stdout: list[bytes], stderr: bytes) -> None:
    execution = replace(DONE, stdout=Blocks(*stdout), stderr=stderr, result='"stdout":"","stderr":""', error="\0")
    with patch.multiple(answers, SHORT_BYTES=0, PIECE_BYTES=3):
        assert body_of(asyncio.run(sent(execution))) == plain(execution)


@pytest.mark.parametrize("output", HOSTILE.values(), ids=HOSTILE)
def test_a_long_answer_goes_out_in_small_pieces_and_others_have_their_turn_between_them(output: bytes) -> None:
    execution = replace(DONE, stdout=output, stderr=output)
    rounds = 0

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def answer_beside_others() -> list[dict[str, Any]]:
        beside = asyncio.create_task(others())
        try:
            return await sent(execution)
        finally:
            beside.cancel()

    messages = asyncio.run(answer_beside_others())
    assert body_of(messages) == plain(execution)
    assert max(len(message.get("body", b"")) for message in messages[1:]) <= 256 * 1024
    assert rounds >= len(messages)


def test_a_short_answer_is_one_piece() -> None:
    messages = asyncio.run(sent(replace(DONE, stdout=b"x" * (SHORT_BYTES - 1))))
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]


LONG = b"\x01\xff" * SHORT_BYTES


def test_every_client_gets_a_long_answer_with_its_length(api: Api, service: FakeExecutions) -> None:
    service.execution = replace(DONE, stdout=LONG)
    path = f"/api/v1/executions/{DONE.execution_id}"
    for response in (api.get(path), api.get(path + "?wait=1"), api.post_eval({"code": "1"})):
        assert response.content == plain(service.execution)
        assert int(response.headers["content-length"]) == len(response.content)
        assert "transfer-encoding" not in response.headers
    with connect(api.url) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert read_answer(connection).body == plain(service.execution)


def test_what_is_asked_after_a_long_answer_is_answered_on_the_same_connection(
    api: Api, service: FakeExecutions
) -> None:
    service.execution = replace(DONE, stdout=LONG)
    with requests.Session() as session:
        for _ in range(3):
            assert session.post(f"{api.url}/api/v1/eval", json={"code": "1"}).json()["stdout"]


def test_a_client_that_leaves_in_the_middle_of_a_long_answer_takes_nothing_with_it(
    api: Api, service: FakeExecutions
) -> None:
    service.execution = replace(DONE, stdout=b"\x01" * (10 * MEBIBYTE))
    for _ in range(3):
        with connect(api.url) as connection:
            connection.sendall(
                f"GET /api/v1/executions/{DONE.execution_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            connection.recv(1000)
    assert api.get("/health").status_code == 200


# --- what is in flight ------------------------------------------------------------------------------------------------


class Flown:
    """An answer in flight until it is told to land, or cut."""

    def __init__(self, flight: Flight, name: str, size: int, patience: float | None = None) -> None:
        self._landing = asyncio.Event()
        self.is_up = False
        self.was_cut = False
        self.task = asyncio.create_task(self._fly(flight, name, size, patience))

    async def _fly(self, flight: Flight, name: str, size: int, patience: float | None) -> None:
        async with flight.hold(name, size, self._cut, patience):
            self.is_up = True
            await self._landing.wait()
        self.is_up = False

    def _cut(self) -> None:
        self.was_cut = True
        self._landing.set()

    async def land(self) -> None:
        self._landing.set()
        await self.task


def test_of_one_result_any_number_of_answers_fly_and_of_others_what_there_is_room_for() -> None:
    async def test() -> None:
        flight = Flight()
        same = [Flown(flight, "a", FLIGHT_BYTES) for _ in range(100)]
        other = Flown(flight, "b", 1)
        await asyncio.sleep(1)
        assert all(each.is_up for each in same) and not other.is_up
        for each in same:
            await each.land()
        await asyncio.sleep(1)
        assert other.is_up
        await other.land()

    run(test())


def test_who_waits_for_room_goes_in_order_and_one_that_is_too_large_goes_alone() -> None:
    async def test() -> None:
        flight = Flight(10)
        first, large, small = Flown(flight, "a", 5), Flown(flight, "b", 50), Flown(flight, "c", 1)
        await asyncio.sleep(1)
        assert (first.is_up, large.is_up, small.is_up) == (True, False, False)
        await first.land()
        await asyncio.sleep(1)
        assert (large.is_up, small.is_up) == (True, False)
        await large.land()
        await asyncio.sleep(1)
        assert small.is_up
        await small.land()

    run(test())


def test_who_asks_for_a_result_while_there_is_no_room_is_told_to_come_back() -> None:
    async def test() -> None:
        flight = Flight(10)
        first = Flown(flight, "a", 10)
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="try again"):
            await Flown(flight, "b", 10, PATIENCE).task
        assert not first.was_cut
        await first.land()

    run(test())


def test_an_answer_that_is_taken_slowly_is_cut_off_only_once_others_have_waited() -> None:
    async def test() -> None:
        flight = Flight(10)
        slow, slower = Flown(flight, "a", 10), Flown(flight, "a", 10)
        await asyncio.sleep(10 * LEASE)
        assert slow.is_up and slower.is_up
        other = Flown(flight, "b", 10)
        await asyncio.sleep(1)
        assert other.is_up and slow.was_cut and slower.was_cut
        quick = Flown(flight, "c", 10)
        await asyncio.sleep(LEASE - 2)
        assert not other.was_cut and not quick.is_up
        await other.land()
        await asyncio.sleep(1)
        assert quick.is_up
        await quick.land()

    run(test())


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_run_that_waits_for_room_holds_no_output_and_is_answered_in_any_case(is_kept: bool) -> None:
    kept = replace(DONE, stdout=LONG)

    async def get(_execution_id: str) -> Execution:
        if not is_kept:
            raise NotFound("gone")
        return kept

    async def test() -> None:
        made = Answers(Turns(), get)
        first = Flown(made._flight, "another", FLIGHT_BYTES)
        await asyncio.sleep(0)
        bodies: list[bytes] = []

        async def send(message: Any) -> None:
            bodies.append(message.get("body", b""))

        answer = made.of(kept, patience=None)
        task = asyncio.create_task(answer({"type": "http", CONNECTION: Connection()}, None, send))  # type: ignore[arg-type]
        await asyncio.sleep(2 * PATIENCE)
        assert not bodies and not first.was_cut and answer._execution is None  # type: ignore[attr-defined]
        await first.land()
        await task
        shown = json.loads(b"".join(bodies))
        assert shown["status"] == "completed"
        if is_kept:
            assert shown == json.loads(plain(kept))
        else:
            assert (shown["stdout"], shown["stdout_truncated"], shown["stderr_truncated"]) == ("", True, False)
            assert "not shown" in shown["warnings"][-1]

    run(test())
