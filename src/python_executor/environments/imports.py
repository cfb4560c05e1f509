"""Which distributions code needs, going by what it imports. Code is parsed in a sandbox: a parser can be crashed.

Most code imports nothing that is not there already. A search for words that may be imports tells, and is all that
happens then. What a parse came to is remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..model.events import Event, Stdout
from ..model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter, Limits
from .base import Places, Work, Workshop
from .build import program_spec
from .import_names import candidates
from .needs import all_signs

SOURCES_MAX = 4 << 20  # bytes of source that are looked through; what is beyond is not
FILES_MAX = 2000
SOURCES_SMALL = 100 << 10  # bytes of source whose tree fits into what a small reader has, however dense it is
REMEMBERED = 1024
SMALL = 256 << 10  # bytes in which words that may be imports are looked for, on the event loop
ANSWER_MAX = 256 << 10  # bytes
NAMES_MAX = 200
NAME_MAX = 200  # characters
INSTALLS_MAX = 50
RUNS_COMMANDS = (b"subprocess", b"system", b"popen", b"spawn", b"pip.main", b"runpy")
LIMITS = Limits(timeout_seconds=10, memory_mb=512, disk_mb=16, cpu_shares=1024)


@dataclass(frozen=True, slots=True)
class Imports:
    """Dotted names that code imports and that neither it nor its interpreter has."""

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()  # it says itself that it can do without
    modules: tuple[str, ...] = ()  # what of these is no attribute of a module, and has a dot
    signs: tuple[str, ...] = ()  # of what it uses, as in `needs.py`
    installs: tuple[str, ...] = ()  # arguments of `pip install` in commands that it runs


NONE = Imports()


def may_import_packages(spec: ExecutionSpec) -> bool:
    """Whether there may be an import of something that is not there; quickly, and rather once too often."""
    if not spec.tree.is_small or spec.tree.total_bytes > SMALL:
        return True  # looking would hold up everybody else
    sources = [spec.tree.read(entry, entry.size) for entry in _sources(spec.tree)]
    names = candidates([*sources, _import_of(spec.module)]) - sys.stdlib_module_names
    return bool(names and names - _own_modules(spec.tree)) or any(map(_may_run_pip, sources))


def _may_run_pip(source: bytes) -> bool:
    """Whether there may be a command that installs something."""
    return b"pip" in source and b"install" in source and any(word in source for word in RUNS_COMMANDS)


class ImportReader:
    """Reads imports off code."""

    def __init__(self, workshop: Workshop, places: Places) -> None:
        self._workshop = workshop
        self._places = places
        self._known: OrderedDict[bytes, Imports] = OrderedDict()

    async def read(self, tree: FileTree, interpreter: Interpreter, module: str = "") -> Imports:
        """What the files import, and `python -m MODULE` itself. Raises `BackendError`."""
        entries = _sources(tree)
        digest = _digest(tree, entries, interpreter, module)
        if digest not in self._known:
            is_small = sum(entry.size for entry in entries) <= SOURCES_SMALL
            work = Work.READER if is_small else Work.LARGE_READER
            async with self._places.place(work, work.usual_mb) as memory_mb:  # while it waits it holds no source
                self._known[digest] = await self._parse(tree, entries, interpreter, module, memory_mb)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(digest)
        return self._known[digest]

    async def _parse(
        self, tree: FileTree, entries: Sequence[FileEntry], interpreter: Interpreter, module: str, memory_mb: int
    ) -> Imports:
        others = {"files/-m.py": _import_of(module)} if module else {}
        others |= {f"files/{entry.path}": tree.read(entry, entry.size) for entry in entries}
        limits = replace(LIMITS, memory_mb=memory_mb)
        spec = program_spec("imports.py", others, interpreter, limits, "\n".join(all_signs()).encode())
        said = bytearray()

        def feed(event: Event) -> None:
            if isinstance(event, Stdout) and len(said) <= ANSWER_MAX:
                said.extend(event.data)

        sandbox = await self._workshop.acquire(spec)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LIMITS.timeout_seconds):
                    await sandbox.run(spec, feed)
        finally:
            await sandbox.destroy()
        return understood(bytes(said))


def understood(said: bytes) -> Imports:
    """What came out of the sandbox, where it is what our program says; else nothing."""
    try:
        answer = json.loads(said if len(said) <= ANSWER_MAX else b"{}")
        return Imports(
            _names(answer["imports"]),
            _names(answer["optional"]),
            _names(answer["modules"]),
            tuple(sign for sign in all_signs() if sign in _texts(answer["signs"], len(all_signs()))),
            _texts(answer["installs"], INSTALLS_MAX),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return NONE


def _names(answer: object) -> tuple[str, ...]:
    """Dotted names. Raises ValueError."""
    if not isinstance(answer, list) or len(answer) > NAMES_MAX:
        raise ValueError("no list of names")
    for name in answer:
        if not isinstance(name, str) or len(name) > NAME_MAX or not all(map(str.isidentifier, name.split("."))):
            raise ValueError("no name")
    return tuple(name for name in answer if name.isascii())  # no distribution has another


def _texts(answer: object, most: int) -> tuple[str, ...]:
    """Short printable texts. Raises ValueError."""
    if not isinstance(answer, list) or len(answer) > most:
        raise ValueError("no list of texts")
    for text in answer:
        if not isinstance(text, str) or len(text) > NAME_MAX or not text.isprintable():
            raise ValueError("no text of one line")
    return tuple(answer)


def _sources(tree: FileTree) -> list[FileEntry]:
    """The Python files, the first ones of them where they are many."""
    found: list[FileEntry] = []
    left = SOURCES_MAX
    for entry in tree.entries:
        if isinstance(entry, FileEntry) and entry.path.endswith(".py") and entry.size <= left:
            found.append(entry)
            left -= entry.size
            if len(found) == FILES_MAX:
                break
    return found


def _own_modules(tree: FileTree) -> set[str]:
    """Names of modules that the request brings itself, and of what they are in."""
    paths = (entry.path.removesuffix(".py").split("/") for entry in tree.entries if entry.path.endswith(".py"))
    return {name for path in paths for name in path}


def _import_of(module: str) -> bytes:
    """What `python -m MODULE` imports, as source."""
    return f"import {module}".encode() if all(map(str.isidentifier, module.split("."))) else b""


def _digest(tree: FileTree, entries: Sequence[FileEntry], interpreter: Interpreter, module: str) -> bytes:
    digest = hashlib.sha256(f"{interpreter.version} {module}".encode())
    for entry in sorted(entries, key=lambda entry: entry.path):
        digest.update(hashlib.sha256(entry.path.encode("utf-8", "surrogateescape")).digest())
        digest.update(hashlib.sha256(tree.read(entry, entry.size)).digest())
    return digest.digest()
