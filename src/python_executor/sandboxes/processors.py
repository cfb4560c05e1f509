"""Which processors a sandbox keeps to that may use fewer than there are.

Whatever counts processors, in Python or in C, reads a process's affinity in the end: it is made as small as the limit,
for as long as the sandbox runs. That is no boundary, since code may take it back: the quota of its control group is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager


class Processors:
    """Shares out the processors that we have ourselves, each to as few sandboxes as possible."""

    def __init__(self, usual_cpus: float | None, total: int | None = None) -> None:
        total = total or len(os.sched_getaffinity(0))
        self._users = [0] * total  # how many sandboxes keep to each
        self._latest = -1  # the place of the one that was chosen last
        self.usual = self.needed(usual_cpus)

    def needed(self, cpus: float | None) -> int:
        """Return how many a limit of `cpus` is about; 0 where it leaves all of them."""
        count = math.ceil(cpus or 0)
        return count if count < len(self._users) else 0

    @contextmanager
    def some(self, cpus: float | None) -> Iterator[tuple[int, int] | None]:
        """Choose as many, in a row: the place of the first among ours, and how many; None where it may use all."""
        count = self.needed(cpus)
        if not count:
            yield None
            return
        places = self._least_used(count)
        for place in places:
            self._users[place] += 1
        try:
            yield places[0], count
        finally:
            for place in places:
                self._users[place] -= 1

    def _least_used(self, count: int) -> list[int]:
        total = len(self._users)
        rows = ([(self._latest + step + n) % total for n in range(count)] for step in range(1, total + 1))
        places = min(rows, key=lambda row: sum(self._users[place] for place in row))
        self._latest = places[-1]
        return places
