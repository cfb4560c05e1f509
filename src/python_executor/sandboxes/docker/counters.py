"""What the kernel counts for a container, read from its cgroups: the engine's own answer may take it a second."""

from __future__ import annotations

from pathlib import Path

from ...model.events import Usage
from ..native.cgroups import Hierarchy, find_hierarchies


class Counters:
    """Of one container on this machine."""

    def __init__(self, trees: list[Hierarchy]) -> None:
        places = {name: (tree.directory, tree.version) for tree in trees for name in tree.controllers}
        self._memory, version = places["memory"]
        self._peak = "memory.max_usage_in_bytes" if version == 1 else "memory.peak"
        self._kills = "memory.oom_control" if version == 1 else "memory.events"
        self._cpu, self._cpu_version = places.get("cpuacct") or places["cpu"]
        self._cpu_before = self._cpu_nanoseconds()

    def begin(self) -> None:
        """Count from now on; OSError where the container is gone."""
        self._cpu_before = self._cpu_nanoseconds()

    def usage(self) -> Usage:
        """What was counted; OSError where the container is gone."""
        peak = self._memory / self._peak  # v2 has it since 5.19
        return Usage(
            (self._cpu_nanoseconds() - self._cpu_before) // 1_000_000,
            int(peak.read_text()) if peak.exists() else 0,
        )

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process in it for its memory."""
        return _keyed(self._memory / self._kills).get("oom_kill", 0) > 0

    def _cpu_nanoseconds(self) -> int:
        if self._cpu_version == 1:
            return int((self._cpu / "cpuacct.usage").read_text())
        return _keyed(self._cpu / "cpu.stat")["usage_usec"] * 1000


def find_counters(pid: int, container_id: str) -> Counters | None:
    """Of the container whose PID 1 the engine says this is; None where its processes are not this machine's."""
    try:
        check_is_ours(pid, container_id)
        return Counters(find_hierarchies(groups_of=Path(f"/proc/{pid}")))
    except (OSError, KeyError, ValueError):
        return None


def is_root(pid: int, container_id: str) -> bool:
    """Whether the container's PID 1 is root in it, or in its group, as far as that can be seen from here."""
    try:
        check_is_ours(pid, container_id)
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        maps = Path(f"/proc/{pid}/uid_map").read_text().split()
    except OSError:
        return False
    root = maps[1] if len(maps) == 3 else "0"  # where the container's own user namespace has it
    return any(root in line.split()[1:] for line in lines if line.startswith(("Uid:", "Gid:")))


def check_is_ours(pid: int, container_id: str) -> None:
    """OSError unless the process is the container's: the engine may be elsewhere, or see other process numbers."""
    if container_id not in Path(f"/proc/{pid}/cgroup").read_text():
        raise OSError("the engine's processes are not this machine's")


def _keyed(file: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in file.read_text().splitlines())}
