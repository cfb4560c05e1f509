"""Reads the report pipe: frames beside user code, so every byte may be a lie and every length is bounded."""

from __future__ import annotations

from ..guest import frames
from ..model.events import Raised, Result

_LONGEST = {
    frames.RESULT: 1 + frames.RESULT_MAX,
    frames.RAISED: frames.RAISED_LINE.size + frames.NAME_MAX,
    frames.EXIT: 1,
}
_SHORTEST = {frames.RESULT: 1, frames.RAISED: frames.RAISED_LINE.size, frames.EXIT: 1}


class ReportReader:
    """What a run said of itself. Each kind comes once; after a broken frame nothing counts."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._result: Result | None = None
        self._raised: Raised | None = None
        self._buffer = bytearray()
        self.is_broken = False

    @property
    def events(self) -> list[Result | Raised]:
        """What it said besides its exit code."""
        return [event for event in (self._result, self._raised) if event is not None]

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True once the last frame is there."""
        if self.is_broken or self.exit_code is not None:
            return self.exit_code is not None
        self._buffer += data
        while self.exit_code is None and self._take_frame():
            pass
        return self.exit_code is not None

    def _take_frame(self) -> bool:
        header = frames.FRAME_HEADER
        if len(self._buffer) < header.size:
            return False
        kind, length = header.unpack_from(self._buffer)
        is_second = (kind == frames.RESULT and self._result) or (kind == frames.RAISED and self._raised)
        if kind not in _LONGEST or not _SHORTEST[kind] <= length <= _LONGEST[kind] or is_second:
            self.is_broken = True
            self._buffer.clear()
            return False
        if len(self._buffer) < header.size + length:
            return False
        payload = bytes(self._buffer[header.size : header.size + length])
        del self._buffer[: header.size + length]
        self._understand(kind, payload)
        return True

    def _understand(self, kind: int, payload: bytes) -> None:
        if kind == frames.EXIT:
            self.exit_code = payload[0]
        elif kind == frames.RESULT:
            text, how = payload[1:].decode("utf-8", "replace"), payload[0]
            if how == frames.UNSHOWN:
                self._result = Result(None, unshown=text[: frames.REASON_MAX])
            else:
                self._result = Result(text, truncated=how != frames.WHOLE)
        elif kind == frames.RAISED:
            (line,) = frames.RAISED_LINE.unpack_from(payload)
            name = payload[frames.RAISED_LINE.size :].decode("utf-8", "replace")
            self._raised = Raised(name, line or None)
