"""Environments on disk: made once, found by their content or by what asked for them, removed when room is needed.

    environments/
      env_0123…/            one environment, known by the hash of its lock, interpreter and index; never changed
        venv/               what sandboxes are shown
        environment.json    its lock and where it comes from
        files.jsonl         size and digest of each file
        requests            hashes of the requirements that came to this
      .new-…/               one that is being made, complete when it is renamed; or one that is being removed

A directory that is in use is locked (`flock`, shared), by whichever process uses it; it is removed only by whoever gets
it for itself. One that was made before the machine was last started may have lost what was not on disk yet: it is
compared with its digests before it is used again.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path

import structlog

from ..model.environment import PIP_NAMES, PIP_PROGRAM, Environment, Package
from ..model.errors import BackendError
from ..model.spec import Interpreter
from .files import Receiver, differs, make_directory, paths_in, write_manifest
from .locks import Lock, read_lock
from .making import put
from .modules import missing

FORMAT = 1
KEY = re.compile(r"env_[0-9a-f]{32}")
NEW = ".new-"
REQUEST_LENGTH = 64
REQUESTS_MAX = 1000  # spellings of what comes to one environment, the last ones
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stored:
    """An environment that is on disk."""

    key: str
    python: str  # full version of its interpreter: "3.12.1"
    index: str  # where its packages came from
    bytes: int  # that it takes on disk
    created_at: float  # seconds since 1970
    lock: Lock
    boot: str  # of the machine, when it was made or last compared with its digests
    interpreter: str  # where sandboxes see it
    files: str  # digest of files.jsonl

    def is_for(self, interpreter: Interpreter) -> bool:
        """Whether it was made for this one, where that is now."""
        return (self.python, self.interpreter) == (interpreter.version, interpreter.path_in_sandbox)

    @property
    def environment(self) -> Environment:
        """As results show it."""
        return Environment(self.key, tuple(Package(each.name, each.version) for each in self.lock.packages))


class Lease:
    """An environment is in use until this is released."""

    def __init__(self, stored: Stored, fd: int) -> None:
        self.stored = stored
        self._fd = fd

    def release(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Draft:
    """An environment that is being made, in a directory that is ours as long as this is open. Blocks."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=NEW, dir=directory))
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._using = threading.Lock()  # a thread goes on writing when nobody waits for it any more
        self._is_closed = False
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        for path in (self.path, self.path / "venv"):
            make_directory(path)
        self.receiver = Receiver(self.path / "venv", max_bytes)

    def feed(self, data: bytes) -> None:
        """As `Receiver.feed`, but `BackendError` where it can't be written; does nothing once it is closed."""
        with self._using:
            try:
                if not self._is_closed:
                    self.receiver.feed(data)
            except OSError as problem:
                raise BackendError(f"an environment could not be written: {problem}") from problem

    def close(self) -> None:
        """Remove what was not published."""
        with self._using:
            self._is_closed = True
            self.receiver.close()
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)


