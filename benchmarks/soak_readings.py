"""What the soak reads of a server and of the machine, and how it judges what it read.

A reading is a number for each quantity. Growth is the least-squares slope over the executions done, in the readings
from the second tenth of the run to its last, while clients are at work, without those of the first FILLING_SECONDS. A
quantity is judged "flat" where that slope, less twice its standard error, comes over the whole run to less than 2 % of
the quantity or its floor, whichever is more. What can be counted must also come back, once the server is at rest, to
where it started, within its floor. Of a run that is too short for READINGS_MIN the slopes are shown and not judged.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression

from tests.support.bill import Group, sockets, taken
from tests.support.prober import Latency, Prober

KEPT_SECONDS, STORE_MB = 5, 16  # that the server keeps finished executions: little, so that its store is full early
FILLING_SECONDS = 20.0  # until it is, and what is made once has been made
READINGS_MIN = 30  # under load, that make a slope worth judging
MEBIBYTE = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
SHARE = 0.02  # of a quantity, that it may grow by in a whole run
WAITING = 4  # sandboxes more or less that may wait in the pools at the end: their number is the server's affair
OWN_CGROUP = re.compile(r"/sys/.*/python-executor-\w+")

Values = dict[str, float]  # by the name of the quantity


@dataclass(frozen=True)
class Quantity:
    """Something that must not grow; `floor` is the growth in a whole run that is taken for noise, in its unit."""

    name: str
    unit: str
    floor: float
    comes_back: bool = False  # at the end, when nothing runs, to where it started


QUANTITIES = (
    Quantity("memory of the server (RSS)", "MiB", 4),
    Quantity("memory of the zygotes (RSS)", "MiB", 1),
    Quantity("processes below the server", "", 2 * WAITING, comes_back=True),
    Quantity("mounts, the server's", "", 0.5, comes_back=True),
    Quantity("mounts, the machine's", "", 0.5, comes_back=True),
    Quantity("cgroup directories", "", 8 * WAITING, comes_back=True),
    Quantity("descriptors of the server", "", 6 * WAITING, comes_back=True),
    Quantity("descriptors of the zygotes", "", 4 * WAITING, comes_back=True),
    Quantity("sockets of the server", "", 2 * WAITING, comes_back=True),
    Quantity("sockets of the machine", "", 8 * WAITING, comes_back=True),
    Quantity("data directory", "MiB", STORE_MB / 2),  # SQLite's files never shrink: this is their high-water mark
    Quantity("temporary files", "MiB", 0.1, comes_back=True),
    Quantity("kernel memory (SUnreclaim + Percpu)", "MiB", 8),
    Quantity("slab that can be reclaimed", "MiB", 64),  # names and inodes of files, until somebody needs the room
    Quantity("buffers of TCP and UDP", "MiB", 8),
    Quantity("sandboxes' cgroups, charged", "MiB", 16, comes_back=True),
    Quantity("memory of sandboxes, and kernel's that nobody is charged for", "MiB", 32),
    Quantity("delay of the event loop, p99", "ms", 10),
    Quantity("network namespaces (slab objects)", "", 32),
    Quantity("memory cgroups, dying ones too", "", 100),  # which caches of the kernel's hold for a while
)


@dataclass(frozen=True)
class Reading:
    """What was read, after so many seconds and executions."""

    seconds: float
    executions: int
    values: Values


class Reader:
    """Reads all quantities. `pid` is the server's; the prober asks it for /health all the time."""

    def __init__(self, pid: int, prober: Prober, data: Path, temporary: Path) -> None:
        self._pid = pid
        self._prober = prober
        self._probes_seen = 0
        self._data = data
        self._temporary = temporary
        held = links(Path(f"/proc/{pid}/fd"))
        self.cgroups = [Path(path) for path in held if OWN_CGROUP.fullmatch(path)]  # that the server has locked
        self._memory = Group(next(path for path in self.cgroups if (path / "memory.stat").exists()))

    def read(self) -> Values:
        """All quantities that this machine tells of, now."""
        server, levels = Path(f"/proc/{self._pid}"), generations(self._pid)
        zygotes = [Path(f"/proc/{pid}") for pid in levels[2]]
        descriptors = links(server / "fd")
        values: list[float | None] = [
            resident(server),
            sum(resident(zygote) for zygote in zygotes),
            sum(len(level) for level in levels[1:]),
            lines_in(server / "mountinfo"),
            lines_in(Path("/proc/1/mountinfo")),
            sum(groups_in(own) for own in self.cgroups),
            len(descriptors),
            sum(len(links(zygote / "fd")) for zygote in zygotes),
            sum(each.startswith("socket:") for each in descriptors),
            number_after(Path("/proc/net/sockstat"), "sockets: used"),
            size_of(self._data),
            size_of(self._temporary),
            kernel_memory(),
            (number_after(Path("/proc/meminfo"), "SReclaimable:") or 0) / 1024,
            sum(size for name, size in sockets().items() if name.endswith("buffers")) / MEBIBYTE,
            self._memory.charged() / MEBIBYTE,
            taken(self._memory) / MEBIBYTE,
            self._loop_delay(),
            number_after(Path("/proc/slabinfo"), "net_namespace"),
            number_after(Path("/proc/cgroups"), r"memory\s+\d+"),
        ]
        named = zip((quantity.name for quantity in QUANTITIES), values, strict=True)
        return {name: value for name, value in named if value is not None}

    def _loop_delay(self) -> float | None:
        """Milliseconds that /health took since the last reading, at the 99th percentile; None without an answer."""
        self._probes_seen, probes = self._prober.taken_since(self._probes_seen, "health")
        return Latency.of(probes).p99 if probes else None


