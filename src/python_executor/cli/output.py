"""What goes to the terminal: the script's own bytes to stdout and stderr, untouched; our words to stderr, apart."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import typer

from .errors import OUR_FAILURE, OUTPUT_CLOSED, Failure

if TYPE_CHECKING:
    from python_executor_client import ExecutionResult

    from .flags import Flags


def say(message: str) -> None:
    """One line of ours on stderr, whatever the message holds."""
    with suppress(Failure):  # nobody is left to be told that it can't be written
        _write(sys.stderr, f"python-executor: {' '.join(message.split())}\n")


def show_json(value: object) -> None:
    """A value for other programs, on stdout."""
    _write(sys.stdout, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_line(text: str) -> None:
    """One line on stdout."""
    _write(sys.stdout, f"{text}\n")


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows below a header on stdout: fitted to a terminal, else each on a line of its own, however long."""
    if sys.stdout is not None and sys.stdout.isatty():
        _draw_table(header, rows)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        show_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def show(result: ExecutionResult, flags: Flags) -> int:
    """Print a finished execution the way the flags ask for; returns the exit code to leave with."""
    code = exit_code(result)
    if flags.quiet and code != 0:
        return code
    if flags.as_json:
        show_json(as_dict(result))
        return code
    _write(sys.stdout, _stdout_and_value(result))
    if not flags.quiet:
        _write(sys.stderr, result.stderr or "")
        for remark in _remarks(result):
            say(remark)
        if flags.verbose:
            _write(sys.stderr, _metadata(result))
    return code


def as_dict(result: ExecutionResult) -> dict[str, object]:
    """A result as the wire has it."""
    times = {
        name: value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for name, value in vars(result).items()
        if isinstance(value, datetime)
    }
    return {**vars(result), "status": result.status.value, **times}


def exit_code(result: ExecutionResult) -> int:
    """The script's, or 125 where it has none: older servers leave 0 or nothing when they failed."""
    if not result.exit_code and result.status != "completed":
        return OUR_FAILURE
    return result.exit_code or 0


def _stdout_and_value(result: ExecutionResult) -> str:
    """Its stdout, then the value of the last expression on a line of its own."""
    stdout = result.stdout or ""
    if result.result is None:
        return stdout
    gap = "\n" if stdout and not stdout.endswith("\n") else ""
    return f"{stdout}{gap}{result.result}\n"


def _remarks(result: ExecutionResult) -> Iterator[str]:
    yield from result.warnings or ()
    for name in ("stdout", "stderr"):
        if getattr(result, f"{name}_truncated"):
            yield f"{name} was longer than the server keeps (MAX_OUTPUT_MB): this is its beginning"
    if result.error:
        yield result.error


def _metadata(result: ExecutionResult) -> str:
    usage = result.usage or {}
    memory = usage.get("memory_peak_bytes")
    lines = {
        "id": result.execution_id,
        "status": result.status.value,
        "ended by": result.termination,
        "exit code": result.exit_code,
        "took": None if result.duration_ms is None else f"{result.duration_ms} ms",
        "cpu": f"{usage['cpu_ms']} ms" if "cpu_ms" in usage else None,
        "memory": None if memory is None else f"{memory / 2**20:.1f} MiB",
        "python": result.python,
        "packages": result.environment and _packages(result.environment),
        "backend": result.backend,
    }
    return "".join(f"{name + ':':<11}{value}\n" for name, value in lines.items() if value is not None)


def _packages(environment: Mapping[str, Any]) -> str:
    key, name = environment["key"], environment.get("name")
    return f"{len(environment['packages'])} in {f'{name} ({key})' if name else key}"


def _write(stream: TextIO | None, text: str) -> None:
    """UTF-8 whatever the locale is, and at once; whoever reads may have gone already, as `head` does."""
    if stream is None or not text:  # None: started with that descriptor closed
        return
    try:
        stream.flush()
        left = memoryview(text.encode("utf-8", "replace"))
        while left:  # with PYTHONUNBUFFERED this is the bare descriptor, and a pipe takes what it has room for
            left = left[stream.buffer.write(left) :]
        stream.buffer.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or the interpreter complains at its exit
        if isinstance(problem, BrokenPipeError):
            raise typer.Exit(OUTPUT_CLOSED) from None
        raise Failure(f"can't write the output: {problem.strerror}") from problem
