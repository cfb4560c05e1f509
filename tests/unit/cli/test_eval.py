"""`eval`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Cli, Stub


@pytest.mark.parametrize("line", [["eval", "2 + 2"], ["eval"], ["eval", "-"]])
def test_the_code_is_the_argument_or_stdin(cli: Cli, stub: Stub, line: list[str]) -> None:
    cli(*line, stdin="2 + 2")
    assert stub.submitted.path == "/api/v1/eval"
    assert stub.submitted.json["code"] == "2 + 2"
    assert stub.submitted.json["eval_last_expr"] is True


@pytest.mark.parametrize("line", [["eval"], ["eval", "-"], ["eval", ""]])
def test_without_code_nothing_is_sent(cli: Cli, stub: Stub, line: list[str]) -> None:
    outcome = cli(*line)
    assert outcome.code == 125
    assert outcome.stderr == "python-executor: no code: give it as an argument or on stdin\n"
    assert not stub.asked


def test_code_may_begin_with_a_dash(cli: Cli, stub: Stub) -> None:
    cli("eval", "--", "-5")
    assert stub.submitted.json["code"] == "-5"


def test_the_value_comes_after_the_output_on_a_line_of_its_own(cli: Cli, stub: Stub) -> None:
    stub.result = {"stdout": "printed", "result": "[bold]4[/bold]"}
    assert cli("eval", "…").stdout == "printed\n[bold]4[/bold]\n"
    stub.result = {"stdout": "printed\n", "result": "4"}
    assert cli("eval", "…").stdout == "printed\n4\n"
    stub.result = {"stdout": "printed"}
    assert cli("eval", "…").stdout == "printed"


def test_quiet_still_prints_the_value(cli: Cli, stub: Stub) -> None:
    stub.result = {"result": "4", "stderr": "noise"}
    outcome = cli("eval", "-q", "2 + 2")
    assert (outcome.stdout, outcome.stderr) == ("4\n", "")


def test_the_value_can_be_left_out(cli: Cli, stub: Stub) -> None:
    cli("eval", "--no-result", "2 + 2")
    assert stub.submitted.json["eval_last_expr"] is False


def test_python_and_all_limits_go_to_the_server(cli: Cli, stub: Stub) -> None:
    cli("--memory", "64", "eval", "1", "--python", "3.11", "--timeout", "5")
    assert stub.submitted.json["python_version"] == "3.11"
    assert stub.submitted.json["config"] == {"timeout_seconds": 5, "memory_mb": 64}


def test_a_runtime_goes_to_the_server(cli: Cli, stub: Stub) -> None:
    cli("eval", "1", "--runtime", "runsc")
    assert stub.submitted.json["runtime"] == "runsc"


def test_packages_can_be_asked_for(cli: Cli, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "needs.txt").write_text("numpy\n")
    cli("eval", "1", "--requirements", str(tmp_path / "needs.txt"), "--no-detect-imports")
    assert (stub.submitted.json["requirements_txt"], stub.submitted.json["detect_imports"]) == ("numpy\n", False)
    stub.asked.clear()
    cli("eval", "1", "--environment", "data", "--detect-imports")
    assert (stub.submitted.json["environment"], stub.submitted.json["detect_imports"]) == ("data", True)


@pytest.mark.parametrize(("flag", "advice"), [(["--image", "python:3.12"], "--python 3.11"), (["--async"], "submit")])
def test_flags_that_eval_cannot_honour_are_refused(cli: Cli, stub: Stub, flag: list[str], advice: str) -> None:
    outcome = cli("eval", "1", *flag)
    assert outcome.code == 125
    assert advice in outcome.stderr
    assert not stub.asked


def test_ending_with_an_exception_is_the_codes_business(cli: Cli, stub: Stub) -> None:
    stub.result = {"exit_code": 1, "stderr": "Traceback …\nValueError\n", "error_type": "ValueError", "error_line": 1}
    outcome = cli("eval", "raise ValueError")
    assert (outcome.code, outcome.stderr) == (1, "Traceback …\nValueError\n")
