"""Every example of README is run as it stands, against a live server; `…` in its output stands for anything."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONSOLES = re.findall(r"^```console\n(.*?)^```", README, re.M | re.S)
CURL = """
import argparse, requests
parser = argparse.ArgumentParser()
for flag in ("-s", "-H", "-d"):
    parser.add_argument(flag, action="store_true" if flag == "-s" else "store")
parser.add_argument("url")
typed = parser.parse_args()
print(requests.post(typed.url, data=typed.d.encode(), headers=dict([typed.H.split(": ")])).text)
"""  # a bare Debian has no curl
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def steps(console: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    parts = re.split(r"^\$ (.*)\n", console, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the commands are typed: the repository's root, but for what they write."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.parametrize("console", CONSOLES, ids=lambda console: console.splitlines()[0][2:50])
def test_each_console_example_prints_what_readme_shows(console: str, server_url: str, directory: Path) -> None:
    for command, expected in steps(console):
        typed = command.replace("http://localhost:8080", server_url)
        typed = typed.replace(".venv/bin/python-executor", f"{sys.executable} -m python_executor")
        if typed.startswith("curl "):
            typed = f"{sys.executable} -c {shlex.quote(CURL)} {typed.removeprefix('curl ')}"
        done = subprocess.run(
            ["sh", "-c", typed], cwd=directory, env={**os.environ, "PYEXEC_SERVER": server_url, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
        assert re.fullmatch(pattern, done.stdout.strip(), re.S), done.stdout


def test_the_python_example_prints_what_readme_shows(server_url: str) -> None:
    (block,) = PYTHON
    example = doctest.DocTestParser().get_doctest(
        block.replace("http://localhost:8080", server_url), {}, "README", None, 0
    )
    runner = doctest.DocTestRunner()
    runner.run(example)
    example.globs.clear()
    assert runner.tries >= 6 and runner.failures == 0


def test_no_example_is_left_out() -> None:
    assert (len(CONSOLES), len(PYTHON)) == (3, 1)
    assert README.count("```") == 2 * (len(CONSOLES) + len(PYTHON) + 1)  # and the two commands, proved by a script
