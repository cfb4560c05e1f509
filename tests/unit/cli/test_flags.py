"""Global flags before and after the command, and what the help says."""

from __future__ import annotations

import pytest

from .conftest import Cli, Stub

COMMANDS = ("run", "submit", "eval", "follow", "kill", "version", "serve", "env")
LIMITS = ["--timeout", "5", "--memory", "64", "--disk", "32", "--cpu", "512", "--network"]
CONFIG = {"timeout_seconds": 5, "memory_mb": 64, "disk_mb": 32, "cpu_shares": 512, "network_disabled": False}


@pytest.mark.parametrize("line", [[*LIMITS, "run"], ["run", *LIMITS], [*LIMITS[:4], "run", *LIMITS[4:]]])
def test_global_flags_mean_the_same_before_and_after_the_command(cli: Cli, stub: Stub, line: list[str]) -> None:
    assert cli(*line, stdin="1").code == 0
    assert stub.submitted.metadata["config"] == CONFIG


@pytest.mark.parametrize("line", [["--timeout", "1", "run", "--timeout", "2"], ["run", "--timeout=1", "--timeout=2"]])
def test_of_two_flags_the_later_one_wins(cli: Cli, stub: Stub, line: list[str]) -> None:
    cli(*line, stdin="1")
    assert stub.submitted.metadata["config"] == {"timeout_seconds": 2}


@pytest.mark.parametrize(("text", "sent"), [("0.5", "0.5"), ("5", "5"), ("1e1", "10.0")])
def test_times_may_have_a_fraction_and_are_sent_as_they_are_typed(cli: Cli, stub: Stub, text: str, sent: str) -> None:
    cli("--cpu-seconds", text, "run", "--timeout", text, stdin="1")
    config = stub.submitted.metadata["config"]
    assert [str(config[name]) for name in ("timeout_seconds", "cpu_seconds")] == [sent, sent]


def test_what_is_not_asked_for_is_left_to_the_server(cli: Cli, stub: Stub) -> None:
    cli("run", stdin="1")
    assert "config" not in stub.submitted.metadata
    assert "docker_image" not in stub.submitted.metadata


def test_the_image_goes_to_the_server(cli: Cli, stub: Stub) -> None:
    cli("--image", "python:3.12-slim", "run", stdin="1")
    assert stub.submitted.metadata["docker_image"] == "python:3.12-slim"
    assert "runtime" not in stub.submitted.metadata


def test_the_runtime_goes_to_the_server(cli: Cli, stub: Stub) -> None:
    cli("--runtime", "runsc", "run", "--image", "debian:12", stdin="1")
    sent = stub.submitted.metadata
    assert (sent["docker_image"], sent["runtime"]) == ("debian:12", "runsc")


def test_the_server_flag_wins_over_the_variable_wherever_it_stands(
    cli: Cli, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYEXEC_SERVER", "http://127.0.0.1:1")
    assert cli("--server", stub.url, "run", stdin="1").code == 0
    assert cli("run", "--server", stub.url, stdin="1").code == 0


def test_every_command_takes_every_global_flag(cli: Cli, stub: Stub) -> None:
    limits = [*LIMITS, "--image", "python:3.12", "--runtime", "runsc"]
    assert cli("follow", *limits, "exe_1").code == 0
    assert cli("kill", *limits, "exe_1").code == 0
    assert cli("version", *limits).code == 0
    assert cli(*limits, "--async", "submit", stdin="1").code == 0


def test_a_flag_before_serve_is_no_setting_and_is_refused(cli: Cli) -> None:
    outcome = cli("--timeout", "5", "serve")
    assert outcome.code == 125
    assert "No such option: --timeout" in outcome.stderr


def test_arguments_after_the_dashes_are_the_programs(cli: Cli, stub: Stub) -> None:
    cli("run", "--timeout", "5", "--", "--timeout", "6", "-q", "--", stdin="1")
    assert stub.submitted.metadata["script_args"] == ["--timeout", "6", "-q", "--"]
    assert stub.submitted.metadata["config"] == {"timeout_seconds": 5}


def test_arguments_without_the_dashes_are_refused_with_the_way_to_write_them(cli: Cli, stub: Stub) -> None:
    outcome = cli("run", "main.py", "in.txt", "out.txt")
    assert outcome.code == 125
    assert "FILE -- in.txt out.txt" in outcome.stderr
    assert not stub.asked


def test_the_help_names_all_commands_and_global_flags(cli: Cli) -> None:
    for outcome in (cli(), cli("--help"), cli("-h")):
        assert outcome.code == 0
        assert all(f"\n  {command} " in outcome.stdout for command in COMMANDS)
        for flag in (
            "--server",
            "--timeout",
            "--memory",
            "--disk",
            "--cpu",
            "--network",
            "--image",
            "--runtime",
            "--async",
        ):
            assert flag in outcome.stdout
        assert "-q, --quiet" in outcome.stdout
        assert "-v, --verbose" in outcome.stdout


def test_the_help_of_run_tells_where_arguments_go(cli: Cli) -> None:
    stdout = cli("run", "--help").stdout
    assert "[FILE|DIR|TAR] [-- ARGS]" in stdout
    for flag in ("--file", "--entrypoint", "-e, --env", "--stdin", "--local", "--timeout"):
        assert flag in stdout


@pytest.mark.parametrize("command", ["run", "submit", "eval"])
def test_the_help_tells_how_to_get_packages_and_what_holds_by_itself(cli: Cli, command: str) -> None:
    told = " ".join(cli(command, "--help").stdout.split())
    for flag in ("--requirements FILE", "--environment NAME", "--detect-imports / --no-detect-imports"):
        assert flag in told
    assert "if not said, eval does and run does not" in told


def test_the_help_of_run_tells_whose_flags_are_whose_and_what_files_alone_mean(cli: Cli) -> None:
    told = " ".join(cli("run", "--help").stdout.split())
    assert "Flags after FILE are ours; the program's go after --." in told
    assert "Without FILE|DIR|TAR, these are the program." in told


def test_the_help_of_a_command_is_silent_on_flags_that_mean_nothing_there(cli: Cli) -> None:
    for flag in ("--memory", "--runtime"):
        assert flag not in cli("kill", "-h").stdout
    assert "--image" not in cli("eval", "-h").stdout


def test_the_version_is_one_line(cli: Cli) -> None:
    outcome = cli("version")
    assert outcome.stdout.startswith("python-executor 0.")
    assert outcome.stdout.count("\n") == 1
