"""What to run: the immutable description of one execution, and the file tree it runs in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

MEBIBYTE = 1 << 20  # bytes in what limits call MB
FEW_ENTRIES = 500  # of a tree: each of a few looks at all of them takes the event loop less than half a millisecond
PAGE = 4096  # bytes; a file system in memory gives no less


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use. Every number is positive and already within the server's maxima."""

    timeout_seconds: float  # an int where it has no fraction
    memory_mb: int  # MiB: anonymous memory, tmpfs and shared memory together
    disk_mb: int  # MiB of that which files may take
    cpu_shares: int  # relative weight, 1024 is one share
    cpus: float | None = None  # most processors' worth of time, 1.5 is one and a half; None: as many as there are
    cpu_seconds: float | None = None  # of processor time, of all its processes together; None: no such limit

    @property
    def file_system_bytes(self) -> int:
        """What files may take: `disk_mb`, but so much less than all memory that a full disk is seen as one."""
        memory = self.memory_mb * MEBIBYTE
        return min(self.disk_mb * MEBIBYTE, memory - min(max(memory // 16, 16 * MEBIBYTE), memory // 2))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython found on this machine.

    `prefix` is the directory that holds it and nothing of anybody else's, or "/usr" for the system's own.
    """

    version: str  # "3.12.1"
    executable: str  # real path of the binary on the host
    prefix: str

    @property
    def minor_version(self) -> str:
        """The version that requests name: "3.12"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def path_in_sandbox(self) -> str:
        """Where code finds it."""
        return self.executable if self.prefix == "/usr" else f"/python/bin/python{self.minor_version}"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file; its bytes are `tree.content[offset:offset + size]`."""

    path: str  # relative, "/"-separated, no empty, "." or ".." component
    mode: int  # 0o000-0o777
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A directory; parents that are not listed are implied."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class SymlinkEntry:
    """A symbolic link whose target is known to stay inside the tree."""

    path: str
    target: str


Entry = FileEntry | DirectoryEntry | SymlinkEntry


@dataclass(frozen=True, slots=True)
class FileTree:
    """Files as a plan that was checked once, on the host; the guest carries it out inside the sandbox.

    `content` is the uploaded archive as it came (an anonymous file of the server's, where it was too large for
    memory), or the contents one after the other.
    """

    entries: tuple[Entry, ...]
    content: bytes | BinaryIO

    @property
    def is_small(self) -> bool:
        """Whether it may be gone through on the event loop."""
        return len(self.entries) <= FEW_ENTRIES

    def read(self, entry: FileEntry, most: int) -> bytes:
        """The file's bytes, at most so many."""
        size = min(entry.size, most)
        if isinstance(self.content, bytes):
            return self.content[entry.offset : entry.offset + size]
        return os.pread(self.content.fileno(), size, entry.offset)

    @property
    def total_bytes(self) -> int:
        """Bytes that the files take once they are written, in whole pages."""
        sizes = (entry.size for entry in self.entries if isinstance(entry, FileEntry))
        return sum((size + PAGE - 1) // PAGE * PAGE for size in sizes)


@dataclass(frozen=True, slots=True)
class ExecutionSpec:
    """One execution, fully decided: nothing in it is optional any more and all of it has been checked."""

    tree: FileTree
    entrypoint: str  # "" where `module` says what runs
    python: str  # minor version of an interpreter that the backend has: "3.12"; "" where an image has it
    limits: Limits
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""
    pre_commands: tuple[str, ...] = ()
    eval_last_expr: bool = False
    module: str = ""  # that runs as with `python -m`, in place of an entrypoint
    network: bool = False  # whether it reaches what the operator's egress rules leave open, or just itself
    requirements: str = ""  # a requirements.txt, as it was sent
    finds_requirements: bool = False  # whether its files may say what packages it needs
    detects_imports: bool = False  # whether what it imports is to be had, where nothing else says what it needs
    environment: str = ""  # name of the operator's, which has its packages
    packages_advice: str = ""  # for code that misses a module, where no packages were asked for
    image: str = ""  # reference of the image that it runs in; "": on an interpreter of this machine
    runtime: str = ""  # of the container engine, by name; "": its default
    warnings: tuple[str, ...] = ()  # what the caller should know about the request, shown in the result