class Cache:
    """All environments below one directory. What blocks says so, and is for a thread: the tables are copied to look."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, Stored] = {}
        self._requests: dict[str, str] = {}  # hash of requirements -> key
        self._missing: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}  # modules, by environment and names
        self._boot = boot_id()
        self._comparing = asyncio.Lock()

    def open(self) -> None:
        """Make the directory, learn what is there, sweep what a killed server left. Blocks."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        make_directory(self.directory)
        for path in self.directory.glob(f"{NEW}*"):
            _remove(path)
        self.refresh()

    def refresh(self) -> set[str]:
        """Learn what other processes have made and removed; keys of what is gone. Blocks."""
        found = {path.name: path for path in self.directory.glob("env_*")}
        gone = set(self._known) - found.keys()
        for key in gone:
            self._known.pop(key, None)
        fresh = [stored for key in found.keys() - set(self._known) if (stored := _read(found[key])) is not None]
        for stored in sorted(fresh, key=lambda each: each.created_at):  # what was asked for twice came to the newer one
            self._learn(found[stored.key])
        return gone

    def all(self) -> list[Stored]:
        """Those that are known, in the order of their keys."""
        return sorted(self._known.values(), key=lambda stored: stored.key)

    @property
    def bytes(self) -> int:
        """That all of them take on disk."""
        return sum(stored.bytes for stored in list(self._known.values()))

    def find(self, key: str) -> Stored | None:
        """The environment of that key, which may be gone a moment later."""
        if not KEY.fullmatch(key):  # it may be part of a request's path
            return None
        return self._known.get(key) or self._learn(self.directory / key)

    async def lease(self, key: str) -> Lease | None:
        """The environment, to be used; None if there is none of that key, or it is broken."""
        stored = self.find(key)
        fd = _lock(self.directory / key, fcntl.LOCK_SH) if stored is not None else None
        if stored is None or fd is None:
            self._known.pop(key, None)
            return None
        try:
            if stored.boot != self._boot:
                stored = await self._compared(key)
            if stored is not None:
                with suppress(OSError):  # made by another account of this machine
                    os.utime(fd)  # last used
                return Lease(stored, fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        await asyncio.to_thread(self.remove, key)
        return None

    async def lease_for(self, request: str) -> Lease | None:
        """The environment that such requirements came to."""
        key = self._requests.get(request)
        return await self.lease(key) if key else None

    async def missing_modules(self, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the dotted names that the environment has no module for."""
        asked = key, names
        if asked not in self._missing:
            put(self._missing, asked, await asyncio.to_thread(self._look_for_modules, key, names))
        return self._missing[asked]

    def _look_for_modules(self, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return missing(names, paths_in(self.directory / key / "files.jsonl"))
        except (OSError, ValueError):
            return ()  # it is damaged, and others will notice

    def remember(self, request: str, key: str) -> None:
        """Such requirements came to this environment."""
        known = [each for each, of in list(self._requests.items()) if of == key and each != request]
        for oldest in known[: max(0, len(known) + 1 - REQUESTS_MAX)]:
            del self._requests[oldest]
        if self._requests.get(request) != key:
            self._requests[request] = key
            with suppress(OSError):  # then it is resolved again after a restart
                (self.directory / key / "requests").write_text("\n".join([*known[1 - REQUESTS_MAX :], request, ""]))

    def publish(self, draft: Draft, key: str, lock: Lock, interpreter: Interpreter, index: str) -> None:
        """Complete what was received, and let it be found. Blocks."""
        files = draft.receiver
        path = interpreter.path_in_sandbox
        _make_venv(draft.path / "venv", path, interpreter.version)
        digest = write_manifest(draft.path / "files.jsonl", files.manifest)
        stored = Stored(key, interpreter.version, index, files.bytes, time.time(), lock, self._boot, path, digest)
        self._write(draft.path, stored)
        place = self.directory / key
        if place.exists() and _read(place) is None:
            self.remove(key)  # a crash of the machine has left it without its record: nobody can use it
        try:
            os.rename(draft.path, place)
        except OSError as problem:
            if problem.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # somebody was faster, with one that is as good as ours
        self._known[key] = stored

    def remove(self, key: str) -> int:
        """Remove one that nobody uses; how many bytes that gave back, 0 if it is in use. Blocks."""
        path = self.directory / key
        fd = _lock(path, fcntl.LOCK_EX)
        if fd is None:
            return 0
        try:
            gone = path.with_name(f"{NEW}removed-{time.monotonic_ns()}-{os.getpid()}")
            os.rename(path, gone)
            stored = self._known.pop(key, None) or _read(gone)
            for request in [request for request, of in list(self._requests.items()) if of == key]:
                del self._requests[request]
            shutil.rmtree(gone, ignore_errors=True)
            return stored.bytes if stored else 0
        finally:
            os.close(fd)

    def by_last_use(self) -> list[str]:
        """Keys of what is on disk, the longest unused first. Blocks."""
        used = []
        for path in self.directory.glob("env_*"):
            with suppress(OSError):  # it has just gone
                used.append((path.stat().st_mtime, path.name))
        return [key for _, key in sorted(used)]

    def last_used(self, key: str) -> float | None:
        """Seconds since 1970."""
        try:
            return (self.directory / key).stat().st_mtime
        except OSError:
            return None

    def _learn(self, path: Path) -> Stored | None:
        """What is on disk of one environment, if it is one."""
        stored = _read(path) if KEY.fullmatch(path.name) else None
        if stored is not None:
            self._known[stored.key] = stored
            for request in _requests(path / "requests"):
                self._requests[request] = stored.key
        return stored

    async def _compared(self, key: str) -> Stored | None:
        """Compare it, unless somebody else has meanwhile; None if it is damaged or gone."""
        async with self._comparing:
            stored = self.find(key)
            if stored is None or stored.boot == self._boot:
                return stored
            return await asyncio.to_thread(self._compare, stored)

    def _compare(self, stored: Stored) -> Stored | None:
        """With its digests; None, and said in the log, if a file is not as it was written."""
        place = self.directory / stored.key
        if problem := differs(place / "venv", place / "files.jsonl", stored.files):
            log.warning("an environment was damaged and is made again", key=stored.key, file=problem)
            return None
        _make_venv(place / "venv", stored.interpreter, stored.python)
        renewed = replace(stored, boot=self._boot)
        self._write(place, renewed)
        self._known[stored.key] = renewed
        return renewed

    def _write(self, place: Path, stored: Stored) -> None:
        data = {"format": FORMAT, **{**asdict(stored), "lock": stored.lock.text}}
        _replace(place / "environment.json", lambda new: new.write_text(json.dumps(data)))


def boot_id() -> str:
    """Differs each time that the machine is started; where that can't be told, each time that we are."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid.uuid4().hex


def _read(path: Path) -> Stored | None:
    try:
        data = json.loads((path / "environment.json").read_text())
        if data.pop("format") != FORMAT:
            return None
        return Stored(**{**data, "lock": read_lock(data["lock"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of another version, or not ours


def _requests(path: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from (line for line in path.read_text().splitlines() if len(line) == REQUEST_LENGTH)


def _make_venv(venv: Path, interpreter: str, version: str) -> None:
    """What makes a directory of packages a virtual environment of this interpreter, where sandboxes see that."""
    make_directory(venv / "bin")
    for name in ("python", "python3", f"python{'.'.join(version.split('.')[:2])}"):
        _replace(venv / "bin" / name, lambda place: place.symlink_to(interpreter))
    config = {
        "home": os.path.dirname(interpreter),
        "implementation": "CPython",
        "version_info": version,
        "include-system-site-packages": "false",
    }
    text = "".join(f"{name} = {value}\n" for name, value in config.items())
    _replace(venv / "pyvenv.cfg", partial(_write_file, text, 0o644))
    _add_pip(venv, version)


def _add_pip(venv: Path, version: str) -> None:
    """What stands in for pip (guest/pip.py), beside the packages; where pip is among them, it is left alone."""
    site = venv / "lib" / f"python{'.'.join(version.split('.')[:2])}" / "site-packages"
    for directory in (site.parent.parent, site.parent, site):
        make_directory(directory)
    module = resources.files("python_executor.guest").joinpath("pip.py").read_text()
    programs = {venv / "bin" / name: f"#!/venv/bin/python\n{PIP_PROGRAM}" for name in PIP_NAMES}
    if not (site / "pip").exists():
        for path, text in {site / "pip.py": module, **programs}.items():
            _replace(path, partial(_write_file, text, 0o755 if path in programs else 0o644))


def _write_file(text: str, mode: int, place: Path) -> None:
    place.write_text(text)
    place.chmod(mode)  # whatever our umask is


def _replace(place: Path, make: Callable[[Path], object]) -> None:
    """Whatever is there by something new, at once: another process may do the same, or be using it."""
    new = place.with_name(f".{uuid.uuid4().hex}")
    make(new)
    os.replace(new, place)


def _lock(path: Path, kind: int) -> int | None:
    """A descriptor of the directory, with that lock on it; None if it is gone, or somebody's in another way."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _remove(path: Path) -> None:
    """A directory that is nobody's any more; one that is being made, or removed, by a server that lives is left."""
    fd = _lock(path, fcntl.LOCK_EX)
    if fd is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)
