"""What a container is made of, as data: the body of the engine's `POST /containers/create`.

Whatever the image says of how it is to be run (entrypoint, user root, ports, volumes, health checks) is not asked. All
that may be written to lives in memory, in file systems of a size: `/work` has the request's own files, and most of what
the limits leave beside them; `/tmp` and `/dev/shm` have the rest. Nothing of the host is mounted.
"""

from __future__ import annotations

import marshal
import posixpath
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Address
from typing import Any

from ...guest import frames
from ...model.spec import MEBIBYTE, PAGE, ExecutionSpec, Limits

USER_ID = 1000
PROCESSES_MAX = 256
OPEN_FILES = 1024
INODES = 1 << 17  # more than a request may have of files and directories
_NUMBER = re.compile(r"[1-9][0-9]{0,8}(?=:|$)")  # of a user that is not root
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
OWNER_LABEL = "python-executor.owner"  # the data directory whose server made it
LIFE_LABEL = "python-executor.life"  # and which run of that server
GUEST_BYTES = 16 * MEBIBYTE  # of memory for PID 1, on top of the limit
KERNEL_BYTES = 64 * MEBIBYTE  # for a runtime that brings a kernel of its own along, which is charged to the container
NETWORK_RUNTIMES = ("runc", "crun")  # that see what is done to their network namespace later
OWN_KERNEL = ("runsc", "kata")  # how the names of runtimes begin whose containers have a kernel of their own
GUEST_DISK = 256 * 1024  # bytes for its files
TMP_PART, SHM_PART = 4, 16  # of what files may take: a quarter, a sixteenth
ROOT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")  # for apt-get
_GUEST_FILES = (
    "conceal.py",
    "container.py",
    "ending.py",
    "environment.py",
    "frames.py",
    "intake.py",
    "runner.py",
    "source.py",
    "streams.py",
)
_BOOT = """\
import sys
if sys.version_info < (3, 8):
    sys.exit("Python 3.8 or later is needed, this is " + sys.version.split()[0])
import marshal, os
left, parts = int(sys.argv[1]), []
while left:
    parts.append(os.read(0, left))
    left -= len(parts[-1])
    if not parts[-1]:
        sys.exit()
for name, source in marshal.loads(b"".join(parts)).items():
    with open("/guest/" + name, "wb") as file:
        file.write(source)
sys.path[0], sys.dont_write_bytecode, kept = "/guest", True, sys.dont_write_bytecode
import container
sys.dont_write_bytecode = kept
container.main()
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of an image that is there."""

    name: str  # as it was asked for
    key: str  # the engine's id of its content
    user: str  # that its own configuration names
    volumes: tuple[str, ...] = ()  # paths that it declares


@dataclass(frozen=True, slots=True)
class Kind:
    """What containers have to have in common to stand in for each other."""

    image: Image
    runtime: str
    limits: Limits  # whose time does not matter
    as_root: bool = False  # whether commands run as root before the code
    given: int = 0  # bytes of the request's files, where they are more than half of what /work has by default

    @property
    def has_own_kernel(self) -> bool:
        """Whether its code talks to another kernel than the machine's."""
        return self.runtime.startswith(OWN_KERNEL)

    @property
    def memory_bytes(self) -> int:
        """What the kernel bounds."""
        own = KERNEL_BYTES if self.has_own_kernel else 0
        return self.limits.memory_mb * MEBIBYTE + GUEST_BYTES + own


def kind_of(image: Image, spec: ExecutionSpec, runtime: str, *, root_commands: bool) -> Kind:
    """The container that a spec takes."""
    given, usual = spec.tree.total_bytes, _file_systems(spec.limits)["/work"]
    return Kind(
        image,
        runtime,
        alike(spec.limits),
        as_root=root_commands and bool(spec.pre_commands),
        given=given if given > usual // 2 else 0,
    )


