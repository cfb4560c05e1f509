"""Stopping: not ready, drain, kill, record, in that order. A real process, real signals, a fake backend."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, assert_error
from tests.support.exchange import connect, read_answer, request
from tests.support.traces import within

SERVER = """
import asyncio, sys
from python_executor.api import run
from python_executor.executions.service import Executions, Policy
from python_executor.model.events import Stdout
from python_executor.sandboxes.fake import FakeBackend, exited
from python_executor.storage.memory import MemoryStore
from tests.unit.api.fakes import settings

def script(spec):
    print("begun", flush=True)
    gate = asyncio.Event()
    if spec.stdin:
        asyncio.get_running_loop().call_later(float(spec.stdin), gate.set)
    return [Stdout(b"so far"), gate, exited(0)]

policy = Policy(max_concurrent=9, memory_budget_mb=9999, queue_max=9, queue_max_bytes=1 << 30, spool_max_bytes=1 << 30, max_output_bytes=9, cleanup_ttl_seconds=99)
executions = Executions(FakeBackend(script), MemoryStore(1_000_000), policy, "test")
given = settings(port=int(sys.argv[1]), shutdown_grace=float(sys.argv[2]))
run(executions, given, lambda url: print(url, flush=True))
print("stopped", flush=True)
"""
ROOT = Path(__file__).parents[3]
HANGS = ""


class Running:
    """A server process and its API."""

    def __init__(self, grace: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, "0", str(grace)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.api = Api(self.process.stdout.readline().strip())
        self._threads = ThreadPoolExecutor(4)

    def start_eval(self, stdin: str) -> Future[dict[str, Any]]:
        """An eval that is in flight when this returns."""
        api = Api(self.api.url)

        def run() -> dict[str, Any]:
            try:
                return api.eval("1", stdin=stdin)
            finally:
                api.close()

        future = self._threads.submit(run)
        assert self.process.stdout and self.process.stdout.readline() == "begun\n"
        return future

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        time.sleep(0.1)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._threads.shutdown()
        self.api.close()


@pytest.fixture
def start() -> Iterator[Callable[[float], Running]]:
    running: list[Running] = []

    def start(grace: float) -> Running:
        running.append(Running(grace))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish_and_takes_no_more(
    start: Callable[[float], Running], number: signal.Signals
) -> None:
    server = start(30)
    answer = server.start_eval("2.5")
    server.send(number)
    assert within(10, lambda: server.api.get("/health/ready").status_code == 503)
    for refused in (server.api.get("/health/ready"), server.api.post_eval({"code": "1"})):
        assert_error(refused, 503, "unavailable")
        assert "Retry-After" in refused.headers
    assert server.api.get("/health").status_code == 200
    assert answer.result(10)["termination"] == "exited"
    assert server.process.wait(10) == 0


@pytest.fixture
def ignored_interrupts() -> Iterator[None]:
    """What a shell without job control does for those that it puts into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_its_starter_has_it_ignore_ends_nothing(
    ignored_interrupts: None, start: Callable[[float], Running]
) -> None:
    server = start(30)
    for _ in range(3):
        server.send(signal.SIGINT)
    assert server.api.get("/health/ready").status_code == 200
    server.send(signal.SIGTERM)
    assert server.process.wait(10) == 0


def test_what_has_not_finished_within_the_grace_is_ended_and_answered(start: Callable[[float], Running]) -> None:
    server = start(0.5)
    answer = server.start_eval(HANGS)
    began = time.monotonic()
    server.send(signal.SIGTERM)
    result = answer.result(10)
    assert (result["status"], result["stdout"]) == ("failed", "so far")
    assert server.process.wait(10) == 0
    assert 0.4 < time.monotonic() - began < 5


def test_a_second_interrupt_ends_everything_now(start: Callable[[float], Running]) -> None:
    server = start(60)
    answer = server.start_eval(HANGS)
    began = time.monotonic()
    server.send(signal.SIGINT)
    assert not answer.done()
    server.send(signal.SIGINT)
    server.send(signal.SIGINT)
    assert answer.result(10)["termination"] == "lost"
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 10


def test_an_upload_that_never_ends_holds_nothing_up_for_long(start: Callable[[float], Running]) -> None:
    server = start(30)
    with connect(server.api.url) as connection:
        connection.sendall(request(server.api.url, "POST", "/api/v1/eval", b"{", length=1000))
        time.sleep(0.3)
        server.send(signal.SIGTERM)
        assert read_answer(connection).status == 503
    assert server.process.wait(10) == 0


def test_a_second_sigterm_changes_nothing(start: Callable[[float], Running]) -> None:
    server = start(30)
    answer = server.start_eval("0.8")
    server.send(signal.SIGTERM)
    server.send(signal.SIGTERM)
    assert answer.result(10)["termination"] == "exited"
    assert server.process.wait(10) == 0


def test_idle_connections_hold_nothing_up(start: Callable[[float], Running]) -> None:
    server = start(30)
    assert server.api.get("/health").status_code == 200  # and the connection stays open
    began = time.monotonic()
    server.send(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 10  # of the 30 that it would wait


def test_a_port_in_use_is_told_at_once(start: Callable[[float], Running]) -> None:
    match = re.search(r":(\d+)$", start(1).api.url)
    assert match
    second = subprocess.run(
        [sys.executable, "-c", SERVER, match[1], "1"], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert second.returncode != 0
    assert "Address already in use" in second.stderr
