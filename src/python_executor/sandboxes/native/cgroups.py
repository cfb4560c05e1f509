"""Control groups: memory, processes and CPU of one sandbox, on v1, v2 and hybrid.

    <our own cgroup>/python-executor-<random>/     this server's, locked with flock while the server lives;
                        │                          bounds what all sandboxes take together
                        └── <number>/              one sandbox's; another's when nothing of it is left

Making and removing a group costs ten times what using it again does, so groups are kept for the next sandbox. One is
used again only if no process is in it, next to no memory is charged to it, and its counters can be reset or taken as
differences; else it is removed. The kernel is first asked to give back what it still keeps for one: names that code has
looked up stay as dentries, until somebody needs the memory. No sandbox sees any of it: no cgroup file system is mounted
there.

On v1 each controller has a tree of its own and the same directories in each. On v2 there is one tree; the server moves
itself into a leaf first, since a group with processes can't pass controllers on. Directories that a killed server left
are found by their lock, which died with it, and removed at the next start.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...model.events import Termination, Usage

PREFIX = "python-executor-"
SOCKET_BUFFERS_MAX = 16 << 20  # bytes; v1 counts them apart from the rest, v2 with it
CPU_PERIOD = 100_000  # microseconds
FILE_MAX = 1 << 16  # bytes of a file that are read
NEEDED = frozenset({"memory", "pids", "cpu"})
LEFT_CHARGED_MAX = (
    1 << 20
)  # bytes that may still be charged to a group that is used again; the kernel counts in batches
LEFT_IN_KERNEL_MAX = 8 << 20  # bytes that the kernel may keep for a group; imports of the largest packages leave less
SPARES_MAX = 16
SWAP_PEAK = "memory.memsw.max_usage_in_bytes"  # of memory and swap together, on v1
CHARGED_AT_ONCE = 1 << 18  # bytes by which a peak stays below its limit at most; the kernel charges 64 pages at a time
SWAP_FILES = ("memory.memsw.limit_in_bytes", "memory.swap.max")  # some kernels lack them
SHARES_TOGETHER = 1024  # of all sandboxes beside the server, which then is never starved by them


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where one tree of cgroups is mounted and which of its groups we are in."""

    version: int
    controllers: frozenset[str]
    directory: Path  # our own group's


