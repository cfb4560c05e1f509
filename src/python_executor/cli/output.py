"""What goes to the terminal: the script's own bytes to stdout and stderr, untouched; our words to stderr, apart."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

import typer

from .errors import OUR_FAILURE, OUTPUT_CLOSED, Failure

if TYPE_CHECKING:
    from python_executor_client import ExecutionResult

    from .flags import Flags

SPINNER_DELAY = 0.3  # seconds; most runs have answered by then and never flicker


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


@contextmanager
def waiting(words: str, silent: bool) -> Iterator[None]:
    """A spinner on stderr while the body runs, where that is a terminal and the wait is long enough to wonder."""
    if silent or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    finished = threading.Event()
    spinner = threading.Thread(target=_spin, args=(words, finished), daemon=True)
    spinner.start()
    try:
        yield
    finally:
        finished.set()
        spinner.join()


def _spin(words: str, finished: threading.Event) -> None:
    if finished.wait(SPINNER_DELAY):
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(words)):
        finished.wait()


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
            yield f"{name} was longer than the server keeps; this is its beginning"
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
        "backend": result.backend,
    }
    return "".join(f"{name + ':':<11}{value}\n" for name, value in lines.items() if value is not None)


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
