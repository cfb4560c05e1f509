"""What one run of the suite has measured, and the figures that are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median, quantiles

from density import Density, SandboxMemory
from load import Rate
from ways import BARE


@dataclass(slots=True)
class Results:
    """Filled in while the suite goes on; a sentence stands where something can't be had on this machine."""

    facts: dict[str, str]  # the machine, versions, the date
    start_hooks: int  # files that run code whenever this interpreter starts
    absent: dict[str, str] = field(default_factory=dict)  # by the way's name: why it was not measured
    times: dict[str, list[float]] = field(default_factory=dict)  # milliseconds, by the way's name
    rates: dict[tuple[str, int], Rate] = field(default_factory=dict)  # by the way's name and the number of clients
    further: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)  # by the work: bare, over HTTP
    client: dict[str, list[float]] = field(default_factory=dict)
    memory: SandboxMemory | str = "not measured"
    densities: dict[int, Density | str] = field(default_factory=dict)
    cores: tuple[Rate, Rate] | str = "not measured"  # the server on one core, and on all

    @property
    def bare_p50(self) -> float:
        return median(self.times[BARE])

    def to_bare(self, name: str, clients: int) -> float:
        """Runs per second, over bare's from as many threads."""
        return self.rates[name, clients].per_second / self.rates[BARE, clients].per_second


def percentile(values: list[float], number: int) -> float:
    return quantiles(values, n=100, method="inclusive")[number - 1]
