"""From what the user named (a file, a directory, a tar, stdin) to what the client library sends."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from python_executor_client.archive import pack

from . import output
from .errors import Failure

STDIN_NAME = "main.py"  # what code from stdin is called, in its tracebacks too
USUAL_NAMES = ("main.py", "__main__.py")


@dataclass(frozen=True, slots=True)
class Program:
    """An archive of files and which of them runs; None leaves that to the usual names, or to a module."""

    tar: bytes
    entrypoint: str | None


def is_stdin(target: Path | None, extra: Sequence[Path]) -> bool:
    """Whether the code itself is on stdin."""
    return str(target) == "-" or (target is None and not extra)


def load(target: Path | None, extra: Sequence[Path], entrypoint: str | None, module: str | None = None) -> Program:
    """Pack the target together with the extra files, which are the program where there is no target.

    A module to run needs no program: it may be the standard library's, or a package's.
    """
    try:
        if module and not target:
            tar, usual = pack({}), None
        elif is_stdin(target, extra):
            tar, usual = _from_stdin()
        else:
            tar, usual = _from_path(target) if target else (pack({}), _first_to_run(extra))
        return Program(_with(extra, tar), entrypoint or (None if module else usual))
    except OSError as problem:
        raise Failure(f"can't read {problem.filename}: {problem.strerror}") from problem
    except tarfile.TarError as problem:
        raise Failure(f"{target} can't take more files: use --file with an uncompressed tar") from problem


def largest_part(tar: bytes) -> str:
    """Name what is at the top of an archive and has the most of its bytes, and how many; empty below 1 MiB."""
    sizes: Counter[str] = Counter()
    with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            sizes[member.name.removeprefix("./").partition("/")[0]] += member.size
    return "".join(f"{name} has {size >> 20} MiB" for name, size in sizes.most_common(1) if size >= 1 << 20)


def read_text(path: Path) -> str:
    """The text of a file named on the command line."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise Failure(f"can't read {path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise Failure(f"{path} is not UTF-8 text: convert it first") from problem


def read_stdin() -> str:
    """All of stdin, as text since it travels as JSON."""
    try:
        return _stdin_bytes().decode()
    except UnicodeDecodeError as problem:
        raise Failure("stdin is not UTF-8 text: pass other data as a file with --file") from problem


def environment(requests: Sequence[str]) -> list[str]:
    """`VAR=value` as it is, `VAR` with the value that it has here."""
    return [request if "=" in request else f"{request}={_value_here(request)}" for request in requests]


def _value_here(name: str) -> str:
    if name not in os.environ:
        raise Failure(f"{name} is not set here: export it, or give its value with -e {name}=VALUE")
    return os.environ[name]


def _from_stdin() -> tuple[bytes, str | None]:
    code = _stdin_bytes()
    if not code:
        raise Failure("no input: name a file or directory, or pipe code in")
    return pack({STDIN_NAME: code}), STDIN_NAME


def _from_path(path: Path) -> tuple[bytes, str | None]:
    if path.is_dir():
        return pack(path), None
    if tarfile.is_tarfile(path):
        return path.read_bytes(), None
    return pack(path), path.name


def _first_to_run(files: Sequence[Path]) -> str:
    names = [_name_inside(path) for path in files]
    return next((usual for usual in USUAL_NAMES if usual in names), names[0])


def _with(extra: Sequence[Path], tar: bytes) -> bytes:
    if not extra:
        return tar
    buffer = io.BytesIO(tar)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for path in extra:
            content = path.read_bytes()
            member = tarfile.TarInfo(_name_inside(path))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _name_inside(path: Path) -> str:
    """Below the current directory a file keeps its path; from anywhere else only its name."""
    inside = PurePosixPath(os.path.normpath(path))
    return inside.name if inside.is_absolute() or ".." in inside.parts else str(inside)


def _stdin_bytes() -> bytes:
    if sys.stdin is None:
        raise Failure("stdin is closed: name a file")
    if sys.stdin.isatty():
        output.say("reading from the terminal, Ctrl-D ends it")
    return sys.stdin.buffer.read()
