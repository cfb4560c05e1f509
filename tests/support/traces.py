"""What a server and its sandboxes have on this machine, counted: processes, namespaces, cgroups, mounts, files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tests.support.server import ServerProcess


@dataclass(frozen=True)
class Traces:
    """What a server and its sandboxes have on this machine, by number."""

    processes: int
    namespaces: int
    cgroups: int
    mounts: int
    descriptors: int
    files: int

    def __le__(self, other: Traces) -> bool:
        return all(getattr(self, field.name) <= getattr(other, field.name) for field in fields(self))

    def with_spares(self, count: int) -> Traces:
        """This, and what is kept of so many sandboxes to be used again: network namespaces and open cgroups."""
        return replace(
            self,
            namespaces=self.namespaces + 2 * count,  # of two boxes, where both kinds of requests come
            cgroups=self.cgroups + 4 * count,  # one in each tree
            descriptors=self.descriptors + 12 * count,
        )


def descendants(root: int) -> set[int]:
    """A process and all below it, across PID namespaces."""
    parents: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(directory.name)] = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root} & set(parents)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sleepers(root: int, seconds: int = 600) -> list[int]:
    """Processes below one that run `sleep SECONDS`, as code does of which a test wants to see that it has begun."""
    found = []
    for pid in descendants(root):
        with suppress(OSError):
            if b"sleep\0%d\0" % seconds in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether something comes true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def targets(directory: Path) -> set[str]:
    """Where the links of a directory of /proc lead; some may vanish while one looks."""
    found = set()
    with suppress(OSError):
        for link in directory.glob("*"):
            with suppress(OSError):
                found.add(os.readlink(link))
    return found


def namespaces(pids: set[int]) -> set[str]:
    """Those of the processes, and those that their descriptors keep alive."""
    found: set[str] = set()
    for pid in pids:
        found |= targets(Path(f"/proc/{pid}/ns")) | targets(Path(f"/proc/{pid}/fd"))
    own = targets(Path("/proc/self/ns"))
    return {name for name in found - own if ":[" in name and name.split(":")[0] in NAMESPACES}


NAMESPACES = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}


def cgroups(server: ServerProcess) -> set[Path]:
    """Those below the directories that the server holds locked; also after its end, as it was first seen."""
    if server not in LOCKED:
        assert server.process is not None
        held = targets(Path(f"/proc/{server.process.pid}/fd"))
        LOCKED[server] = {Path(path) for path in held if re.search(r"^/sys/.*/python-executor-\w+$", path)}
    return {group for own in LOCKED[server] if own.exists() for group in [own, *own.glob("*/")]}


LOCKED: dict[ServerProcess, set[Path]] = {}


def traces(server: ServerProcess, files: Path | None = None) -> Traces:
    """All that there is now; `files` is where its temporary ones are."""
    assert server.process is not None
    pid = server.process.pid
    family = descendants(pid)
    return Traces(
        processes=len(family),
        namespaces=len(namespaces(family)),
        cgroups=len(cgroups(server)),
        mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
        descriptors=len(list(Path(f"/proc/{pid}/fd").glob("*"))),
        files=len(list(files.iterdir())) if files else 0,
    )


def settled(look: Callable[[], Traces], bound: Traces | None = None, interval: float = 0.2) -> Traces:
    """What is there once five looks in a row agree, or once it is no more than the bound."""
    looks, deadline = [look()], time.monotonic() + 20
    while time.monotonic() < deadline:
        if looks[-1] <= bound if bound else len(looks) >= 5 and len(set(looks[-5:])) == 1:
            break
        time.sleep(interval)
        looks.append(look())
    return looks[-1]
