"""Tries every boundary of a runtime's containers for real, once, before anybody's code runs in one.

The same programs go through as in the native backend (`native/selftest.py`), which judges what a container has in
common with its sandboxes. What differs is said here: an image's own files and variables are there to be seen, and an
engine that is not told otherwise gives its containers no user namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...model.isolation import BOUNDARIES, MAY_BE_WEAKER, Finding, State
from ..native import selftest as native
from ..native.selftest import Seen, Verdict

# What an image may have, as any file system, is no business of a boundary's.
_NEVER_SEEN = frozenset({"/var/run/docker.sock", "/dev/mem", "/dev/kmsg", "/dev/vda", "/proc/kcore"})
_NOT_WRITABLE = frozenset({"/dev", "/sys", "/sys/fs/cgroup"})  # root's, whose capabilities nobody has
_DEVICES = native.DEVICES | {"fuse", "mqueue", "net", "tty"}

# An engine has no more to give unless it is set up for it; docs/images.md says how.
MAY_BE_WEAKER_HERE = MAY_BE_WEAKER | {"user-namespace", "cgroup-namespace"}


def judge(seen: Seen, *, has_own_kernel: bool) -> list[Finding]:
    """One finding for each boundary, in their order; a runtime may have a kernel of its own for its containers."""
    checks = {**native.CHECKS, **_CHECKS, **(_OWN_KERNEL if has_own_kernel else {})}
    findings = []
    for boundary in BOUNDARIES:
        state, words = checks[boundary.name](seen) or (State.OK, "")
        findings.append(Finding(boundary, state, words))
    return findings


def _user_namespace(seen: Seen) -> Verdict:
    inside = seen.inside
    if 0 in inside["ids"] or 0 in inside["groups"]:
        return State.MISSING, f"code has the ids {sorted(set(inside['ids']))} and groups {inside['groups']}"
    if seen.is_shared("user"):
        return State.WEAKER, "the engine has no user namespaces: containers run as ordinary users of the machine"
    return None


def _host_uid(_seen: Seen) -> Verdict:
    return State.WEAKER, "containers run as the same user as each other"


def _root(seen: Seen) -> Verdict:
    strange = sorted(_NEVER_SEEN.intersection(seen.inside["hidden"]))
    if seen.is_shared("mnt"):
        return State.MISSING, "code is in the server's own mount namespace"
    return (State.MISSING, f"code sees {', '.join(strange)}") if strange else None


def _host_paths(seen: Seen) -> Verdict:
    strange = [kind for kind in seen.inside["mount_kinds"] if kind.startswith(("overlay", "ext", "xfs", "btrfs"))]
    return (State.WEAKER, f"mounts show {strange[0]} and paths there") if strange else None


def _read_only(seen: Seen) -> Verdict:
    writable = sorted(set(seen.inside["writable"]) - _NOT_WRITABLE)
    return (State.MISSING, f"code can write to {', '.join(writable)}") if writable else None


def _proc(seen: Seen) -> Verdict:
    strangers = len(seen.inside["processes"]) - len(("PID 1", "the probe"))
    return (State.MISSING, f"code sees {strangers} processes that are not its own") if strangers > 0 else None


def _devices(seen: Seen) -> Verdict:
    strange = sorted(set(seen.inside["devices"]) - _DEVICES)
    return (State.MISSING, f"code sees {', '.join(strange)} in /dev") if strange else None


def _environment(seen: Seen) -> Verdict:
    strange = [name for name in seen.inside["environment"] if name.startswith("PYEXEC_")]
    return (State.MISSING, f"code has the server's variables {', '.join(strange)}") if strange else None


def _disk(seen: Seen) -> Verdict:
    size, over = (seen.inside["disk"][name] for name in ("bytes", "over"))
    if size > native.LIMITS.file_system_bytes or over != "ENOSPC":
        return State.MISSING, f"files may take {size} bytes, and one that is larger ended with {over}"
    return None


def _cgroup_namespace(seen: Seen) -> Verdict:
    return (State.WEAKER, "code sees the name of its control group") if seen.is_shared("cgroup") else None


def _usage(seen: Seen) -> Verdict:
    if not seen.probe_end.usage.cpu_ms:
        return (
            State.WEAKER,
            "the engine's processes are not to be found from here: it is asked, and may not know in time",
        )
    return native.CHECKS["usage"](seen)


def _own_processes(seen: Seen) -> Verdict:
    if "pids" in seen.controllers:
        return State.WEAKER, "the limit bounds what its kernel takes of the machine, not what it counts itself"
    return State.MISSING, "nothing bounds them"


def _own_network(seen: Seen) -> Verdict:
    interfaces = seen.inside["interfaces"]
    return None if interfaces == ["lo"] else (State.MISSING, f"code has the interfaces {interfaces}")


def _whatever_its_priorities(name: str) -> Callable[[Seen], Verdict]:
    """A native check, of a kernel whose processors and memory killer are its own."""
    return lambda seen: native.CHECKS[name](replace(seen, inside={**seen.inside, "priorities": {}}))


def _fine(_seen: Seen) -> Verdict:
    """It is up to a kernel that is not the machine's."""


_CHECKS: dict[str, Callable[[Seen], Verdict]] = {
    "user-namespace": _user_namespace,
    "host-uid": _host_uid,
    "own-root": _root,
    "host-paths": _host_paths,
    "read-only": _read_only,
    "proc": _proc,
    "devices": _devices,
    "environment": _environment,
    "disk": _disk,
    "usage": _usage,
    "cgroup-namespace": _cgroup_namespace,
}
_OWN_KERNEL: dict[str, Callable[[Seen], Verdict]] = {
    **dict.fromkeys(("user-namespace", "host-uid", "no-new-privileges", "seccomp", "ipc-namespace"), _fine),
    **dict.fromkeys(("uts-namespace", "cgroup-namespace", "own-root", "host-paths", "read-only"), _fine),
    "network-namespace": _own_network,
    "processes": _own_processes,
    **{name: _whatever_its_priorities(name) for name in ("memory", "cpu")},
}
