"""What is seen of sandboxes from outside, now and then: what no cgroup counts, and all of it where there is no cgroup.

Without a cgroup the memory and CPU of a sandbox's processes are summed from /proc. That is weaker, and said so: what is
allocated and freed, or a process that comes and goes, between two looks is not seen. RLIMIT_DATA bounds each process
meanwhile.

Sockets and what is queued in them are kernel memory, which a cgroup counts in part (TCP's on v1 apart from the rest,
errors that wait for a datagram socket not at all). File locks are counted by none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ...model.events import Usage

_TICKS_MS = 1000 // os.sysconf("SC_CLK_TCK")
_LOCKS_COUNT = "/sys/kernel/slab/file_lock_cache/total_objects"


class SocketMeter:
    """The sockets of one sandbox. Its file stays open: it is read ten times a second."""

    def __init__(self, pause_pidfd: int) -> None:
        """OSError where the sandbox has ended."""
        self._net = f"/proc/{pid_of(pause_pidfd)}/net"
        self._sockstat = os.open(f"{self._net}/sockstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            signal.pidfd_send_signal(pause_pidfd, 0)  # or the number may be another process's by now
        except OSError:
            self.close()
            raise

    def count(self) -> tuple[int, int]:
        """Return how many sockets there are, of all kinds, and how many of UDP."""
        lines = (line.split() for line in os.pread(self._sockstat, 4096, 0).decode().splitlines())
        numbers = {fields[0]: int(fields[2]) for fields in lines}
        return numbers["sockets:"], numbers["UDP:"]

    def queued_bytes(self) -> int:
        """Return what waits in the queues of UDP sockets, errors included; the more sockets, the longer it takes."""
        return sum(_queued(f"{self._net}/{name}") for name in ("udp", "udp6"))

    def close(self) -> None:
        """Let go of the sandbox's network namespace."""
        os.close(self._sockstat)


def _queued(path: str) -> int:
    try:
        with open(path) as file:
            next(file)
            queues = (line.split()[4].split(":") for line in file)  # of what goes out and of what came in
            return sum(int(out, 16) + int(came, 16) for out, came in queues)
    except FileNotFoundError:
        return 0  # a kernel without IPv6


def locks_of_all() -> int:
    """Return about how many file locks there are on the machine, which is cheap to ask; 0 where we may not."""
    try:
        with open(_LOCKS_COUNT) as file:
            return int(file.read().split()[0])
    except OSError:
        return 0


def locks(processes: Iterable[Path]) -> int:
    """Return how many file locks these processes hold: what /proc/locks says takes seconds where there are many."""
    return sum(_locks_of(fd) for process in processes for fd in _descriptors(process))


def _descriptors(process: Path) -> list[Path]:
    try:
        return list((process / "fdinfo").iterdir())
    except OSError:
        return []  # it has just ended


def _locks_of(fd: Path) -> int:
    try:
        return fd.read_bytes().count(b"lock:\t")
    except OSError:
        return 0


def samples(limits: Mapping[int, int]) -> dict[int, Usage]:
    """Return what the processes of sandboxes use now, from one walk over /proc; memory limits and usage by pidfd.

    What forked processes still share is counted for each of them at first; only if that comes to more than the limit,
    the kernel is asked for each one's share, which takes it longer.
    """
    found = members(limits)
    return {pidfd: _sample(found[pidfd], limit) for pidfd, limit in limits.items() if pidfd in found}


def _sample(members: list[Path], memory_limit: int) -> Usage:
    cpu_ms = _sum(_cpu_ms, members)
    memory = _sum(_resident_bytes, members)
    if memory > memory_limit:
        memory = _sum(_proportional_bytes, members)
    return Usage(cpu_ms, memory)


def _sum(measure: Callable[[Path], int], members: list[Path]) -> int:
    total = 0
    for process in members:
        with suppress(OSError, ValueError):  # it has just ended
            total += measure(process)
    return total


def processes(pause_pidfd: int) -> list[Path]:
    """Directories in /proc of all that share the PID namespace of the one behind the pidfd."""
    return members([pause_pidfd]).get(pause_pidfd, [])


def members(pause_pidfds: Iterable[int]) -> dict[int, list[Path]]:
    """Return the directories in /proc of each sandbox's processes, by the pidfd of its PID 1; without those gone."""
    found: dict[int, list[Path]] = {}
    by_namespace: dict[int, list[Path]] = {}
    for pidfd in pause_pidfds:
        with suppress(OSError):
            found[pidfd] = by_namespace.setdefault(namespace_of(pidfd), [])
    own = os.getuid()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            may_look = own == 0 or process.stat().st_uid in (own, 0)
            if may_look and (mates := by_namespace.get(os.stat(process / "ns/pid").st_ino)) is not None:
                mates.append(process)
    return found


def namespace_of(pidfd: int) -> int:
    """Return the inode of the PID namespace of the process behind a pidfd."""
    return os.stat(f"/proc/{pid_of(pidfd)}/ns/pid").st_ino


def pid_of(pidfd: int) -> int:
    """The process behind a pidfd."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise ProcessLookupError(pidfd)


def _resident_bytes(process: Path) -> int:
    """Anonymous and shared memory; files of the box are everybody's."""
    return _kibibytes(process / "status", ("RssAnon:", "RssShmem:")) * 1024


def _proportional_bytes(process: Path) -> int:
    """The same, a page that N processes have counted as its Nth part."""
    return _kibibytes(process / "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) * 1024


def _kibibytes(path: Path, names: tuple[str, ...]) -> int:
    return sum(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(names))


def _cpu_ms(process: Path) -> int:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) * _TICKS_MS