def alike(limits: Limits) -> Limits:
    """What of the limits a container has to be made for: not how long it runs, nor how the rest was come by."""
    return replace(limits, timeout_seconds=0, cpu_seconds=None, disk_mb=-(-limits.file_system_bytes // MEBIBYTE))


@cache
def guest_files() -> bytes:
    """What the first program of a container reads from its standard input: our side of it."""
    package = files("python_executor.guest")
    sources = {name: package.joinpath(name).read_bytes() for name in _GUEST_FILES}
    return marshal.dumps(sources, frames.SPEC_FORMAT)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all containers on one engine."""

    labels: dict[str, str]
    nameservers: tuple[IPv4Address, ...]
    seccomp: str  # the profile, or for Podman the path of a file that holds it
    is_podman: bool = False  # which knows fewer options of tmpfs
    has_ipv6: bool = False  # whether the kernel knows of it


def container(kind: Kind, python: str, terms: Terms) -> dict[str, Any]:
    """The body of the request; `python` is the name of the image's interpreter."""
    return {
        "Image": kind.image.key,
        "Entrypoint": [python, "-u", "-c", _BOOT, str(len(guest_files()))],
        "Cmd": [],
        "User": "0:0" if kind.as_root else user_of(kind.image),
        "WorkingDir": "/",  # else the engine makes /work, and gives the file system there its mode
        "Hostname": "sandbox",
        "Env": ["HOME=/work", "LANG=C.UTF-8"],
        "Labels": terms.labels,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": True,
        "StopSignal": "SIGKILL",
        **({} if terms.is_podman else {"Healthcheck": {"Test": ["NONE"]}}),  # there, even none is a timer of systemd's
        "HostConfig": _host_config(kind, terms),
    }


def user_of(image: Image) -> str:
    """The image's own user, unless that is root; a name that means root is found out when it is up."""
    if number := _NUMBER.match(image.user):
        group = image.user[number.end() :].removeprefix(":")
        return f"{number[0]}:{group if _NUMBER.fullmatch(group) else number[0]}"
    return image.user if _NAME.fullmatch(image.user) and image.user != "root" else f"{USER_ID}:{USER_ID}"


def _host_config(kind: Kind, terms: Terms) -> dict[str, Any]:
    limits, sizes = kind.limits, _file_systems(kind.limits, kind.given)
    memory = kind.memory_bytes
    more = ",notmpcopyup" if terms.is_podman else f",nr_inodes={INODES}{_owner(kind)}"
    return {
        "NetworkMode": "none",
        "Dns": [str(address) for address in terms.nameservers],
        "Sysctls": {"net.ipv6.conf.lo.disable_ipv6": "0"} if terms.has_ipv6 else {},  # localhost is ::1, too
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": not kind.as_root,
        "CapDrop": ["ALL"],
        "CapAdd": list(ROOT_CAPABILITIES) if kind.as_root else [],
        "SecurityOpt": ["no-new-privileges", f"seccomp={terms.seccomp}"],
        "Privileged": False,
        "Init": False,
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": PROCESSES_MAX,
        "CpuShares": limits.cpu_shares,
        "NanoCpus": round((limits.cpus or 0) * 1_000_000_000),
        "OomScoreAdj": 500,
        "Ulimits": [
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "ShmSize": sizes["/dev/shm"],  # noqa: S108
        "Tmpfs": {
            **dict.fromkeys(_instead_of_volumes(kind, terms), "ro,nosuid,nodev,size=4096"),
            **{path: f"{_TMPFS},size={sizes[path]}{more}" for path in _WRITABLE},
        },
        "LogConfig": {"Type": "none"},
        "Runtime": kind.runtime,
    }


_WRITABLE = ("/work", "/tmp", "/guest")  # noqa: S108
_TMPFS = "rw,exec,nosuid,nodev,mode=1777"  # Podman has no number of inodes: there memory alone bounds them
_OURS = tuple(f"{path}/" for path in (*_WRITABLE, "/dev/shm"))  # noqa: S108
_PODMANS_OWN = ("/run", "/var/tmp")  # noqa: S108 - it makes them part of a read-only root, writable and of any size


def _instead_of_volumes(kind: Kind, terms: Terms) -> list[str]:
    """Where an engine would put file systems of its own, on the host's disk or without a bound."""
    podmans = _PODMANS_OWN if terms.is_podman and not kind.as_root else ()
    declared = {posixpath.normpath(path) for path in kind.image.volumes}
    return [*(path for path in declared if not f"{path}/".startswith(_OURS)), *podmans]


def _owner(kind: Kind) -> str:
    """Of a file system, where it has a number: an image's own directory at its place may have a mode that matters."""
    user, _, group = (f"{USER_ID}" if kind.as_root else user_of(kind.image)).partition(":")
    return f",uid={user},gid={group if group.isdecimal() else user}" if user.isdecimal() else ""


def _file_systems(limits: Limits, given: int = 0) -> dict[str, int]:
    """Bytes of each; together what the limits leave to files, but for the little that each has in any case."""
    size = limits.file_system_bytes - given
    tmp, shm = max(size // TMP_PART, PAGE), max(size // SHM_PART, PAGE)  # to tmpfs, nothing is no limit
    work = given + max(size - tmp - shm - GUEST_DISK, 0)
    return {"/work": work, "/tmp": tmp, "/dev/shm": shm, "/guest": GUEST_DISK}  # noqa: S108
