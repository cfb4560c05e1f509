"""What came out of a soak: as tables on the terminal, as Markdown, and as a picture."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table
from soak_readings import SHARE, Judgement, Reading

BAR = 1.3  # p99 of plain evals in the last tenth, against the first
EVALS_MIN = 500  # in a tenth, that make its p99 worth comparing
SHOWN = 10  # wrong answers
POINTS = 120  # of a curve, at most
GREY = "#808080"  # can be read on white and on black
MEMORY = {  # the curves drawn, by label
    "server's RSS": "memory of the server (RSS)",
    "zygotes' RSS": "memory of the zygotes (RSS)",
    "kernel": "kernel memory (SUnreclaim + Percpu)",
    "TCP and UDP": "buffers of TCP and UDP",
}
COUNTS = {
    "processes": "processes below the server",
    "cgroup directories": "cgroup directories",
    "server's descriptors": "descriptors of the server",
}


@dataclass(frozen=True)
class Tenth:
    """A tenth of the run: its length in seconds, and the milliseconds of the plain evals in it, sorted."""

    seconds: float
    milliseconds: list[float]

    def percentile(self, part: int) -> float:
        """In milliseconds."""
        return quantiles(self.milliseconds, n=100)[part - 1] if len(self.milliseconds) > 1 else float("nan")


@dataclass(frozen=True, kw_only=True)
class Soak:
    """All that is known afterwards."""

    executions: int
    seconds: float
    clients: int
    python: str
    kinds: dict[str, tuple[int, int]]  # by name: how many were done, how many were right
    plain: tuple[int, int]  # the same of the plain evals
    wrong: list[str]
    tenths: list[Tenth]
    readings: list[Reading]
    judgements: list[Judgement]
    faults: list[str]

    @property
    def ratio(self) -> float:
        """Of the last tenth's p99 to the first's."""
        return self.tenths[-1].percentile(99) / self.tenths[0].percentile(99)

    @property
    def is_compared(self) -> bool:
        """Whether the tenths are long enough for that."""
        return min(len(self.tenths[0].milliseconds), len(self.tenths[-1].milliseconds)) >= EVALS_MIN

    @property
    def latency_verdict(self) -> str:
        """In a word or two."""
        if not self.is_compared:
            return f"not judged: fewer than {EVALS_MIN} evals in a tenth"
        return "held" if self.ratio <= BAR else "MISSED"

    @property
    def is_good(self) -> bool:
        """Whether everything is as it should be."""
        grown = any(judgement.faults for judgement in self.judgements)
        return not (self.wrong or self.faults or grown or self.latency_verdict == "MISSED")

    def headline(self) -> str:
        """What was done, where and when; neither a host's name nor a path."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
        cgroups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
        return (
            f"{self.executions:,} executions and {self.plain[0]:,} plain evals in {self.seconds / 60:.1f} minutes, "
            f"{self.executions / self.seconds:.0f} a second, {self.clients} clients. Python {self.python}, Linux "
            f"{platform.release()}, cgroup {cgroups}, {os.cpu_count()} cores, {memory:.0f} GiB, "
            f"{time.strftime('%Y-%m-%d')}."
        )


Rows = list[list[str]]


def reading_rows(soak: Soak) -> Rows:
    """Quantity, start, end, slope, verdict."""
    rows = [["", "at rest, start", "at rest, end", "slope per 10,000", "verdict"]]
    for each in soak.judgements:
        unit = each.quantity.unit
        slope = "" if math.isnan(each.slope) else f"{each.slope:+.2f} ± {each.error:.2f} {unit}".rstrip()
        rows.append([each.quantity.name, amount(each.start, unit), amount(each.end, unit), slope, each.verdict])
    return rows


def amount(value: float, unit: str) -> str:
    """A value with its unit."""
    return f"{value:.1f} {unit}" if unit else f"{value:.0f}"


def latency_rows(soak: Soak) -> Rows:
    """p50 and p99 of each tenth."""
    rows = [["tenth", *(str(number) for number in range(1, len(soak.tenths) + 1))]]
    rows.append(["p50 ms", *(f"{tenth.percentile(50):.1f}" for tenth in soak.tenths)])
    rows.append(["p99 ms", *(f"{tenth.percentile(99):.1f}" for tenth in soak.tenths)])
    rows.append(["seconds", *(f"{tenth.seconds:.0f}" for tenth in soak.tenths)])
    return rows


def kind_rows(soak: Soak) -> Rows:
    """Kind, done, right."""
    rows = [["kind", "done", "right"], ["plain evals, at a steady pace", *(f"{count:,}" for count in soak.plain)]]
    return rows + [[kind, f"{done:,}", f"{right:,}"] for kind, (done, right) in soak.kinds.items()]


