"""A run of the tests says what it left out and why, and does not depend on who started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import test as suite
from tests.support import machine

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = """
import subprocess, sys
import pytest

@pytest.mark.needs("docker")
def test_one(): pass

@pytest.mark.needs("docker")
def test_two(): pass

def test_a_child_can_be_interrupted():
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"True\\n"
"""


def run_sample(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run tests of which two need a container engine, as cron would in the background where there is none."""
    (directory / "test_sample.py").write_text(SAMPLE)
    command = f"{sys.executable} -m pytest -q -c pyproject.toml --rootdir {directory} -p tests.conftest {directory}"
    return subprocess.run(
        ["/bin/sh", "-c", f"{command} & wait $!"], cwd=ROOT, env={"PATH": str(directory), **variables},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_what_the_machine_lacks_is_skipped_and_told_at_the_end(tmp_path: Path) -> None:
    done = run_sample(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "NOT RUN" in done.stdout
    assert "!!    2 tests  docker: " in done.stdout


def test_what_is_required_fails_instead(tmp_path: Path) -> None:
    done = run_sample(tmp_path, CI_REQUIRES="root,docker")
    assert done.returncode == 1
    assert "2 errors" in done.stdout
    assert "CI_REQUIRES has docker, and this machine has not: " in done.stdout


def test_a_name_that_nothing_is_needed_by_is_refused(tmp_path: Path) -> None:
    done = run_sample(tmp_path, CI_REQUIRES="docker,netwrok")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "CI_REQUIRES has netwrok: it takes cgroups, docker, " in done.stderr


def test_children_of_tests_can_be_interrupted_whoever_started_them(tmp_path: Path) -> None:
    assert "1 passed" in run_sample(tmp_path).stdout


def fail() -> None:
    raise subprocess.CalledProcessError(1, "pytest")


def test_minutes_and_what_was_not_run_are_printed_also_when_a_group_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = {
        "first": lambda: machine.record_not_run(suite.NOT_RUN, 3, "network: there is none"),
        "second": fail,
        "third": lambda: None,
    }
    monkeypatch.setattr(suite, "GROUPS", groups)
    monkeypatch.setattr(sys, "argv", ["test.py"])
    assert suite.main() == 1
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines() if line.startswith("   ")] == [
        ["0.0", "first"], ["0.0", "second"], ["0.0", "all"],
    ]  # fmt: skip
    assert "minutes  group\n" in said
    assert "!! first:    3 tests  network: there is none\n" in said
    assert said.endswith("== second FAILED; again: make test GROUP=second\n")


def test_descriptors_of_the_record_reach_whoever_writes_it() -> None:
    before = os.fstat(suite.NOT_RUN).st_size
    suite.run(sys.executable, "-c", "import os; os.write(int(os.environ['NOT_RUN_FD']), b'x')")
    assert os.fstat(suite.NOT_RUN).st_size == before + 1
    os.ftruncate(suite.NOT_RUN, before)
    os.lseek(suite.NOT_RUN, before, os.SEEK_SET)
