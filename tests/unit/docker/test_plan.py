"""What the engine is asked for: all that it has to hold code in, and nothing that a request or an image chose."""

from __future__ import annotations

import json
import marshal
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from python_executor.model.spec import MEBIBYTE, Limits
from python_executor.sandboxes.docker.plan import (
    GUEST_BYTES,
    KERNEL_BYTES,
    ROOT_CAPABILITIES,
    Image,
    Kind,
    Terms,
    alike,
    container,
    guest_files,
)

LIMITS = Limits(timeout_seconds=10, memory_mb=512, disk_mb=256, cpu_shares=2048, cpus=1.5)
IMAGE = Image("python:3.11-slim", "sha256:abc", "")
TERMS = Terms({"python-executor.owner": "me"}, (IPv4Address("10.0.2.3"),), '{"defaultAction": "SCMP_ACT_ERRNO"}')


def body(kind: Kind | None = None, terms: Terms = TERMS) -> dict[str, Any]:
    return container(kind or Kind(IMAGE, "runc", alike(LIMITS)), "python3", terms)


def host(kind: Kind | None = None) -> dict[str, Any]:
    config: dict[str, Any] = body(kind)["HostConfig"]
    return config


def test_nothing_of_the_hosts_is_given() -> None:
    config = host()
    assert "Binds" not in config
    assert "Devices" not in config
    assert "Mounts" not in config
    assert config["Privileged"] is False
    assert config["NetworkMode"] == "none"
    assert not {name for name in config if name.endswith("Mode") and config[name] == "host"}


def test_every_right_that_can_be_taken_is_taken() -> None:
    config = host()
    assert config["CapDrop"] == ["ALL"]
    assert config["CapAdd"] == []
    assert config["ReadonlyRootfs"] is True
    assert config["SecurityOpt"][0] == "no-new-privileges"
    profile = json.loads(config["SecurityOpt"][1].removeprefix("seccomp="))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"


def test_limits_are_the_kernels() -> None:
    config = host()
    assert config["Memory"] == config["MemorySwap"] == 512 * MEBIBYTE + GUEST_BYTES
    assert (config["PidsLimit"], config["CpuShares"], config["NanoCpus"]) == (256, 2048, 1_500_000_000)
    assert {each["Name"]: each["Hard"] for each in config["Ulimits"]} == {"nofile": 1024, "core": 0}


def test_a_kernel_of_its_own_is_not_taken_from_the_codes_memory() -> None:
    assert host(Kind(IMAGE, "runsc", LIMITS))["Memory"] == 512 * MEBIBYTE + GUEST_BYTES + KERNEL_BYTES


@pytest.mark.parametrize("limits", [LIMITS, Limits(1, 1024, 2048, 1024), Limits(1, 16, 2048, 1024)])
def test_file_systems_together_take_what_the_limits_leave_to_files(limits: Limits) -> None:
    config = host(Kind(IMAGE, "runc", limits))
    sizes = [int(options.partition("size=")[2].partition(",")[0]) for options in config["Tmpfs"].values()]
    assert sum(sizes) + config["ShmSize"] == limits.file_system_bytes
    assert all("nosuid" in options and "nr_inodes=" in options for options in config["Tmpfs"].values())


@pytest.mark.parametrize(
    ("user", "becomes"),
    [
        ("", "1000:1000"),
        ("root", "1000:1000"),
        ("0", "1000:1000"),
        ("00:5", "1000:1000"),
        ("root:root", "1000:1000"),
        ("+0", "1000:1000"),
        ("-0", "1000:1000"),
        ("app:root", "1000:1000"),
        ("app", "app"),
        ("2000", "2000:2000"),
        ("2000:0", "2000:2000"),
        ("2000:3000", "2000:3000"),
    ],
)
def test_the_user_is_the_images_own_unless_that_is_root(user: str, becomes: str) -> None:
    assert body(Kind(replace(IMAGE, user=user), "runc", LIMITS))["User"] == becomes


def test_what_the_image_says_of_how_it_is_run_is_not_asked() -> None:
    made = body(Kind(replace(IMAGE, volumes=("/data/", "/work/", "/tmp", "/work/inside")), "runc", LIMITS))
    assert made["Entrypoint"][0] == "python3"
    assert made["Cmd"] == []
    assert made["Healthcheck"] == {"Test": ["NONE"]}
    assert made["HostConfig"]["Tmpfs"]["/data"].startswith("ro,")
    assert made["HostConfig"]["Tmpfs"]["/work"].startswith("rw,")
    assert made["HostConfig"]["Tmpfs"].keys() == {"/data", "/work", "/tmp", "/guest"}


def test_root_is_for_commands_alone_and_has_no_more_than_they_need() -> None:
    made = body(Kind(IMAGE, "runc", LIMITS, as_root=True))
    assert made["User"] == "0:0"
    assert made["HostConfig"]["CapDrop"] == ["ALL"]
    assert made["HostConfig"]["CapAdd"] == list(ROOT_CAPABILITIES)
    assert made["HostConfig"]["ReadonlyRootfs"] is False
    assert "uid=1000" in made["HostConfig"]["Tmpfs"]["/work"]
    assert "SYS_ADMIN" not in ROOT_CAPABILITIES


@pytest.mark.parametrize(("runtime", "own"), [("runc", False), ("nvidia", False), ("runsc-kvm", True), ("kata", True)])
def test_a_runtime_that_is_not_known_for_it_has_no_kernel_of_its_own(runtime: str, own: bool) -> None:
    assert Kind(IMAGE, runtime, LIMITS).has_own_kernel is own


def test_containers_that_differ_in_time_alone_stand_in_for_each_other() -> None:
    assert alike(LIMITS) == alike(replace(LIMITS, timeout_seconds=3000, cpu_seconds=0.5))
    assert alike(LIMITS) != alike(replace(LIMITS, memory_mb=513))


def test_the_guest_is_whole_and_its_length_is_told() -> None:
    sources = marshal.loads(guest_files())
    assert {"container.py", "intake.py", "runner.py", "frames.py"} <= sources.keys()
    assert body()["Entrypoint"][-1] == str(len(guest_files()))
