"""The programs that are compared with plain Python: `programs/THEME/NAME.py`, or `programs/THEME/NAME/` with a main.py.

What a program needs beside itself is in its first comment, as TOML:

    # /// plain
    # argv = ["--verbose"]
    # stdin = "3\\n1 2 3\\n"
    # env = { TZ = "Asia/Tokyo" }
    # python = ">=3.10"            versions that it runs on
    # normalize = ["addresses"]    what may differ from run to run: `NORMALIZATIONS`
    # sample = true                part of every `make test`, and not of `make test-all` alone
    # ///

What differs today is in `differences.toml`, each with its reason; a test fails where one of these is none any more.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from packaging.specifiers import SpecifierSet

HERE = Path(__file__).parent
_HEADER = re.compile(rb"^# /// plain\n((?:#.*\n)*?)# ///$", re.MULTILINE)
NORMALIZATIONS: dict[str, tuple[bytes, bytes]] = {
    "addresses": (rb"0x[0-9a-f]{6,}", b"0x..."),
    "seconds": (rb"\b\d+\.\d+s\b", b"0.000s"),
}


@dataclass(frozen=True)
class Program:
    """Files, and how they are run."""

    name: str
    files: Mapping[str, bytes]
    argv: tuple[str, ...] = ()
    stdin: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    normalize: tuple[str, ...] = ()
    sample: bool = False

    def runs_on(self, version: str) -> bool:
        """Whether an interpreter of this minor version can run it."""
        return SpecifierSet(self.python).contains(version)

    def normalized(self, output: bytes) -> bytes:
        """What it printed, without what differs from run to run."""
        for name in self.normalize:
            output = re.sub(*NORMALIZATIONS[name], output)
        return output


@dataclass(frozen=True)
class Difference:
    """A way in which programs differ from plain Python today."""

    programs: tuple[str, ...]  # their names
    how: tuple[str, ...]  # "fork", "fresh", "container"
    python: str
    reason: str

    def applies(self, program: Program, version: str, how: str) -> bool:
        """Whether this program differs there."""
        return how in self.how and program.name in self.programs and SpecifierSet(self.python).contains(version)


@cache
def programs() -> tuple[Program, ...]:
    """All of them, by name."""
    return tuple(_programs())


@cache
def differences() -> tuple[Difference, ...]:
    """What is known to differ. A reason in one line says what, and why."""
    listed = tomllib.loads((HERE / "differences.toml").read_text()).get("difference", [])
    every = ("fork", "fresh", "container")
    return tuple(
        Difference(tuple(each["programs"]), tuple(each.get("how", every)), each.get("python", ""), each["reason"])
        for each in listed
    )


def reason_to_differ(program: Program, version: str, how: str) -> str | None:
    """Why it is known to differ there, if it is."""
    return next((each.reason for each in differences() if each.applies(program, version, how)), None)


def _programs() -> Iterator[Program]:
    for place in sorted((HERE / "programs").glob("*/*")):
        if place.is_dir() and place.name != "__pycache__":
            yield _program(place, {str(path.relative_to(place)): path for path in _files_of(place)})
        elif place.suffix == ".py":
            yield _program(place.with_suffix(""), {"main.py": place})


def _files_of(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _program(place: Path, paths: Mapping[str, Path]) -> Program:
    files = {name: path.read_bytes() for name, path in paths.items()}
    found = _HEADER.search(files["main.py"])
    fields = tomllib.loads(re.sub(r"(?m)^# ?", "", found[1].decode())) if found else {}
    for name in ("argv", "normalize"):
        fields[name] = tuple(fields.get(name, ()))
    return Program(str(place.relative_to(HERE / "programs")), files, **fields)
