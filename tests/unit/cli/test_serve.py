"""`serve`: flags made from the settings; `--local` and it share how an engine fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_executor.cli import serve as serve_module
from python_executor.model.errors import BackendError, StoreError
from python_executor.settings import Settings

from .conftest import Cli


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PYEXEC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYEXEC_DATA_DIR", str(tmp_path))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a server would have been started with."""
    started: list[Settings] = []
    monkeypatch.setattr(serve_module, "_serve", started.append)
    return started


def test_every_setting_is_a_flag_with_help(cli: Cli) -> None:
    stdout = " ".join(cli("serve", "--help").stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in stdout
        assert field.description and field.description[:30] in stdout
    assert "(default: 8080)" in stdout
    assert "PYEXEC_PORT" in stdout


def test_a_flag_wins_over_the_environment(
    cli: Cli, served: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYEXEC_PORT", "1000")
    monkeypatch.setenv("PYEXEC_QUEUE_MAX", "7")
    assert cli("serve", "--port", "2000", "--default-network", "false", "--data-dir", str(tmp_path / "x")).code == 0
    (settings,) = served
    assert (settings.port, settings.queue_max, settings.data_dir) == (2000, 7, tmp_path / "x")


def test_names_are_taken_as_a_list(cli: Cli, served: list[Settings]) -> None:
    assert cli("serve", "--host", "0.0.0.0", "--insecure-allow", "no-api-key", "--allowed-hosts", "a, b").code == 0
    assert served[0].allowed_hosts == {"a", "b"}


def test_each_problem_of_the_settings_is_one_line(cli: Cli, served: list[Settings]) -> None:
    outcome = cli("serve", "--port", "x", "--queue-max", "-1", "--log-level", "loud", "--default-python", "banana")
    assert outcome.code == 125
    assert [line.split(":")[1].strip() for line in outcome.stderr.splitlines()] == [
        "--port (PYEXEC_PORT) is 'x'",
        "--log-level (PYEXEC_LOG_LEVEL) is 'loud'",
        "--default-python (PYEXEC_DEFAULT_PYTHON) is 'banana'",
        "--queue-max (PYEXEC_QUEUE_MAX) is '-1'",
    ]
    assert not served


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--port", "x", "must be a whole number"),
        ("--shutdown-grace", "x", "must be a number"),
        ("--auto-detect-imports", "x", "must be true or false"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_in_plain_words(cli: Cli, flag: str, value: str, told: str) -> None:
    variable = f"PYEXEC_{flag[2:].replace('-', '_').upper()}"
    assert cli("serve", flag, value).stderr == f"python-executor: {flag} ({variable}) is '{value}': {told}\n"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--host", "0.0.0.0"], "--insecure-allow no-api-key"),
        (["--max-timeout", "5", "--default-timeout", "6"], "MAX_TIMEOUT 5 is below DEFAULT_TIMEOUT 6"),
        (["--api-key", "schlüssel"], "API_KEY has characters beyond ASCII"),
        (["--network-mode", "host"], "NETWORK_MODE host"),
    ],
)
def test_settings_that_do_not_fit_together_are_told_without_decoration(
    cli: Cli, served: list[Settings], flags: list[str], told: str
) -> None:
    outcome = cli("serve", *flags)
    assert outcome.code == 125
    assert outcome.stderr.startswith("python-executor: ")
    assert told in outcome.stderr
    assert "Value error" not in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Replaces what runs the server."""

    def replace(run: Callable[..., None]) -> None:
        monkeypatch.setattr("python_executor.assembly.build", lambda settings: object())
        monkeypatch.setattr("python_executor.api.run", run)
        monkeypatch.setattr(serve_module, "log_to_stderr", lambda level: None)  # the tests' own logs stay as they are

    return replace


@pytest.mark.parametrize(
    ("environment", "flags", "url", "next_line"),
    [
        ({}, [], "http://127.0.0.1:8080", "python-executor eval '2 + 2'"),
        ({}, [], "http://127.0.0.1:9", "python-executor --server http://127.0.0.1:9 eval '2 + 2'"),
        ({}, ["--api-key", "k"], "http://127.0.0.1:8080", "PYEXEC_API_KEY=… python-executor eval '2 + 2'"),
        ({"PYEXEC_API_KEY": "k"}, [], "http://127.0.0.1:8080", "python-executor eval '2 + 2'"),
    ],
)
def test_it_says_where_it_listens_and_what_to_type_next(
    cli: Cli,
    engine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    flags: list[str],
    url: str,
    next_line: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    engine(lambda executions, settings, announce: announce(url))
    outcome = cli("serve", *flags)
    assert outcome.code == 0
    assert outcome.stdout == f"python-executor is listening on {url}\nTry it: {next_line}\n"


@pytest.mark.parametrize(
    ("url", "next_line"),
    [
        ("http://0.0.0.0:8080", "python-executor eval '2 + 2'"),
        ("http://0.0.0.0:9", "python-executor --server http://127.0.0.1:9 eval '2 + 2'"),
        ("http://[::]:8080", "python-executor --server http://[::1]:8080 eval '2 + 2'"),
    ],
)
def test_what_to_type_next_names_no_wildcard(cli: Cli, engine: Callable[..., None], url: str, next_line: str) -> None:
    engine(lambda executions, settings, announce: announce(url))
    listening = f"python-executor is listening on {url}\nTry it: {next_line}\n"
    assert cli("serve", "--host", "::", "--insecure-allow", "no-api-key").stdout == listening + (
        "Other host names than localhost it answers to only if PYEXEC_ALLOWED_HOSTS has them.\n"
    )
    assert cli("serve", "--host", "::", "--api-key", "k").stdout == listening.replace(
        "Try it: ", "Try it: PYEXEC_API_KEY=… "
    )


def test_a_server_whose_announcement_finds_no_room_goes_on(
    cli: Cli, engine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(executions: object, settings: Settings, announce: Callable[[str], None]) -> None:
        with open("/dev/full", "w") as full, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", full)
            announce("http://127.0.0.1:8080")

    engine(run)
    assert cli("serve").code == 0


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (BackendError("no namespaces: allow them"), "no namespaces: allow them"),
        (StoreError("the directory is in use"), "the directory is in use"),
        (
            OSError(98, "Address already in use"),
            "can't listen on 127.0.0.1 port 8080 (Address already in use): choose another with --host and --port",
        ),
        (OSError(28, "No space left on device"), "the server can't go on: [Errno 28] No space left on device"),
    ],
)
def test_an_engine_that_cannot_start_is_one_line(
    cli: Cli, engine: Callable[..., None], failure: Exception, told: str
) -> None:
    def run(*_: Any) -> None:
        raise failure

    engine(run)
    outcome = cli("serve")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (125, "", f"python-executor: {told}\n")


LOGGING = """
import structlog
from python_executor.cli.engine import log_to_stderr
log_to_stderr("info")
log = structlog.get_logger()
log.debug("too little")
secret = "hunter2"
try:
    raise ValueError("boom")
except ValueError:
    log.exception("something broke", execution_id="exe_1")
"""


def test_logs_are_json_on_stderr_without_local_variables() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "something broke"
    assert entry["level"] == "error"
    assert entry["execution_id"] == "exe_1"
    assert "ValueError: boom" in entry["exception"]
    assert "hunter2" not in line
