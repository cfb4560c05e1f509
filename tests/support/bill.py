"""Who pays for what a sandbox or a stranger does: measured from outside, while it happens.

What a group of processes takes of the machine is more than what its cgroup has charged: the kernel charges nobody for
much that it allocates on behalf of a process. That rest is found by subtraction:

    kernel    = all memory - free - page cache - anonymous pages        of the whole machine
    uncharged = kernel - kernel memory charged to any other cgroup      what others use and pay for drops out
    taken     = uncharged + anonymous pages and page cache of the group

It needs no list of kernel objects, so it sees those that nobody has thought of. What other programs on the machine do
shows only as far as it is kernel memory that is charged to nobody, which is a few MiB.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

MEBIBYTE = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_SECONDS = 0.03
MACHINE_MAX = 2048 * MEBIBYTE  # taken at once, at which the attack is ended: the machine is not ours alone
TCP_BUFFERS = "memory.kmem.tcp.usage_in_bytes"
BREAKDOWN = ("SUnreclaim", "SReclaimable", "PageTables", "KernelStack", "VmallocUsed", "Percpu", "Shmem")


def _keyed(path: Path) -> dict[str, int]:
    """The numbers of a file of `name number` lines, as /proc and cgroups have them."""
    return {name: int(number) for name, number in re.findall(r"^(\w+):?\s+(\d+)", path.read_text(), re.MULTILINE)}


def _number(path: Path) -> int:
    return int(path.read_text())


def meminfo() -> dict[str, int]:
    """/proc/meminfo, in bytes."""
    return {name: kib * 1024 for name, kib in _keyed(Path("/proc/meminfo")).items()}


def _waiting() -> int:
    """Return the bytes of free pages that wait in the processors' own lists: hundreds of MiB, and not in MemFree."""
    counts = re.findall(r"^ +count: +(\d+)", Path("/proc/zoneinfo").read_text(), re.MULTILINE)
    return PAGE * sum(map(int, counts))


def sockets() -> dict[str, int]:
    """The sockets of this network namespace, and the machine's memory in TCP and UDP buffers, in bytes."""
    text = Path("/proc/net/sockstat").read_text()
    used = re.search(r"sockets: used (\d+)", text)
    pages = {name: int(number) for name, number in re.findall(r"^(TCP|UDP): .*mem (\d+)", text, re.MULTILINE)}
    return {"sockets": int(used[1]) if used else 0, **{f"{name} buffers": PAGE * n for name, n in pages.items()}}


class Group:
    """A memory cgroup, of version 1 or 2, with all that is below it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.version = 1 if (directory / "memory.usage_in_bytes").exists() else 2
        top = directory
        while (top.parent / "memory.stat").exists():
            top = top.parent
        self._top = top

    def charged(self) -> int:
        """Return the bytes that the kernel has charged to it, TCP buffers too (version 1 counts them apart)."""
        if self.version == 2:
            return _number(self.directory / "memory.current")
        return _number(self.directory / "memory.usage_in_bytes") + _number(self.directory / TCP_BUFFERS)

    def pages(self) -> int:
        """Return the bytes of its anonymous pages and its page cache."""
        stat = _keyed(self.directory / "memory.stat")
        names = ("total_rss", "total_cache") if self.version == 1 else ("anon", "file")
        return sum(stat[name] for name in names)

    def kernel_of_others(self) -> int:
        """Return the kernel memory that is charged to all other cgroups."""
        return self._kernel(self._top) - self._kernel(self.directory)

    def _kernel(self, directory: Path) -> int:
        if self.version == 1:
            return _number(directory / "memory.kmem.usage_in_bytes") + _number(directory / TCP_BUFFERS)
        stat = _keyed(directory / "memory.stat")
        return stat["kernel"] + stat.get("sock", 0)

    def kill(self) -> None:
        """Kill all that run in it."""
        for file in self.directory.rglob("cgroup.procs"):
            with suppress(OSError):
                for pid in file.read_text().split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)


def taken(group: Group) -> int:
    """Return the bytes of the machine's memory that nobody but this group accounts for. Only differences mean much."""
    free, machine = _waiting(), meminfo()
    kernel = machine["MemTotal"] - free - sum(machine[name] for name in ("MemFree", "Buffers", "Cached", "AnonPages"))
    return kernel - group.kernel_of_others() + group.pages()


