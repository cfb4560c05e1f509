"""`make run` and `make stop`, as scripts/run does them, in a directory like a checkout of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/run", tmp_path / "scripts")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    return tmp_path


@pytest.fixture
def run(checkout: Path) -> Iterator[Run]:
    """Runs scripts/run with arguments and variables."""

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
        environment = {**inherited, "PYEXEC_DATA_DIR": str(checkout / "data"), "PYEXEC_POOL_MAX": "0", **variables}
        command = ["scripts/run", *arguments]
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=180)

    yield call
    call("stop")


@pytest.fixture
def taken() -> Iterator[int]:
    """Port 8080, taken by us if nobody else has it."""
    listeners = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError):
            listeners.append(socket.create_server((address, 8080), family=family))
    yield 8080
    for listener in listeners:
        listener.close()


def test_where_the_usual_port_is_taken_the_next_free_one_is_used_and_named(
    run: Run, checkout: Path, taken: int
) -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()[:2]
    port = int(re.fullmatch(r"Port 8080 is taken: using (\d+)\. PYEXEC_PORT chooses another\.", first)[1])  # type: ignore[index]
    assert port > taken
    assert second.startswith(f"The server is up at http://127.0.0.1:{port} ")
    shown = re.findall(r"^(?:\$|  )\s*(\.venv/bin/python-executor .*)", done.stdout, re.MULTILINE)
    assert len(shown) == 3
    for line in shown:
        typed = subprocess.run(shlex.split(line), cwd=checkout, capture_output=True, text=True, timeout=60)
        assert typed.returncode == 0, typed.stderr
    assert typed.stdout.startswith("usage: arguments.py")
    stopped = run("stop")
    assert stopped.stdout == "Stopping the server of the last run.\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_that_was_asked_for_by_name_is_that_one_or_an_error(run: Run, taken: int) -> None:
    done = run(PYEXEC_PORT=str(taken))
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"can't listen on 127.0.0.1 port {taken} (Address already in use)" in done.stderr


def test_stop_leaves_a_process_alone_that_only_has_the_number(run: Run, checkout: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        (checkout / ".venv/server.pid").write_text(str(other.pid))
        assert run("stop").stdout == ""
        assert other.poll() is None
        other.kill()