def latency_line(soak: Soak) -> str:
    """The comparison that the bar is for."""
    first, last = soak.tenths[0].percentile(99), soak.tenths[-1].percentile(99)
    return (
        f"p99 of plain evals: {first:.1f} ms in the first tenth, {last:.1f} ms in the last, ratio {soak.ratio:.2f}, "
        f"bar {BAR:g}: {soak.latency_verdict}."
    )


def end_line(soak: Soak) -> str:
    """Answers and what was left."""
    answers = f"{len(soak.wrong)} answers were wrong" if soak.wrong else "Every answer was right"
    left = "" if soak.faults else "; after SIGTERM no process, mount, cgroup directory or temporary file was left"
    return f"{answers}{left}."


def bad_lines(soak: Soak) -> list[str]:
    """The first wrong answers, and all else that failed."""
    return [each[:500] for each in [*soak.wrong[:SHOWN], *soak.faults[:SHOWN]]]


# --- on the terminal --------------------------------------------------------------------------------------------------


def print_tables(soak: Soak) -> None:
    """Everything."""
    console = Console(width=120)
    for rows in (kind_rows(soak), latency_rows(soak), reading_rows(soak)):
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for line in (soak.headline(), latency_line(soak), end_line(soak), *bad_lines(soak)):
        console.print(line, markup=False, highlight=False)


# --- in files ---------------------------------------------------------------------------------------------------------


def write_results(soak: Soak, directory: Path) -> None:
    """`soak.md` and `soak.svg`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "soak.md").write_text(markdown(soak))
    draw(soak, directory / "soak.svg")


def markdown(soak: Soak) -> str:
    """The page."""
    parts = [
        "# Soak: `make soak`",
        soak.headline(),
        end_line(soak) + " " + latency_line(soak),
        "![Memory, latency and counts over the executions](soak.svg)",
        "## What must not grow",
        markdown_table(reading_rows(soak)),
        "At rest: after the warm-up, and after the last execution. The slope is that of least squares through the "
        f"readings taken under load, one every two seconds, from the second tenth to the last, with its standard "
        f"error. Flat: the slope less twice its error comes over the whole run to less than {SHARE:.0%} of the "
        "quantity or to what is noise for it (`benchmarks/soak_readings.py`), whichever is more, and what is countable "
        "came back to where it was. Kernel memory, slab, buffers, namespaces, memory cgroups and the machine's sockets "
        "are those of the whole machine; the loop's delay is what GET /health takes, in each two seconds.",
        "## Latency of a plain eval, beside all of this",
        markdown_table(latency_rows(soak)),
        "## Answers",
        markdown_table(kind_rows(soak)),
    ]
    if bad := bad_lines(soak):
        parts += ["## What went wrong", "\n".join(f"* `{line}`" for line in bad)]
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: Rows) -> str:
    """Rows, the first of them the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def draw(soak: Soak, path: Path) -> None:
    """Memory, latency and counts over executions."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "soak", "font.size": 9, "text.color": GREY, "axes.labelcolor": GREY,
        "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY, "axes.spines.top": False,
        "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.4,
    })  # fmt: skip
    from matplotlib import pyplot

    figure, (memory, latency, counts) = pyplot.subplots(3, 1, sharex=True, figsize=(8, 8), layout="constrained")
    figure.patch.set_alpha(0)
    for axes, label in ((memory, "MiB"), (latency, "ms, plain eval"), (counts, "how many")):
        axes.patch.set_alpha(0)
        axes.set_ylabel(label)
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    for axes, curves in ((memory, MEMORY), (counts, COUNTS)):
        for label, name in curves.items():
            axes.plot(*curve(soak.readings, name), label=label)
    size = soak.executions / len(soak.tenths)
    edges = [size * number for number in range(len(soak.tenths) + 1)]
    for part in (50, 99):
        latency.stairs([tenth.percentile(part) for tenth in soak.tenths], edges, label=f"p{part}", baseline=None)
    counts.set_xlabel("executions")
    for axes in (memory, latency, counts):
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=3, labelcolor=GREY)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def curve(readings: Sequence[Reading], name: str) -> tuple[list[float], list[float]]:
    """Executions and values of one quantity, as medians of neighbouring readings."""
    known = [(reading.executions, reading.values[name]) for reading in readings if name in reading.values]
    step = max(1, -(-len(known) // POINTS))
    groups = [known[start : start + step] for start in range(0, len(known), step)]
    return [median(x for x, _ in group) for group in groups], [median(y for _, y in group) for group in groups]