@dataclass(frozen=True)
class Family:
    """The processes of a server that live as long as it does, by their part."""

    server: int
    guardians: tuple[int, ...] = ()
    zygotes: tuple[int, ...] = ()

    @classmethod
    def of(cls, server: int) -> Family:
        """Find them: guardians are the server's children, zygotes are theirs."""
        guardians = _children(server)
        return cls(server, guardians, tuple(pid for guardian in guardians for pid in _children(guardian)))

    def resident(self) -> dict[str, int]:
        """Bytes of memory that each part has."""
        parts = {"server": (self.server,), "guardians": self.guardians, "zygotes": self.zygotes}
        return {name: sum(map(_resident, pids)) for name, pids in parts.items()}

    def descriptors(self) -> int:
        """How many the server has open."""
        return len(os.listdir(f"/proc/{self.server}/fd"))


def _children(pid: int) -> tuple[int, ...]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return tuple(int(child) for task in tasks for child in task.read_text().split())


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


Values = dict[str, int]


@dataclass
class Bill:
    """What was seen: at the start, at the worst moment of each quantity, and at the end. Bytes, or numbers."""

    start: Values
    most: Values = field(default_factory=dict)
    end: Values = field(default_factory=dict)
    was_stopped: bool = False  # it took MACHINE_MAX, and was ended

    def grew(self, name: str) -> int:
        """By how much a quantity was above its start, at most."""
        return self.most[name] - self.start[name]

    def left(self, name: str) -> int:
        """By how much it is above its start now."""
        return self.end[name] - self.start[name]

    def mib(self, name: str) -> int:
        """`grew`, in MiB."""
        return round(self.grew(name) / MEBIBYTE)

    def where(self) -> str:
        """In words, the kernel's own names of what grew most."""
        names = sorted((*BREAKDOWN, "TCP buffers", "UDP buffers"), key=self.grew, reverse=True)
        return ", ".join(f"{name} {self.mib(name)}" for name in names[:3] if self.mib(name) > 3)


class Meter:
    """Looks at a group and, where there is one, at a server, again and again."""

    def __init__(self, group: Group, family: Family | None = None) -> None:
        self._group = group
        self._family = family

    def read(self) -> Values:
        """All quantities now."""
        machine = meminfo()
        values = {"taken": taken(self._group), "charged": self._group.charged(), **sockets()}
        values |= {name: machine[name] for name in BREAKDOWN}
        if self._family is not None:
            values |= self._family.resident() | {"descriptors": self._family.descriptors()}
        return values

    @contextmanager
    def watching(self) -> Iterator[Bill]:
        """A bill that is filled in until the end of the block, where the end is read once more."""
        bill = Bill(start=self.read())
        bill.most = dict(bill.start)
        over = threading.Event()

        def look() -> None:
            last = bill.start
            while not over.wait(LOOK_SECONDS):
                values = self.read()
                # The less of two neighbours: the files are read one after the other while others allocate.
                bill.most = {name: max(most, min(values[name], last[name])) for name, most in bill.most.items()}
                last = values
                if bill.grew("taken") > MACHINE_MAX:
                    bill.was_stopped = True
                    self._group.kill()

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield bill
        finally:
            over.set()
            watcher.join()
            bill.end = self.read()

    def settled(self, name: str, wanted: int, seconds: float) -> int:
        """Return a quantity once it is no more than wanted, or what it is when the time is over."""
        deadline = time.monotonic() + seconds
        while (value := self.read()[name]) > wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        return value
