"""Failures of ours: one line on stderr that says what to do, exit code 125, no traceback."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from .conftest import ID, Cli, Outcome, Stub


def sentence(outcome: Outcome) -> str:
    """The one line that a failure of ours leaves."""
    assert outcome.code == 125
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("python-executor: ")
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr.removeprefix("python-executor: ").rstrip()


@pytest.mark.parametrize("line", [["run"], ["submit"], ["eval", "1"], ["follow", ID], ["kill", ID]])
def test_an_unreachable_server_is_told_with_the_ways_out(cli: Cli, line: list[str]) -> None:
    told = sentence(cli(*line, "--server", "http://:secret@127.0.0.1:1/", stdin="1"))
    assert "can't reach a server at http://127.0.0.1:1/" in told
    assert "python-executor serve" in told
    assert "--server" in told
    assert "--local" in told
    assert "secret" not in told


@pytest.mark.parametrize("line", [["run"], ["submit"], ["eval", "1"], ["follow", ID], ["kill", ID]])
@pytest.mark.parametrize("status", [400, 404, 413, 429, 503])
def test_a_refusal_is_the_servers_sentence(cli: Cli, stub: Stub, line: list[str], status: int) -> None:
    stub.refusal = (status, b'{"error": "memory_mb is too much: ask for less", "code": "invalid_request"}')
    assert sentence(cli(*line, stdin="1")) == "memory_mb is too much: ask for less"


def test_what_is_too_large_is_told_with_its_largest_part(
    cli: Cli, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, size in (("main.py", 10), ("data/a.bin", 2 << 20), ("data/b.bin", 1 << 20), ("node_modules/x", 1 << 20)):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(bytes(size))
    stub.refusal = (413, b'{"error": "the body is larger than 104857600 bytes: send less.", "code": "too_large"}')
    told = sentence(cli("run", "."))
    assert told == "the body is larger than 104857600 bytes: send less. data has 3 MiB"


def test_a_missing_key_is_told_with_the_variable_that_takes_it(cli: Cli, stub: Stub) -> None:
    stub.refusal = (401, b'{"error": "send it as a header", "code": "unauthorized"}')
    assert sentence(cli("eval", "1")) == "the server wants its API key: set PYEXEC_API_KEY to it"


def test_a_key_that_is_refused_is_told_in_the_servers_words(
    cli: Cli, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYEXEC_API_KEY", "wrong")
    stub.refusal = (401, b'{"error": "this key was refused: use another", "code": "unauthorized"}')
    assert sentence(cli("eval", "1")) == "this key was refused: use another"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("config.network_disabled false can't be had from this server", "--network can't be had from this server"),
        ("config.timeout_seconds must be a number from 0 to 3600.", "--timeout must be a number from 0 to 3600"),
        ("config.cpu_seconds must be a number from 0 to 7200.", "--cpu-seconds must be a number from 0 to 7200"),
        (
            "entrypoint and module exclude each other: leave one out.",
            "--entrypoint and --module exclude each other: leave one out",
        ),
        (
            "environment and requirements_txt exclude each other: leave one out.",
            "--environment and --requirements exclude each other: leave one out",
        ),
        ("docker_image 'ubuntu' can't be used: name another.", "--image 'ubuntu' can't be used: name another"),
        ("more than config.disk_mb and config.memory_mb leave", "more than --disk and --memory leave"),
    ],
)
def test_what_is_refused_has_the_name_of_its_flag(cli: Cli, stub: Stub, error: str, told: str) -> None:
    stub.refusal = (400, json.dumps({"error": error}).encode())
    assert told in sentence(cli("eval", "1"))


def test_the_key_comes_from_the_variable(cli: Cli, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYEXEC_API_KEY", "key")
    cli("eval", "1")
    assert stub.submitted.headers["Authorization"] == "Bearer key"


@pytest.mark.parametrize(
    "answer", [(404, b"<html>nothing here</html>"), (200, b"<html>hello</html>"), (200, b'{"hello": 1}'), (502, b"[]")]
)
@pytest.mark.parametrize("line", [["run"], ["eval", "1"], ["follow", ID]])
def test_another_kind_of_server_is_recognised(cli: Cli, stub: Stub, line: list[str], answer: tuple[int, bytes]) -> None:
    stub.refusal = answer
    told = sentence(cli(*line, stdin="1"))
    assert f"{stub.url} does not answer as python-executor does: check --server" in told


@pytest.mark.parametrize("url", ["nonsense", "localhost:8080", "ftp://localhost", "http://"])
def test_a_server_that_is_no_url_is_told_with_an_example(cli: Cli, url: str) -> None:
    assert "http://localhost:8080" in sentence(cli("eval", "1", "--server", url))


def test_a_file_that_is_not_there_is_named(cli: Cli) -> None:
    assert sentence(cli("run", "no-such.py")) == "can't read no-such.py: No such file or directory"
    assert "can't read no-such.txt" in sentence(cli("run", "--file", "no-such.txt", stdin="1"))
    assert "can't read no-such.txt" in sentence(cli("run", "--requirements", "no-such.txt", stdin="1"))


def test_input_that_is_no_text_is_refused(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("")
    assert "stdin is not UTF-8" in sentence(cli("run", str(script), "--stdin", stdin=b"\xff"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["nonsense"], "No such command 'nonsense'. See python-executor --help"),
        (["run", "--nonsense"], "No such option: --nonsense"),
        (["--nonsense"], "No such option: --nonsense"),
        (["evall"], "No such command 'evall'. Did you mean 'eval'? See python-executor --help"),
        (["eval", "--timeout", "soon"], "'--timeout': must be a number. See python-executor eval --help"),
        (["--memory", "1.5", "run"], "'--memory': must be a whole number. See"),
        (["eval", "--timeout"], "'--timeout' requires an argument"),
        (["follow"], "Missing argument 'ID'. See python-executor follow --help"),
    ],
)
def test_wrong_usage_is_a_failure_of_ours_too(cli: Cli, line: list[str], told: str) -> None:
    assert told in sentence(cli(*line))


def test_ctrl_c_while_following_leaves_the_execution_alone(cli: Cli, stub: Stub) -> None:
    stub.before_result = lambda: os.kill(os.getpid(), signal.SIGINT)
    outcome = cli("follow", ID)
    assert outcome.code == 130
    assert f"python-executor kill {ID}" in outcome.stderr
    assert [asked.method for asked in stub.asked] == ["GET"]


def test_a_bug_of_ours_is_not_taken_for_the_scripts_failure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("python_executor.cli.actions.kill", lambda execution_id, flags: 1 // 0)
    outcome = cli("kill", ID)
    assert outcome.code == 125
    assert "ZeroDivisionError" in outcome.stderr
