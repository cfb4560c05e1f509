"""System calls that Python lacks, under the kernel's own names: one thin wrapper each, one place for errno."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Any, Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

# <linux/sched.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# <linux/mount.h>
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
FSPICK_EMPTY_PATH = 8
MOVE_MOUNT_F_EMPTY_PATH = 4
# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1

_SYSCALLS = {  # the same number everywhere since 5.1, older ones differ
    "x86_64": {"pivot_root": 155, "capset": 126, "seccomp": 317, "ioprio_set": 251},
    "aarch64": {"pivot_root": 41, "capset": 91, "seccomp": 277, "ioprio_set": 30},
}[platform.machine()]
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _FSPICK = 428, 429, 430, 431, 432, 433
_CLOSE_RANGE, _MOUNT_SETATTR = 436, 442


def _check(result: int, call: str, subject: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)} ({errno.errorcode.get(number, number)})", subject or None)
    return result


def _path(path: str | None) -> bytes | None:
    return None if path is None else path.encode("utf-8", "surrogateescape")  # half of what os.fsencode() takes


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_NEW* flags for new ones."""
    _check(_libc.unshare(flags), "unshare", hex(flags))


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` refers to."""
    _check(_libc.setns(fd, kind), "setns", hex(kind))


def prctl(option: int, value: int = 0) -> None:
    """Set an attribute of this process."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl", str(option))


def come_after_others() -> None:
    """Take the ordinary place on processors and disks and an address space at random, whatever the server has."""
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    _syscall(_SYSCALLS["ioprio_set"], 1, 0, 0)  # IOPRIO_WHO_PROCESS, this one, no class: as its niceness says
    _libc.personality(ctypes.c_ulong(0))


def sethostname(name: str) -> None:
    """Name this UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(_path(source), _path(target), _path(kind), ctypes.c_ulong(flags), _path(data))
    _check(result, f"mount {kind or 'bind'}", target)


def umount_detach(target: str) -> None:
    """Take a mount, and all below it, out of the tree."""
    _check(_libc.umount2(_path(target), MNT_DETACH), "umount2", target)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old one on `old`."""
    _check(_syscall(_SYSCALLS["pivot_root"], _path(new), _path(old)), "pivot_root", new)


def mount_setattr(target: str | int, attributes: int, *, recursive: bool) -> None:
    """Add MOUNT_ATTR_* to a mount (by path or descriptor), or a tree of them; what the mounts have already stays."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    where, path = (AT_FDCWD, target) if isinstance(target, str) else (target, "")
    flags |= 0 if path else AT_EMPTY_PATH
    _check(_syscall(_MOUNT_SETATTR, where, _path(path), flags, attr, len(attr)), "mount_setattr", str(target))


def detached_tmpfs(options: dict[str, str]) -> int:
    """A tmpfs that is mounted nowhere yet; the descriptor of its mount."""
    context = _check(_syscall(_FSOPEN, b"tmpfs", 1), "fsopen")
    try:
        _fsconfig(context, options, FSCONFIG_CMD_CREATE)
        return _check(_syscall(_FSMOUNT, context, 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), "fsmount")
    finally:
        os.close(context)


def reconfigure(mount_fd: int, options: dict[str, str]) -> None:
    """Change the options of a mounted file system."""
    context = _check(_syscall(_FSPICK, mount_fd, b"", FSPICK_EMPTY_PATH | 1), "fspick")
    try:
        _fsconfig(context, options, FSCONFIG_CMD_RECONFIGURE)
    finally:
        os.close(context)


def _fsconfig(context: int, options: dict[str, str], command: int) -> None:
    for key, value in options.items():
        result = _syscall(_FSCONFIG, context, FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
        _check(result, "fsconfig", f"{key}={value}")
    _check(_syscall(_FSCONFIG, context, command, None, None, 0), "fsconfig")


def copy_mount(source: str) -> int:
    """A directory with all that is mounted below it, mounted once more and nowhere yet; the descriptor of its mount."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    return _check(_syscall(_OPEN_TREE, AT_FDCWD, _path(source), flags), "open_tree", source)


def move_mount(mount_fd: int, target: str) -> None:
    """Put a detached mount at `target`."""
    _check(_syscall(_MOVE_MOUNT, mount_fd, b"", AT_FDCWD, _path(target), MOVE_MOUNT_F_EMPTY_PATH), "move_mount", target)


def close_from(lowest: int) -> None:
    """Close every descriptor from `lowest` on."""
    _check(_syscall(_CLOSE_RANGE, lowest, 0xFFFFFFFF, 0), "close_range")


def _capabilities() -> Iterator[ctypes.c_ulong]:
    number = 0
    while _libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0:  # EINVAL beyond the kernel's last one
        yield ctypes.c_ulong(number)
        number += 1


_CAPABILITIES = list(_capabilities())


def drop_bounding_set() -> None:
    """Make sure that no exec can ever give a capability back."""
    for capability in _CAPABILITIES:
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            _check(-1, "prctl PR_CAPBSET_DROP", str(capability))


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    _check(_syscall(_SYSCALLS["capset"], header, bytes(24)), "capset")


class SeccompProgram:
    """A BPF program as the kernel takes it."""

    def __init__(self, instructions: bytes) -> None:
        self._instructions = ctypes.create_string_buffer(instructions, len(instructions))
        address = ctypes.addressof(self._instructions)
        self._program: Any = struct.pack("@HxxxxxxQ", len(instructions) // 8, address)

    def install(self) -> None:
        """Filter this process and all that it will start, for good."""
        _check(_syscall(_SYSCALLS["seccomp"], SECCOMP_SET_MODE_FILTER, 0, self._program), "seccomp")
