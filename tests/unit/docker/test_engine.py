"""What an engine says of itself, and which engines are not taken."""

from __future__ import annotations

from typing import Any

import aiodocker
import pytest
from aiodocker.exceptions import DockerStreamError

from python_executor.sandboxes.docker.engine import Connection, EngineError, Lives, _controllers, _describe, _told

DOCKER: dict[str, Any] = {
    "MemoryLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "CgroupVersion": "1",
    "SecurityOptions": ["name=seccomp,profile=default"],
    "DefaultRuntime": "runc",
    "Runtimes": {"runsc": {}, "runc": {}, "io.containerd.runc.v2": {}},
}


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({}, {"memory", "pids", "cpu"}),
        ({"PidsLimit": False}, {"memory", "cpu"}),
        ({"SecurityOptions": ["name=rootless"]}, set()),
        ({"Rootless": True}, set()),
        ({"Rootless": True, "CgroupVersion": "2"}, {"memory", "pids", "cpu"}),
    ],
)
def test_limits_count_only_where_the_engine_has_them(change: dict[str, Any], bound: set[str]) -> None:
    assert _controllers({**DOCKER, **change}) == bound


def test_it_is_shown_with_its_runtimes_the_default_first() -> None:
    engine = _describe("unix:///x", {"Version": "20.10", "Components": [{"Name": "Engine"}]}, DOCKER)
    assert (engine.name, engine.runtimes, engine.unavailable) == ("Docker 20.10", ("runc", "runsc"), None)
    assert _describe("unix:///x", {"Components": [{"Name": "Podman Engine"}]}, {}).name == "Podman ?"


def test_an_engine_that_bounds_nothing_is_refused_by_name_unless_that_is_accepted() -> None:
    def connection(*accepted: str) -> Connection:
        lives = Lives("a", is_only=True)
        return Connection(
            None, lives, insecure_allow=frozenset(accepted), on_oom=lambda _: None, on_images=lambda: None
        )

    with pytest.raises(EngineError, match=r"can't limit the memory and processes .* --insecure-allow memory,processes"):
        connection()._check_bounds("unix:///x")
    with pytest.raises(EngineError, match="can't limit the processes of"):
        connection("memory")._check_bounds("unix:///x")
    connection("memory", "processes")._check_bounds("unix:///x")


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (aiodocker.DockerError(404, "no such image"), 404),
        (aiodocker.DockerError(900, "cannot connect"), 0),
        (DockerStreamError("manifest unknown"), 500),
        (ConnectionResetError("gone"), 0),
    ],
)
def test_an_answer_is_told_from_none_also_where_it_comes_in_the_middle_of_a_pull(
    failure: Exception, status: int
) -> None:
    with pytest.raises(EngineError) as told, _told("it"):
        raise failure
    assert told.value.status == status
