"""What is seen of a sandbox, and what that says about each boundary."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest

from python_executor.model.events import Exited, Termination, Usage
from python_executor.model.isolation import BOUNDARIES, MAY_BE_WEAKER, State, explain, is_accepted
from python_executor.sandboxes.native.selftest import CHECKS, LIMITS, Seen, judge

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
HELD = ("unshare", "keyctl", "ptrace", "process_vm_readv", "io_uring_setup")
INSIDE: dict[str, Any] = {
    "ids": [1000] * 6,
    "groups": [],
    "status": {"CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapBnd": "0", "CapAmb": "0", "NoNewPrivs": "1", "Seccomp": "2"},
    "namespaces": {kind: f"{kind}:[1]" for kind in KINDS},
    "calls": {**dict.fromkeys(HELD, "EPERM"), "clone3": "ENOSYS", "socket AF_ALG": "EAFNOSUPPORT"},
    "priorities": {"real time": "EPERM", "nice": "EACCES", "oom score": "EACCES"},
    "processes": [2],
    "interfaces": ["lo"],
    "reach": "ENETUNREACH",
    "host_name": "sandbox",
    "root": ["bin", "dev", "etc", "proc", "tmp", "usr", "work"],
    "hidden": [],
    "strays": [],
    "mount_kinds": ["overlay box", "proc proc", "tmpfs sandbox"],
    "writable": [],
    "devices": ["null", "pts", "shm", "urandom"],
    "terminal": "ENXIO",
    "descriptors": [0, 1, 2, 3],
    "environment": ["HOME", "LANG", "PATH"],
    "leads_session": True,
    "core": 1,
    "threads": 250,
    "open_files": 1016,
    "disk": {"bytes": LIMITS.file_system_bytes, "inodes": 1000, "over": "ENOSPC"},
}  # fmt: skip
OWN_UIDS = {0x70000001}
CONTROLLERS = {"memory", "pids", "cpu"}


def seen(inside: dict[str, Any] | None = None, **fields: Any) -> Seen:
    """A sandbox that holds, but for what is given."""
    whole = copy.deepcopy(INSIDE)
    for name, value in (inside or {}).items():
        whole[name] = {**whole[name], **value} if isinstance(value, dict) else value
    held: dict[str, Any] = {
        "host_uids": OWN_UIDS,
        "controllers": CONTROLLERS,
        "probe_end": Exited(137, Termination.SIGNALED, Usage(20, 1 << 20)),
        "hog_end": Exited(137, Termination.MEMORY, Usage(20, 1 << 26)),
        "hog_raised": None,
        "processes_max": 256,
    }
    return Seen(whole, **{**held, **fields})


def states(observed: Seen) -> dict[str, State]:
    return {finding.boundary.name: finding.state for finding in judge(observed) if finding.state is not State.OK}


def own(kind: str) -> dict[str, Any]:
    return {"namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}")}}


def test_every_boundary_has_a_check_and_a_sandbox_that_holds_passes_all() -> None:
    assert list(CHECKS) == [boundary.name for boundary in BOUNDARIES]
    assert states(seen()) == {}


BROKEN: list[tuple[str, Callable[[], Seen]]] = [
    ("user-namespace", lambda: seen(own("user"))),
    ("user-namespace", lambda: seen({"ids": [0] * 6})),
    ("user-namespace", lambda: seen({"groups": [0]})),
    ("user-namespace", lambda: seen(host_uids={0})),
    ("capabilities", lambda: seen({"status": {"CapBnd": "000001ffffffffff"}})),
    ("no-new-privileges", lambda: seen({"status": {"NoNewPrivs": "0"}})),
    ("seccomp", lambda: seen({"status": {"Seccomp": "0"}})),
    *(("seccomp", lambda name=name: seen({"calls": {name: "done"}})) for name in (*HELD, "clone3", "socket AF_ALG")),
    ("pid-namespace", lambda: seen(own("pid"))),
    ("network-namespace", lambda: seen(own("net"))),
    ("network-namespace", lambda: seen({"interfaces": ["lo", "eth0"]})),
    ("network-namespace", lambda: seen({"reach": "done"})),
    ("ipc-namespace", lambda: seen(own("ipc"))),
    ("uts-namespace", lambda: seen(own("uts"))),
    ("uts-namespace", lambda: seen({"host_name": "db-7.example.org"})),
    ("cgroup-namespace", lambda: seen(own("cgroup"))),
    ("own-root", lambda: seen(own("mnt"))),
    ("own-root", lambda: seen({"root": ["bin", "srv", "usr"]})),
    ("own-root", lambda: seen({"hidden": ["/etc/shadow"]})),
    ("own-root", lambda: seen({"strays": ["a-directory-of-the-host"]})),
    ("read-only", lambda: seen({"writable": ["/usr/lib"]})),
    ("proc", lambda: seen({"processes": [1, 2, 77]})),
    ("devices", lambda: seen({"devices": ["null", "sda"]})),
    ("descriptors", lambda: seen({"descriptors": [0, 1, 2, 3, 9]})),
    ("environment", lambda: seen({"environment": ["AWS_SECRET", "HOME", "LANG", "PATH"]})),
    ("session", lambda: seen({"leads_session": False})),
    ("session", lambda: seen({"terminal": "done"})),
    ("memory", lambda: seen(hog_end=Exited(0, Termination.EXITED, Usage(1, 1)))),
    ("processes", lambda: seen({"threads": 1024})),
    ("cpu", lambda: seen({"priorities": {"real time": "done"}})),
    ("cpu", lambda: seen({"priorities": {"nice": "done"}})),
    ("usage", lambda: seen(probe_end=Exited(0, Termination.EXITED, Usage(0, 0)))),
    ("open-files", lambda: seen({"open_files": 4096})),
    ("open-files", lambda: seen({"core": -1 & 0xFFFFFFFF})),
    ("disk", lambda: seen({"disk": {"bytes": 1 << 40}})),
    ("disk", lambda: seen({"disk": {"over": "done"}})),
    ("disk", lambda: seen({"disk": {"inodes": 0}})),
]


@pytest.mark.parametrize(
    ("name", "broken"), BROKEN, ids=[f"{number}-{name}" for number, (name, _) in enumerate(BROKEN)]
)
def test_a_boundary_that_does_not_hold_is_missing_and_refused(name: str, broken: Callable[[], Seen]) -> None:
    (finding,) = [finding for finding in judge(broken()) if finding.state is not State.OK]
    assert (finding.boundary.name, finding.state) == (name, State.MISSING)
    assert not is_accepted(finding, frozenset())
    assert is_accepted(finding, frozenset({name}))
    assert f"--insecure-allow {name}" in explain(finding) and finding.seen in explain(finding)


def test_every_boundary_that_must_hold_is_among_those_broken_here() -> None:
    assert {name for name, _ in BROKEN} >= {boundary.name for boundary in BOUNDARIES} - {
        "host-uid",
        "host-paths",
    }


def test_an_ordinary_user_without_cgroups_gets_named_weaker_forms_that_the_policy_accepts() -> None:
    own_uid = {os.geteuid()} if os.geteuid() else OWN_UIDS
    weaker = seen(host_uids=own_uid, controllers=set(), hog_raised="MemoryError")
    found = states(weaker)
    assert set(found) == MAY_BE_WEAKER - {"host-paths"} - ({"host-uid"} if os.geteuid() == 0 else set())
    assert set(found.values()) == {State.WEAKER}
    assert all(is_accepted(finding, frozenset()) for finding in judge(weaker))


def test_a_memory_killer_that_code_can_send_to_others_is_weaker_and_accepted() -> None:
    movable = seen({"priorities": {"oom score": "done"}})
    assert states(movable) == {"memory": State.WEAKER}
    assert all(is_accepted(finding, frozenset()) for finding in judge(movable))


def test_a_kernel_that_tells_no_peak_of_memory_is_weaker_and_accepted() -> None:
    unknown = seen(probe_end=Exited(137, Termination.SIGNALED, Usage(20, 0)))
    assert states(unknown) == {"usage": State.WEAKER}
    assert all(is_accepted(finding, frozenset()) for finding in judge(unknown))


def test_a_host_that_shows_its_paths_is_weaker() -> None:
    assert states(seen({"mount_kinds": ["ext4 /dev/vda"]})) == {"host-paths": State.WEAKER}


def test_without_cgroups_code_that_takes_more_memory_and_is_not_stopped_is_not_just_weaker() -> None:
    free = Exited(0, Termination.EXITED, Usage(1, 1))
    assert states(seen(controllers=set(), hog_end=free))["memory"] is State.MISSING
