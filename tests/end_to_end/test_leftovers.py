"""Whatever happens, nothing stays behind: no process, mount, cgroup, namespace, file or descriptor."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.server import ServerProcess
from tests.support.traces import cgroups, descendants, settled, traces


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server keeps its temporary files in these tests."""
    directory = tmp_path / "tmp"
    directory.mkdir(mode=0o777)
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@pytest.fixture
def api_of() -> Iterator[Callable[[ServerProcess], Api]]:
    opened: list[Api] = []

    def connect(server: ServerProcess) -> Api:
        opened.append(Api(server.url))
        return opened[-1]

    yield connect
    for api in opened:
        api.close()


@pytest.mark.parametrize("in_a_row", [500, pytest.param(2000, marks=pytest.mark.long)])
def test_many_in_a_row_and_two_hundred_at_once_leave_nothing(
    start_server: Callable[..., ServerProcess],
    api_of: Callable[[ServerProcess], Api],
    temporary_files: Path,
    in_a_row: int,
) -> None:
    server = start_server(max_concurrent=50, pool_min=4, pool_max=4)
    api = api_of(server)
    for _ in range(20):  # whatever is made once is made now
        api.eval("1")
    idle = settled(lambda: traces(server, temporary_files)).with_spares(60)

    address = server.url.removeprefix("http://")
    with closing(http.client.HTTPConnection(address)) as connection:  # requests would take as long as the runs
        for number in range(in_a_row):
            code = f"open('/tmp/x', 'w').write('x' * 10000)\n{number}"
            body = json.dumps({"code": code, "eval_last_expr": True})
            connection.request("POST", "/api/v1/eval", body, {"Content-Type": "application/json"})
            assert json.loads(connection.getresponse().read())["result"] == str(number)

    def one(number: int) -> str:
        code = f"import subprocess; subprocess.Popen(['sleep', '60'])\n{number}"
        with closing(Api(server.url)) as own:
            return str(own.eval(code, eval_last_expr=True, config={"memory_mb": 64})["result"])

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(one, range(200))) == [str(number) for number in range(200)]
    after = settled(lambda: traces(server, temporary_files), idle)
    assert after <= idle

    pids = descendants(server.process.pid) if server.process else set()
    server.stop()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not cgroups(server)


def test_a_server_that_is_killed_leaves_no_code_running_and_nothing_behind(
    start_server: Callable[..., ServerProcess], api_of: Callable[[ServerProcess], Api], temporary_files: Path
) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    server = start_server(max_concurrent=50, pool_min=4, pool_max=4)
    api = api_of(server)
    code = "import os, time\nfor _ in range(3):\n  if os.fork() == 0: os.setsid()\ntime.sleep(600)"
    ids = [api.submit(code, config={"memory_mb": 64}) for _ in range(50)]
    deadline = time.monotonic() + 30
    while sum(api.look(each)["status"] == "running" for each in ids) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.process is not None
    pids = descendants(server.process.pid) - {server.process.pid}
    assert len(pids) > 40

    cgroups(server)  # which they are
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert Path("/proc/self/mountinfo").read_text() == mounts

    server.start()
    again = api_of(server)
    assert {again.look(each)["termination"] for each in ids} == {"lost"}
    server.stop()
    assert not cgroups(server)
    assert list(temporary_files.iterdir()) == []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
