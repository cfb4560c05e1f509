"""What executions cost in CPU: of the whole machine, and of the processes in a cgroup."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from python_executor.sandboxes.native.cgroups import find_hierarchies

CpuCount = Callable[[], float]  # milliseconds of CPU so far
LEAVING_SECONDS = 5.0  # that dying processes get to be gone


def machine_ms() -> float:
    """CPU that all cores were busy since the start, in milliseconds: user, nice, system and interrupts.

    Idle time, waiting for disks and what a hypervisor gave to others are not in it. Everything else is: kernel
    threads, daemons, the load generator, and whatever else runs on this machine.
    """
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) * 1000 / os.sysconf("SC_CLK_TCK")


def own_ms() -> float:
    """CPU that this process has used, in milliseconds, without its children."""
    return time.process_time() * 1000


def busy_share(seconds: float) -> float:
    """How busy the cores are right now, from 0 to 1."""
    before, start = machine_ms(), time.perf_counter()
    time.sleep(seconds)
    return (machine_ms() - before) / ((time.perf_counter() - start) * 1000 * (os.cpu_count() or 1))


class Group:
    """A cgroup in which the kernel counts nanoseconds, for those that were started while we were in it."""

    def __init__(self, name: str) -> None:
        """Enters it. Raises `OSError` where no cgroup can be made."""
        trees = [tree for tree in find_hierarchies() if tree.version == 2 or "cpuacct" in tree.controllers]
        if not trees:
            raise FileNotFoundError("no cgroup here counts CPU")
        tree = min(trees, key=lambda tree: tree.version)
        self._outside = tree.directory
        self._group = tree.directory / f"benchmark-{os.getpid()}-{name}"
        self._group.mkdir()
        (self._group / "cgroup.procs").write_text("0")

    def leave(self) -> None:
        """Go back to where we were; our children stay."""
        (self._outside / "cgroup.procs").write_text("0")

    def milliseconds(self) -> float:
        """Of all processes that were ever in the group, or in one below it."""
        usage = self._group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e6
        return int((self._group / "cpu.stat").read_text().split()[1]) / 1e3

    def remove(self) -> None:
        """Once nobody is left in it; some may still be dying."""
        deadline = time.monotonic() + LEAVING_SECONDS
        while self._group.exists() and time.monotonic() < deadline:
            with suppress(OSError):
                for below in sorted(self._group.glob("**/"), reverse=True):
                    below.rmdir()
            time.sleep(0.01)


@contextmanager
def group_for_children(name: str) -> Iterator[Group | None]:
    """A group for what is started within the block; None where there can be none. The caller removes it."""
    try:
        group = Group(name)
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.leave()


@contextmanager
def counting_children() -> Iterator[CpuCount | None]:
    """Counts what the processes use that are started within the block, without this one; None without cgroups."""
    with group_for_children("children") as group:
        if group is None:
            yield None
            return
        yield lambda: group.milliseconds() - own_ms()
    group.remove()
