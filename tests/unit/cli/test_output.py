"""What is printed, where, and which exit code is left."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time

import pytest

from .conftest import ID, Cli, Stub

TRICKY = (
    "[red]not markup[/red] \x1b[1mbold\x1b[0m\r\n\ttab, é, 🐍, � and a line"
    + " that is long" * 50
    + "\n:smile: no newline"
)
ENDED = {
    "status": "failed",
    "exit_code": 124,
    "termination": "timeout",
    "error": "execution timed out after 5 s",
    "duration_ms": 5003,
    "started_at": "2026-01-15T10:30:00.123456Z",
    "finished_at": "2026-01-15T10:30:05.126456Z",
    "backend": "native",
    "python": "3.12.1",
    "usage": {"cpu_ms": 12, "memory_peak_bytes": 9437184},
}


def test_output_is_passed_through_byte_for_byte(cli: Cli, stub: Stub) -> None:
    stub.result = {"stdout": TRICKY, "stderr": TRICKY[::-1]}
    outcome = cli("run", stdin="1")
    assert (outcome.stdout, outcome.stderr) == (TRICKY, TRICKY[::-1])


@pytest.mark.parametrize("code", [0, 1, 3, 125, 137, 255])
def test_the_exit_code_is_the_scripts(cli: Cli, stub: Stub, code: int) -> None:
    stub.result = {"exit_code": code}
    assert cli("run", stdin="1").code == code


@pytest.mark.parametrize("code", [None, 0])
def test_a_failure_without_an_exit_code_is_125(cli: Cli, stub: Stub, code: int | None) -> None:
    stub.result = {"status": "failed", "exit_code": code, "error": "no image"}
    outcome = cli("run", stdin="1")
    assert (outcome.code, outcome.stderr) == (125, "python-executor: no image\n")


def test_why_it_was_ended_is_said_after_what_it_printed(cli: Cli, stub: Stub) -> None:
    stub.result = {**ENDED, "stdout": "so far\n", "stderr": "err\n"}
    outcome = cli("run", stdin="1")
    assert (outcome.code, outcome.stdout) == (124, "so far\n")
    assert outcome.stderr == "err\npython-executor: execution timed out after 5 s\n"


def test_warnings_and_cut_output_are_told(cli: Cli, stub: Stub) -> None:
    stub.result = {"warnings": ["the link was not made"], "stdout_truncated": True}
    assert cli("run", stdin="1").stderr.splitlines() == [
        "python-executor: the link was not made",
        "python-executor: stdout was longer than the server keeps (MAX_OUTPUT_MB): this is its beginning",
    ]


def test_quiet_prints_stdout_alone_and_only_on_success(cli: Cli, stub: Stub) -> None:
    stub.result = {"stdout": "out", "stderr": "err", "warnings": ["beware"]}
    outcome = cli("run", "-q", stdin="1")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "out", "")
    stub.result["exit_code"] = 3
    outcome = cli("-q", "run", stdin="1")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, "", "")


def test_verbose_tells_how_it_went_on_stderr(cli: Cli, stub: Stub) -> None:
    stub.result = {**ENDED, "stdout": "out"}
    outcome = cli("run", "-v", stdin="1")
    assert outcome.stdout == "out"
    for line in (
        f"id:        {ID}",
        "status:    failed",
        "ended by:  timeout",
        "exit code: 124",
        "took:      5003 ms",
        "cpu:       12 ms",
        "memory:    9.0 MiB",
        "python:    3.12.1",
        "backend:   native",
    ):
        assert f"{line}\n" in outcome.stderr


@pytest.mark.parametrize(("name", "told"), [(None, "env_1"), ("data", "data (env_1)")])
def test_verbose_tells_which_packages_there_were(cli: Cli, stub: Stub, name: str | None, told: str) -> None:
    packages = [{"name": "numpy", "version": "2.1.0"}, {"name": "pandas", "version": "2.2.3"}]
    stub.result = {"environment": {"key": "env_1", "name": name, "packages": packages}}
    assert f"packages:  2 in {told}\n" in cli("run", "-v", stdin="1").stderr


def test_why_packages_could_not_be_had_is_told_in_the_servers_words(cli: Cli, stub: Stub) -> None:
    error = "the packages could not be installed: no index has nosuch"
    stub.result = {"status": "failed", "exit_code": 1, "termination": "environment", "error": error}
    outcome = cli("eval", "1")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (1, "", f"python-executor: {error}\n")


def test_verbose_leaves_out_what_an_older_server_does_not_say(cli: Cli) -> None:
    assert cli("run", "-v", stdin="1").stderr == f"id:        {ID}\nstatus:    completed\nexit code: 0\n"


def test_json_is_the_result_as_the_server_gave_it(cli: Cli, stub: Stub) -> None:
    stub.result = {**ENDED, "stdout": TRICKY, "error_type": None}
    outcome = cli("run", "--json", stdin="1")
    told = json.loads(outcome.stdout)
    assert outcome.code == 124
    assert outcome.stderr == ""
    assert {name: told[name] for name in stub.result} == stub.result
    assert told["execution_id"] == ID


def test_follow_prints_what_run_would_have_printed(cli: Cli, stub: Stub) -> None:
    stub.result = {"stdout": "out", "stderr": "err", "exit_code": 3}
    outcome = cli("follow", ID)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, "out", "err")
    assert stub.asked[0].path.startswith(f"/api/v1/executions/{ID}")


def test_kill_tells_how_the_execution_ended(cli: Cli, stub: Stub) -> None:
    stub.result = {"status": "killed", "exit_code": 137}
    outcome = cli("kill", ID)
    assert (outcome.code, outcome.stdout) == (0, f"{ID} killed\n")
    assert stub.asked[0].method == "DELETE"
    stub.result = {"status": "completed"}
    assert cli("kill", ID).stdout == f"{ID} completed\n"
    assert json.loads(cli("kill", ID, "--json").stdout)["status"] == "completed"


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "python_executor", *arguments]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_any_more_ends_quietly(stub: Stub, unbuffered: str) -> None:
    stub.result = {"stdout": "line\n" * 100_000}
    environment = {**os.environ, "PYEXEC_SERVER": stub.url, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        command_line("eval", "1"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(5) == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_finds_no_room_is_a_failure_in_one_sentence(stub: Stub, unbuffered: str) -> None:
    stub.result = {"stdout": "line\n" * 10}
    environment = {**os.environ, "PYEXEC_SERVER": stub.url, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command_line("eval", "1"), env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert done.returncode == 125
    assert done.stderr == "python-executor: can't write the output: No space left on device\n"


def test_our_words_may_find_no_room_without_changing_the_exit_code(stub: Stub) -> None:
    stub.result = {"exit_code": 3, "warnings": ["beware"]}
    with open("/dev/full", "w") as full:
        line = command_line("--server", stub.url, "eval", "1")
        assert subprocess.run(line, stderr=full, timeout=30).returncode == 3


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_all_of_it(stub: Stub, unbuffered: str) -> None:
    stub.result = {"stdout": "line\n" * 100_000}
    environment = {**os.environ, "PYEXEC_SERVER": stub.url, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command_line("eval", "1"), env=environment, capture_output=True, timeout=30)
    assert len(done.stdout) == 500_000


def test_closed_streams_do_not_matter(stub: Stub) -> None:
    stub.result = {"stdout": "out", "stderr": "err", "exit_code": 3}
    line = f'exec "{sys.executable}" -m python_executor --server {stub.url} eval 1 >&- 2>&-'
    assert subprocess.run(["sh", "-c", line], timeout=30).returncode == 3


def on_a_terminal(stub: Stub, *arguments: str) -> tuple[str, str]:
    """What a command prints on stdout, and what a terminal shows of its stderr."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command_line(*arguments),
        env={**os.environ, "PYEXEC_SERVER": stub.url, "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        assert process.stdout
        shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
        printed = process.stdout.read().decode()
    os.close(ours)
    return printed, shown


def read_terminal(fd: int) -> bytes:
    with contextlib.suppress(OSError):  # its other end is closed
        return os.read(fd, 4096)
    return b""


def test_a_terminal_sees_a_spinner_after_a_while_and_nothing_of_it_stays(stub: Stub) -> None:
    stub.before_result = lambda: time.sleep(1)
    stub.result = {"stdout": "out\n"}
    printed, shown = on_a_terminal(stub, "follow", ID)
    assert printed == "out\n"
    assert f"waiting for {ID}" in shown
    assert shown.endswith("\x1b[2K")


DOWNLOADING = {"stage": "downloading", "what": "demo\x1b[31m.whl", "done_bytes": 1_200_000, "total_bytes": 4_000_000}


PULLING = {"stage": "pulling", "what": "ghcr.io/me/tools:1", "done_bytes": 1_200_000, "total_bytes": None}


def ends_after(stub: Stub, looks: int, preparing: dict[str, object] = DOWNLOADING) -> None:
    """The execution waits for what it is prepared with until it has been looked at so often."""
    stub.result = {"status": "pending", "exit_code": None, "preparing": preparing}

    def look() -> None:
        if sum(asked.method == "GET" for asked in stub.asked) > looks:
            stub.result = {"stdout": "out\n"}

    stub.before_result = look


@pytest.mark.parametrize("line", [["follow", ID], ["run", __file__]])
def test_a_terminal_sees_how_far_the_packages_are_in_place_of_the_spinner(stub: Stub, line: list[str]) -> None:
    ends_after(stub, looks=6)
    printed, shown = on_a_terminal(stub, *line)
    assert printed == "out\n"
    assert "downloading packages" in shown
    assert "1.2 MB of 4.0 MB demo[31m.whl" in shown  # without what a terminal would obey
    assert shown.endswith("\x1b[2K")


def test_a_terminal_sees_how_far_the_image_is(stub: Stub) -> None:
    ends_after(stub, looks=6, preparing=PULLING)
    printed, shown = on_a_terminal(stub, "follow", ID)
    assert printed == "out\n"
    assert "pulling image" in shown
    assert "1.2 MB ghcr.io/me/tools:1" in shown


def test_of_a_quiet_run_a_terminal_sees_nothing(stub: Stub) -> None:
    ends_after(stub, looks=1)
    assert on_a_terminal(stub, "follow", ID, "-q") == ("out\n", "")


def test_without_a_terminal_nobody_looks_how_far_the_packages_are(cli: Cli, stub: Stub) -> None:
    ends_after(stub, looks=0)
    assert cli("follow", ID).stderr == ""
    assert len(stub.asked) == 1


def test_without_a_terminal_there_is_no_spinner(cli: Cli, stub: Stub) -> None:
    stub.before_result = lambda: time.sleep(0.5)
    assert cli("follow", ID).stderr == ""
