"""What libraries need only for some of what they do, going by the signs of it that are found in code.

`optional_needs.tsv` says it: for `to_excel` pandas imports openpyxl, which it does not depend on. A need counts only
where its library is imported, too. Signs are written as the reader of imports (`guest/imports.py`) prints them:

    .to_excel       an attribute, or a name that is imported from a module
    as_frame=       a keyword argument
    "lxml"          a string; "socks5://*" one that begins so, and "*.xls" one that ends so
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SIGN = re.compile(r'\.[A-Za-z_]\w*|[A-Za-z_]\w*=|"[^"*]+\*?"|"\*[^"*]+"')


@dataclass(frozen=True, slots=True)
class Need:
    """One row of the table."""

    library: str  # dotted name of a module: "pandas", "plotly.express"
    signs: tuple[str, ...]  # all of them have to be there; none: importing it is enough
    packages: tuple[str, ...]  # normalized names of distributions
    source: str  # where that is written


@cache
def table() -> tuple[Need, ...]:
    """Return all rows."""
    text = (files(__package__) / "optional_needs.tsv").read_text("ascii")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(
        Need(library, tuple(signs.split()), tuple(packages.split()), source)
        for library, signs, packages, source in rows
    )


@cache
def all_signs() -> tuple[str, ...]:
    """Return what is to be looked for in code."""
    return tuple(sorted({sign for need in table() for sign in need.signs}))


def needs_of(imported: Collection[str], signs: Collection[str]) -> Iterator[Need]:
    """Find the needs of code that imports these dotted names and shows these signs."""
    modules = {name for dotted in imported for name in _prefixes(dotted)}
    return (need for need in table() if need.library in modules and all(sign in signs for sign in need.signs))


def _prefixes(dotted: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`."""
    parts = dotted.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
