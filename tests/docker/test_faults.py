"""The engine fails, in every way that one does: executions end with whose doing it was, and the server goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import assert_error
from tests.support.engine import Engine
from tests.support.machine import engine_or_skip
from tests.support.server import ServerProcess

from .serving import (
    ITS_IMAGES,
    OURS,
    OWNER_LABEL,
    WELL,
    Served,
    container_of,
    ending,
    eventually,
    inspect,
    long,
    our_containers,
    serving,
)

IMAGE = "python:3.11-slim"
NOWHERE = "127.0.0.1:1"  # a registry that refuses connections
RECOVERY = 5.0  # seconds, in which a server is to find its engine again


@pytest.fixture(scope="module")
def own_engine() -> Iterator[Engine]:
    """One for the faults of this module."""
    with engine_or_skip() as made:
        made.load(IMAGE)
        yield made
        assert not our_containers(made)


@pytest.fixture(scope="module")
def harmed(own_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that lives through all of them."""
    with serving(own_engine, tmp_path_factory.mktemp("server"), backend="auto") as served:
        yield served


@pytest.fixture
def served(harmed: Served) -> Iterator[Served]:
    """The server, which runs code in images before the test and after it, on this machine too, and answers."""
    assert ending(run(harmed)) == WELL
    yield harmed
    assert_lives(harmed)
    assert eventually(lambda: can_run(harmed), RECOVERY), run(harmed)


def run(served: Served, code: str = "print(1)", **metadata: Any) -> dict[str, Any]:
    """Run code in an image; auto takes its name for an interpreter's, so it is given in full."""
    return served.api.run(code, **{"docker_image": f"docker.io/library/{IMAGE}", **metadata})


def can_run(served: Served) -> bool:
    """Whether an image runs there now, wherever the next second finds us."""
    answer = served.api.post_exec({"main.py": "print(1)"}, {"docker_image": f"docker.io/library/{IMAGE}"})
    return answer.status_code == 200 and ending(answer.json()) == WELL


def assert_lives(served: Served) -> None:
    """Whether it answers, and runs what takes no engine."""
    assert served.api.get("/health").json() == {"status": "ok"}
    native = served.api.eval("print(2)")
    assert (native["backend"], native["stdout"]) == ("native", "2\n")


def begin(served: Served) -> tuple[str, str]:
    return container_of(served, docker_image=f"docker.io/library/{IMAGE}")


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_an_engine_that_goes_in_mid_run_ends_it_as_our_failure_and_is_found_again(served: Served, fault: str) -> None:
    execution_id, container = begin(served)
    served.engine.stop() if fault == "stopped" else served.engine.kill()
    result = served.api.finished(execution_id, 5)
    assert ending(result) == OURS
    assert result["stdout"].endswith("up\n")
    assert_lives(served)
    assert_error(
        served.api.post_exec({"main.py": ""}, {"docker_image": f"docker.io/library/{IMAGE}"}), 503, "unavailable"
    )
    served.engine.start()
    assert eventually(lambda: can_run(served), RECOVERY)
    assert eventually(lambda: container not in our_containers(served.engine)), "its container is left"


def test_ready_tells_whether_the_engine_is_there(served: Served) -> None:
    def unavailable() -> str | None:
        return served.api.get("/health/ready").json()["engine"]["unavailable"]

    assert unavailable() is None
    served.engine.stop()
    assert eventually(unavailable)
    served.engine.start()
    assert eventually(lambda: unavailable() is None)


def test_a_container_that_somebody_removes_in_mid_run_ends_it_as_our_failure(served: Served) -> None:
    execution_id, container = begin(served)
    served.engine.run_cli("rm", "--force", container)
    assert ending(served.api.finished(execution_id, 5)) == OURS


def test_a_container_that_somebody_kills_in_mid_run_ends_it_as_our_failure(served: Served) -> None:
    execution_id, container = begin(served)
    served.engine.run_cli("kill", container)
    assert ending(served.api.finished(execution_id, 5)) == OURS


def test_a_process_1_that_somebody_kills_ends_it_as_our_failure(served: Served) -> None:
    execution_id, container = begin(served)
    os.kill(inspect(served.engine, container)["State"]["Pid"], signal.SIGKILL)
    assert ending(served.api.finished(execution_id, 5)) == OURS


def at_rest(engine: Engine) -> list[str]:
    """Wait until what the last run left is gone and what waits for the next is up; return that."""
    seen: list[list[str]] = []
    for _ in range(40):
        seen.append(sorted(our_containers(engine)))
        if len(seen) > 4 and seen[-1] and all(each == seen[-1] for each in seen[-5:]):
            return seen[-1]
        time.sleep(0.5)
    raise AssertionError(f"containers come and go: {seen[-5:]}")


def test_waiting_containers_that_somebody_removes_are_not_used(served: Served) -> None:
    waiting = at_rest(served.engine)
    served.engine.run_cli("rm", "--force", *waiting)
    result = run(served)
    assert ending(result) == WELL, result["error"]


