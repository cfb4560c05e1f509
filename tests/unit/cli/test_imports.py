"""What a command does not need, it does not wait for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import Stub

SERVER_ONLY = {"fastapi", "starlette", "uvicorn", "uvloop", "pydantic_settings", "structlog", "sqlite3"}
CLIENT_ONLY = {"requests", "python_executor_client"}
PROGRAM = """
import sys
from python_executor.cli import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def imported_by(stub: Stub, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYEXEC_SERVER": stub.url},
        input="1",
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("line", [["eval", "1"], ["run", "-"], ["follow", "exe_1"], ["kill", "exe_1"]])
def test_client_commands_import_nothing_of_the_server(stub: Stub, line: list[str]) -> None:
    assert not imported_by(stub, *line) & {*SERVER_ONLY, "rich"}


@pytest.mark.parametrize("line", [["version"], ["--help"], ["run", "--help"], ["env"], ["env", "add", "--help"]])
def test_help_and_version_import_not_even_the_client(stub: Stub, line: list[str]) -> None:
    assert not imported_by(stub, *line) & (SERVER_ONLY | CLIENT_ONLY)
