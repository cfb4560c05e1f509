"""Any image: what runs in it, what is said of one that runs nothing, where it comes from, and what its name may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from python_executor.model.egress import EgressPolicy
from python_executor.model.errors import ImageFailed
from python_executor.model.spec import ExecutionSpec, FileTree, Limits
from python_executor.sandboxes.docker import sandbox
from python_executor.sandboxes.docker.backend import DockerBackend
from tests.support.api import assert_error
from tests.support.engine import IMAGES, Engine, Unpacked, tarball

from .registry import Registry, silence
from .serving import (
    ITS_IMAGES,
    OWNER_LABEL,
    WELL,
    WHERE_AND_SLEEP,
    Served,
    container_of,
    ending,
    eventually,
    inspect,
    serving,
)

BOUND = 10.0  # seconds within which whoever named an image that is no good knows it


@pytest.fixture
def registry() -> Iterator[Registry]:
    image = IMAGES["python:3.11-slim"]
    assert isinstance(image, Unpacked)
    made = Registry(tarball(image))
    yield made
    made.close()


def failure(served: Served, image: str) -> str:
    """What is said to whoever names an image that is no good."""
    start = time.monotonic()
    result = served.api.run("print('REACHED')", docker_image=image)
    assert time.monotonic() - start < BOUND
    assert ending(result) == ITS_IMAGES
    assert (result["stdout"], result["stderr"], result["python"]) == ("", "", None)
    assert f"docker_image {image}" in result["error"]
    return result["error"]


# --- what is in it ---


@pytest.mark.parametrize("version", ["3.9", "3.11", "3.13"])
def test_an_image_runs_with_its_own_python_and_the_result_tells_which(containers: Served, version: str) -> None:
    result = containers.api.run("import sys\nprint(sys.version.split()[0])", docker_image=f"python:{version}-slim")
    assert ending(result) == WELL, result
    assert result["stdout"].startswith(f"{version}.")
    assert (result["stdout"].strip(), result["backend"]) == (result["python"], "docker")


def test_an_entrypoint_that_traps_signals_is_never_run(containers: Served) -> None:
    assert containers.api.run("print(1)", docker_image="trapping:latest")["stdout"] == "1\n"


def test_an_image_with_a_user_runs_as_that_user_in_work(containers: Served) -> None:
    code = """
