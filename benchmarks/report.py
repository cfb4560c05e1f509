"""Tables, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Table:
    """Of text: names, then figures."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: str = ""
    plot: str = ""  # file name
    prose: int = 1  # that many columns begin at the left

    def markdown(self) -> str:
        lines = [
            "| " + " | ".join(self.header) + " |",
            "|" + " --- |" * self.prose + " ---: |" * (len(self.header) - self.prose),
        ]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        parts = [f"## {self.title}", "\n".join(lines)]
        if self.notes:
            parts.append(self.notes)
        if self.plot:
            parts.append(f"![{self.title}]({self.plot})")
        return "\n\n".join(parts) + "\n"

    def show(self, console: Console) -> None:
        table = RichTable(title=self.title, title_justify="left", caption_justify="left")
        for number, name in enumerate(self.header):
            table.add_column(plain(name), justify="left" if number < self.prose else "right")
        for row in self.rows:
            table.add_row(*map(plain, row), style="bold red" if "MISSED" in row else None)
        console.print(table)
        if self.notes:
            console.print(plain(self.notes), highlight=False)
        console.print()


def plain(markdown: str) -> str:
    return markdown.replace("`", "")
