"""Which interpreters are found and which is taken of several, with shell scripts in their place."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from python_executor.environments import interpreters
from python_executor.environments.interpreters import find_interpreters

GOOD = {
    "implementation": "cpython",
    "version": "3.12.1",
    "final": True,
    "prefix": "/opt/python",
    "free_threaded": False,
    "bits": 64,
}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """What is found where executables give these answers."""

    def find(*answers: str) -> list[str]:
        paths = [executable(tmp_path / f"python-{number}", answer) for number, answer in enumerate(answers)]
        monkeypatch.setattr(interpreters, "_candidates", lambda: iter(paths))
        return [interpreter.version for interpreter in find_interpreters()]

    return find


def executable(path: Path, answer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return path


def says(**facts: object) -> str:
    return f"echo {shlex.quote(repr({**GOOD, **facts}))}"


def versions(*names: str) -> list[str]:
    return [says(version=name) for name in names]


def test_newest_first_also_where_text_would_sort_otherwise(found):
    assert found(*versions("3.9.18", "3.10.13", "3.13.0", "3.11.7")) == ["3.13.0", "3.11.7", "3.10.13", "3.9.18"]


def test_the_newest_patch_of_a_minor_version_wins(found):
    assert found(*versions("3.12.9", "3.12.10", "3.12.2")) == ["3.12.10"]


@pytest.mark.parametrize(
    "other",
    [
        {"implementation": "pypy"},
        {"version": "3.8.18"},
        {"version": "2.7.18"},
        {"version": "3.14.0rc1", "final": False},
        {"free_threaded": True},
        {"bits": 32},
    ],
    ids=str,
)
def test_what_the_zygote_cannot_be_is_left_out(found, other):
    assert found(says(**other), says(version="3.11.7")) == ["3.11.7"]


@pytest.mark.parametrize("answer", ["exit 1", "echo", "echo hello", "kill -9 $$", says() + "; exit 3"])
def test_a_broken_one_is_left_out(found, answer):
    assert found(answer, says(version="3.11.7")) == ["3.11.7"]


@pytest.mark.parametrize("answer", ["echo null", "echo 3", "echo '{}'", says(version=3), says(prefix=None)])
def test_one_that_answers_something_else_is_left_out(found, answer):
    assert found(answer, says(version="3.11.7")) == ["3.11.7"]


def test_executable_and_prefix_are_real_paths(tmp_path, monkeypatch):
    real = executable(tmp_path / "real/bin/python3.12", says(prefix=str(tmp_path / "link")))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(interpreters, "_candidates", lambda: iter([tmp_path / "link/bin/python3.12"]))
    (interpreter,) = find_interpreters()
    assert (interpreter.executable, interpreter.prefix) == (str(real), str(tmp_path / "real"))
    assert interpreter.minor_version == "3.12"


def test_an_interpreter_is_asked_without_our_environment(found, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    assert found(f'test -z "$PYTHONHOME" && {says()}') == ["3.12.1"]


def test_uvs_pyenvs_and_our_own_are_candidates(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "ours"))
    uv = executable(tmp_path / "uv/cpython-3.12.1-linux-x86_64-gnu/bin/python3", "")
    pyenv = executable(tmp_path / "pyenv/versions/3.11.7/bin/python3", "")
    executable(tmp_path / "pyenv/versions/3.10.13/bin/python3", "").chmod(0o644)
    candidates = list(map(str, interpreters._candidates()))
    assert [path for path in candidates if path.startswith(str(tmp_path))] == [
        str(uv),
        str(pyenv),
        str(tmp_path / "ours"),
    ]
    assert all(os.path.dirname(path) in ("/usr/bin", "/usr/local/bin") for path in candidates[2:-1])