import os
open("file", "w").close()
print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd(), os.environ["HOME"], os.environ["COLOUR"])
print(os.stat("file").st_uid, os.stat("main.py").st_uid)
"""
    result = containers.api.run(code, docker_image="with-user:latest")
    assert result["stdout"] == "(2000, 2000, 2000) (2000, 2000, 2000) [2000] /work /work green\n2000 2000\n", result


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("without-python:latest", "has no Python"),
        ("empty:latest", "has no Python"),
        ("broken-python:latest", "broken on purpose"),
        ("broken-python:library", "its Python does not start"),
        ("broken-python:talks", "says what no Python would"),
    ],
)
def test_an_image_without_a_python_that_works_is_named_with_what_it_lacks(
    containers: Served, image: str, why: str
) -> None:
    assert why in failure(containers, image)


# --- where it comes from ---


def test_an_image_that_is_nowhere_is_named(containers: Served, registry: Registry) -> None:
    registry.digest = "sha256:none"  # which it has not
    assert "can't be had" in failure(containers, f"{registry.address}/no/such:image")


def test_a_registry_that_is_down_is_told_with_the_image(containers: Served) -> None:
    assert "can't be had" in failure(containers, "127.0.0.1:1/x")


def test_a_registry_that_never_answers_is_given_up_after_the_time_for_pulling(engine: Engine, tmp_path: Path) -> None:
    with serving(engine, tmp_path, image_pull_timeout=2) as served, silence() as address:
        start = time.monotonic()
        assert "2 s of pulling" in failure(served, f"{address}/x")
        assert 2 <= time.monotonic() - start < BOUND


def test_a_pull_can_be_killed(containers: Served) -> None:
    with silence() as address:
        execution_id = containers.api.submit("", docker_image=f"{address}/x")
        progress = eventually(lambda: containers.api.look(execution_id)["preparing"])
        assert progress == {"stage": "pulling", "what": f"{address}/x", "done_bytes": 0, "total_bytes": None}
        assert containers.api.kill(execution_id) == "killed"


def test_an_image_is_pulled_once_for_all_who_ask_and_each_is_told_how_far_it_is(
    containers: Served, registry: Registry
) -> None:
    name = f"{registry.address}/some/python:tag"
    try:
        asked = [containers.api.submit("print(1)", docker_image=name) for _ in range(3)]
        progress = eventually(lambda: _progress(containers, asked))
        assert progress, registry.requests
        for each in progress:
            assert (each["stage"], each["what"]) == ("pulling", name)
            assert 0 < each["done_bytes"] <= each["total_bytes"]
        for execution_id in asked:
            assert containers.api.finished(execution_id)["stdout"] == "1\n"
        assert sum("/blobs/" in path for path in registry.requests) == 2  # its configuration and its layer
        digested = f"{registry.address}/some/python@{registry.digest}"
        assert containers.api.run("print(2)", docker_image=digested)["stdout"] == "2\n"
        other = f"{registry.address}/some/python@sha256:{'0' * 64}"
        assert "can't be had" in failure(containers, other)
        registry.close()
        assert containers.api.run("print(3)", docker_image=name)["stdout"] == "3\n"
    finally:
        assert eventually(lambda: _removed(containers.engine, f"{registry.address}/some/python"))


def _removed(engine: Engine, repository: str) -> bool:
    """Whether its images are gone, and the containers that hold them: the server removes some of those itself."""
    images = set(engine.run_cli("images", "--quiet", repository).split())
    for image in images:
        with suppress(RuntimeError):  # somebody else is at it
            waiting = engine.run_cli("ps", "--all", "--quiet", f"--filter=ancestor={image}").split()
            if waiting:
                engine.run_cli("rm", "--force", *waiting)
            engine.run_cli("rmi", "--force", image)
    return not images


def _progress(served: Served, asked: list[str]) -> list[dict[str, Any]]:
    """Of all of them, once each has some."""
    found = [served.api.look(execution_id)["preparing"] for execution_id in asked]
    return found if all(each and each["total_bytes"] and each["done_bytes"] for each in found) else []


def test_an_image_that_is_deleted_and_comes_back_is_followed(containers: Served) -> None:
    name = "127.0.0.1:1/coming-and-going:1"
    for _ in range(2):
        containers.engine.run_cli("tag", "python:3.11-slim", name)
        assert containers.api.run("print(1)", docker_image=name)["stdout"] == "1\n"
        containers.engine.run_cli("rmi", name)
        time.sleep(0.2)  # in which the engine tells of it
        assert "can't be had" in failure(containers, name)


def test_a_name_that_comes_to_mean_another_image_is_followed(containers: Served) -> None:
    name = "127.0.0.1:1/moving:1"
    for version in ("3.9", "3.13", "3.9"):
        containers.engine.run_cli("tag", f"python:{version}-slim", name)
        time.sleep(0.2)  # in which the engine tells of it
        assert containers.api.run("pass", docker_image=name)["python"].startswith(f"{version}.")
    containers.engine.run_cli("rmi", name)


def test_an_image_that_the_operator_does_not_allow_is_refused(engine: Engine, tmp_path: Path) -> None:
    with serving(engine, tmp_path, image_allow="python:3.1*,trapping") as served:
        for allowed in ("python:3.11-slim", "docker.io/library/python:3.13-slim", "trapping:latest"):
            assert ending(served.api.run("", docker_image=allowed)) == WELL
        for refused in ("python:3.9-slim", "with-user:latest", "127.0.0.1:1/python:3.11-slim"):
            answer = served.api.post_exec({"main.py": ""}, {"docker_image": refused})
            assert_error(answer, 400, "no_backend_for_image", "IMAGE_ALLOW")


# --- what a request may say ---

NO_REFERENCES = (
    "--privileged", "-v/:/host", "python:3.11-slim --privileged", "python:3.11-slim\n--privileged", "Python",
    "../python", "python:", ":3.11", "python@sha256:0", "python:3.11-slim@", "/", "https://example.org/python", "a" * 300,
    "0" * 64, "python:3.11-slim\x00", "@", "{{.Id}}", "$(id)", "..",
)  # fmt: skip


@pytest.mark.parametrize("name", NO_REFERENCES, ids=repr)
def test_a_name_that_is_none_never_reaches_the_engine(containers: Served, name: str) -> None:
    answer = containers.api.post_exec({"main.py": ""}, {"docker_image": name})
    assert_error(answer, 400, "invalid_request")


@pytest.mark.parametrize("name", ["--privileged", "runsc", "runc", "io.containerd.runc.v2", "/bin/sh", "runc\x00"])
def test_a_runtime_that_the_operator_does_not_allow_is_refused(containers: Served, name: str) -> None:
    assert_error(containers.api.post_exec({"main.py": ""}, {"runtime": name}), 400, "invalid_request", "runtime")
    assert_error(containers.api.post_eval({"code": "1", "runtime": name}), 400, "invalid_request", "runtime")


WISHES = ["--privileged", "--cap-add=ALL", "--network=host", "-v=/:/host", "--security-opt=seccomp=unconfined"]
MORE_WISHES = {
    "Privileged": True,
    "HostConfig": {"Privileged": True, "Binds": ["/:/host"]},
    "user": "0",
    "privileged": True,
    "binds": ["/:/host"],
    "cap_add": ["ALL"],
}


def test_a_user_who_is_root_by_another_name_runs_nothing(containers: Served) -> None:
    result = containers.api.run("print(1)", docker_image="with-toor:latest")
    assert (result["status"], result["termination"], result["stdout"]) == ("failed", "image", "")
    assert "toor is root" in result["error"]


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"script_args": WISHES},
        {"env_vars": [f"{wish.partition('=')[0]}={wish}" for wish in WISHES]},
        {"pre_commands": [f"true {' '.join(WISHES)}"]},
        {"entrypoint": "--privileged"},
        {"stdin": "\n".join(WISHES)},
        MORE_WISHES,
        {"config": MORE_WISHES},
    ],
    ids=lambda wishes: ",".join(wishes) or "nothing",
)
def test_nothing_that_a_request_says_loosens_its_container(containers: Served, wishes: dict[str, Any]) -> None:
    execution_id, container = container_of(containers, also={"--privileged": WHERE_AND_SLEEP}, **wishes)
    found = inspect(containers.engine, container)
    containers.api.kill(execution_id)
    assert_confined(found)


def assert_confined(found: dict[str, Any]) -> None:
    """Whether the engine has been told to hold this container in all the ways that there are."""
    host = found["HostConfig"]
    assert found["Config"]["User"] == "1000:1000"
    nothing = ("Binds", "VolumesFrom", "CapAdd", "Devices", "DeviceCgroupRules", "GroupAdd", "PortBindings", "Links",
               "ExtraHosts", "DeviceRequests", "Mounts")  # fmt: skip
    assert {name: host.get(name) for name in nothing if host.get(name)} == {}
    assert found["Mounts"] == []
    assert (host["Sysctls"] or {}).keys() <= {"net.ipv6.conf.lo.disable_ipv6"}
    assert host["Privileged"] is False
    assert host["PublishAllPorts"] is False
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["NetworkMode"] == "none"
    assert (host["IpcMode"], host["CgroupnsMode"]) == ("private", "private")
    assert (host["PidMode"], host["UTSMode"], host["UsernsMode"]) == ("", "", "")
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith('seccomp={"defaultAction":"SCMP_ACT_ERRNO"') for option in host["SecurityOpt"])
    assert not any("unconfined" in option for option in host["SecurityOpt"])
    assert 0 < host["Memory"] == host["MemorySwap"]
    assert host["PidsLimit"] == 256
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(host["MaskedPaths"])
    assert "/proc/sys" in host["ReadonlyPaths"]
    assert set(host["Tmpfs"]) == {"/work", "/tmp", "/guest"}
    assert all("size=" in options and "nosuid" in options for options in host["Tmpfs"].values())


def test_a_python_that_hangs_is_given_up_with_its_container(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "ALIVE_TIMEOUT", 0.5)  # 30 s are long for a test
    limits = Limits(10, 256, 128, 1024)
    spec = ExecutionSpec(FileTree((), b""), "main.py", "", limits, image="broken-python:hangs")

    async def acquire() -> None:
        backend = DockerBackend(
            str(engine.socket), owner="in-process", is_only=True, default_limits=limits, pool_max=0, pull_timeout=5,
            egress=EgressPolicy((), ()), root_commands=False, insecure_allow=frozenset(),
            profile=Path("seccomp.json"), is_required=True,
        )  # fmt: skip
        await backend.start()
        try:
            with pytest.raises(ImageFailed, match=r"broken-python:hangs.*not up after 0\.5 s"):
                await backend.prepare(spec, lambda _: None)
        finally:
            await backend.close()

    asyncio.run(acquire())
    assert not engine.run_cli("ps", "--all", "--quiet", f"--filter=label={OWNER_LABEL}=in-process")
