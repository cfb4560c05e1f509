"""Asks whether this machine has what some tests need and not every machine gives.

`@pytest.mark.needs("network")`, or `need("network")` in a fixture, skips a test where it is not there. The reason is the
one that the product gives: what `python-executor doctor` says. `CI_REQUIRES=network,docker` turns such a skip into a
failure, for a machine that is meant to have both. The end of a run tells what was skipped (`tests/conftest.py`), and so
does the end of `scripts/test.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from python_executor.model.isolation import MAY_BE_WEAKER
from tests.support import engine

REQUIRES = "CI_REQUIRES"  # names of `NEEDS`, between commas
NOT_RUN_FD = "NOT_RUN_FD"  # the number of a descriptor, for lines of JSON: how many tests were not run, and why
DOCTOR_SECONDS = 120


@cache
def lacking(name: str) -> str | None:
    """Return why this machine does not have what is named, with what to do about it; None where it has it."""
    return NEEDS[name]()


def need(*names: str) -> None:
    """Skip the test, or fail it if `CI_REQUIRES` has the name, unless this machine has everything that is named."""
    for name in names:
        if reason := lacking(name):
            give_up(name, reason)


def give_up(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail it, for lack of what is named."""
    if name in required():
        pytest.fail(f"{REQUIRES} has {name}, and this machine has not: {reason}", pytrace=False)
    pytest.skip(f"{name}: {reason}")


@contextmanager
def engine_or_skip(directory: Path | None = None) -> Iterator[engine.Engine]:
    """Start a Docker Engine, in this directory if one is given; skip the test where none can start."""
    need("docker")
    made = engine.Engine(directory=directory)
    try:
        made.start()
    except RuntimeError as problem:
        made.close()
        give_up("docker", str(problem))
    try:
        yield made
    finally:
        made.close()


def required() -> frozenset[str]:
    """Return the names in `CI_REQUIRES`. Raises ValueError: one of them is not in `NEEDS`."""
    names = frozenset(name.strip() for name in os.environ.get(REQUIRES, "").split(",")) - {""}
    if unknown := sorted(names - NEEDS.keys()):
        raise ValueError(f"{REQUIRES} has {', '.join(unknown)}: it takes {', '.join(sorted(NEEDS))}, between commas")
    return names


def weaker() -> set[str]:
    """Return the boundaries that stand in their weaker form for this user on this machine."""
    uids = set() if os.geteuid() == 0 else {"host-uid"}
    return uids | (MAY_BE_WEAKER - {"host-uid", "host-paths"} if lacking("cgroups") else set())


def not_run(tests: int, reason: str) -> str:
    """Return the line that tells of tests that were not run."""
    return f"{tests:4} {'tests' if tests > 1 else 'test '}  {reason}"


def record_not_run(fd: int, tests: int, reason: str) -> None:
    """Write the same down for `scripts/test.py`."""
    os.write(fd, f"{json.dumps([tests, reason])}\n".encode())


def _network() -> str | None:
    answer: str = _doctor()["network_on_request"]
    return None if answer == "available" else answer


def _cgroups() -> str | None:
    (memory,) = [each for each in _doctor()["boundaries"] if each["name"] == "memory"]
    is_weaker = memory["state"] == "weaker"  # a limit that does not hold at all is a failure of ours
    return f"{memory['seen']}; to mend it, {memory['mend']}" if is_weaker else None


@cache
def _doctor() -> dict[str, Any]:
    """Return the product's own report of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
    done = subprocess.run(
        [sys.executable, "-m", "python_executor", "doctor", "--json"],
        env={**inherited, "PYEXEC_BACKEND": "native"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True, timeout=DOCTOR_SECONDS, check=False,
    )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _root() -> str | None:
    return None if os.geteuid() == 0 else "only root can set up what these tests run in"


def _docker() -> str | None:
    if reason := _root():
        return reason
    if programs := [name for name in engine.PROGRAMS if shutil.which(name) is None]:
        return f"there is no {' and no '.join(programs)} here: {engine.INSTALL}"
    try:
        engine.mirror()
    except (RuntimeError, OSError, subprocess.SubprocessError) as problem:
        return str(problem)
    return None


def _program(program: str, package: str) -> Callable[[], str | None]:
    why = f"there is no {program} here: apt-get install {package}"
    return lambda: None if shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") else why


NEEDS: dict[str, Callable[[], str | None]] = {
    "cgroups": _cgroups,
    "docker": _docker,
    "gvisor": lambda: None if engine.has_gvisor() else f"there is no {engine.RUNSC} here: apt-get install runsc",
    "iproute2": _program("ip", "iproute2"),
    "network": _network,
    "podman": lambda: _root() or _program("podman", "podman runc")(),
    "root": _root,
}