def test_an_image_that_is_deleted_in_mid_run_takes_nothing_from_the_run_and_is_named_by_the_next(
    served: Served,
) -> None:
    name = f"{NOWHERE}/deleted:1"
    served.engine.run_cli("tag", IMAGE, name)
    execution_id = served.begin("import time\nprint('up', flush=True)\ntime.sleep(1)\nprint('done')", docker_image=name)
    served.engine.run_cli("rmi", "--force", name)
    assert served.api.finished(execution_id)["stdout"] == "up\ndone\n"
    result = eventually(lambda: (found := run(served, docker_image=name))["status"] == "failed" and found, 2)
    assert result and ending(result) == ITS_IMAGES
    assert name in result["error"]


def test_a_process_1_that_is_killed_for_memory_ends_the_run_as_out_of_memory(served: Served) -> None:
    victim = """
with open("/proc/1/oom_score_adj", "w") as file: file.write("1000")
print("up", flush=True)
try:
    with open("/work/file", "wb") as file:
        while True: file.write(bytes(1 << 20))
except OSError: pass
kept = []
while True: kept.append(bytearray(b"x" * (1 << 20)))
"""
    result = run(served, victim, config={"memory_mb": 64})
    assert ending(result) == ("completed", "memory", 137)
    assert result["stdout"] == "up\n"


def test_an_engine_that_is_not_there_at_the_start_is_used_once_it_is(own_engine: Engine, tmp_path: Path) -> None:
    own_engine.stop()
    try:
        with serving(own_engine, tmp_path, backend="auto") as served:
            metadata = {"docker_image": f"docker.io/library/{IMAGE}"}
            response = served.api.post_exec({"main.py": ""}, metadata)
            assert_error(response, 400, "no_backend_for_image", "docker.io")
            assert_lives(served)
            own_engine.start()
            assert eventually(lambda: can_run(served), RECOVERY)
    finally:
        if own_engine.pid is None:
            own_engine.start()


def test_a_server_for_containers_alone_does_not_start_without_an_engine(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path, backend="docker", docker_socket=str(tmp_path / "no.sock"))
    with pytest.raises(AssertionError, match="install Docker"):
        process.start()


# --- a disk that is full ---


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A directory with some room for an engine; its sockets take a short path."""
    path = Path(tempfile.mkdtemp(prefix="disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)
    path.rmdir()


def test_a_full_disk_of_the_engines_fails_runs_as_ours_until_there_is_room_again(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with engine_or_skip(small_disk / "engine") as engine:
        engine.load(IMAGE)
        with serving(engine, tmp_path_factory.mktemp("server"), backend="auto", container_pool_max=0) as served:
            assert ending(run(served)) == WELL
            execution_id, _ = begin(served)
            fill(small_disk / "filler")
            failed = run(served)
            assert ending(failed) == OURS
            assert served.api.kill(execution_id) == "killed"
            assert_lives(served)
            (small_disk / "filler").unlink()
            assert eventually(lambda: can_run(served), RECOVERY), run(served)
        assert not our_containers(engine)


def fill(path: Path) -> None:
    """Leave no byte and no inode-worth of room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


# --- a server that is killed ---


def test_containers_of_a_killed_server_end_by_themselves_and_the_next_one_removes_its_own_alone(
    harmed: Served, own_engine: Engine, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"backend": "docker", "docker_socket": str(own_engine.socket), "shutdown_grace": 0.1}
    first = ServerProcess(tmp_path, **settings)
    first.start()
    try:
        execution_id, container = container_of(Served(own_engine, first))
        neighbours_id, neighbours = begin(harmed)
    finally:
        first.signal(signal.SIGKILL)
        first.wait()
    assert eventually(lambda: not inspect(own_engine, container)["State"]["Running"], 5)
    strangers = [
        own_engine.run_cli("create", *label, IMAGE).strip() for label in ([], [f"--label={OWNER_LABEL}=somebody-else"])
    ]
    try:
        with serving(own_engine, tmp_path, **settings) as second:
            assert ending(second.api.look(execution_id)) == ("failed", "lost", 125)
            there = own_engine.run_cli("ps", "--all", "--quiet", "--no-trunc").split()
            assert container not in there
            assert {neighbours, *strangers} <= set(there)
            assert harmed.api.look(neighbours_id)["status"] == "running"
            assert second.api.eval("print(1)")["stdout"] == "1\n"
            container_of(second)
        owner = (tmp_path / "data" / "owner").read_text()
        assert not own_engine.run_cli("ps", "--all", "--quiet", f"--filter=label={OWNER_LABEL}={owner}").split()
    finally:
        own_engine.run_cli("rm", "--force", *strangers)
        harmed.api.kill(neighbours_id)


# --- an engine that neither answers nor goes ---


@long
def test_an_engine_that_answers_nobody_keeps_no_killed_run_for_long(served: Served) -> None:
    execution_id, container = begin(served)
    assert served.engine.pid is not None
    os.kill(served.engine.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        assert served.api.kill(execution_id) == "failed"  # nobody may be told that it was stopped
        assert time.monotonic() - start < 8
        assert ending(served.api.look(execution_id)) == OURS
        assert_lives(served)
        asked = served.api.submit("print(1)", docker_image=f"docker.io/library/{IMAGE}", config={"memory_mb": 99})
        assert served.api.kill(asked) == "killed"
    finally:
        os.kill(served.engine.pid, signal.SIGCONT)
    assert eventually(lambda: container not in our_containers(served.engine)), "its container is left"
