"""Takes the files of an environment in, from a sandbox that may have been taken over, and checks them later.

What comes is a stream of bounded frames (`guest/frames.py`). Only regular files and directories are ever made, new
ones, below a directory that nobody else writes to, so that no name can lead out of it. The digest of each is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..guest import frames

PATH_MAX = 1024  # bytes of a path, which has room below any data directory
NAME_MAX = 255
DEPTH_MAX = 40
FILES_MAX = 200_000
BLOCK = 4096
OWN_NAMES = frozenset({"python", "python3"})  # in bin/, with those of versions: the server makes these itself
READ_SIZE = 1 << 20


class TooMuch(ValueError):
    """More than one environment may have."""


class Receiver:
    """Feed it the stream as it comes; once `is_complete`, `manifest` says what is there. Blocks, so not for a loop."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.is_complete = False
        self.manifest: list[tuple[str, int, str]] = []  # path, size, SHA-256
        self.bytes = 0  # that they take on disk
        self._directory = directory
        self._max_bytes = max_bytes
        self._made = {""}
        self._entries = 0
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None
        self._path, self._size, self._left = "", 0, 0
        self._digest = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises ValueError where they are no such stream, and OSError where they can't be written."""
        self._buffer += data
        while self._buffer and not self.is_complete:
            if self._file is not None:
                self._write()
            elif not self._open_next():
                return
        if self._buffer:
            raise ValueError("there is something after the last file")

    def close(self) -> None:
        """Let go of a file that was cut short."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_next(self) -> bool:
        """Start the next file; False if its header has not come as a whole yet."""
        header = frames.FILE_HEADER
        if len(self._buffer) < header.size:
            return False
        kind, length, size = header.unpack_from(self._buffer)
        if length > PATH_MAX:
            raise ValueError("a path is too long")
        if len(self._buffer) < header.size + length:
            return False
        path = bytes(self._buffer[header.size : header.size + length])
        del self._buffer[: header.size + length]
        if kind == frames.END_OF_FILES:
            self.is_complete = True
            return True
        if kind not in (frames.FILE, frames.PROGRAM):
            raise ValueError("there is something that is no file")
        self._open(checked(path), size, 0o755 if kind == frames.PROGRAM else 0o644)
        return True

    def _open(self, path: str, size: int, mode: int) -> None:
        self._count((size + BLOCK - 1) // BLOCK * BLOCK + BLOCK)
        self._make_parents(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._directory / path, flags, mode)
        except (FileExistsError, NotADirectoryError):
            raise ValueError("a path comes twice") from None
        os.fchmod(fd, mode)  # whatever our umask is: the code that reads it has another uid
        self._file = open(fd, "wb", buffering=0)  # noqa: SIM115 - closed by the stream's next step
        self._path, self._size, self._left = path, size, size
        self._digest = hashlib.sha256()
        if size == 0:
            self._finish()

    def _make_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self._made:
            self._make_parents(parent)
            self._count(BLOCK)
            try:
                make_directory(self._directory / parent)
            except (FileExistsError, NotADirectoryError):
                raise ValueError("a path comes twice") from None
            self._made.add(parent)

    def _count(self, size: int) -> None:
        """One more file or directory takes so many bytes. Raises ValueError if that is too much."""
        self.bytes += size
        self._entries += 1
        if self.bytes > self._max_bytes:
            raise TooMuch(f"the packages take more than {self._max_bytes >> 20} MiB (ENVIRONMENT_MAX_MB)")
        if self._entries > FILES_MAX:
            raise TooMuch(f"the packages have more than {FILES_MAX} files and directories")

    def _write(self) -> None:
        assert self._file is not None  # noqa: S101 - as the caller saw
        data = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._digest.update(data)
        self._left -= len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        if self._left == 0:
            self._finish()

    def _finish(self) -> None:
        self.close()
        self.manifest.append((self._path, self._size, self._digest.hexdigest()))


def make_directory(path: Path) -> None:
    """One that sandboxes can read, whatever our umask is: they have uids of their own."""
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


def checked(path: bytes) -> str:
    """A relative path of plain components, none of which the server makes itself. Raises ValueError."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        raise ValueError("a path is not UTF-8") from None
    parts = text.split("/")
    if "\0" in text or len(parts) > DEPTH_MAX or any(part in ("", ".", "..") for part in parts):
        raise ValueError("a path does not lead below the environment")
    if len(parts) == 1 or any(len(part.encode()) > NAME_MAX for part in parts):
        raise ValueError("a path has a name that no package has")
    if parts[0] == "bin" and (parts[1] in OWN_NAMES or parts[1].startswith("python3.")):
        raise ValueError("a package has a program that is called as the interpreter is")
    return text


def write_manifest(place: Path, manifest: list[tuple[str, int, str]]) -> str:
    """A line of JSON for each file; the digest of all of them."""
    lines = "".join(json.dumps(entry) + "\n" for entry in manifest).encode()
    place.write_bytes(lines)
    return hashlib.sha256(lines).hexdigest()


def paths_in(place: Path) -> Iterator[str]:
    """Read the paths in a manifest, one after the other. Raises `OSError`, and `ValueError` for what is none."""
    with open(place, "rb") as lines:
        yield from (str(json.loads(line)[0]) for line in lines)


def differs(directory: Path, place: Path, digest: str) -> str | None:
    """The first file that is not as its manifest says, None if all are. Blocks for as long as reading them takes."""
    try:
        lines = place.read_bytes()
        if hashlib.sha256(lines).hexdigest() != digest:
            return place.name
        for path, size, of_file in map(json.loads, lines.splitlines()):
            if not _is_as_written(directory / checked(path.encode()), size, of_file):
                return str(path)
    except (OSError, ValueError) as problem:
        return str(problem)
    return None


def _is_as_written(path: Path, size: int, digest: str) -> bool:
    try:
        if os.lstat(path).st_size != size:
            return False
        found = hashlib.sha256()
        for data in _chunks(path):
            found.update(data)
    except OSError:
        return False
    return found.hexdigest() == digest


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while data := file.read(READ_SIZE):
            yield data
