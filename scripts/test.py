"""Runs the checks and the tests in groups, stops at the first that fails, prints minutes and what was not run.

`python scripts/test.py [--only GROUP]`, with an interpreter into which both wheels are installed.
As root, what depends on privilege runs a second time as an ordinary user, who has no cgroups and just one uid. `--long`
runs the rest of it, and what an API promises once more in containers, on a Docker Engine of the tests' own. A test that
needs what this machine lacks is skipped, unless CI_REQUIRES names it: `tests/support/machine.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from python_executor.environments.interpreters import find_interpreters

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import machine  # noqa: E402

PYTHON = Path(sys.executable)
ORDINARY_USER = "65534"  # nobody
WHAT_ROOT_HAS = {"cgroups", "docker", "gvisor", "podman", "root"}  # and it has not
TWO_AT_A_TIME = ("--numprocesses", "2")
TWO_FILES_AT_A_TIME = (*TWO_AT_A_TIME, "--dist", "loadfile")  # whose tests share a server, or a port
PYTEST = ("-m", "pytest", "--quiet", "-p", "no:cacheprovider")
MEASURING = tuple(f"tests/abuse/test_{name}.py" for name in ("loop", "resources_probes", "who_pays"))
GUEST = ROOT / "src/python_executor/guest"
NOT_RUN = os.memfd_create("not-run")  # where each run of pytest writes what it skipped, whoever's it is


class Done(NamedTuple):
    """A group that has ended."""

    name: str
    seconds: float
    not_run: list[tuple[int, str]]  # how many tests, and why


def run(*argv: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    own = {**os.environ, machine.NOT_RUN_FD: str(NOT_RUN), **(env or {})}
    subprocess.run([str(word) for word in argv], cwd=cwd, env=own, pass_fds=[NOT_RUN], check=True)


def tool(*argv: str) -> None:
    run(PYTHON.parent / argv[0], *argv[1:])


def type_check_guest(directory: Path) -> None:
    """Check every module of the guest as the script of a box that it is: each beside the others, in no package."""
    modules = sorted(path.name for path in directory.glob("*.py") if path.name != "__init__.py")
    options = ("--strict", "--explicit-package-bases", "--config-file=", "--no-error-summary", "--cache-dir=/dev/null")
    run(PYTHON.parent / "mypy", *options, *modules, cwd=directory, env={"MYPYPATH": "."})


def checks() -> None:
    """Format, lint, types, floors."""
    tool("ruff", "format", "--check", "--quiet", ".")
    tool("ruff", "check", "--quiet", ".")
    tool("mypy", "--no-error-summary")
    type_check_guest(GUEST)
    tool("lint-imports", "--no-logo")


def pytest(*paths: str) -> Callable[[], None]:
    return lambda: run(PYTHON, *PYTEST, *paths)


def abuse() -> None:
    """Attacks side by side; then those that measure the machine, with nothing beside them."""
    run(
        PYTHON,
        *PYTEST,
        *TWO_FILES_AT_A_TIME,
        "-m",
        "not long",
        "tests/abuse",
        *(f"--ignore={path}" for path in MEASURING),
    )
    run(PYTHON, *PYTEST, "-m", "not long", *MEASURING)


def as_ordinary_user(*options: str) -> None:
    """The same tests for a server without privilege; the copy it sees is mounted where it may look."""
    enter = 'mount --bind . /mnt && cd /mnt && exec setpriv --reuid $0 --regid $0 --clear-groups -- "$@"'
    relative = PYTHON.relative_to(ROOT)
    possible = ",".join(sorted(machine.required() - WHAT_ROOT_HAS))
    home = Path("/tmp/python-executor-ordinary-user")
    home.mkdir(exist_ok=True)
    os.chmod(home, 0o777)
    try:
        run("unshare", "--mount", "sh", "-c", enter, ORDINARY_USER, relative, *PYTEST, *TWO_FILES_AT_A_TIME, *options,
            env={"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1",
                 machine.REQUIRES: possible})  # fmt: skip
    finally:
        shutil.rmtree(home)


def ordinary_user() -> None:
    """What depends on privilege."""
    killed = (
        "tests/end_to_end/test_leftovers.py::test_a_server_that_is_killed_leaves_no_code_running_and_nothing_behind"
    )
    others = ("tests/abuse/test_api.py", WHAT_WORKS, *MEASURING)
    abuse = ("-m", "not twin and not long", *(f"--ignore={path}" for path in others), "tests/abuse")
    api = [path for path in API if path not in SETTLED_BEFORE]
    packages = ("tests/packages/test_what_works.py", "tests/packages/test_builds.py")
    as_ordinary_user(*abuse, "tests/sandbox", *api, *packages, killed)


def in_containers(*options: str) -> None:
    """The same tests where each execution is a container."""
    run(PYTHON, *PYTEST, *TWO_FILES_AT_A_TIME, "--backend", "docker", *options)


def client_versions() -> None:
    """The client library's own tests on the oldest Python that it promises and on the newest here."""
    found = {interpreter.minor_version: interpreter for interpreter in find_interpreters()}
    wanted = ["3.9", next(iter(found))]
    wheel = next((ROOT / "dist").glob("python_executor_client-*.whl"))
    for version in wanted:
        if version not in found:
            reason = (
                f"the client library on Python {version}: there is none here; `uv python install {version}` brings it"
            )
            machine.record_not_run(NOT_RUN, 1, reason)
            continue
        venv = PYTHON.parent.parent / f"client-{version}"
        run(found[version].executable, "-m", "venv", "--clear", venv)
        run(venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, "pytest")
        tests = ROOT / "tests/client"
        run(venv / "bin/python", *PYTEST, "--confcutdir", tests, "--rootdir", tests, "-c", ROOT / "pyproject.toml",
            *sorted(str(path) for path in tests.glob("test_*.py") if path.name not in LIVE))  # fmt: skip


API = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/api/test_*.py"))
SETTLED_BEFORE = [f"tests/api/test_{name}.py" for name in ("archives", "bad_input", "conventions", "public_clients")]
WHAT_WORKS = "tests/sandbox/test_what_works.py"
LIVE = {"test_live.py", "test_seed_examples.py"}  # need a server, run in the group `client`

GROUPS: dict[str, Callable[[], None]] = {
    "checks": checks,
    "unit": pytest(*TWO_AT_A_TIME, "tests/unit"),
    "sandbox": pytest(*TWO_FILES_AT_A_TIME, "tests/sandbox"),
    "plain": pytest(*TWO_AT_A_TIME, "-m", "not long", "tests/plain"),
    "api": pytest(*TWO_FILES_AT_A_TIME, "tests/api"),
    "packages": pytest(*TWO_AT_A_TIME, "-m", "not long", "tests/packages"),
    "abuse": abuse,
    "fuzz": pytest(*TWO_FILES_AT_A_TIME, "tests/fuzz"),
    "client": pytest("tests/client"),
    "client-versions": client_versions,
    "end-to-end": pytest(*TWO_FILES_AT_A_TIME, "-m", "not long", "tests/end_to_end"),
    "network": pytest(*TWO_FILES_AT_A_TIME, "tests/network"),
    "docker": lambda: in_containers("-m", "not long", "tests/docker"),
}
if os.geteuid() == 0:  # else it is what the other groups are
    GROUPS["ordinary-user"] = ordinary_user

LONG: dict[str, Callable[[], None]] = {  # need root
    "long fuzzing": lambda: run(PYTHON, *PYTEST, "tests/fuzz", env={"FUZZ_EXAMPLES": "10"}),
    "bombs": lambda: run(PYTHON, "scripts/bombs.py"),
    "who pays": lambda: run(PYTHON, "benchmarks/who_pays.py"),
    "what takes long": lambda: run(PYTHON, *PYTEST, "-m", "long", "tests/abuse", "tests/packages", "tests/end_to_end"),
    "servers killed in a build": lambda: run(
        PYTHON, *PYTEST, "tests/packages/test_killing.py", env={"KILL_ROUNDS": "30"}
    ),
    "programs, compared with plain Python": pytest(*TWO_AT_A_TIME, "-m", "long", "tests/plain"),
    "ordinary user, the rest": lambda: as_ordinary_user(WHAT_WORKS, *SETTLED_BEFORE),
    "containers, what takes long": lambda: in_containers("-m", "long", "tests/docker"),
    "containers, the API": lambda: in_containers("tests/api", *(f"tests/client/{name}" for name in sorted(LIVE))),
    "packages from the registry": lambda: run(PYTHON, "scripts/packages.py"),
    "mutations": lambda: run(PYTHON, "scripts/check-mutations"),
}


def carry_out(name: str, group: Callable[[], None]) -> tuple[Done, bool]:
    """Run a group; whether all of it went well."""
    print(f"== {name}", flush=True)
    start, before, went_well = time.monotonic(), os.fstat(NOT_RUN).st_size, True
    try:
        group()
    except subprocess.CalledProcessError:
        went_well = False
    told = os.pread(NOT_RUN, os.fstat(NOT_RUN).st_size, before)
    return Done(name, time.monotonic() - start, [json.loads(line) for line in told.splitlines()]), went_well


def show(done: list[Done]) -> None:
    """Print how long each group took and, for nobody to overlook it, what was not run."""
    print("\nminutes  group")
    for name, seconds in [(each.name, each.seconds) for each in done] + [("all", sum(each.seconds for each in done))]:
        print(f"{seconds / 60:7.1f}  {name}")
    if any(each.not_run for each in done):
        print(f"\n!! NOT RUN, for lack of what is named ({machine.REQUIRES} makes it a failure):")
    for each in done:
        for tests, reason in each.not_run:
            print(f"!! {each.name}: {machine.not_run(tests, reason)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=GROUPS, action="append", help="just this group")
    parser.add_argument("--long", action="store_true", help="what takes longer than a change should wait for")
    options = parser.parse_args()
    try:
        machine.required()
    except ValueError as problem:
        parser.error(str(problem))
    groups = LONG if options.long else GROUPS
    done: list[Done] = []
    for name in options.only or list(groups):
        last, went_well = carry_out(name, groups[name])
        done.append(last)
        if not went_well:
            break
    show(done)
    if not went_well:
        print(f"\n== {last.name} FAILED; again: make test GROUP={last.name}")
    return not went_well


if __name__ == "__main__":
    sys.exit(main())
