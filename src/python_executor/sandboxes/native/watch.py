"""Where no cgroup can be had: the memory and CPU of a sandbox's processes, summed from /proc now and then.

Weaker than a cgroup, and said so: what is allocated and freed, or a process that comes and goes, between two looks is
not seen. RLIMIT_DATA bounds each process meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...model.events import Usage

_TICKS_MS = 1000 // os.sysconf("SC_CLK_TCK")


def sample(pause_pidfd: int) -> Usage:
    """All processes in the PID namespace of a sandbox, now."""
    memory = cpu_ms = 0
    for process in _processes(pause_pidfd):
        try:
            memory += _resident_bytes(process)
            cpu_ms += _cpu_ms(process)
        except (OSError, ValueError):
            continue  # it has just ended
    return Usage(cpu_ms, memory)


def _processes(pause_pidfd: int) -> list[Path]:
    """Processes of ours that share the PID namespace of the one behind the pidfd."""
    try:
        pid = _pid_of(pause_pidfd)
        namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return []
    own = os.getuid()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid in (own, 0) and os.stat(process / "ns/pid").st_ino == namespace:
                found.append(process)
        except OSError:
            continue
    return found


def _pid_of(pidfd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise ProcessLookupError(pidfd)


def _resident_bytes(process: Path) -> int:
    """Anonymous and shared memory; files of the box are everybody's."""
    kibibytes = 0
    for line in (process / "status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            kibibytes += int(line.split()[1])
    return kibibytes * 1024


def _cpu_ms(process: Path) -> int:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) * _TICKS_MS
