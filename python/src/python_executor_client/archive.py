"""Makes the tar archives that are uploaded, and finds the file to run in one."""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional, Union

Files = Union[Mapping[str, Union[str, bytes]], Path, str]


def pack(files: Files) -> bytes:
    """Return `files` as an uncompressed tar archive; the same files always give the same bytes.

    Args:
        files: Names with their contents (text is stored as UTF-8), or the path of a file, or the path of a
            directory. Of a directory, everything below it goes in under its relative name: files, directories
            and symbolic links (as links). `__pycache__` and virtual environments stay out, and so do sockets, pipes
            and devices.

    Raises:
        FileNotFoundError: If the path does not exist.
        OSError: If a file or directory can't be read.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, content in _members(files):
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def find_entrypoint(tar_data: bytes) -> Optional[str]:
    """Return the name of the file to run: main.py, __main__.py, the first .py file, or else the only file.

    A hidden file, or one in a hidden directory (.venv/), is the first only where no other .py file is there.
    None where there is none of these or where `tar_data` is no tar archive: the server says what is wrong.
    """
    names = sorted(_file_names(tar_data), key=_is_hidden)
    scripts = [name for name in names if name.endswith(".py")]
    for usual in ("main.py", "__main__.py"):
        if usual in scripts:
            return usual
    if scripts:
        return scripts[0]
    return names[0] if len(names) == 1 else None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _file_names(tar_data: bytes) -> list[str]:
    try:
        with tarfile.open(fileobj=io.BytesIO(tar_data), mode="r:") as archive:
            return [posixpath.normpath(member.name) for member in archive if not member.isdir()]
    except tarfile.TarError:
        return []


def _members(files: Files) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    if isinstance(files, Mapping):
        for name, content in files.items():
            yield _member(name), content.encode() if isinstance(content, str) else content
        return
    root = Path(files)
    if not root.is_dir():
        yield _member(root.name, mode=_file_mode(root)), root.read_bytes()
        return
    for path in _below(root):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            yield _member(name, kind=tarfile.SYMTYPE, target=os.readlink(path)), b""
        elif path.is_dir():
            yield _member(name, kind=tarfile.DIRTYPE, mode=0o755), b""
        elif path.is_file():
            yield _member(name, mode=_file_mode(path)), path.read_bytes()


def _below(directory: Path) -> Iterator[Path]:
    """Walk the tree in a fixed order, not through symbolic links; raise where it can't be read.

    What is in a directory comes after it, and its files before its subdirectories: so does the script to run.
    """
    for path in sorted(directory.iterdir(), key=lambda path: (_is_directory(path), path)):
        if path.name == "__pycache__" or (path / "pyvenv.cfg").is_file():  # no virtual environment works elsewhere
            continue
        yield path
        if _is_directory(path):
            yield from _below(path)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _member(name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = "") -> tarfile.TarInfo:
    """Describe a member by hand: TarFile.gettarinfo() would add owners and times, and turn files into hard links."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = mode
    member.linkname = target
    return member


def _file_mode(path: Path) -> int:
    """Keep of a file's mode what git keeps, whether it is executable: the sandbox's user has to read it too."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
