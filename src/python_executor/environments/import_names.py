"""From the names that code imports to the distributions of a package index that provide them.

`import_names.tsv` holds the names that differ (`cv2`, `google.cloud.storage`), made by `scripts/make-import-names`;
for all others the distribution has the name of the import. Whether it exists, only the index knows.

What a sandbox finds by parsing (guest/imports.py) is exact, but takes a sandbox. `candidates` looks at the bytes of
code first, and says which top-level names that could be: at most too many, never too few. It has one pattern, in which
no name is a keyword: what starts at one keyword ends before the next, and nothing that is given back can be matched in
another way, so that it takes linear time on any input. Groups are not possessive: before 3.11.5 Python gets that wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

ANYTHING = "*"  # among candidates: some name that bytes alone don't tell
_NO_DISTRIBUTION = "-"  # in the table: a name that many distributions share, and none of them owns
_MAX_NAME_LENGTH = 100
_PLAUSIBLE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")

_SPACE = rb"(?:[ \t\f]|\\(?:\r\n?|\n))"  # within a statement, lines continued included
_NAME = rb"(?!(?:import|from|as)(?![\w\x80-\xff]))[\w\x80-\xff]++"
_DOTTED = rb"%(name)s(?:%(space)s*\.%(space)s*%(name)s)*" % {b"name": _NAME, b"space": _SPACE}
_ITEM = rb"%(dotted)s(?:%(space)s+as%(space)s+%(name)s)?" % {b"dotted": _DOTTED, b"name": _NAME, b"space": _SPACE}
_IMPORT = re.compile(
    rb"""
    from (?<![\w\x80-\xff]from) (?:
        [ \t\f]*+ \. (?:[ \t\f.]*+ %(name)s)* [ \t\f.]*+ import\b  # relative
        | [ \t\f]++ (%(name)s) (?:[ \t\f]*+ \. [ \t\f]*+ %(name)s)* [ \t\f]*+ import\b
        # continued: the `import` is looked at again, as it may also begin the line after a comment
        | %(space)s+ (%(dotted)s) (?=%(space)s* import\b)
    )
    | import (?<![\w\x80-\xff]import) %(space)s+
        (%(item)s (?:%(space)s* , %(space)s* %(item)s)*) %(space)s* (?:(?=[;\#\r\n])|\Z)
    | (__import__|import_module) (?:\( ["'] ([A-Za-z0-9_.]++) ["'] [,)])?
    """
    % {b"name": _NAME, b"dotted": _DOTTED, b"item": _ITEM, b"space": _SPACE},
    re.VERBOSE,
)
_FIRST_NAME = re.compile(rb"[\w\x80-\xff]+")
_OTHER_CODING = re.compile(  # in the first two lines
    rb"(?:[^\r\n]*+(?:\r\n?|\n))?[^\r\n]*?coding[:=][ \t]*+(?!(?i:utf[-_]?8|ascii)(?![\w.-]))"
)
# UTF-8 of what Python takes for the letters of `__import__` and `import_module` (NFKC), and of a few neighbours.
_LOOKALIKE = re.compile(
    rb"\xc2\xba|\xca\xb3|\xcb\xa1|\xe1\xb5[\x88-\xa4]|\xe2(?:\x81\xb1|\x82[\x91-\x9c]|\x84[\x93\xaf\xb4\xb9]|\x85[\x86-\xbf])"
    rb"|\xef(?:\xb8[\xb3\xb4]|\xb9[\x8d-\x8f]|\xbc\xbf|\xbd[\x84-\x95])|\xf0\x9d[\x90-\x9a]"
)


def distributions_for(imports: Iterable[str]) -> dict[str, str | None]:
    """For each dotted name the distribution to install, as a requirement; None where there is none."""
    return {name: _distribution_for(name) for name in imports}


def candidates(sources: Iterable[bytes]) -> frozenset[str]:
    """Top-level names that the sources may import, with some that they don't; `ANYTHING` where they may hide more."""
    found: set[str] = set()
    for source in sources:
        found |= _candidates_of(source)
    return frozenset(found)


def _distribution_for(name: str) -> str | None:
    known = _table()
    prefix = name
    while prefix:
        if prefix in known:
            return known[prefix]
        prefix = prefix.rpartition(".")[0]
    guess = re.sub(r"[-_.]+", "-", name.partition(".")[0]).lower()
    return guess if len(guess) <= _MAX_NAME_LENGTH and _PLAUSIBLE.fullmatch(guess) else None


@cache
def _table() -> dict[str, str | None]:
    text = (files(__package__) / "import_names.tsv").read_text("ascii")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {name: None if distribution == _NO_DISTRIBUTION else distribution for name, distribution in rows}


def _candidates_of(source: bytes) -> set[str]:
    if _may_hide_names(source):
        return {ANYTHING}
    if b"import" not in source:
        return set()
    found: set[str] = set()
    for one_line, continued, items, function, literal in _IMPORT.findall(source.removeprefix(b"\xef\xbb\xbf")):
        if function:
            found.add(literal.partition(b".")[0].decode() if literal else ANYTHING)
        elif items:
            found.update(_top_level(item) for item in items.split(b","))
        elif one_line or continued:
            found.add(_top_level(one_line or continued))
    found.discard("")  # of a relative literal
    return found


def _may_hide_names(source: bytes) -> bool:
    """Whether Python reads other characters than the bytes look like: an encoding, or letters that it normalizes."""
    if not source.isascii() and _LOOKALIKE.search(source):
        return True
    return b"coding" in source and _OTHER_CODING.match(source) is not None


def _top_level(dotted: bytes) -> str:
    """The first component, where a continued line may come before it."""
    name = _FIRST_NAME.search(dotted)
    return name[0].decode() if name and name[0].isascii() else ANYTHING
