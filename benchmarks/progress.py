"""Says what is measured now, drawn between runs by the thread that measures: nothing ticks while a clock runs."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DRAW_SECONDS = 0.5


class Steps:
    """A stage has a name and a number of steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._task = self._progress.add_task("starting", total=1)
        self._drawn = 0.0

    def __enter__(self) -> Steps:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str, steps: int) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{name} …")
        self._progress.reset(self._task, description=name, total=steps)
        self._drawn = 0.0
        self._draw()

    def advance(self) -> None:
        self._progress.update(self._task, advance=1)
        self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        if self._console.is_terminal and now - self._drawn > DRAW_SECONDS:
            self._drawn = now
            self._progress.refresh()
