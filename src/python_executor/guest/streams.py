"""stdout and stderr, which keep what was printed, whatever the end, and join what would cost too much apart.

Unbuffered, each `print` is two writes: its text and its newline. That is right for a program that prints now and then:
nothing of it is lost. One that prints all the time pays for it several times over, and threads break each other's
lines. So after a thousand lines without a pause, or with a second thread, lines are written as a whole, by the
stream's own line buffering.
"""

from __future__ import annotations

import _thread
import sys
import time

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each container
if TYPE_CHECKING:
    import io
    from typing import Any, List

PAUSE = 0.002  # seconds between two lines
MANY = 1000  # lines without a pause
_now = time.monotonic
_threads = _thread._count


def settle() -> None:
    """Have both streams of this interpreter be like that."""
    streams = [Stream(text) for text in (sys.stdout, sys.stderr)]  # type: ignore[arg-type]
    threading: Any = sys.modules.get("threading")
    if threading is not None:
        threading._limbo = Limbo(streams)


class Stream:
    """One of the two, told of each end of a line in place of the flush of what is below it, which holds nothing."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._below: object = text.buffer
        self._reconfigure: Any = text.reconfigure
        self._lines = 0
        self._last = 0.0
        text.reconfigure(line_buffering=True)
        vars(self._below)["flush"] = self._line_ends

    def _line_ends(self) -> None:
        now = _now()
        self._lines = self._lines + 1 if now - self._last < PAUSE else 0
        self._last = now
        if self._lines > MANY or _threads() > 0:
            self.join_writes()

    def join_writes(self) -> None:
        """From the next write on, for good: this is called no more, which would cost as much as a write."""
        if vars(self._below).pop("flush", None) is not None:
            try:
                self._reconfigure(write_through=False)
            except ValueError:
                pass  # it has been closed or detached, or has given what is below it to another


class Limbo(dict):  # type: ignore[type-arg]
    """Where `threading` keeps who is about to start: then it is time to join writes."""

    def __init__(self, streams: List[Stream]) -> None:
        self._streams = streams

    def __setitem__(self, thread: Any, same: Any) -> None:
        super().__setitem__(thread, same)
        for stream in self._streams:
            stream.join_writes()
