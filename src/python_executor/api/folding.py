"""Reads long JSON without ever parsing all of it at once.

A parser makes of 15 MB of `[],[],…` half a gigabyte of objects, and holds the interpreter's lock meanwhile, even where
the field is one that nobody reads. Only two fields may be long: `stdin` and `requirements_txt`. So the text is walked
through in steps (see `turns`) that count what would become an object, and the values of those two are taken out of it
on the way, decoded, and replaced by "". What remains is bounded in bytes and in objects before the parser sees it, and
the parser alone says whether it is right: a string cut out of JSON leaves JSON exactly where it was JSON.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Generator, Iterator

from ..model.errors import InvalidRequest, TooLarge
from ..settings import MEBIBYTE
from .bodies import AnyBody, parse

LONG_FIELDS = frozenset({"stdin", "requirements_txt"})
MAX_REST_BYTES = 4 * MEBIBYTE  # the longest arguments and variables, even with six bytes a character, fit
MAX_MARKS = 120_000  # ten thousand files with names and contents have 100,004
STEP_BYTES = 64 * 1024
STEP_MARKS = 250
WINDOW = 256  # bytes of a string that are looked at first
MAX_NAME = 100  # bytes of a field's name, with escapes

_MARK = re.compile(rb'["\[\]{},:]')
# What a piece of a string must not end with: half an escape, or half of the two for a character beyond U+FFFF.
_HALF = re.compile(rb"(?:\\u[dD][89abAB]..)?(?:\\(?:u.{0,3})?)?\Z", re.DOTALL)
_LONGEST_HALF = 11
_QUOTE = ord('"')
_decoder = getincrementaldecoder("utf-8")


class Folding:
    """One text. Take all `steps`, then `parse`."""

    def __init__(self, text: bytearray, what: str) -> None:
        self._text = text  # what is left of it, from the newest value on that was cut out
        self._what = what
        self._gone = 0  # bytes that stood before it
        self._rest: list[bytearray] = []  # what stood before and between such values
        self._long: dict[str, list[bytes]] = {}  # values of LONG_FIELDS, in pieces of UTF-8
        self._marks = 0
        self._depth = 0
        self._string = ""  # the newest at depth 1, where it can be a name
        self._field = ""  # whose value comes next, at depth 1

    def steps(self) -> Iterator[int]:
        """Walk through the text; yields how far it is. Raises `TooLarge` and `InvalidRequest`."""
        at = 0
        while at < len(self._text):
            stop = at + STEP_BYTES
            for _ in range(STEP_MARKS):
                mark = _MARK.search(self._text, at, stop)
                if mark is None:
                    at = max(at, stop)
                    break
                at = mark.end()
                self._count()
                if mark[0] == b'"':
                    at = yield from self._pass_string(at)
                else:
                    self._see(mark[0])
            yield self._gone + at
        if sum(map(len, self._rest)) + len(self._text) > MAX_REST_BYTES:
            raise TooLarge(
                f"{self._what} has more than {MAX_REST_BYTES} bytes besides stdin and requirements_txt: "
                "send files in an archive to /api/v1/exec/sync, and data in stdin."
            )

    def parse(self, model: type[AnyBody]) -> tuple[AnyBody, bytes | None]:
        """The body, and its standard input where that is a long one. For a thread: it may take some milliseconds."""
        rest = b"".join((*self._rest, self._text)) if self._rest else self._text
        body = parse(model, rest, self._what)
        long = {name: b"".join(pieces) for name, pieces in self._long.items()}
        self._long.clear()
        stdin = long.pop("stdin", None)
        return body.model_copy(update={name: value.decode() for name, value in long.items()}), stdin

    def _count(self) -> None:
        self._marks += 1
        if self._marks > MAX_MARKS:
            raise InvalidRequest(
                f"{self._what} has more than {MAX_MARKS} strings, brackets, commas and colons: "
                "send many files in an archive to /api/v1/exec/sync, and data in stdin."
            )

    def _see(self, mark: bytes) -> None:
        if mark in b"[{":
            self._depth += 1
        elif mark in b"]}":
            self._depth -= 1
        elif self._depth == 1:
            self._field = self._string if mark == b":" else ""
            self._long.pop(self._field, None)  # of a name that comes twice the last counts

    def _pass_string(self, start: int) -> Generator[int, None, int]:
        """Where the string ends that begins there: after its closing quote, or with the text."""
        window = min(WINDOW, STEP_BYTES)
        at = self._go_on(start, window)
        if not self._closes(at) and self._depth == 1 and self._field in LONG_FIELDS:
            return (yield from self._cut_out(start))
        while not self._closes(at):
            yield self._gone + at
            window = min(4 * window, STEP_BYTES)
            before, at = at, self._go_on(at, window)
            if at == before:
                return len(self._text)
        if self._depth == 1:
            self._string = _name(self._text[start:at]) if at - start <= MAX_NAME else ""
        return at + 1

    def _cut_out(self, start: int) -> Generator[int, None, int]:
        """Take the string that begins there out of the text; where the next thing is."""
        self._rest.append(self._text[:start])
        self._drop(start)
        decoder = _decoder()
        pieces: list[bytes] = []
        try:
            while end := self._go_on(0, STEP_BYTES):
                text = decoder.decode(self._text[:end])
                pieces.append(json.loads(f'"{text}"').encode())
                self._drop(end)
                yield self._gone
            decoder.decode(b"", final=True)
        except ValueError:
            self._text.clear()
        if not self._closes(0):
            raise InvalidRequest(f"{self._what} is not JSON: the string {self._field} is broken or has no end.")
        self._long[self._field] = pieces
        return 1

    def _drop(self, size: int) -> None:
        del self._text[:size]  # which takes no time
        self._gone += size

    def _go_on(self, at: int, most: int) -> int:
        """Where the string's closing quote is, or else the end of its last whole character in so many bytes."""
        quote = self._text.find(b'"', at, at + most)
        if quote >= 0 and self._text.find(b"\\", at, quote) < 0:
            return quote
        # Backslashes are in pairs from the first of them on. Without those and escaped quotes a quote is the last one.
        window = self._text[at : at + most].replace(rb"\\", b"__").replace(rb"\"", b"__")
        quote = window.find(b'"')
        if quote < 0:
            half = _HALF.search(window, max(0, len(window) - _LONGEST_HALF))
            quote = half.start() if half else len(window)
        return at + quote

    def _closes(self, at: int) -> bool:
        return at < len(self._text) and self._text[at] == _QUOTE


def _name(raw: bytes | bytearray) -> str:
    try:
        return str(json.loads(b'"%b"' % bytes(raw)))
    except ValueError:
        return ""
