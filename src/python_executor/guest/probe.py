"""Tries every boundary from inside, as user code: sent through a new box before anybody else's code runs there.

Prints what it saw as one JSON object and judges nothing. What reads it (native/selftest.py) knows what should be seen.
Each attempt would succeed, or fail with another error, where its boundary is missing; none does harm if it succeeds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
from typing import Any, Callable, Dict, List

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "x86_64": {"keyctl": 250, "process_vm_readv": 310, "ptrace": 101},
    "aarch64": {"keyctl": 219, "process_vm_readv": 270, "ptrace": 117},
}[platform.machine()]
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
CLONE3, IO_URING_SETUP = 435, 425
SIOCGIFFLAGS, IFF_UP = 0x8913, 1
THREADS_MAX, FILES_MAX = 512, 4096
OUR_TREES = ("/work", "/tmp", "/dev/shm", "/dev/pts", "/dev/mqueue", "/guest", "/proc")
HIDDEN = (
    "/sys/kernel", "/proc/sys", "/proc/kcore", "/proc/sysrq-trigger", "/proc/keys", "/proc/1", "/home", "/boot",
    "/srv", "/usr/local", "/etc/shadow", "/var/run/docker.sock", "/run/systemd", "/dev/mem", "/dev/kmsg", "/dev/vda",
)  # fmt: skip


def outcome(attempt: Callable[[], Any]) -> str:
    """The errno's name that an attempt ended with, or "done"."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return "done"


def call(function: Any, *arguments: Any) -> Callable[[], None]:
    """A C function as an attempt that raises."""

    def attempt() -> None:
        if function(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    return attempt


def system_calls() -> Dict[str, str]:
    """Calls that an unprivileged process may make where nothing filters them; each in a child, which it may change."""
    zeros = ctypes.create_string_buffer(256)
    attempts = {
        "unshare": call(libc.unshare, CLONE_NEWUSER),
        "keyctl": call(libc.syscall, CALLS["keyctl"], 0, -3, 0),
        "ptrace": call(libc.syscall, CALLS["ptrace"], 0, 0, 0, 0),
        "process_vm_readv": call(libc.syscall, CALLS["process_vm_readv"], os.getpid(), None, 0, None, 0, 0),
        "io_uring_setup": call(libc.syscall, IO_URING_SETUP, 1, zeros),
        "clone3": call(libc.syscall, CLONE3, zeros, 8),
        "socket AF_ALG": lambda: socket.socket(38, socket.SOCK_SEQPACKET, 0).close(),
    }
    return {name: in_child(attempt) for name, attempt in attempts.items()}


def priorities() -> Dict[str, str]:
    """Ways to come before others: on the processors, and at the kernel's choice of whom to kill for memory."""
    attempts = {
        "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1),
        "oom score": spare_from_oom_killer,
    }
    return {name: in_child(attempt) for name, attempt in attempts.items()}


def spare_from_oom_killer() -> None:
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    os.write(fd, str(int(os.read(fd, 16)) - 1).encode())


def in_child(attempt: Callable[[], Any]) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, outcome(attempt).encode())
        os._exit(0)
    os.close(writer)
    word = os.read(reader, 64).decode()
    os.close(reader)
    os.waitpid(pid, 0)
    return word or "died"


def status() -> Dict[str, str]:
    with open("/proc/self/status") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in pairs if name.startswith(("Cap", "NoNewPrivs", "Seccomp"))}


def namespaces() -> Dict[str, str]:
    """By kind; a kernel that a container runtime brings along may lack some."""
    return {kind: os.readlink("/proc/self/ns/" + kind) for kind in os.listdir("/proc/self/ns")}


def writable() -> List[str]:
    """Mounts that are not ours and lack the flag, whoever owns what is there."""
    with open("/proc/self/mountinfo") as file:
        points = [line.split(" ")[4] for line in file]
    return [point for point in points if not point.startswith(OUR_TREES) and lacks_read_only(point)]


def lacks_read_only(point: str) -> bool:
    try:
        return not os.statvfs(point).f_flag & os.ST_RDONLY
    except OSError:
        return False  # out of reach


def mount_kinds() -> List[str]:
    """File system and source of each mount but devices', as the kernel shows them to anybody."""
    with open("/proc/self/mountinfo") as file:
        lines = [line for line in file if not line.split(" ")[4].startswith("/dev/")]
    return sorted({" ".join(line.split(" - ")[1].split(" ")[:2]) for line in lines})


def interfaces() -> List[str]:
    """Those that are up; kernels with tunnels built in put more into each namespace, which carry nothing."""
    found = []
    with open("/proc/self/net/dev") as file:  # socket.if_nameindex() needs netlink
        names = [line.partition(":")[0].strip() for line in file if ":" in line]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in names:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16s24x", name.encode()))
            if struct.unpack_from("16xH", answer)[0] & IFF_UP:
                found.append(name)
    return found


def descriptors() -> List[int]:
    listed = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return [fd for fd in listed if outcome(lambda: os.fstat(fd)) == "done"]  # noqa: B023 - but that of the listing


def threads() -> int:
    """How many can be there at once."""
    gate = threading.Event()
    threading.stack_size(128 << 10)  # glibc's least on arm64
    started: List[threading.Thread] = []
    try:
        while len(started) < THREADS_MAX:
            thread = threading.Thread(target=gate.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        pass
    gate.set()
    for thread in started:
        thread.join()
    return len(started)


def open_files() -> int:
    fds: List[int] = []
    try:
        while len(fds) < FILES_MAX:
            fds.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for fd in fds:
        os.close(fd)
    return len(fds)


def disk() -> Dict[str, Any]:
    size = os.statvfs("/work")
    total = size.f_frsize * size.f_blocks
    with open("/work/probe", "wb") as file:
        over = outcome(lambda: os.posix_fallocate(file.fileno(), 0, total + (1 << 20)))
    os.unlink("/work/probe")
    return {"bytes": total, "inodes": size.f_files, "over": over}


def reach() -> str:
    """Whether there is a way to the outside; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return outcome(lambda: any_socket.connect(("192.0.2.1", 9)))


def main() -> None:
    seen = {
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": [group for group in os.getgroups() if group not in (65534, os.getgid())],  # 65534: not mapped here
        "status": status(),
        "namespaces": namespaces(),
        "calls": system_calls(),
        "priorities": priorities(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "interfaces": interfaces(),
        "reach": reach(),
        "host_name": socket.gethostname(),
        "root": sorted(os.listdir("/")),
        "strays": [name for place in ("/run", "/store") if os.path.isdir(place) for name in os.listdir(place)],
        "hidden": [path for path in HIDDEN if os.path.lexists(path)],
        "writable": writable(),
        "mount_kinds": mount_kinds(),
        "devices": sorted(os.listdir("/dev")),
        "terminal": outcome(lambda: os.open("/dev/tty", os.O_RDWR)),
        "descriptors": descriptors(),
        "environment": sorted(os.environ),
        "leads_session": os.getsid(0) == os.getpid(),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "threads": threads(),
        "open_files": open_files(),
        "disk": disk(),
    }
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()
    signal.pause()  # until the server has had its look from outside


main()
