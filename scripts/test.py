"""Runs the checks and the tests in groups, prints the seconds of each, and stops at the first that fails.

`python scripts/test.py [--only GROUP]`, with an interpreter into which both wheels are installed.
As root, the groups that make sandboxes run a second time as an ordinary user, who has no cgroups and just one uid, and
what an API promises a second time in containers, on a Docker Engine of the tests' own. Where that can't be, it says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from python_executor.environments.interpreters import find_interpreters

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.engine import INSTALL  # noqa: E402

PYTHON = Path(sys.executable)
ORDINARY_USER = "65534"  # nobody
TWO_AT_A_TIME = ("--numprocesses", "2")
PYTEST = ("-m", "pytest", "--quiet", "-p", "no:cacheprovider")
GUEST = ROOT / "src/python_executor/guest"


def run(*argv: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in argv], cwd=cwd, env={**os.environ, **(env or {})}, check=True)


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


def ordinary_user() -> None:
    """The same promises for a server without privilege; the copy it sees is mounted where it may look."""
    enter = 'mount --bind . /mnt && cd /mnt && exec setpriv --reuid $0 --regid $0 --clear-groups -- "$@"'
    relative = PYTHON.relative_to(ROOT)
    killed = (
        "tests/end_to_end/test_leftovers.py::test_a_server_that_is_killed_leaves_no_code_running_and_nothing_behind"
    )
    abuse = ("-m", "not twin", "--ignore", "tests/abuse/test_api.py", "tests/abuse")  # what depends on privilege
    packages = ("tests/packages/test_what_works.py", "tests/packages/test_builds.py")
    paths = (*abuse, "tests/sandbox", "tests/api", *packages, killed)
    home = Path("/tmp/python-executor-ordinary-user")
    home.mkdir(exist_ok=True)
    os.chmod(home, 0o777)
    try:
        run("unshare", "--mount", "sh", "-c", enter, ORDINARY_USER, relative, *PYTEST, *paths,
            env={"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    finally:
        shutil.rmtree(home)


def docker() -> None:
    """The same promises in containers, then what is the container engine's alone. Root without dockerd is a failure."""
    live = sorted(f"tests/client/{name}" for name in LIVE)
    options = (*TWO_AT_A_TIME, "--backend", "docker", "-m", "not long")
    run(PYTHON, *PYTEST, *options, "tests/docker", "tests/api", *live)


def client_versions() -> None:
    """The client library's own tests on the oldest Python that it promises and on the newest here."""
    found = {interpreter.minor_version: interpreter for interpreter in find_interpreters()}
    wanted = ["3.9", next(iter(found))]
    wheel = next((ROOT / "dist").glob("python_executor_client-*.whl"))
    for version in wanted:
        if version not in found:
            print(f"  NOT RUN on Python {version}: there is none here. `uv python install {version}` brings it.")
            continue
        venv = PYTHON.parent.parent / f"client-{version}"
        run(found[version].executable, "-m", "venv", "--clear", venv)
        run(venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, "pytest")
        tests = ROOT / "tests/client"
        run(venv / "bin/python", *PYTEST, "--confcutdir", tests, "--rootdir", tests, "-c", ROOT / "pyproject.toml",
            *sorted(str(path) for path in tests.glob("test_*.py") if path.name not in LIVE))  # fmt: skip


LIVE = {"test_live.py", "test_seed_examples.py"}  # need a server, run in the group `client`

GROUPS: dict[str, Callable[[], None]] = {
    "checks": checks,
    "unit": pytest(*TWO_AT_A_TIME, "tests/unit"),
    "sandbox": pytest("tests/sandbox"),
    "api": pytest("tests/api"),
    "packages": pytest(*TWO_AT_A_TIME, "tests/packages"),
    "abuse": pytest("tests/abuse", *(() if os.geteuid() == 0 else ("-m", "not twin"))),
    "fuzz": pytest("tests/fuzz"),
    "client": pytest("tests/client"),
    "client-versions": client_versions,
    "end-to-end": pytest("tests/end_to_end"),
}
if os.geteuid() == 0:
    GROUPS["network"] = pytest("tests/network")
    GROUPS["docker"] = docker
    GROUPS["ordinary-user"] = ordinary_user

NO_DOCKER = f"""
!! NOT RUN: the Docker part. Nothing above has tried code in containers: that takes root, and an engine.
!!          sudo {INSTALL}
!!          sudo {PYTHON} {ROOT}/scripts/test.py --only docker"""

LONG: dict[str, Callable[[], None]] = {  # need root
    "long fuzzing": lambda: run(PYTHON, *PYTEST, "tests/fuzz", env={"FUZZ_EXAMPLES": "10"}),
    "bombs": lambda: run(PYTHON, "scripts/bombs.py"),
    "servers killed in a build": lambda: run(
        PYTHON, *PYTEST, "tests/packages/test_killing.py", env={"KILL_ROUNDS": "30"}
    ),
    "containers, what takes long": lambda: run(PYTHON, *PYTEST, *TWO_AT_A_TIME, "-m", "long", "tests/docker"),
    "packages from the registry": lambda: run(PYTHON, "scripts/packages.py"),
    "mutations": lambda: run(PYTHON, "scripts/check-mutations"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=GROUPS, action="append", help="just this group")
    parser.add_argument("--long", action="store_true", help="what takes longer than a change should wait for")
    options = parser.parse_args()
    groups = LONG if options.long else GROUPS
    chosen = options.only or list(groups)
    seconds: dict[str, float] = {}
    for name in chosen:
        print(f"== {name}", flush=True)
        start = time.monotonic()
        try:
            groups[name]()
        except subprocess.CalledProcessError:
            print(f"== {name} FAILED after {time.monotonic() - start:.0f} s; again: make test GROUP={name}")
            return 1
        seconds[name] = time.monotonic() - start
    print("\nseconds  group")
    for name, spent in {**seconds, "all": sum(seconds.values())}.items():
        print(f"{spent:7.1f}  {name}")
    if "docker" not in groups and not options.long:
        print(NO_DOCKER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
