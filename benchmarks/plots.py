"""The same figures as SVG: no background and middle tones, so that they read on white and on black."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from density import Density
from results import Results, percentile
from ways import BARE, BWRAP, DOCKER, NAMES

mpl.use("svg")
from matplotlib import pyplot as plt  # after the backend was chosen

INK = "#7d8590"
OURS, OTHERS = "#3b8eea", "#d9822b"
mpl.rcParams |= {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "python-executor",  # the same names in each run
    "font.family": "sans-serif",
    "font.size": 11,
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
}


def draw(results: Results, clients: Sequence[int], directory: Path) -> None:
    latency(results, directory / "latency.svg")
    throughput(results, clients, directory / "throughput.svg")
    density(results, directory / "density.svg")


def latency(results: Results, path: Path) -> None:
    """From the soonest to p99, with p50 as a number, on a scale of powers of ten."""
    names = [name for name in NAMES if name in results.times]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(names) + 1))
    for row, name in enumerate(names):
        values = results.times[name]
        p50, p95, p99 = (percentile(values, number) for number in (50, 95, 99))
        axes.plot([min(values), p99], [row, row], color=color_of(name), linewidth=2, alpha=0.5)
        axes.plot([p95], [row], marker="|", markersize=11, color=color_of(name))
        axes.plot([p50], [row], marker="o", markersize=8, color=color_of(name))
        axes.annotate(f"{p50:.1f}", (p50, row), (0, 8), textcoords="offset points", ha="center", fontsize=10)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("ms, one at a time: from the least to p99, p50 as a dot, p95 as a stroke")
    _rows(axes, names)
    _save(figure, path)


def throughput(results: Results, clients: Sequence[int], path: Path) -> None:
    """Runs per second, a panel for each number of clients, all on one scale."""
    names = [name for name in NAMES if name in results.times]
    figure, panels = plt.subplots(1, len(clients), sharey=True, sharex=True, figsize=(9, 0.45 * len(names) + 1))
    most = max(rate.per_second for rate in results.rates.values())
    for axes, number in zip(panels, clients, strict=True):
        rates = [results.rates[name, number].per_second for name in names]
        axes.barh(range(len(names)), rates, color=[color_of(name) for name in names], height=0.6)
        for row, rate in enumerate(rates):
            axes.annotate(f"{rate:.0f}", (rate, row), (4, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_xlim(0, most * 1.25)
        axes.set_xlabel(f"runs/s, {number} client{'s' * (number > 1)}")
        _rows(axes, names)
    _save(figure, path)


def density(results: Results, path: Path) -> None:
    """How soon an eval is answered, and what the sandboxes take, by how many wait."""
    found = [each for each in results.densities.values() if isinstance(each, Density)]
    numbers = [each.sandboxes for each in found]
    p50 = [median(each.evals_ms) for each in found]
    machine = [each.machine_bytes / (1 << 20) if each.machine_bytes > 0 else nan for each in found]  # nan: left out
    private = [each.private_bytes / (1 << 20) for each in found]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.plot(numbers, p50, marker="o", color=OURS)
    left.set_ylim(0, max(p50, default=1) * 1.4)
    left.set_title("eval, p50, ms", loc="left", fontsize=11)
    right.plot(numbers, machine, marker="o", color=OTHERS, label="of the machine, with server and kernel")
    right.plot(numbers, private, marker="o", color=OURS, label="private to the sandboxes")
    right.set_yscale("log")
    right.yaxis.set_major_formatter("{x:,g}")
    right.set_title("memory in total, MiB", loc="left", fontsize=11)
    right.legend(frameon=False, fontsize=10)
    for axes, values, offset in ((left, p50, 8), (right, machine, 8), (right, private, -15)):
        for number, value in zip(numbers, values, strict=True):
            text = "" if isnan(value) else f"{value:.1f}" if axes is left else f"{value:,.0f}"
            axes.annotate(text, (number, value), (0, offset), textcoords="offset points", ha="center", fontsize=10)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axes.minorticks_off()
        axes.margins(0.15, 0.25)
        axes.set_xlabel("sandboxes that wait")
        axes.grid(axis="y")
    _save(figure, path)


def color_of(name: str) -> str:
    return OTHERS if name in (BARE, BWRAP, DOCKER) else OURS


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [name.replace("`", "") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
