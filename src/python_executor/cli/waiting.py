"""What a terminal shows on stderr while we wait: a spinner, and how far the image or the packages are.

A thread of its own draws it, since whoever waits does that in a call that blocks. Nothing of it stays.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..model.environment import Stage
from ..model.events import Preparing

if TYPE_CHECKING:
    from rich.console import RenderableType

SPINNER_DELAY = 0.3  # seconds; most runs have answered by then and never flicker
REDRAW_INTERVAL = 0.1  # seconds
BAR_WIDTH = 30


Tell = Callable[[Preparing | None], None]  # None: nothing is being had


def progress_of(preparing: Mapping[str, Any] | None) -> Preparing | None:
    """What a result says of it; a newer server may say what we don't know."""
    if preparing is None or preparing.get("stage") not in list(Stage):
        return None
    numbers = (preparing.get(name) or 0 for name in ("done_bytes", "total_bytes"))
    return Preparing(Stage(preparing["stage"]), str(preparing.get("what") or ""), *numbers)


@contextmanager
def waiting(words: str, silent: bool) -> Iterator[Tell | None]:
    """A spinner while the body runs, if the wait is long enough to wonder; None where nobody would see it."""
    if silent or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    spinner = _Spinner(words)
    spinner.start()
    try:
        yield spinner.tell
    finally:
        spinner.stop()


class _Spinner(threading.Thread):
    def __init__(self, words: str) -> None:
        super().__init__(daemon=True)
        self._words = words
        self._progress: Preparing | None = None
        self._finished = threading.Event()

    def tell(self, progress: Preparing | None) -> None:
        self._progress = progress

    def stop(self) -> None:
        self._finished.set()
        self.join()

    def run(self) -> None:
        if self._finished.wait(SPINNER_DELAY):
            return
        from rich.console import Console

        with Console(stderr=True).status(self._drawn()) as status:
            while not self._finished.wait(REDRAW_INTERVAL):
                status.update(self._drawn())

    def _drawn(self) -> RenderableType:
        from rich.text import Text

        return Text(self._words) if self._progress is None else _bar(self._progress)


def _bar(progress: Preparing) -> RenderableType:
    """One line: the stage, a bar that only moves to and fro where no end is known, and what is being worked at."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = ProgressBar(progress.total or None, progress.done, width=BAR_WIDTH, pulse=not progress.total)
    words = [Text(word, no_wrap=True, overflow="ellipsis") for word in _words(progress)]
    line = Table.grid(padding=(0, 1))
    line.add_row(words[0], bar, *words[1:])
    return line


def _words(progress: Preparing) -> list[str]:
    from rich.filesize import decimal

    words = [f"{progress.stage} {'image' if progress.stage is Stage.PULLING else 'packages'}"]
    if progress.done:
        words.append(decimal(progress.done) + (f" of {decimal(progress.total)}" if progress.total else ""))
    words.append("".join(character for character in progress.what if character.isprintable()))
    return words
