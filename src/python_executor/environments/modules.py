"""Which modules an environment has, going by the names of its files: a distribution may not have what was imported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_INSTALLED = re.compile(r"lib(?:64)?/python3\.\d+/site-packages/(.+)")
_MODULE = re.compile(r"([A-Za-z_]\w*)\.(?:[^/]*\.)?(?:py|pyc|so)")
_HOOK = "distutils-precedence.pth"  # setuptools' own, which gives `distutils` and nothing else


def missing(names: Collection[str], paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the dotted names that are no modules of these files of an environment, in their order.

    Nothing is missing where a `.pth` file may give more than the files tell.
    """
    asked = set(names)
    found: set[str] = set()
    for path in paths:
        installed = _INSTALLED.fullmatch(path)
        if installed is None:
            continue
        *directories, file = installed[1].split("/")
        if not directories and file.endswith(".pth"):
            if file != _HOOK:
                return ()
            found.add("distutils")
        found |= asked.intersection(_modules(directories, file))
    return tuple(name for name in names if name not in found)


def _modules(directories: list[str], file: str) -> Iterable[str]:
    """Dotted names of the directories, which may all be packages, and of the file in them."""
    parts = list(directories)
    if module := _MODULE.fullmatch(file):
        parts.append(module[1])
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
