"""A file tree as a plan that is safe by construction, whoever named its files.

Both kinds of upload, the entries of an archive and the `files` of an eval, go through `TreePlan`. What comes out
of `check()` holds these promises, so that the guest only has to carry it out below a directory descriptor:

- every path is relative, without empty, "." or ".." components and without NUL; valid UTF-8; short enough to open;
- no file or symlink is also a directory or an ancestor of another entry, so no path goes through a symlink;
- every symlink resolves inside the tree, lexically and through the other symlinks; those that don't are left out
  and named in the warnings;
- there is one entry for a path: the last one given, as tar does it.

All work is bounded by the constants below, because the names come from strangers: 100 MiB can spell many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from ..model.errors import InvalidRequest
from ..model.spec import DirectoryEntry, Entry, FileEntry, FileTree, SymlinkEntry

MAX_ENTRIES = 100_000  # directories that are only implied included: the sandbox has that many inodes, and some more
MAX_DEPTH = 200  # components of a path
MAX_COMPONENT_BYTES = 255  # NAME_MAX
MAX_PATH_BYTES = 4000  # PATH_MAX is 4096, and /work/ comes before
MAX_NAMES_BYTES = 32 * 1024 * 1024  # of all paths and implied directories together
MAX_WALK_STEPS = 1_000_000  # components looked at while symlinks are resolved, in one tree
MAX_SYMLINK_HOPS = 40  # the kernel's own limit for one path
MAX_SYMLINKS_NAMED = 20  # warnings, before the rest is only counted


def shown(text: str) -> str:
    """A stranger's text, quoted and short enough for an error message."""
    return repr(text if len(text) <= 100 else text[:100] + "…")


def clean_path(name: str, what: str) -> str:
    """The name without "./" and doubled slashes; "" for the tree itself. Raises `InvalidRequest`."""
    if "\0" in name:
        raise InvalidRequest(f"{what} {shown(name)} holds a NUL character: remove it.")
    if name.startswith("/"):
        raise InvalidRequest(f"{what} {shown(name)} is absolute: name it relative to the tree.")
    components = [component for component in name.split("/") if component not in ("", ".")]
    if ".." in components:
        raise InvalidRequest(f"{what} {shown(name)} has a '..' in it: name it relative to the tree.")
    path = "/".join(components)
    _check_length(path, components, what)
    if len(components) > MAX_DEPTH:
        raise InvalidRequest(f"{what} {shown(path)} is more than {MAX_DEPTH} directories deep: make it flatter.")
    return path


def _check_length(path: str, components: list[str], what: str) -> None:
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} {shown(path)} is not valid UTF-8: rename it.") from None
    if size > MAX_PATH_BYTES:
        raise InvalidRequest(f"{what} {shown(path)} is longer than {MAX_PATH_BYTES} bytes: shorten it.")
    if size > MAX_COMPONENT_BYTES and any(len(part.encode()) > MAX_COMPONENT_BYTES for part in components):
        raise InvalidRequest(f"{what} {shown(path)} has a part longer than {MAX_COMPONENT_BYTES} bytes: shorten it.")


@dataclass(frozen=True, slots=True)
class CheckedTree:
    """A tree that keeps its promises, and what its sender should know about it."""

    tree: FileTree
    warnings: tuple[str, ...]
    _resolver: Resolver

    def kind(self, path: str) -> type[Entry] | None:
        """`FileEntry` or `DirectoryEntry` for what is at the path once its symlinks are followed, else None."""
        resolved = self._resolver.resolve(path)
        return None if resolved is None else self._resolver.kind(resolved)


