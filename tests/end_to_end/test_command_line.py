"""The command line against a real server, and with `--local` against none."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.machine import lacking
from tests.support.server import ServerProcess
from tests.support.traces import sleepers, within

from .conftest import Cli, command_line

SLOW = "import time\nprint('started', flush=True)\ntime.sleep(60)"
SLEEPER = "import subprocess\nprint('started', flush=True)\nsubprocess.run(['sleep', '{}'])"
PATIENCE = 60.0  # seconds until code has begun, on a machine that has other things to do


@pytest.fixture(params=["server", "local"])
def where(request: pytest.FixtureRequest, environment: dict[str, str]) -> list[str]:
    """The flags for a server, and for none at all: with `--local` the one named must not be needed."""
    if request.param == "server":
        return []
    environment["PYEXEC_SERVER"] = "http://127.0.0.1:1"
    return ["--local"]


def test_eval_prints_output_then_value(cli: Cli, where: list[str]) -> None:
    done = cli("eval", *where, "print('hi')\n[1, 2]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n[1, 2]\n", "")


def test_code_arguments_and_exit_code_pass_through(cli: Cli, where: list[str]) -> None:
    code = "import sys; print(sys.argv[1:], end=''); print('é', file=sys.stderr); sys.exit(7)"
    done = cli("run", *where, "--", "-v", "a b", stdin=code)
    assert (done.returncode, done.stdout, done.stderr) == (7, "['-v', 'a b']", "é\n")


def test_a_refusal_is_one_line_and_125(cli: Cli, where: list[str]) -> None:
    done = cli("eval", *where, "1", "--timeout", "999999")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("python-executor: ")
    assert "--timeout must be" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_the_run_and_keeps_its_output(
    environment: dict[str, str], where: list[str], server: ServerProcess
) -> None:
    with subprocess.Popen(
        command_line("run", *where, "-v"),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(SLEEPER.format(4711))
        process.stdin.close()
        root = process.pid if where else server.pid
        assert within(PATIENCE, lambda: sleepers(root, 4711))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
        stdout, stderr = process.stdout.read(), process.stderr.read()
    assert (process.returncode, stdout) == (130, "started\n")
    assert "Traceback" not in stderr


def test_ctrl_c_kills_the_execution_on_the_server(environment: dict[str, str], server: ServerProcess, api: Api) -> None:
    with subprocess.Popen(
        command_line("run", "--json"), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(SLEEPER.format(4712))
        process.stdin.close()
        assert within(PATIENCE, lambda: sleepers(server.pid, 4712))
        process.send_signal(signal.SIGINT)
        told = json.loads(process.stdout.read())
    result = api.finished(told["execution_id"])
    assert (result["status"], result["termination"], result["exit_code"]) == ("killed", "killed", 137)


def test_follow_waits_and_prints_what_run_would_have(cli: Cli) -> None:
    code = "import sys, time; time.sleep(1); print('out'); print('err', file=sys.stderr); sys.exit(3)"
    execution_id = cli("submit", stdin=code).stdout.strip()
    done = cli("follow", execution_id)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert cli("follow", execution_id, "-q").stdout == ""


def test_killing_what_has_finished_tells_how_it_ended(cli: Cli) -> None:
    execution_id = cli("submit", stdin="1").stdout.strip()
    cli("follow", execution_id)
    assert cli("kill", execution_id).stdout == f"{execution_id} completed\n"


def test_an_unknown_id_is_a_failure_of_ours(cli: Cli) -> None:
    for command in ("follow", "kill"):
        done = cli(command, "exe_00000000-0000-4000-8000-000000000000")
        assert done.returncode == 125
        assert done.stderr.startswith("python-executor: ")


def test_a_tar_and_more_files_make_one_tree(cli: Cli, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "code.tar", "w") as archive:
        content = b"import os; print(open('more.txt').read(), os.path.exists('start.py'))"
        member = tarfile.TarInfo("start.py")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    (tmp_path / "more.txt").write_text("more")
    done = cli("run", str(tmp_path / "code.tar"), "--file", str(tmp_path / "more.txt"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "more True\n", "")


def test_files_alone_are_the_program(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import utils; print(utils.WORD)")
    (tmp_path / "utils.py").write_text("WORD = 'found'")
    done = cli("run", "--file", str(tmp_path / "app.py"), "--file", str(tmp_path / "utils.py"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "found\n", "")


WAY_OUT = """
import socket
way = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: way.connect(("1.2.3.4", 53)); print(way.getsockname()[0])  # sends nothing
except OSError as error: print(error.strerror)
"""


def test_the_network_is_there_only_if_it_is_asked_for(cli: Cli) -> None:
    assert cli("eval", WAY_OUT).stdout == "Network is unreachable\n"


def test_a_network_that_is_asked_for_is_there_or_refused_with_the_machines_reason(cli: Cli) -> None:
    for done in (cli("eval", WAY_OUT, "--network"), cli("--network", "run", "--local", stdin=WAY_OUT)):
        if reason := lacking("network"):
            refusal = f"python-executor: --network can't be had from this server: {reason}.\n"
            assert (done.returncode, done.stdout, done.stderr) == (125, "", refusal)
        else:
            assert done.stdout == "10.0.2.100\n"  # the address that slirp4netns gives


def test_a_link_that_leads_out_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import os; print(os.path.lexists('out'))")
    (tmp_path / "out").symlink_to("/etc/passwd")
    done = cli("run", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert done.stderr.startswith("python-executor: ")
    assert "out" in done.stderr


def test_verbose_tells_what_the_server_measured(cli: Cli) -> None:
    stderr = cli("eval", "-v", "1").stderr
    for name in ("id:", "status:", "ended by:", "exit code:", "took:", "python:", "backend:"):
        assert f"\n{name}" in f"\n{stderr}"


def test_the_python_can_be_chosen(cli: Cli) -> None:
    ours = "{}.{}".format(*sys.version_info)  # which every machine has that runs this
    done = cli("eval", "--python", ours, "import sys; sys.version_info[:2]")
    assert done.stdout == f"{sys.version_info[:2]}\n"
    done = cli("run", "--image", f"python:{ours}-slim", stdin="import sys; print(sys.version_info[:2])")
    assert done.stdout == f"{sys.version_info[:2]}\n"


def test_limits_given_before_the_command_hold(cli: Cli) -> None:
    done = cli("--memory", "64", "eval", "len(b'x' * 200_000_000)")
    assert done.returncode in (1, 137)  # a MemoryError, or the kernel's end of it
    assert "200000000" not in done.stdout


def test_a_key_comes_from_the_variable_or_the_url(cli: Cli, start_server: Callable[..., ServerProcess]) -> None:
    url = start_server(api_key="secret", pool_max=0).url
    refused = cli("--server", url, "eval", "1")
    assert refused.returncode == 125
    assert "PYEXEC_API_KEY" in refused.stderr
    assert cli("--server", url, "eval", "1", PYEXEC_API_KEY="secret").stdout == "1\n"
    assert cli("--server", url.replace("http://", "http://:secret@"), "eval", "1").stdout == "1\n"


def test_local_takes_the_settings_and_leaves_no_file_behind(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "--local", stdin=SLOW, PYEXEC_DEFAULT_TIMEOUT="1", PYEXEC_DATA_DIR=str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (124, "started\n")
    assert not [path for path in (tmp_path / "data").rglob("*") if not path.is_dir()]
    refused = cli("run", "--local", stdin="1", PYEXEC_MAX_TIMEOUT="1", PYEXEC_DEFAULT_TIMEOUT="300")
    assert refused.returncode == 125
    assert "MAX_TIMEOUT 1 is below DEFAULT_TIMEOUT 300" in refused.stderr
