"""`serve` as a process: what it says, and how it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.server import ServerProcess

from .conftest import SECONDS, Cli, command_line


def serve(environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    """A server that is not expected to come up."""
    return subprocess.run(
        command_line("serve", *flags), env=environment, capture_output=True, text=True, timeout=SECONDS
    )


def test_all_that_a_server_writes_into_a_log_is_json(cli: Cli, start_server: Callable[..., ServerProcess]) -> None:
    server = start_server(pool_max=0)
    listening = next(line for line in map(json.loads, server.output.splitlines()) if "url" in line)
    assert listening["event"] == f"python-executor is listening on {server.url}"
    words = listening["try_it"].removeprefix("python-executor ").replace("'", "").split(" ", 3)
    done = cli(*words, PYEXEC_SERVER="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (0, "4\n")
    (ended,) = [line for line in map(json.loads, server.output.splitlines()) if line["event"] == "execution ended"]
    assert (ended["caller"], ended["ending"]) == ("127.0.0.1", "exited")
    assert ended["execution_id"].startswith("exe_")
    assert ended["ms"] >= 0


def test_a_port_that_is_taken_is_one_line_and_125(environment: dict[str, str], server_url: str, tmp_path: Path) -> None:
    port = str(urlsplit(server_url).port)
    done = serve({**environment, "PYEXEC_DATA_DIR": str(tmp_path)}, "--port", port)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"python-executor: can't listen on 127.0.0.1 port {port} (Address already in use): "
        "choose another with --host and --port\n"
    )


def test_a_data_directory_that_is_taken_is_one_line_and_125(
    environment: dict[str, str], start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    start_server(data_dir=tmp_path, pool_max=0)
    done = serve({**environment, "PYEXEC_DATA_DIR": str(tmp_path)}, "--port", "0")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.count("\n") == 1
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize("flags", [["--port", "x"], ["--host", "0.0.0.0"], ["--nonsense"]])
def test_settings_that_are_refused_are_125(environment: dict[str, str], flags: list[str]) -> None:
    done = serve(environment, *flags)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("python-executor: ")
    assert done.stderr.count("\n") == 1