class TreePlan:
    """Collects entries in the order in which they are given."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._count = 0

    def add_file(self, name: str, mode: int, offset: int, size: int) -> None:
        """A regular file whose bytes are at `offset` of the content."""
        path = self._path(name)
        if not path:
            raise InvalidRequest(f"file {shown(name)} has no name: give it one.")
        self._add(FileEntry(path, mode & 0o777, offset, size))

    def add_directory(self, name: str, mode: int) -> None:
        """A directory; the tree's own root is there anyway."""
        if path := self._path(name):
            self._add(DirectoryEntry(path, mode & 0o777))

    def add_symlink(self, name: str, target: str) -> None:
        """A symbolic link; whether it leads out is known only when all entries are."""
        path = self._path(name)
        if not path or not target or "\0" in target:
            raise InvalidRequest(f"symlink {shown(name)} has no usable name or target: remove it.")
        _check_length(target, target.split("/"), "symlink target")
        self._add(SymlinkEntry(path, target))

    def add_hard_link(self, name: str, target: str) -> None:
        """A second name of a regular file that came before; it becomes a file of its own with the same bytes."""
        original = self._entries.get(clean_path(target, "hard link target"))
        if not isinstance(original, FileEntry):
            raise InvalidRequest(f"hard link {shown(name)} does not lead to an earlier file of the archive: remove it.")
        self.add_file(name, original.mode, original.offset, original.size)

    def check(self, content: bytes | BinaryIO) -> CheckedTree:
        """The finished tree. Raises `InvalidRequest` where the entries contradict each other."""
        directories = self._directories()
        implied = len(directories - self._entries.keys())
        if len(self._entries) + implied > MAX_ENTRIES:
            raise InvalidRequest(f"there are more than {MAX_ENTRIES} files and directories: send fewer.")
        resolver = Resolver(self._entries, directories)
        outside = [
            entry
            for entry in self._entries.values()
            if isinstance(entry, SymlinkEntry) and resolver.resolve(entry.path) is None
        ]
        dropped = {entry.path for entry in outside}
        entries = tuple(entry for path, entry in self._entries.items() if path not in dropped)
        return CheckedTree(FileTree(entries, content), _symlink_warnings(outside), resolver)

    def _path(self, name: str) -> str:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise InvalidRequest(f"there are more than {MAX_ENTRIES} entries: send fewer.")
        return clean_path(name, "path")

    def _add(self, entry: Entry) -> None:
        # Taken out first, so that a repeated path stands where it came last: its target may have come in between.
        earlier = self._entries.pop(entry.path, None)
        if earlier and isinstance(earlier, DirectoryEntry) != isinstance(entry, DirectoryEntry):
            raise _contradiction(entry.path)
        self._entries[entry.path] = entry

    def _directories(self) -> set[str]:
        """Every directory, listed or implied. Walks up only until one is known, so the work is bounded by names."""
        directories: set[str] = set()
        names = 0
        for path, entry in self._entries.items():
            names += len(path)
            parent = path if isinstance(entry, DirectoryEntry) else path.rpartition("/")[0]
            while parent and parent not in directories:
                if parent in self._entries and not isinstance(self._entries[parent], DirectoryEntry):
                    raise _contradiction(parent)
                directories.add(parent)
                names += len(parent)
                if names > MAX_NAMES_BYTES:
                    raise InvalidRequest(f"the paths are longer than {MAX_NAMES_BYTES} bytes in all: shorten them.")
                parent = parent.rpartition("/")[0]
        return directories


class Resolver:
    """Follows paths through the symlinks of a tree as the kernel would, with a bound on the work."""

    def __init__(self, entries: dict[str, Entry], directories: set[str]) -> None:
        self._entries = entries
        self._directories = directories
        self._steps = 0

    def kind(self, path: str) -> type[Entry] | None:
        """What is at a resolved path."""
        if not path or path in self._directories:
            return DirectoryEntry
        entry = self._entries.get(path)
        return type(entry) if entry else None

    def resolve(self, path: str) -> str | None:
        """The path with all symlinks followed, "" for the root; None where it leads out or in circles."""
        at = ""
        ahead = path.split("/")[::-1]
        hops = 0
        while ahead:
            component = ahead.pop()
            self._count_step()
            if component == "..":
                if not at:
                    return None
                at = at.rpartition("/")[0]
            elif component not in ("", "."):
                here = f"{at}/{component}" if at else component
                entry = self._entries.get(here)
                if not isinstance(entry, SymlinkEntry):
                    if len(here) > MAX_PATH_BYTES:
                        return None  # nothing that deep is in the tree, and longer strings would only cost time
                    at = here
                    continue
                hops += 1
                if entry.target.startswith("/") or hops > MAX_SYMLINK_HOPS:
                    return None
                ahead.extend(entry.target.split("/")[::-1])
        return at

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > MAX_WALK_STEPS:
            raise InvalidRequest("the symlinks are too many or too long to follow: send the files themselves.")


def _contradiction(path: str) -> InvalidRequest:
    return InvalidRequest(f"{shown(path)} is a directory to one entry and a file or symlink to another: keep one.")


def _symlink_warnings(outside: list[SymlinkEntry]) -> tuple[str, ...]:
    named = [
        f"symlink {shown(entry.path)} was not made: its target {shown(entry.target)} is not inside the tree"
        for entry in outside[:MAX_SYMLINKS_NAMED]
    ]
    if len(outside) > MAX_SYMLINKS_NAMED:
        named.append(f"{len(outside) - MAX_SYMLINKS_NAMED} more symlinks were not made either")
    return tuple(named)