def find_hierarchies(proc_self: Path = Path("/proc/self"), groups_of: Path | None = None) -> list[Hierarchy]:
    """All trees with controllers that we need, from /proc/self/cgroup, or another process's, and our mountinfo."""
    own_groups: dict[frozenset[str], str] = {}
    for line in ((groups_of or proc_self) / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        own_groups[frozenset(controllers.split(",")) - {""}] = group
    found = []
    for line in (proc_self / "mountinfo").read_text().splitlines():
        fields = line.split(" ")
        root, mount_point = fields[3], fields[4]
        kind, _, options = fields[fields.index("-") + 1 :]
        if kind == "cgroup2":
            directory = _below(mount_point, root, own_groups.get(frozenset(), "/"))
            found.append(Hierarchy(2, _listed(directory / "cgroup.controllers") & NEEDED, directory))
        elif kind == "cgroup":
            mounted = frozenset(options.split(","))
            for names, group in own_groups.items():
                if names and names <= mounted and names & (NEEDED | {"cpuacct"}):
                    found.append(Hierarchy(1, names, _below(mount_point, root, group)))
    first_mounts: dict[frozenset[str], Hierarchy] = {}
    for hierarchy in found:
        first_mounts.setdefault(hierarchy.controllers, hierarchy)
    return [hierarchy for hierarchy in first_mounts.values() if hierarchy.controllers]


def _below(mount_point: str, root: str, group: str) -> Path:
    """The directory of a group, where a mount may show just a part of the tree."""
    inner = group.removeprefix(root) if group == root or group.startswith(root + "/") else group
    return Path(mount_point) / inner.lstrip("/")


def _listed(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text().split())
    except OSError:
        return frozenset()


class Cgroup:
    """The cgroups of one sandbox, one directory in each hierarchy. Its files stay open, to be used again with it."""

    def __init__(self, directories: dict[Path, Hierarchy]) -> None:
        self._directories = directories
        self._by_controller = {name: path for path, tree in directories.items() for name in tree.controllers}
        self._version = {name: tree.version for tree in directories.values() for name in tree.controllers}
        self._peak = "memory.max_usage_in_bytes" if self._version["memory"] == 1 else "memory.peak"
        self._limits: tuple[int, int, int, float | None] | None = None
        self._has_quota = False
        self.is_spoiled = False  # a process may still come into it: never to be used again
        self._files: dict[tuple[str, str], int] = {}  # descriptors, by controller and name
        self._joins: list[int] = []
        try:
            for path in directories:
                path.mkdir()
            self._remember_memory_events()
        except OSError:
            self.remove()
            raise
        self._cpu_before = 0  # nanoseconds

    def reset(self) -> bool:
        """Make it as good as new; False where that can't be."""
        try:
            if self._has_processes() or self.memory_bytes() > LEFT_CHARGED_MAX:
                return False
            # On v2 that holds for what is read through the same descriptor; before Linux 6.12 it is refused.
            os.pwrite(self._open("memory", self._peak), b"0", 0)
            if self._version["memory"] == 1:
                with suppress(FileNotFoundError):
                    os.pwrite(self._open("memory", SWAP_PEAK), b"0", 0)
            self._remember_memory_events()
            self._cpu_before = self._cpu_nanoseconds()
        except (OSError, ValueError):
            return False
        return True

    def _has_processes(self) -> bool:
        """Tell whether a process is in the group: by their count, which is cheap to ask, and by their list."""
        return self._read("pids", "pids.current") != "0\n" and bool(_processes(self._by_controller["memory"]))

    def set_limits(self, *, memory_bytes: int, processes: int, cpu_shares: int, cpus: float | None = None) -> None:
        """Bound what the group may use, swap included; the CPU share is a weight, `cpus` a quota or None."""
        wanted = (memory_bytes, processes, cpu_shares, cpus)
        if wanted == self._limits:
            return
        self._limits = None  # unknown, until all of it is written
        self._write("pids", "pids.max", processes)
        if self._version["memory"] == 1:
            self._write_if_there("memory", "memory.memsw.limit_in_bytes", -1)  # never below the other
            self._write("memory", "memory.limit_in_bytes", memory_bytes)
            self._write_if_there("memory", "memory.memsw.limit_in_bytes", memory_bytes)
            self._write_if_there("memory", "memory.kmem.tcp.limit_in_bytes", SOCKET_BUFFERS_MAX)  # TCP's and UDP's
        else:
            self._write("memory", "memory.max", memory_bytes)
            self._write_if_there("memory", "memory.swap.max", 0)
            self._write_if_there("memory", "memory.oom.group", 1)
        if self._version["cpu"] == 1:
            self._write("cpu", "cpu.shares", max(2, cpu_shares))
        else:
            self._write("cpu", "cpu.weight", weight_from_shares(cpu_shares))
        self._set_quota(cpus)
        self._limits = wanted

    def _set_quota(self, cpus: float | None) -> None:
        """Microseconds in each period; a new group has none, which is left alone."""
        if cpus is None and not self._has_quota:
            return
        self._has_quota = True  # until it is known to be gone
        quota = max(1000, round(cpus * CPU_PERIOD)) if cpus else None  # the kernel takes no less
        if self._version["cpu"] == 1:
            self._write("cpu", "cpu.cfs_period_us", CPU_PERIOD)
            self._write("cpu", "cpu.cfs_quota_us", quota or -1)
        else:
            self._write("cpu", "cpu.max", f"{quota or 'max'} {CPU_PERIOD}")
        self._has_quota = cpus is not None

    def open_to_join(self) -> list[int]:
        """Descriptors; a process that writes "0" to each has joined. They stay the group's."""
        if not self._joins:
            name = {1: "tasks", 2: "cgroup.procs"}
            joins: list[int] = []
            try:
                for path, tree in self._directories.items():
                    joins.append(os.open(path / name[tree.version], os.O_WRONLY | os.O_CLOEXEC))
            except OSError:
                for fd in joins:
                    os.close(fd)
                raise
            self._joins = joins  # all or none
        return self._joins

    def add(self, pid: int) -> None:
        """Put a process of one thread into the group."""
        for fd in self.open_to_join():
            os.write(fd, str(pid).encode())

    def controllers(self) -> set[str]:
        """Those that have a process of the sandbox in their group."""
        occupied = {path for path in self._directories if _processes(path)}
        return {name for name, path in self._by_controller.items() if path in occupied}

    def verdict(self) -> Termination | None:
        """Tell whether the kernel has killed a process of the group, and if so, for which limit of memory.

        `MEMORY` is that of the group itself, `EVICTED` that of a group above it.
        """
        if self._count_oom_kills() <= self._oom_kills_before:
            return None
        return Termination.MEMORY if self._has_reached_limit() else Termination.EVICTED

    def _remember_memory_events(self) -> None:
        """Count from here: what came before was another tenant's."""
        self._oom_kills_before = self._count_oom_kills()
        self._own_ooms_before = self._count_own_ooms()

    def memory_bytes(self) -> int:
        """Return what is charged to the group now."""
        return int(self._read("memory", "memory.usage_in_bytes" if self._version["memory"] == 1 else "memory.current"))

    def uncounted_bytes(self) -> int:
        """Return what v1 counts in sockets, apart from the rest and without a limit that holds; on v2 it is charged."""
        return int(self._read("memory", "memory.kmem.tcp.usage_in_bytes") or 0) if self._version["memory"] == 1 else 0

    def left_in_kernel(self) -> int:
        """Return the bytes that the kernel keeps for a group without processes, and could give back."""
        try:
            if self._version["memory"] == 1:
                return int(self._read("memory", "memory.kmem.usage_in_bytes") or 0)
            return self._keyed("memory", "memory.stat").get("slab_reclaimable", 0)
        except OSError:
            return 0  # somebody has removed it

    def give_back(self) -> None:
        """Have the kernel free what it keeps for the group. It takes a second for a GiB: not for the event loop."""
        with suppress(OSError):  # a kernel before 5.19 on v2; or not all of it could be freed
            if self._version["memory"] == 1:
                self._write("memory", "memory.force_empty", 0)
            else:
                self._write("memory", "memory.reclaim", self.memory_bytes())

    def usage(self) -> Usage:
        """What the kernel has counted so far."""
        cpu = self._cpu_nanoseconds() - self._cpu_before
        return Usage(cpu_ms=cpu // 1_000_000, memory_peak_bytes=int(self._read("memory", self._peak) or 0))

    def _cpu_nanoseconds(self) -> int:
        if "cpuacct" in self._by_controller:
            return int(self._read("cpuacct", "cpuacct.usage") or 0)
        return self._keyed("cpu", "cpu.stat").get("usage_usec", 0) * 1000

    def remove(self) -> bool:
        """Remove the directories; False while something of the sandbox is still there."""
        for fd in (*self._joins, *self._files.values()):
            os.close(fd)
        self._joins.clear()
        self._files.clear()
        for path in list(self._directories):
            try:
                path.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return False  # busy: of what runs in it, or was killed this moment
            del self._directories[path]
        return True

    def _count_oom_kills(self) -> int:
        name = "memory.oom_control" if self._version["memory"] == 1 else "memory.events"
        return self._keyed("memory", name).get("oom_kill", 0)

    def _has_reached_limit(self) -> bool:
        """Tell whether the group has reached its own limit, not one above it.

        On v1 that is seen by its peak: `failcnt` is not counted for memory and swap together since Linux 6.12, and
        that limit is reached first. On v2 `oom` is counted where the limit is, `oom_kill` where the process was.
        """
        if self._version["memory"] == 1:
            limit = self._limits[0] if self._limits else sys.maxsize
            peak = self._read("memory", SWAP_PEAK) or self._read("memory", self._peak)
            return int(peak or 0) >= limit - CHARGED_AT_ONCE
        return self._count_own_ooms() > self._own_ooms_before

    def _count_own_ooms(self) -> int:
        if self._version["memory"] == 1:
            return 0
        counted = self._keyed("memory", "memory.events.local") or self._keyed("memory", "memory.events")
        return counted.get("oom", 0)

    def _keyed(self, controller: str, name: str) -> dict[str, int]:
        lines = (line.split() for line in self._read(controller, name).splitlines())
        return {key: int(value) for key, value in lines}

    def _read(self, controller: str, name: str) -> str:
        try:
            return os.pread(self._open(controller, name), FILE_MAX, 0).decode()
        except FileNotFoundError:
            return ""

    def _open(self, controller: str, name: str) -> int:
        """The group's descriptor of a file, for writing as well where that is allowed."""
        fd = self._files.get((controller, name))
        if fd is None:
            path = self._by_controller[controller] / name
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except PermissionError:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[controller, name] = fd
        return fd

    def _write(self, controller: str, name: str, value: int | str) -> None:
        _write(self._by_controller[controller] / name, value)

    def _write_if_there(self, controller: str, name: str, value: int) -> None:
        with suppress(FileNotFoundError):
            self._write(controller, name, value)


class CgroupTree:
    """This server's part of the machine's cgroups."""

    def __init__(self, hierarchies: list[Hierarchy]) -> None:
        """Takes what it needs of `hierarchies`; OSError where we may not make groups there."""
        self._hierarchies = hierarchies
        missing = NEEDED - {name for tree in hierarchies for name in tree.controllers}
        if missing:
            raise FileNotFoundError(f"no cgroup controller for {', '.join(sorted(missing))}")
        self._name = PREFIX + secrets.token_hex(6)
        self._number = 0
        self._spares: deque[Cgroup] = deque()
        self._discarded: list[Cgroup] = []
        self._laden: list[Cgroup] = []  # for which the kernel keeps much, until somebody has it given back
        self._locks: list[int] = []
        try:
            for tree in hierarchies:
                sweep(tree.directory)
                self._claim(tree)
        except OSError:
            self.close()
            raise

    def _claim(self, tree: Hierarchy) -> None:
        if tree.version == 2:
            _make_room_for_controllers(tree)
        own = tree.directory / self._name
        while not own.exists():  # another server that starts now may take it for a dead one's, until it is locked
            own.mkdir()
            with suppress(FileNotFoundError):
                self._locks.append(lock := os.open(own, os.O_RDONLY | os.O_CLOEXEC))
                fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.version == 2:
            _pass_on(own, tree.controllers)

    def bound(self, *, memory_bytes: int, processes: int) -> None:
        """Bound what all sandboxes take together, swap included; OSError where that failed.

        Where the limit is reached the kernel kills the largest, whose own limit may be far: it is to be more than
        what has been promised.
        """
        for tree in self._hierarchies:
            for name, value in _bounds(tree, memory_bytes, processes):
                _write(tree.directory / self._name / name, value, may_be_missing=name in SWAP_FILES)

    def acquire(self) -> Cgroup:
        """Groups for one sandbox, in which nothing has been counted: used ones, or new ones."""
        while self._spares:
            cgroup = self._spares.popleft()  # the one that has had the longest to settle
            if cgroup.reset():
                return cgroup
            self._discard(cgroup)
        self._number += 1
        return Cgroup({tree.directory / self._name / str(self._number): tree for tree in self._hierarchies})

    def release(self, cgroup: Cgroup) -> None:
        """Take back the groups of a sandbox of which no process is left."""
        if cgroup.left_in_kernel() > LEFT_IN_KERNEL_MAX:
            self._laden.append(cgroup)
        else:
            self._keep(cgroup)

    def take_laden(self) -> list[Cgroup]:
        """Return the groups that are to be emptied with `give_back()` and handed in again with `emptied()`."""
        laden, self._laden = self._laden, []
        return laden

    def emptied(self, cgroup: Cgroup) -> None:
        """Take back a group of which the kernel has given back what it could."""
        self._keep(cgroup)

    def _keep(self, cgroup: Cgroup) -> None:
        if len(self._spares) < SPARES_MAX and not cgroup.is_spoiled:
            self._spares.append(cgroup)
        else:
            self._discard(cgroup)

    def _discard(self, cgroup: Cgroup) -> None:
        """Remove it, and what could not be removed before: a process of the server's own may just be ending there."""
        self._discarded = [each for each in (*self._discarded, cgroup) if not each.remove()]

    def close(self) -> None:
        """Remove what is ours; whatever is not empty yet goes at the next start."""
        for cgroup in (*self._spares, *self._laden):
            self._discard(cgroup)
        self._spares.clear()
        self._laden.clear()
        for tree in self._hierarchies:
            with suppress(OSError):
                _remove_tree(tree.directory / self._name)
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()


def _bounds(tree: Hierarchy, memory_bytes: int, processes: int) -> Iterator[tuple[str, int]]:
    """Yield what the files of the group of all sandboxes are to hold, in the order in which the kernel takes it."""
    is_first_version = tree.version == 1
    if "pids" in tree.controllers:
        yield "pids.max", processes
    if "memory" in tree.controllers and is_first_version:
        yield "memory.memsw.limit_in_bytes", -1  # never below the other
        yield "memory.limit_in_bytes", memory_bytes
        yield "memory.memsw.limit_in_bytes", memory_bytes
    elif "memory" in tree.controllers:
        yield "memory.max", memory_bytes
        yield "memory.swap.max", 0
    if "cpu" in tree.controllers and is_first_version:
        yield "cpu.shares", SHARES_TOGETHER
    elif "cpu" in tree.controllers:
        yield "cpu.weight", weight_from_shares(SHARES_TOGETHER)


def _write(path: Path, value: int | str, *, may_be_missing: bool = False) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)  # never making it
    except FileNotFoundError:
        if may_be_missing:
            return
        raise
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _make_room_for_controllers(tree: Hierarchy) -> None:
    """Move ourselves into a leaf, so that our group may have children with controllers."""
    leaf = tree.directory / "server.python-executor"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text("0")
    _pass_on(tree.directory, tree.controllers)


def _pass_on(directory: Path, controllers: frozenset[str]) -> None:
    try:
        (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(controllers)))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise OSError(
            errno.EBUSY,
            f"other processes are in {directory}: start the server in a group of its own, as a unit with Delegate=yes "
            "or with `systemd-run --scope -p Delegate=yes`",
        ) from error


def sweep(directory: Path) -> None:
    """Remove groups whose server is dead: their lock is free. Their processes died with it, or die now."""
    for own in directory.glob(PREFIX + "*"):
        with suppress(OSError):
            lock = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_tree(own)
            finally:
                os.close(lock)


def _remove_tree(own: Path) -> None:
    """With all below it: a server may have run inside of a sandbox's group, as in a test of ours."""
    for group in [*sorted(own.glob("**/"), reverse=True)]:
        for pid in _processes(group):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        group.rmdir()


def _processes(group: Path) -> list[int]:
    """Those in it now. The file is opened for it: on v1, one that stays open shows what it has shown before."""
    fd = os.open(f"{group}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [int(pid) for pid in os.read(fd, FILE_MAX).split() if pid != b"0"]
    finally:
        os.close(fd)


def weight_from_shares(shares: int) -> int:
    """v2's weight for v1's shares, as runc converts them: 2-262144 to 1-10000."""
    return max(1, min(10_000, 1 + (shares - 2) * 9999 // 262_142))
