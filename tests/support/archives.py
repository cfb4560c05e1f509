"""Archives, good and bad."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

Content = str | bytes | tarfile.TarInfo  # a TarInfo is an entry without data: a link, a directory, a device


def tar_of(files: Mapping[str, Content], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of the files, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                data = content.encode() if isinstance(content, str) else content
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                entry.mode = 0o644
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def entry(type: bytes, link_name: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    """An entry without data."""
    info = tarfile.TarInfo()
    info.type = type
    info.linkname = link_name
    info.mode = mode
    return info


def symlink(target: str) -> tarfile.TarInfo:
    """A symbolic link."""
    return entry(tarfile.SYMTYPE, target, 0o777)


def hard_link(target: str) -> tarfile.TarInfo:
    """A hard link."""
    return entry(tarfile.LNKTYPE, target)


def directory(mode: int = 0o755) -> tarfile.TarInfo:
    """A directory."""
    return entry(tarfile.DIRTYPE, mode=mode)


def header(
    name: bytes, size: bytes | int = 0, type: bytes = b"0", mode: bytes = b"0000644\0", link_name: bytes = b""
) -> bytes:
    """One header block, field by field, with the right checksum whatever it says."""
    size_field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = b"".join(
        [
            name.ljust(100, b"\0"),
            mode,
            b"0000000\0" * 2,
            size_field.ljust(12, b"\0"),
            b"%011o\0" % 0,
            b" " * 8,
            type,
            link_name.ljust(100, b"\0"),
            b"ustar\00000",
        ]
    ).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    """Data as it stands in an archive."""
    return data.ljust(-(-len(data) // 512) * 512, b"\0")
