"""Reads a container's standard output: frames of its PID 1, beside user code, so every byte may be a lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...guest import frames

KINDS = frozenset({frames.ALIVE, frames.WORD, frames.OUTPUT, frames.ERRORS, frames.REPORT, frames.ENDED})


class Said(NamedTuple):
    """A frame."""

    kind: int
    data: bytes


class FrameReader:
    """Takes bytes in and gives frames out; after a broken one nothing counts."""

    def __init__(self) -> None:
        self.is_broken = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Said]:
        """The frames that are complete now."""
        self._buffer += data
        header = frames.FRAME_HEADER
        while not self.is_broken and len(self._buffer) >= header.size:
            kind, length = header.unpack_from(self._buffer)
            if kind not in KINDS or length > frames.CHUNK_MAX:
                self.is_broken = True
                break
            if len(self._buffer) < header.size + length:
                return
            payload = bytes(self._buffer[header.size : header.size + length])
            del self._buffer[: header.size + length]
            yield Said(kind, payload)
        if self.is_broken:
            self._buffer.clear()
