"""Every example does what its README says, through the command line and a real server."""

from __future__ import annotations

import json

import pytest

from .conftest import EXAMPLES, Cli

MATCH = (
    "1: Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in {}, and"
)


@pytest.mark.parametrize("where", [[], ["--local"]], ids=["server", "local"])
def test_a_directory_runs_with_its_package_and_its_data(cli: Cli, where: list[str]) -> None:
    done = cli("run", "word-count", *where)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == "386 words in 2 texts, 197 of them different"
    assert lines[2] == "that      14  " + "█" * 30
    assert len(lines) == 12


def test_data_goes_through_csv_sqlite_and_statistics(cli: Cli) -> None:
    done = cli("run", "sales", "--memory", "256")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2026-01       15  1,135.83\n" in done.stdout
    assert "Santos        104.5  1,542.23\n" in done.stdout
    assert done.stdout.endswith("Price and quantity correlate by -0.43.\n")


def test_a_script_gets_arguments_stdin_and_variables(cli: Cli) -> None:
    text = (EXAMPLES / "word-count/texts/gettysburg.txt").read_text()
    done = cli("run", "arguments.py", "--stdin", "-e", "MARK", "--", "-i", "liberty", stdin=text, MARK="__")
    assert (done.returncode, done.stdout, done.stderr) == (0, MATCH.format("__Liberty__") + "\n", "")
    done = cli("run", "arguments.py", "--stdin", "--", "liberty", stdin=text)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_script_has_its_own_help(cli: Cli) -> None:
    done = cli("run", "arguments.py", "--", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: arguments.py [-h] [-i] pattern")


def test_a_failing_script_shows_its_own_traceback_and_nothing_of_ours(cli: Cli) -> None:
    done = cli("run", "fails.py")
    assert (done.returncode, done.stdout) == (1, "4 readings\n")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert 'fails.py", line 15, in <module>\n    print(f"mean: {mean(READINGS):.1f} °C")' in done.stderr
    assert done.stderr.endswith("ValueError: could not convert string to float: 'n/a'\n")
    assert "python_executor" not in done.stderr


def test_a_program_reads_what_failed_from_json(cli: Cli) -> None:
    result = json.loads(cli("run", "fails.py", "--json").stdout)
    assert (result["exit_code"], result["error_type"], result["error_line"]) == (1, "ValueError", 11)
    assert (result["status"], result["termination"]) == ("completed", "exited")


@pytest.mark.parametrize("where", [[], ["--local"]], ids=["server", "local"])
def test_a_script_that_never_ends_is_stopped_and_its_output_kept(cli: Cli, where: list[str]) -> None:
    done = cli("run", "never_ends.py", "--timeout", "2", *where)
    assert done.returncode == 124
    assert "prime number 10,000 is 104,729\n" in done.stdout
    assert done.stderr == "python-executor: execution timed out after 2 s\n"


def test_a_script_that_never_ends_can_be_killed_by_its_id(cli: Cli) -> None:
    execution_id = cli("submit", "never_ends.py").stdout.strip()
    killed = cli("kill", execution_id)
    assert (killed.returncode, killed.stdout) == (0, f"{execution_id} killed\n")
    assert cli("follow", execution_id).returncode == 137


def test_the_readme_names_every_example() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name != "README.md":
            assert f"run {path.name}" in readme or f"submit {path.name}" in readme
