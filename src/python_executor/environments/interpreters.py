"""Which CPythons are on this machine: uv's, pyenv's, the system's and the one that runs us."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..model.spec import Interpreter

OLDEST = (3, 9)
_QUESTION = """
import sys
print({
    "implementation": sys.implementation.name,
    "version": sys.version.split()[0],
    "final": sys.version_info.releaselevel == "final",
    "prefix": sys.base_prefix,
    "free_threaded": "t" in sys.abiflags,
    "bits": 64 if sys.maxsize > 2**32 else 32,
})
"""  # without an import: that would take longer than all the rest


def find_interpreters() -> list[Interpreter]:
    """CPython 3.9 and later, one for each minor version (the newest of it), newest first.

    Free-threaded builds are left out: the zygote relies on a process with one thread.
    """
    executables = sorted({os.path.realpath(path) for path in _candidates()})
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = [interpreter for interpreter in pool.map(_ask, executables) if interpreter is not None]
    found.sort(key=lambda interpreter: _parse(interpreter.version))
    newest_of_minor = {interpreter.minor_version: interpreter for interpreter in found}
    return list(reversed(newest_of_minor.values()))


def _candidates() -> Iterator[Path]:
    home = Path.home()
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    places = [(uv, "cpython-*/bin/python3"), (pyenv, "versions/*/bin/python3")]
    places += [(Path(directory), "python3.*[0-9]") for directory in ("/usr/bin", "/usr/local/bin")]
    for directory, pattern in places:
        yield from _matches(directory, pattern)
    yield Path(getattr(sys, "_base_executable", sys.executable))


def _matches(directory: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in directory.glob(pattern) if os.access(path, os.X_OK)]
    except OSError:
        return []  # somebody else's home, or none


def _ask(executable: str) -> Interpreter | None:
    """What an executable says of itself; None where it is nothing that we run."""
    try:
        answer = subprocess.run(
            [executable, "-I", "-S", "-c", _QUESTION],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True, env={}, text=True,
        ).stdout  # fmt: skip
        facts = ast.literal_eval(answer)
        is_wanted = facts["implementation"] == "cpython" and facts["final"] and facts["bits"] == 64
        if not is_wanted or facts["free_threaded"] or _parse(facts["version"])[:2] < OLDEST:
            return None
        return Interpreter(version=facts["version"], executable=executable, prefix=os.path.realpath(facts["prefix"]))
    except (
        OSError,
        subprocess.SubprocessError,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        MemoryError,
    ):
        return None  # broken, or nothing that we know


def _parse(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
