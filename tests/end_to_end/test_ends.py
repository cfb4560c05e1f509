"""How executions end when their client or their server does, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.api import Api
from tests.support.server import ServerProcess
from tests.support.traces import descendants, sleepers, within

Start = Callable[..., ServerProcess]


def statuses(data: Path) -> list[str]:
    """Those on record in a server's data directory."""
    with closing(sqlite3.connect(data / "executions.sqlite3")) as database:
        return [status for (status,) in database.execute("SELECT status FROM executions")]


def may_set_scores() -> bool:
    """CAP_SYS_RESOURCE, which root of a container often lacks."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective.split()[1], 16) >> 24 & 1)


def test_a_client_that_hangs_up_leaves_no_code_running_and_it_is_on_record_as_killed(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(data_dir=tmp_path / "data")
    body = json.dumps({"code": "import subprocess; subprocess.run(['sleep', '600'])"}).encode()
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        head = f"POST /api/v1/eval HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert within(10, lambda: sleepers(server.pid))
    assert within(10, lambda: not sleepers(server.pid))
    assert within(10, lambda: statuses(tmp_path / "data") == ["killed"])


def test_sigterm_lets_what_runs_finish_and_takes_no_more(start_server: Start, tmp_path: Path) -> None:
    server = start_server(data_dir=tmp_path, shutdown_grace=20)
    with closing(Api(server.url)) as api:
        running = api.submit("import time; print('up', flush=True); time.sleep(4); print('done')")
        api.until(running, "stdout", "up\n")
        server.signal(signal.SIGTERM)
        assert within(5, lambda: api.get("/health/ready").status_code == 503)
        refused = api.post_eval({"code": "1"})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) > 0
    assert server.wait() == 0

    server.start()
    with closing(Api(server.url)) as api:
        result = api.look(running)
    assert (result["status"], result["stdout"], result["exit_code"]) == ("completed", "up\ndone\n", 0)


def test_after_the_grace_what_still_runs_is_ended_and_recorded(start_server: Start, tmp_path: Path) -> None:
    server = start_server(data_dir=tmp_path, shutdown_grace=0.5)
    with closing(Api(server.url)) as api:
        running = api.submit("import time; print('up', flush=True); time.sleep(600)")
        api.until(running, "stdout", "up\n")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0

    server.start()
    with closing(Api(server.url)) as api:
        result = api.look(running)
    assert (result["status"], result["termination"], result["exit_code"]) == ("failed", "lost", 125)
    assert result["stdout"] == "up\n"


def test_what_was_finished_is_still_there_after_a_kill_of_the_server(start_server: Start, tmp_path: Path) -> None:
    server = start_server(data_dir=tmp_path)
    with closing(Api(server.url)) as api:
        finished = api.finished(api.submit("print('kept')"))
        assert within(30, lambda: statuses(tmp_path) == ["completed"])  # it is written off the path of the answer
    server.signal(signal.SIGKILL)
    server.wait()
    server.start()
    with closing(Api(server.url)) as api:
        assert api.look(finished["execution_id"]) == finished


def test_the_server_is_the_last_that_the_kernel_would_kill_for_memory(start_server: Start) -> None:
    server = start_server()
    assert server.process is not None
    pid = server.process.pid

    def score(process: int) -> int:
        return int(Path(f"/proc/{process}/oom_score_adj").read_text())

    assert within(5, lambda: len(descendants(pid)) > 4)
    others = [score(process) for process in descendants(pid) - {pid}]
    assert min(others) >= 900 > score(pid)
    if may_set_scores():  # else nobody's score can go below what it was
        assert score(pid) < 0
        with closing(Api(server.url)) as api:  # and no code takes it back
            assert api.eval("open('/proc/self/oom_score_adj', 'w').write('0')")["error_type"] == "PermissionError"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's group is not bounded as a whole")
def test_the_memory_of_what_runs_is_summed_against_the_budget(start_server: Start) -> None:
    server = start_server(memory_budget=200, default_memory_mb=100, max_concurrent=10)
    with closing(Api(server.url)) as api:
        *running, third = [api.submit(code) for code in ("import time; time.sleep(60)",) * 2 + ("print(3)",)]
        assert within(10, lambda: {api.look(each)["status"] for each in running} == {"running"})
        assert api.look(third)["status"] == "pending"
        api.kill(running[0])
        assert api.finished(third)["stdout"] == "3\n"


def test_signals_that_the_servers_starter_ignores_are_found_as_usual(start_server: Start) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = start_server()
    finally:
        signal.signal(signal.SIGINT, before)
    with closing(Api(server.url)) as api:
        result = api.eval("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)")
    assert (result["exit_code"], result["error_type"]) == (130, "KeyboardInterrupt")
