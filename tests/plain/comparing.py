"""How a program is run plainly, and what of it is to be the same."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.plain import USER_ID, Ending, PlainPython

from .corpus import Program


def run_plainly(program: Program, python: PlainPython, work: Path) -> Ending:
    """Run it in an empty directory, which becomes its own."""
    for name, content in program.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in (work, *work.rglob("*")):
        os.chown(path, USER_ID, USER_ID)
    argv = ["main.py", *program.argv]
    return normalized(program, python.run(work, argv, stdin=program.stdin.encode(), variables=program.env))


def normalized(program: Program, ending: Ending) -> Ending:
    """The ending, without what differs from run to run."""
    return Ending(program.normalized(ending.stdout), program.normalized(ending.stderr), ending.exit_code)
