"""How large the packages of a lock are at least, before any of them is downloaded.

The index's pages say how large files are, and a wheel is no smaller when it is unpacked. How much larger, the end of
the file says (`index/wheels.py`), which is asked for where the answer may decide. Nothing is ever taken for larger than
it is: a file whose size nobody gives, or whose name is not understood, counts as nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import parse_wheel_filename

from ..model.spec import Interpreter
from .index.pages import Files
from .locks import Lock, LockedPackage

DENSEST = 8  # times its size: that much packages hardly unpack to, and a look at fewer bytes decides nothing
SMALLEST_LOOK = 64  # a wheel of less than the limit divided by this decides nothing either
PATIENCE = 15.0  # seconds for all looks together

Look = Callable[[int, str, str], Awaitable[int | None]]  # at a file: index, page, URL; to the bytes that it unpacks to


@dataclass(frozen=True, slots=True)
class Choice:
    """A file that a package may be installed from."""

    index: int
    page: str
    url: str
    size: int  # bytes, 0: not known


@dataclass(frozen=True, slots=True)
class TooLarge:
    """What is known of packages that are."""

    bytes: int  # of all of them
    largest: str  # the name of one
    of_largest: int


async def check_sizes(choices: Mapping[str, Sequence[Choice]], most: int, look: Look) -> TooLarge | None:
    """Say how large the packages are, if that is more than so many bytes."""
    least = {name: min((choice.size for choice in files), default=0) for name, files in choices.items()}
    if most >= sum(least.values()) > most // DENSEST:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await _unpack(least, choices, most, look)
    if sum(least.values()) <= most:
        return None
    largest = max(least, key=least.__getitem__)
    return TooLarge(sum(least.values()), largest, least[largest])


async def _unpack(least: dict[str, int], choices: Mapping[str, Sequence[Choice]], most: int, look: Look) -> None:
    """Look into the large ones, the largest first, until it is known to be too much."""
    for name in sorted(least, key=least.__getitem__, reverse=True):
        if least[name] < most // SMALLEST_LOOK or sum(least.values()) > most:
            return
        if len(choices[name]) == 1:
            only = choices[name][0]
            least[name] = max(least[name], await look(only.index, only.page, only.url) or 0)


def choices_of(lock: Lock, pages: Mapping[str, Sequence[Files]], interpreter: Interpreter) -> dict[str, list[Choice]]:
    """Return the files that may be installed for each package of the lock, by its name."""
    tags = frozenset(_tags(*map(int, interpreter.minor_version.split("."))))
    return {package.name: list(_choices(package, pages.get(package.name, ()), tags)) for package in lock.packages}


def _choices(package: LockedPackage, pages: Sequence[Files], tags: frozenset[Tag]) -> Iterator[Choice]:
    for page in pages:
        for file in page.files:
            if _may_be_installed(file.filename, package, tags):
                yield Choice(page.index, page.url, file.url, file.size or 0)


def _may_be_installed(filename: str, package: LockedPackage, tags: frozenset[Tag]) -> bool:
    if not filename.endswith(".whl"):  # only where builds are allowed
        return f"-{package.version}." in filename
    if f"-{package.version}-" not in filename:
        return False  # without a look at the other versions, which may be thousands
    try:
        return not tags.isdisjoint(parse_wheel_filename(filename)[3])
    except ValueError:
        return False


def _tags(major: int, minor: int) -> Iterator[Tag]:
    """What wheels for this interpreter on this machine may say."""
    platforms = list(platform_tags())
    name = f"cp{major}{minor}"
    yield from cpython_tags((major, minor), [name], platforms)
    yield from compatible_tags((major, minor), name, platforms)
