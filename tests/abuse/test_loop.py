"""Attacks on the event loop: a large answer, a large request, many of both. What stands still then is everybody.

Another process asks for /health every few milliseconds on a connection of its own, and notes the longest time that
an answer took. The bounds leave room for a machine that is busy with other things: what they tell apart is a loop that
does a piece of work at a time from one that does all of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.abuse.conftest import Neighbour
from tests.abuse.test_api import image_of
from tests.support.api import Api
from tests.support.exchange import BOUNDARY, MULTIPART, connect, request
from tests.support.server import ServerProcess

MEBIBYTE = 1 << 20
EVAL, SYNC = "/api/v1/eval", "/api/v1/exec/sync"
PROBE = str(Path(__file__).with_name("probe.py"))
LONGEST = 0.25  # seconds; each of these attacks took more where it was done in one go
JSON_BYTES = 15_000_000
FULL = """import os
block = {unit!r} * (1 << 20)
for fd in 1, 2:
    for _ in range(10):
        os.write(fd, block)
"""


def longest_wait(url: str, attack: Callable[[], object]) -> float:
    """The longest that /health took during the attack."""
    probe = subprocess.Popen([sys.executable, PROBE, url.removeprefix("http://")], stdout=subprocess.PIPE, text=True)
    assert probe.stdout is not None
    with probe:
        try:
            assert probe.stdout.readline() == "watching\n"
            attack()
        finally:
            probe.terminate()
        return float(probe.stdout.readline())


def in_one_go(unit: bytes) -> float:
    """Seconds that the whole answer takes here, made as one."""
    began = time.monotonic()
    for _ in range(2):
        json.dumps((unit * (10 * MEBIBYTE)).decode("utf-8", "replace"), ensure_ascii=False).encode()
    return time.monotonic() - began


def memory_of(server: ServerProcess) -> int:
    """MiB that the server has in memory."""
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024


@pytest.fixture(autouse=True)
def _undisturbed(undisturbed: Neighbour) -> Neighbour:
    return undisturbed


@pytest.fixture
def full(attacked_api: Api) -> Iterator[str]:
    """An execution that has printed all that is kept, and runs on."""
    code = FULL.format(unit=b"\x01") + "import time; time.sleep(60)"
    execution = attacked_api.submit(code, docker_image=image_of(attacked_api))
    deadline = time.monotonic() + 20
    while len(attacked_api.look(execution)["stderr"]) < 10 * MEBIBYTE and time.monotonic() < deadline:
        time.sleep(0.1)
    yield execution
    attacked_api.kill(execution)


@pytest.mark.parametrize(
    "unit", [pytest.param(b"\0", id="zeros", marks=pytest.mark.long), pytest.param(b"\xff", id="what is no UTF-8")]
)
def test_an_answer_of_megabytes_holds_nobody_up(attacked_api: Api, unit: bytes) -> None:
    longest = longest_wait(
        attacked_api.url, lambda: [attacked_api.eval(FULL.format(unit=unit))["stderr"] for _ in range(2)]
    )
    assert longest < max(LONGEST, in_one_go(unit) / 2)


@pytest.mark.long
def test_those_who_poll_what_prints_a_lot_hold_nobody_up(attacked_api: Api, full: str) -> None:
    def poll(_number: int) -> None:
        for _ in range(3):
            requests.get(f"{attacked_api.url}/api/v1/executions/{full}", timeout=60).raise_for_status()

    def attack() -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(poll, range(3)))

    assert longest_wait(attacked_api.url, attack) < max(LONGEST, in_one_go(b"\x01") / 2)


LISTS = b'{"code":"1","x":[' + b"[]," * (JSON_BYTES // 3) + b"[]]}"
FILES = b'{"files":[' + b'{"name":"a"},' * (JSON_BYTES // 13) + b'{"name":"a"}]}'
NAMES = b'{"code":"1"' + b"".join(b',"x%d":0' % number for number in range(1_000_000)) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(LISTS, id="lists", marks=pytest.mark.long),
        pytest.param(FILES, id="files", marks=pytest.mark.long),
        pytest.param(NAMES, id="names"),
    ],
)
def test_json_of_a_million_objects_holds_nobody_up_and_costs_no_memory(
    attacked: ServerProcess, attacked_api: Api, body: bytes
) -> None:
    before = memory_of(attacked)

    def attack() -> None:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: requests.post(attacked.url + EVAL, data=body, timeout=60), range(4)))
        assert [answer.status_code for answer in answers] == [400] * 4

    assert longest_wait(attacked.url, attack) < LONGEST
    assert memory_of(attacked) < before + 100  # the twin, parsed as it was: 500 to 850 MiB for each


def test_a_form_of_very_many_parts_holds_nobody_up(attacked_api: Api) -> None:
    part = b'--%s\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n' % BOUNDARY.encode()
    body = part * 400_000

    def attack() -> None:
        response = attacked_api.request("POST", SYNC, data=body, headers=MULTIPART)
        assert response.status_code == 400 and "parts" in response.json()["error"]

    assert longest_wait(attacked_api.url, attack) < LONGEST


@pytest.mark.long
def test_hundreds_who_do_not_read_a_large_answer_cost_next_to_no_memory(
    attacked: ServerProcess, attacked_api: Api, full: str
) -> None:
    before = memory_of(attacked)
    ask = request(attacked.url, "GET", f"/api/v1/executions/{full}")
    with ExitStack() as stack:
        for _ in range(180):
            stack.enter_context(connect(attacked.url)).sendall(ask)
        began = time.monotonic()
        grown = 0
        while time.monotonic() - began < 5:
            grown = max(grown, memory_of(attacked) - before)
            assert grown < 100  # one answer has 126 MB
            time.sleep(0.2)
    assert attacked_api.look(full)["status"] == "running"


def test_what_was_printed_is_not_kept_once_it_is_on_record(attacked: ServerProcess, attacked_api: Api) -> None:
    attacked_api.eval(FULL.format(unit=b"x"))
    before = memory_of(attacked)
    for _ in range(8):
        attacked_api.eval(FULL.format(unit=b"x"))
    deadline = time.monotonic() + 20
    while memory_of(attacked) > before + 50 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert memory_of(attacked) <= before + 50  # of 160 MiB that went through
