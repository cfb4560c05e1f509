"""`env`: what it refuses, and what it makes of definitions; tests/end_to_end/test_environments.py makes real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from python_executor.environments.named import Definition, Definitions

from .conftest import Cli, Outcome

KEY = "env_0123456789abcdef0123456789abcdef"
LOCK = "".join(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n" for name in ("a", "b", "c", "d", "e"))
DATA = Definition("data", "3.12", "a\n", ("a", "b.c"), KEY, LOCK)


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in which one environment has a name, and no files."""
    Definitions(tmp_path / "named").put(DATA)
    (tmp_path / "needs.txt").write_text("a\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYEXEC_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("python_executor.cli.environments.log_to_stderr", lambda level: None)  # it would stay so
    return tmp_path


def refused(outcome: Outcome) -> str:
    """The one line that tells why."""
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (125, "", 1)
    return outcome.stderr.removeprefix("python-executor: ")


def test_the_help_tells_all_commands_and_says_what_they_work_on(cli: Cli) -> None:
    for outcome in (cli("env"), cli("env", "--help")):
        assert outcome.code == 0
        assert all(f"\n  {word} " in outcome.stdout for word in ("list", "add", "remove", "rebuild", "prune", "lock"))
        assert "data directory" in outcome.stdout
        assert "--memory" not in outcome.stdout


def test_global_flags_may_stand_anywhere(cli: Cli) -> None:
    told = cli("env", "list", "--json").stdout
    assert cli("--json", "env", "list").stdout == cli("env", "--json", "--quiet", "list").stdout == told


@pytest.mark.parametrize("name", ["Data", "-x", "a/b", "../a", "", "a b", "x" * 65])
def test_a_name_is_checked_before_anything_is_made(cli: Cli, name: str) -> None:
    assert "is no name for an environment" in refused(cli("env", "add", "-r", "needs.txt", "--", name))


@pytest.mark.parametrize("modules", ["a-b", "a,b;c", "os.", ".os", "a b"])
def test_what_is_no_module_is_not_preloaded(cli: Cli, modules: str) -> None:
    assert "--preload" in refused(cli("env", "add", "new", "-r", "needs.txt", "--preload", modules))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["add", "new"], "Missing option '--requirements' / '-r'. See python-executor env add --help"),
        (["add", "-r", "needs.txt"], "Missing argument 'NAME'. See python-executor env add --help"),
        (["add", "new", "-r", "gone.txt"], "can't read gone.txt: No such file or directory"),
        (["add", "new", "-r", "needs.txt", "--python", "2.7"], "Python 2.7 is not here: use one of 3."),
        (["remove", "gone"], "no environment is called gone"),
        (["rebuild", "gone"], "no environment is called gone"),
        (["lock", "gone"], "there is no environment gone"),
        (["prune", "--keep-mb", "all"], "must be a whole number"),
        (["prune", "--data-dir", "/proc/nowhere"], "can't use the data directory /proc/nowhere"),
        (["nonsense"], "No such command 'nonsense'. See python-executor env --help"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line(cli: Cli, line: list[str], told: str) -> None:
    assert told in refused(cli("env", *line))


def test_the_list_tells_what_a_name_stands_for_even_without_its_files(cli: Cli) -> None:
    lines = cli("env", "list").stdout.splitlines()
    assert lines == [
        "NAME  PYTHON  PACKAGES                     SIZE         PRELOAD",
        "data  3.12    a 1.0, b 1.0, c 1.0, 2 more  not on disk  a, b.c",
    ]


def test_the_list_is_there_for_programs_too(cli: Cli) -> None:
    told = json.loads(cli("env", "list", "--json").stdout)
    assert told == {
        "named": [
            {
                "name": "data",
                "key": KEY,
                "python": "3.12",
                "requirements": "a\n",
                "preload": ["a", "b.c"],
                "packages": [{"name": name, "version": "1.0"} for name in "abcde"],
                "bytes": None,
            }
        ],
        "unnamed": [],
    }


def test_a_list_of_nothing_says_so_and_makes_nothing(cli: Cli, data_dir: Path) -> None:
    nowhere = str(data_dir / "nowhere")
    assert cli("env", "list", "--data-dir", nowhere).stdout == f"there are no environments in {nowhere}\n"
    assert not os.path.exists(nowhere)


def test_the_lock_is_a_requirements_file(cli: Cli) -> None:
    assert cli("env", "lock", "data").stdout == LOCK


def test_a_name_that_is_taken_away_is_gone(cli: Cli) -> None:
    assert cli("env", "remove", "data") == Outcome(0, "", "")
    assert "no environment is called data" in refused(cli("env", "remove", "data"))
