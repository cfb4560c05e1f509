"""Where no cgroup can be had: the memory and CPU of a sandbox's processes, summed from /proc now and then.

Weaker than a cgroup, and said so: what is allocated and freed, or a process that comes and goes, between two looks is
not seen. RLIMIT_DATA bounds each process meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...model.events import Usage

_TICKS_MS = 1000 // os.sysconf("SC_CLK_TCK")


def sample(pause_pidfd: int, memory_limit: int) -> Usage:
    """All processes in the PID namespace of a sandbox, now.

    What forked processes still share is counted for each of them at first; only if that comes to more than the limit,
    the kernel is asked for each one's share, which takes it longer.
    """
    members = processes(pause_pidfd)
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
    try:
        pid = pid_of(pause_pidfd)
        namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return []
    own = os.getuid()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            may_look = own == 0 or process.stat().st_uid in (own, 0)
            if may_look and os.stat(process / "ns/pid").st_ino == namespace:
                found.append(process)
        except OSError:
            continue
    return found


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
