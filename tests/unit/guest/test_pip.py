"""What stands in for pip: it understands what is asked of pip, says what is there, and installs nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from python_executor.environments.interpreters import find_interpreters
from python_executor.guest.pip import fits, sorted_out
from tests.support.guest import GUEST

VERSIONS = [
    "0.9",
    "1.0",
    "1.0.0",
    "1.0.1",
    "1.2",
    "1.4.2",
    "1.10",
    "2.0",
    "2.0rc1",
    "2.0a3",
    "2.0b1",
    "2.0.dev1",
    "2.0.post1",
    "2023.7",
    "1!0.5",
    "1.0+cpu",
]
CLAUSES = [
    "==1.0",
    "==1.*",
    "==1.0.*",
    "!=1.0",
    "!=2.*",
    ">=1.4",
    "<=1.2",
    "<2",
    ">1.0",
    "~=1.4",
    "~=1.4.1",
    ">=2.0rc1",
    "===1.2",
    ">=2.0.dev1",
]


@pytest.mark.parametrize("clause", CLAUSES)
def test_versions_fit_as_they_do_for_pip(clause: str) -> None:
    (specifier,) = SpecifierSet(clause)
    for version in VERSIONS:
        right = specifier.contains(version, prereleases=True)
        bases = {Version(Version(text.rstrip(".*")).base_version) for text in (version, specifier.version)}
        if specifier.operator in "<>" and len(bases) == 1:
            continue  # whose finer points (2.0rc1 is not <2.0) nobody asks for
        assert fits(version, specifier.operator, specifier.version) == right, version


def test_arguments_are_told_from_names() -> None:
    words = ["-q", "six", "--index-url", "https://x", "-r", "a.txt", "-e", ".", "--target=/tmp", "--requirement=b.txt"]
    flags, names, files = sorted_out(words)
    assert (names, files, flags["--target"]) == (["six", "."], ["a.txt", "b.txt"], "/tmp")


@pytest.fixture(params=[min(find_interpreters(), key=lambda found: int(found.minor_version[2:])).executable])
def pip(tmp_path: Path, request: pytest.FixtureRequest):
    """Run it in an environment that has `six` and `user`."""
    site = tmp_path / "site"
    for name, version, more in (("six", "1.16.0", ""), ("user", "2.0", "Requires-Dist: six>=1\n")):
        (site / f"{name}-{version}.dist-info").mkdir(parents=True)
        (site / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n{more}")
    (site / "pip.py").write_text((GUEST / "pip.py").read_text())
    environment = {"PYTHONPATH": str(site), "PATH": os.defpath}

    def run(*words: str) -> tuple[int, str, str]:
        command = [request.param, "-S", "-m", "pip", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_it_lists_what_is_there_on_the_oldest_version_too(pip) -> None:
    assert pip("list") == (0, "Package Version\n------- -------\nsix     1.16.0\nuser    2.0\n", "")
    assert pip("freeze") == (0, "six==1.16.0\nuser==2.0\n", "")
    assert json.loads(pip("list", "--format", "json")[1])[0] == {"name": "six", "version": "1.16.0"}
    code, shown, said = pip("show", "Six", "nothing")
    assert code == 0 and "Version: 1.16.0\n" in shown and shown.endswith("Required-by: user\n") and "nothing" in said


def test_it_installs_nothing_and_says_what_to_do(pip, tmp_path: Path) -> None:
    code, out, error = pip("install", "-q", "six>=1,<2", "user[extra]", "pip", 'colorama; sys_platform == "win32"')
    assert (code, error) == (0, "") and out.count("Requirement already satisfied: ") == 3
    (tmp_path / "r.txt").write_text("# all\nsix==1.15 \\\n  --hash=sha256:0\n")
    for words in (("six", "humanize"), ("-r", "r.txt"), ("./here",), ()):
        code, out, error = pip("install", *words)
        assert code == 1 and error.count("\n") == 1 and error.startswith("ERROR: "), words
    assert "requirements_txt" in pip("install", "humanize")[2]
    assert pip("uninstall", "-y", "six")[0] == 1
