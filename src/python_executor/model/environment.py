"""Packages beside an interpreter: what an execution gets of them, and how far their making has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PIP_NAMES = ("pip", "pip3")  # of programs in front of what stands in for pip (guest/pip.py)
PIP_PROGRAM = "import sys\n\nimport pip\n\nsys.exit(pip.main())\n"


@dataclass(frozen=True, slots=True)
class Package:
    """One that is installed."""

    name: str  # normalized: "scikit-learn"
    version: str


@dataclass(frozen=True, slots=True)
class Environment:
    """A set of installed packages for one interpreter, known by its content."""

    key: str  # "env_" and 32 hexadecimal digits
    packages: tuple[Package, ...]
    name: str | None = None  # of one that the operator has named
    preload: tuple[str, ...] = ()  # modules that its zygote has imported, where it has a name


class Stage(StrEnum):
    """What the making of an environment is at, or the fetching of an image."""

    PULLING = "pulling"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class NamedEnvironment:
    """An environment that the operator has named, as requests can ask for it."""

    name: str
    python: str  # minor version of its interpreter: "3.12"
    requirements: str  # as they were given
    preload: tuple[str, ...]  # modules that its zygote has imported
    key: str  # of the environment that they came to
