"""The command line as users have it: a process of its own, with the server of the session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def command_line(*arguments: str) -> list[str]:
    """What to start for these arguments."""
    return [sys.executable, "-m", "python_executor", *arguments]


@pytest.fixture
def environment(server_url: str) -> dict[str, str]:
    """The variables of the command line: none of ours but the server's URL."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
    return {**inherited, "PYEXEC_SERVER": server_url}


@pytest.fixture
def cli(environment: dict[str, str]) -> Cli:
    """Runs a command line to its end, in the directory of the examples: `cli("eval", "1", stdin="…")`."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*arguments),
            input=stdin,
            env={**environment, **variables},
            cwd=EXAMPLES,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )

    return run


@pytest.fixture(scope="session")
def index_url() -> str:
    """The registry: what is documented is tried as it stands."""
    return ""
