"""`run` and `submit`: what reaches the server."""

from __future__ import annotations

import os
import signal
import tarfile
from pathlib import Path

import pytest

from .conftest import ID, Cli, Stub


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a few things to run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text("print('script')")
    (tmp_path / "project/pkg").mkdir(parents=True)
    (tmp_path / "project/main.py").write_text("import pkg")
    (tmp_path / "project/pkg/__init__.py").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/in.csv").write_text("a,b")
    return tmp_path


@pytest.mark.parametrize("line", [["run"], ["run", "-"], ["submit"]])
def test_without_a_file_stdin_is_the_code(cli: Cli, stub: Stub, line: list[str]) -> None:
    cli(*line, stdin="print('é')")
    assert stub.submitted.files == {"main.py": "print('é')"}
    assert stub.submitted.metadata["entrypoint"] == "main.py"
    assert "stdin" not in stub.submitted.metadata


def test_a_file_runs_under_its_own_name(cli: Cli, stub: Stub) -> None:
    cli("run", "script.py")
    assert stub.submitted.files == {"script.py": "print('script')"}
    assert stub.submitted.metadata["entrypoint"] == "script.py"


def test_a_directory_goes_whole(cli: Cli, stub: Stub) -> None:
    cli("run", "./project/")
    assert stub.submitted.files == {"main.py": "import pkg", "pkg/__init__.py": ""}
    assert stub.submitted.metadata["entrypoint"] == "main.py"


def test_a_module_runs_in_place_of_a_file(cli: Cli, stub: Stub) -> None:
    cli("run", "./project/", "-m", "pkg.tool", "--", "-v")
    assert stub.submitted.files == {"main.py": "import pkg", "pkg/__init__.py": ""}
    assert (stub.submitted.metadata["module"], stub.submitted.metadata["script_args"]) == ("pkg.tool", ["-v"])
    assert "entrypoint" not in stub.submitted.metadata


def test_a_module_runs_with_the_files_that_are_named(cli: Cli, stub: Stub) -> None:
    cli("submit", "script.py", "--module", "script")
    assert stub.submitted.files == {"script.py": "print('script')"}
    assert "entrypoint" not in stub.submitted.metadata


def test_a_module_needs_no_file_and_leaves_stdin_to_the_program(cli: Cli, stub: Stub) -> None:
    cli("run", "-m", "json.tool", "--stdin", stdin="[1]")
    assert (stub.submitted.files, stub.submitted.metadata["stdin"]) == ({}, "[1]")


def test_a_module_may_be_in_one_more_file(cli: Cli, stub: Stub) -> None:
    cli("run", "-m", "script", "--file", "script.py")
    assert stub.submitted.files == {"script.py": "print('script')"}


def test_a_tar_goes_as_it_is(cli: Cli, stub: Stub) -> None:
    with tarfile.open("code.tar", "w") as archive:
        archive.add("script.py", "deep/start.py")
    cli("run", "code.tar", "--entrypoint", "deep/start.py")
    assert stub.submitted.files == {"deep/start.py": "print('script')"}
    assert stub.submitted.metadata["entrypoint"] == "deep/start.py"


@pytest.mark.parametrize("target", ["script.py", "project", "code.tar", "-"])
def test_more_files_go_along_with_anything(cli: Cli, stub: Stub, target: str, tmp_path: Path) -> None:
    with tarfile.open("code.tar", "w") as archive:
        archive.add("script.py")
    elsewhere = tmp_path.parent / "elsewhere.txt"
    elsewhere.write_text("far")
    cli("run", target, "--file", "./data/in.csv", "--file", str(elsewhere), stdin="1")
    assert stub.submitted.files.items() >= {"data/in.csv": "a,b", "elsewhere.txt": "far"}.items()
    assert len(stub.submitted.files) >= 3


@pytest.mark.parametrize(
    ("names", "entrypoint"),
    [
        (["script.py", "data/in.csv"], "script.py"),
        (["script.py", "__main__.py"], "__main__.py"),
        (["script.py", "__main__.py", "main.py"], "main.py"),
        (["data/run.py", "script.py"], "data/run.py"),
    ],
)
def test_without_a_target_the_files_are_the_program(cli: Cli, stub: Stub, names: list[str], entrypoint: str) -> None:
    for name in names:
        Path(name).touch()
    cli("run", *[word for name in names for word in ("--file", name)], stdin="not read")
    assert set(stub.submitted.files) == set(names)
    assert stub.submitted.metadata["entrypoint"] == entrypoint


