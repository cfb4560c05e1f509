"""Bounds the bytes of requests that the server holds: while they are received, while they wait, while they run.

Counts of requests bound nothing where one may have 16 MiB of input in memory and an archive of 100 MiB on disk. Memory
and files are bounded apart. What is small is counted and never refused, so that it does not wait behind what is large:
its number is bounded already.
"""

from __future__ import annotations

import os

from ..model.errors import QueueFull
from ..model.spec import MEBIBYTE, ExecutionSpec

SMALL_BYTES = 64 * 1024
ENTRY_BYTES = 400  # of memory for each file, directory and link of a tree


class Holdings:
    """Knows how much is held, for all requests together."""

    def __init__(self, memory_max: int, files_max: int) -> None:
        self._memory_max = memory_max
        self._files_max = files_max
        self.memory = 0
        self.files = 0

    def hold(self) -> Hold:
        """Return one that holds nothing yet."""
        return Hold(self)

    def check(self) -> None:
        """Raise `QueueFull` where more is held than may be."""
        for name, held, most in (
            ("QUEUE_MAX_MB", self.memory, self._memory_max),
            ("SPOOL_MAX_MB", self.files, self._files_max),
        ):
            if held > most:
                raise QueueFull(
                    f"the server is busy: it holds {most // MEBIBYTE} MiB of requests, the most that it may ({name}): "
                    "try again in a few seconds"
                )


class Hold:
    """What is held for one request."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self.memory = 0
        self.files = 0

    def take(self, *, memory: int = 0, files: int = 0) -> None:
        """Hold so many bytes more. Raises `QueueFull` where they are too many; `release` gives back these, too."""
        self._add(memory, files)
        if self.memory + self.files > SMALL_BYTES:
            self._holdings.check()

    def release(self) -> None:
        """Give all of it back; idempotent."""
        self._add(-self.memory, -self.files)

    def _add(self, memory: int, files: int) -> None:
        self.memory += memory
        self.files += files
        self._holdings.memory += memory
        self._holdings.files += files


def memory_of(spec: ExecutionSpec) -> int:
    """Return about how many bytes of memory a spec takes."""
    content = spec.tree.content
    strings = (*spec.args, *spec.pre_commands, *(value for _, value in spec.env), spec.requirements)
    in_memory = len(content) if isinstance(content, bytes) else 0
    return in_memory + len(spec.stdin) + sum(map(len, strings)) + ENTRY_BYTES * len(spec.tree.entries)


def files_of(spec: ExecutionSpec) -> int:
    """Return how many bytes of files a spec takes."""
    content = spec.tree.content
    return 0 if isinstance(content, bytes) else content.seek(0, os.SEEK_END)  # nobody reads from where it stands