def generations(root: int) -> list[list[int]]:
    """Processes by their distance from one: itself, guardians, zygotes, then what runs in sandboxes."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    levels = [[root]]
    while levels[-1] or len(levels) < 4:
        levels.append([child for pid in levels[-1] for child in children.get(pid, ())])
    return levels


def resident(process: Path) -> float:
    """MiB; 0 of a process that has ended."""
    with suppress(OSError):
        return int((process / "statm").read_text().split()[1]) * PAGE / MEBIBYTE
    return 0


def links(directory: Path) -> list[str]:
    """Where the links of a directory lead; some may vanish while one looks."""
    found = []
    with suppress(OSError):
        for name in os.listdir(directory):
            with suppress(OSError):
                found.append(os.readlink(directory / name))
    return found


def groups_in(directory: Path) -> int:
    """How many cgroups are in one."""
    with suppress(OSError), os.scandir(directory) as found:
        return sum(entry.is_dir() for entry in found)
    return 0


def lines_in(path: Path) -> float | None:
    """How many; None where it can't be read."""
    with suppress(OSError):
        return path.read_bytes().count(b"\n")
    return None


def number_after(path: Path, words: str) -> float | None:
    """The number that follows the words at the start of a line; None where there is no such line."""
    with suppress(OSError):
        if match := re.search(rf"^{words}\s+(\d+)", path.read_text(), re.MULTILINE):
            return int(match[1])
    return None


def kernel_memory() -> float:
    """MiB of the kernel's own that it can't reclaim, and of what it has for each processor."""
    found = (number_after(Path("/proc/meminfo"), f"{name}:") for name in ("SUnreclaim", "Percpu"))
    return sum(each or 0 for each in found) / 1024


def size_of(directory: Path) -> float:
    """MiB that the files below take on disk."""
    blocks = 0
    for where, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                blocks += os.lstat(os.path.join(where, name)).st_blocks
    return blocks * 512 / MEBIBYTE


# --- judging ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """Of one quantity. `slope` and its standard error `error` are for 10,000 executions, not judged of a short run."""

    quantity: Quantity
    start: float
    end: float
    slope: float
    error: float
    is_judged: bool
    faults: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return ", ".join(self.faults) or ("flat" if self.is_judged else "too short to tell")


def judge(readings: Sequence[Reading], start: Values, end: Values, executions: int) -> list[Judgement]:
    """All quantities that were read; `start` and `end` were read at rest."""
    return [judge_one(each, readings, start, end, executions) for each in QUANTITIES if each.name in start]


def judge_one(
    quantity: Quantity, readings: Sequence[Reading], start: Values, end: Values, executions: int
) -> Judgement:
    """One quantity over the whole run."""
    name = quantity.name
    late = [each for each in readings if each.executions >= executions / 10 and each.seconds >= FILLING_SECONDS]
    points = [(each.executions, each.values[name]) for each in late if name in each.values]
    slope, error = slope_of(points)
    is_judged, faults = len(points) >= READINGS_MIN, []
    if is_judged and (slope - 2 * error) * executions > max(SHARE * fmean(y for _, y in points), quantity.floor):
        faults.append("GROWS")
    left = end.get(name, math.nan) - start[name]
    if quantity.comes_back and left > quantity.floor:
        faults.append(f"{left:g} LEFT")
    return Judgement(
        quantity, start[name], start[name] + left, slope * 10_000, error * 10_000, is_judged, tuple(faults)
    )


def slope_of(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The least-squares slope and its standard error; not a number of points that are too few to tell."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < 5:
        return math.nan, math.nan
    slope, intercept = linear_regression(xs, ys)
    residual = sum((y - slope * x - intercept) ** 2 for x, y in points)
    spread = sum((x - fmean(xs)) ** 2 for x in xs)
    return slope, math.sqrt(residual / (len(points) - 2) / spread)
