"""How what was seen of a container is judged: what an engine can't give is weaker, what must hold is missing."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from python_executor.model.events import Exited, Termination, Usage
from python_executor.model.isolation import BY_NAME, State
from python_executor.sandboxes.docker.selftest import MAY_BE_WEAKER_HERE, judge
from python_executor.sandboxes.native.selftest import LIMITS, Seen

CALLS = dict.fromkeys(("unshare", "keyctl", "ptrace", "process_vm_readv", "io_uring_setup"), "EPERM")
INSIDE: dict[str, Any] = {  # as Docker 20.10 showed it
    "ids": [1000] * 6,
    "groups": [],
    "status": {"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"},
    "namespaces": {kind: f"{kind}:[1]" for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts")}
    | {"user": os.readlink("/proc/self/ns/user")},
    "calls": {**CALLS, "clone3": "ENOSYS", "socket AF_ALG": "EAFNOSUPPORT"},
    "priorities": {"real time": "EPERM", "nice": "EACCES", "oom score": "EACCES"},
    "processes": [1, 7],
    "interfaces": ["lo"],
    "reach": "ENETUNREACH",
    "host_name": "sandbox",
    "root": [".dockerenv", "bin", "home"],
    "strays": [],
    "hidden": ["/sys/kernel", "/proc/sys", "/home"],
    "writable": ["/dev", "/sys/fs/cgroup"],
    "mount_kinds": ["overlay overlay", "proc proc", "tmpfs tmpfs"],
    "devices": ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"],
    "terminal": "ENXIO",
    "descriptors": [0, 1, 2, 3],
    "environment": ["HOME", "HOSTNAME", "LANG", "PATH", "THE_IMAGES_OWN"],
    "leads_session": True,
    "core": 0,
    "threads": 254,
    "open_files": 1020,
    "disk": {"bytes": LIMITS.file_system_bytes // 2, "inodes": 65536, "over": "ENOSPC"},
}
SEEN = Seen(
    INSIDE,
    host_uids=set(),
    controllers={"memory", "pids", "cpu"},
    probe_end=Exited(137, Termination.SIGNALED, Usage(cpu_ms=20, memory_peak_bytes=1)),
    hog_end=Exited(137, Termination.MEMORY, Usage()),
    hog_raised=None,
    processes_max=256,
)


def states(seen: Seen, *, has_own_kernel: bool = False) -> dict[str, State]:
    findings = judge(seen, has_own_kernel=has_own_kernel)
    assert [finding.boundary.name for finding in findings] == list(BY_NAME)
    return {finding.boundary.name: finding.state for finding in findings if finding.state is not State.OK}


def test_docker_as_it_is_installed_is_weaker_in_three_named_ways_and_taken() -> None:
    found = states(SEEN)
    assert found == dict.fromkeys(("user-namespace", "host-uid", "host-paths"), State.WEAKER)
    assert found.keys() <= MAY_BE_WEAKER_HERE


@pytest.mark.parametrize(
    ("boundary", "change"),
    [
        ("user-namespace", {"ids": [0] * 6}),
        ("user-namespace", {"groups": [0]}),
        ("capabilities", {"status": {**INSIDE["status"], "CapEff": "0000000000000001"}}),
        ("no-new-privileges", {"status": {**INSIDE["status"], "NoNewPrivs": "0"}}),
        ("seccomp", {"calls": {**INSIDE["calls"], "unshare": "done"}}),
        ("seccomp", {"status": {**INSIDE["status"], "Seccomp": "0"}}),
        ("network-namespace", {"interfaces": ["eth0", "lo"]}),
        ("network-namespace", {"reach": "done"}),
        ("pid-namespace", {"namespaces": {**INSIDE["namespaces"], "pid": os.readlink("/proc/self/ns/pid")}}),
        ("own-root", {"hidden": ["/var/run/docker.sock"]}),
        ("own-root", {"hidden": ["/dev/kmsg"]}),
        ("read-only", {"writable": ["/", "/dev"]}),
        ("proc", {"processes": [1, 2, 3]}),
        ("devices", {"devices": ["null", "sda"]}),
        ("descriptors", {"descriptors": [0, 1, 2, 3, 4]}),
        ("environment", {"environment": ["PYEXEC_API_KEY"]}),
        ("session", {"leads_session": False}),
        ("processes", {"threads": 1024}),
        ("open-files", {"open_files": 4096}),
        ("disk", {"disk": {**INSIDE["disk"], "over": "done"}}),
    ],
)
def test_a_boundary_that_does_not_hold_around_a_container_is_missing(boundary: str, change: dict[str, Any]) -> None:
    found = states(replace(SEEN, inside={**INSIDE, **change}))
    assert found[boundary] is State.MISSING


def test_an_engine_without_limits_is_found_out() -> None:
    ended = Exited(0, Termination.EXITED, Usage())
    found = states(replace(SEEN, controllers=set(), hog_end=ended, inside={**INSIDE, "threads": 1024}))
    assert (found["memory"], found["processes"]) == (State.MISSING, State.MISSING)


def test_a_kernel_of_its_own_need_not_be_like_the_machines() -> None:
    inside = {
        **INSIDE,
        "status": {"CapEff": "0000000000000000", "Seccomp": "0"},
        "namespaces": {"net": "net:[1]", "pid": "pid:[2]", "user": "user:[3]"},
        "calls": {**INSIDE["calls"], "unshare": "done", "ptrace": "done"},
        "writable": ["/", "/etc/hosts"],
        "mount_kinds": ["9p none"],
        "threads": 1024,
        "reach": "EHOSTUNREACH",
    }
    assert states(replace(SEEN, inside=inside), has_own_kernel=True) == {"processes": State.WEAKER}
    inside["interfaces"] = ["eth0", "lo"]
    assert states(replace(SEEN, inside=inside), has_own_kernel=True)["network-namespace"] is State.MISSING


def test_what_is_counted_elsewhere_is_weaker() -> None:
    unknown = Exited(137, Termination.SIGNALED, Usage())
    assert states(replace(SEEN, probe_end=unknown))["usage"] is State.WEAKER
