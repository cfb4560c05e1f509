"""The boundaries around a sandbox, as words: their names, what each stops, and how one stands on a machine.

The names are what results show as `isolation`, what `doctor` lists, what `--insecure-allow` takes and what
docs/security.md maps to tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a boundary stands. `WEAKER` is a named form that does less; the policy says where that is enough."""

    OK = "ok"
    WEAKER = "weaker"
    MISSING = "missing"


Isolation = Mapping[str, State]  # by the boundary's name


@dataclass(frozen=True, slots=True)
class Boundary:
    """One boundary, and what to do where it is not there."""

    name: str
    stops: str  # completes "without it, code could ..."
    mend: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen when a boundary was tried for real."""

    boundary: Boundary
    state: State
    seen: str = ""  # why it is not OK, in the words of what was tried


_KERNEL = "run a kernel from 5.12 on with this feature compiled in"
_NAMESPACES = (
    "allow user namespaces: the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and "
    "kernel.apparmor_restrict_unprivileged_userns, or the seccomp profile of the container (docs/containers.md)"
)
_CGROUPS = (
    "start the server in a cgroup that it may divide: as root, or as a unit with Delegate=yes "
    "(`systemd-run --user --scope -p Delegate=yes python-executor serve`)"
)
_ROOT = "run the server as root of the machine (in a container only where uids are mapped: docs/containers.md)"

BOUNDARIES = (
    Boundary("user-namespace", "act as a user of the machine", _NAMESPACES),
    Boundary(
        "host-uid",
        "signal and read what runs beside it, should another boundary fail",
        _ROOT,
    ),
    Boundary("capabilities", "do what root does", _KERNEL),
    Boundary("no-new-privileges", "gain rights from setuid programs", _KERNEL),
    Boundary("seccomp", "reach the parts of the kernel where most of its holes are", _KERNEL),
    Boundary("pid-namespace", "see and signal other processes", _NAMESPACES),
    Boundary("network-namespace", "reach the network, or abstract sockets of this machine", _NAMESPACES),
    Boundary("ipc-namespace", "share memory and queues with others", _NAMESPACES),
    Boundary("uts-namespace", "see the machine's name", _NAMESPACES),
    Boundary("cgroup-namespace", "see where in the machine's cgroups it runs", _NAMESPACES),
    Boundary("own-root", "read the machine's files", _NAMESPACES),
    Boundary("host-paths", "learn the machine's paths and devices", "run a kernel that lets users mount overlayfs"),
    Boundary("read-only", "change what others use", _KERNEL),
    Boundary("proc", "see others' processes, and change the kernel's settings", _KERNEL),
    Boundary("devices", "reach devices and terminals", _KERNEL),
    Boundary("descriptors", "use what the server has open", _KERNEL),
    Boundary("environment", "read the server's variables", _KERNEL),
    Boundary("session", "take over the server's terminal", _KERNEL),
    Boundary("memory", "take all memory", _CGROUPS),
    Boundary("processes", "take all processes and threads", _CGROUPS),
    Boundary("cpu", "take more than its share of the processors", _CGROUPS),
    Boundary("usage", "go uncounted", _CGROUPS),
    Boundary("open-files", "open more files than the kernel keeps up with", _KERNEL),
    Boundary("disk", "fill memory with files", _KERNEL),
)
BY_NAME = {boundary.name: boundary for boundary in BOUNDARIES}

# What an ordinary user who has been given nothing, or an old kernel, cannot have: the policy takes the weaker form.
MAY_BE_WEAKER = frozenset({"host-uid", "host-paths", "memory", "processes", "cpu", "usage"})


def explain(finding: Finding) -> str:
    """Why a server with such a finding doesn't start, and what to do, in one line."""
    name, boundary = finding.boundary.name, finding.boundary
    return (
        f"the boundary {name} is {finding.state} ({finding.seen}): without it, code could {boundary.stops}; "
        f"{boundary.mend}, or accept it with --insecure-allow {name}"
    )


def is_accepted(finding: Finding, insecure_allow: frozenset[str]) -> bool:
    """Whether the policy lets code run with the boundary as it was found."""
    name = finding.boundary.name
    if finding.state is State.WEAKER:
        return name in MAY_BE_WEAKER | insecure_allow
    return finding.state is State.OK or name in insecure_allow