def test_files_without_a_target_leave_the_entrypoint_and_stdin_to_the_flags(cli: Cli, stub: Stub) -> None:
    cli("run", "--file", "script.py", "--file", "data/in.csv", "--entrypoint", "data/in.csv", "--stdin", stdin="input")
    assert stub.submitted.metadata["entrypoint"] == "data/in.csv"
    assert stub.submitted.metadata["stdin"] == "input"


@pytest.mark.parametrize("line", [["run"], ["run", "-"], ["submit"]])
def test_without_any_input_nothing_is_sent(cli: Cli, stub: Stub, line: list[str]) -> None:
    outcome = cli(*line)
    assert outcome.code == 125
    assert outcome.stderr == "python-executor: no input: name a file or directory, or pipe code in\n"
    assert not stub.asked


def test_the_entrypoint_can_be_chosen(cli: Cli, stub: Stub) -> None:
    cli("run", "project", "--entrypoint", "pkg/__init__.py")
    assert stub.submitted.metadata["entrypoint"] == "pkg/__init__.py"


def test_stdin_goes_to_the_program_only_when_asked(cli: Cli, stub: Stub) -> None:
    cli("run", "script.py", stdin="kept here")
    assert "stdin" not in stub.submitted.metadata
    stub.asked.clear()
    cli("run", "script.py", "--stdin", stdin="wörter\n")
    assert stub.submitted.metadata["stdin"] == "wörter\n"


def test_stdin_cannot_be_code_and_input_at_once(cli: Cli, stub: Stub) -> None:
    outcome = cli("run", "--stdin", stdin="1")
    assert outcome.code == 125
    assert "--stdin needs a FILE" in outcome.stderr
    assert not stub.asked


def test_a_variable_without_a_value_takes_the_callers(cli: Cli, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "a=b")
    cli("run", "script.py", "-e", "TOKEN", "--env", "DEBUG=1", "-e", "EMPTY=")
    assert stub.submitted.metadata["env_vars"] == ["TOKEN=a=b", "DEBUG=1", "EMPTY="]


def test_a_variable_that_is_not_set_here_is_no_silent_nothing(cli: Cli, stub: Stub) -> None:
    outcome = cli("run", "script.py", "-e", "NO_SUCH_VARIABLE")
    assert outcome.code == 125
    assert "NO_SUCH_VARIABLE is not set here" in outcome.stderr
    assert not stub.asked


def test_requirements_go_as_text(cli: Cli, stub: Stub) -> None:
    Path("requirements.txt").write_text("numpy\n")
    cli("run", "script.py", "--requirements", "requirements.txt")
    assert stub.submitted.metadata["requirements_txt"] == "numpy\n"


@pytest.mark.parametrize("command", ["run", "submit"])
@pytest.mark.parametrize(
    ("flags", "sent"),
    [
        ([], {}),
        (["--environment", "data"], {"environment": "data"}),
        (["--detect-imports"], {"detect_imports": True}),
        (["--no-detect-imports"], {"detect_imports": False}),
    ],
)
def test_packages_are_the_servers_choice_unless_asked_for(
    cli: Cli, stub: Stub, command: str, flags: list[str], sent: dict[str, object]
) -> None:
    assert cli(command, "script.py", *flags).code == 0
    metadata = stub.submitted.metadata
    words = {"requirements_txt", "environment", "detect_imports"}
    assert {name: value for name, value in metadata.items() if name in words} == sent


@pytest.mark.parametrize("line", [["submit", "script.py"], ["run", "--async", "script.py"], ["--async", "run"]])
def test_submit_prints_the_id_and_does_not_wait(cli: Cli, stub: Stub, line: list[str]) -> None:
    outcome = cli(*line, stdin="1")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"{ID}\n", "")
    assert [asked.path for asked in stub.asked] == ["/api/v1/exec/async"]


def test_submit_prints_the_id_as_json(cli: Cli) -> None:
    assert cli("submit", "script.py", "--json").stdout == f'{{\n  "execution_id": "{ID}"\n}}\n'


def test_a_local_server_has_no_executions_that_outlive_it(cli: Cli) -> None:
    outcome = cli("run", "script.py", "--local", "--async")
    assert outcome.code == 125
    assert "leave --async out" in outcome.stderr


def test_ctrl_c_kills_the_execution_and_shows_what_it_had_printed(cli: Cli, stub: Stub) -> None:
    def press_ctrl_c() -> None:
        stub.before_result = lambda: None
        os.kill(os.getpid(), signal.SIGINT)

    stub.before_result = press_ctrl_c
    stub.result = {"status": "killed", "exit_code": 137, "stdout": "so far\n"}
    outcome = cli("run", "script.py")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (130, "so far\n", "")
    assert [asked.method for asked in stub.asked] == ["POST", "GET", "DELETE", "GET"]
