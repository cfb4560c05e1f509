"""Environments that the operator has named: a small file each, beside the cache, which any process may read.

What a name stands for is a lock, so it stays the same until it is defined anew, also when its files are made again.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..model.environment import NamedEnvironment

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a name stands for."""

    name: str
    python: str  # minor version
    requirements: str  # as they were given
    preload: tuple[str, ...]
    key: str
    lock: str

    @property
    def described(self) -> NamedEnvironment:
        """For those who ask what there is."""
        return NamedEnvironment(self.name, self.python, self.requirements, self.preload, self.key)


class Definitions:
    """All of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[str, tuple[int, Definition]] = {}  # and when the file was changed, in ns

    def open(self) -> None:
        """Make the directory."""
        self._directory.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[Definition]:
        """By name."""
        names = sorted(path.name.removesuffix(SUFFIX) for path in self._directory.glob(f"*{SUFFIX}"))
        return [definition for name in names if (definition := self.get(name)) is not None]

    def get(self, name: str) -> Definition | None:
        """As it is on disk now; its file is read when it has changed."""
        if not NAME.fullmatch(name):
            return None
        path = self._directory / f"{name}{SUFFIX}"
        try:
            changed = path.stat().st_mtime_ns
            if name not in self._read or self._read[name][0] != changed:
                self._read[name] = changed, _definition(path)
            return self._read[name][1]
        except (OSError, ValueError, KeyError, TypeError):
            self._read.pop(name, None)
            return None

    def put(self, definition: Definition) -> None:
        """Define it, or define it anew."""
        self.open()
        path = self._directory / f"{definition.name}{SUFFIX}"
        new = path.with_suffix(f".{os.getpid()}")
        with open(new, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **asdict(definition)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())  # nothing else could tell what a name stood for
        os.replace(new, path)

    def remove(self, name: str) -> bool:
        """Whether there was one."""
        with suppress(OSError):
            if NAME.fullmatch(name):
                (self._directory / f"{name}{SUFFIX}").unlink()
                return True
        return False


def _definition(path: Path) -> Definition:
    data = json.loads(path.read_text())
    if data.pop("format") != FORMAT:
        raise ValueError("another version's")
    return Definition(**{**data, "preload": tuple(data["preload"])})
