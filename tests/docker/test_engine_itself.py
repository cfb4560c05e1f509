"""The engine of the tests, and its images: do they do what the other tests take for granted?"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import IMAGES, Engine, has_gvisor
from tests.support.machine import engine_or_skip

USES = "import ctypes, hashlib, sqlite3, ssl, subprocess, sys, zoneinfo; zoneinfo.ZoneInfo('Pacific/Chatham'); " \
    "print(*sys.version_info[:2], subprocess.check_output(['sh', '-c', 'echo shell'], text=True).strip())"  # fmt: skip


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """One that a test may harm."""
    with engine_or_skip() as made:
        made.load("trapping:latest")
        yield made


def run(engine: Engine, *arguments: str) -> str:
    """What a container prints that has no network."""
    return engine.run_cli("run", "--rm", "--network=none", *arguments, seconds=30).strip()


def test_all_images_are_there(engine: Engine) -> None:
    there = engine.run_cli("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert sorted(there) == sorted(IMAGES)


@pytest.mark.parametrize("command", ["python", "python3"])
@pytest.mark.parametrize("version", ["3.9", "3.11", "3.13"])
def test_a_python_image_has_the_standard_library(engine: Engine, version: str, command: str) -> None:
    answer = run(engine, "--user=1000:1000", "--read-only", f"python:{version}-slim", command, "-c", USES)
    assert answer == f"{version.replace('.', ' ')} shell"


def test_an_image_without_python_has_a_shell(engine: Engine) -> None:
    assert run(engine, "without-python:latest", "sh", "-c", "command -v python python3 || echo none") == "none"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("broken-python:latest", "broken on purpose"),
        ("broken-python:library", "Fatal Python error"),
        ("empty:latest", "executable file not found"),
    ],
)
def test_an_image_without_a_python_that_works_says_so(engine: Engine, image: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        run(engine, image, "python3", "-c", "pass")


@pytest.mark.parametrize("image", ["broken-python:hangs", "broken-python:talks", "trapping:latest"])
def test_what_never_ends_does_not(engine: Engine, image: str) -> None:
    container = engine.run_cli("run", "--detach", "--network=none", image, "python3", "-c", "pass").strip()
    engine.run_cli("kill", "--signal=TERM", container)
    with pytest.raises(subprocess.TimeoutExpired):
        engine.run_cli("wait", container, seconds=0.5)
    engine.run_cli("rm", "--force", container)


def test_a_user_environment_and_directory_of_the_image_hold(engine: Engine) -> None:
    code = "import getpass, os; print(getpass.getuser(), os.getuid(), os.environ['COLOUR'], os.getcwd())"
    assert run(engine, "with-user:latest", "python3", "-c", code) == "app 2000 green /srv/app"


@pytest.mark.needs("gvisor")
def test_the_second_runtime_runs_python_on_another_kernel(engine: Engine) -> None:
    code = "import platform; print(platform.release())"
    assert (
        run(engine, "--runtime=runsc", "python:3.11-slim", "python", "-c", code)
        != Path("/proc/sys/kernel/osrelease").read_text().strip()
    )


@pytest.mark.parametrize("runtime", ["runc", pytest.param("runsc", marks=pytest.mark.needs("gvisor"))])
def test_memory_is_limited(engine: Engine, runtime: str) -> None:
    limits = (f"--runtime={runtime}", "--memory=64m", "--memory-swap=64m")
    with pytest.raises(RuntimeError, match="137"):
        run(engine, *limits, "python:3.11-slim", "python", "-c", "bytearray(200 << 20)")


def test_a_container_outlives_a_killed_engine_but_not_a_stopped_one(own_engine: Engine) -> None:
    container = own_engine.run_cli("run", "--detach", "--network=none", "trapping:latest").strip()
    pid = own_engine.run_cli("inspect", "--format={{.State.Pid}}", container).strip()
    own_engine.kill()
    assert b"entrypoint" in Path(f"/proc/{pid}/cmdline").read_bytes()
    with pytest.raises(RuntimeError):
        own_engine.run_cli("ps")
    own_engine.stop()
    assert own_engine._processes() == set()
    own_engine.start()
    assert "Exited" in own_engine.run_cli("ps", "--all")


def test_a_closed_engine_leaves_nothing(own_engine: Engine) -> None:
    for runtime in ("runc", "runsc") if has_gvisor() else ("runc",):
        own_engine.run_cli("run", "--detach", "--network=none", f"--runtime={runtime}", "trapping:latest")
    own_engine.stop()
    assert not own_engine._processes()
    assert str(own_engine.directory) not in Path("/proc/mounts").read_text()
    assert not [*Path("/sys/fs/cgroup").glob(f"*/{own_engine._group}"), *Path("/sys/fs/cgroup").glob(own_engine._group)]


def test_one_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no-such-option"), Engine({"no-such-option": 1}):
        pass
