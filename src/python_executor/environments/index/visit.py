"""What one build may have of the package indexes, what it had, and what was the matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ...model.spec import MEBIBYTE
from .pages import Files

TELL_EVERY = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Rules:
    """What one build may have."""

    wheels_only: bool
    allows: Callable[[str], bool]  # a normalized name
    download_max: int  # bytes of all files together
    torch: bool  # whether PyTorch's packages come from the index that is theirs, and from no other
    tell: Callable[[str, int, int], None]  # file name, bytes so far of all files, bytes declared so far, 0: not known


@dataclass(slots=True)
class Visit:
    """What became of it. Names are normalized, and the sandbox chose them: they need not be of packages."""

    missing: set[str] = field(default_factory=set)  # no index has them
    refused: set[str] = field(default_factory=set)  # by the operator's filter
    only_sources: set[str] = field(default_factory=set)  # no wheel of any version, where only wheels were wanted
    source_versions: dict[str, frozenset[str]] = field(default_factory=dict)  # likewise those without a wheel, by name
    failure: str | None = None  # the last thing that went wrong, for the user: no credentials in it
    torch_failure: str | None = None  # why no page of PyTorch's own index could be had
    no_index: bool = False  # an index could not be reached at all
    pages: dict[str, list[Files]] = field(default_factory=dict)  # by name of the package
    downloaded: int = 0  # bytes of files
    is_too_large: bool = False  # whether that would have become more than it may have


class Unavailable(Exception):
    """What the sandbox asked for can't be had. The text is for the user, `status` is for the sandbox."""

    def __init__(self, text: str, status: int = 502, *, is_unreachable: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.is_unreachable = is_unreachable


class Meter:
    """Counts a build's bytes and says how it goes."""

    def __init__(self, rules: Rules, visit: Visit) -> None:
        self._rules = rules
        self._visit = visit
        self._declared = 0
        self._told = 0.0

    def admit(self, size: int | None) -> None:
        """Raises Unavailable if a file of so many bytes would be too many."""
        if self._visit.downloaded + (size or 1) > self._rules.download_max:
            raise self._too_large()

    def expect(self, size: int | None) -> None:
        """So many bytes come now, if that is known. Raises Unavailable if they would be too many."""
        self.admit(size)
        self._declared += size or 0

    def count(self, filename: str, size: int) -> None:
        """Bytes of it came. Raises Unavailable if they were too many."""
        self._visit.downloaded += size
        if self._visit.downloaded > self._rules.download_max:
            raise self._too_large()
        if (now := time.monotonic()) >= self._told + TELL_EVERY:
            self._told = now
            so_far = self._visit.downloaded
            self._rules.tell(filename, so_far, self._declared if self._declared >= so_far else 0)

    def _too_large(self) -> Unavailable:
        self._visit.is_too_large = True
        return Unavailable(f"the packages are larger than {self._rules.download_max // MEBIBYTE} MiB", 413)
