"""An uploaded tar as a plan: its headers are read once, as a stream, and nothing is ever unpacked on the host.

ustar, GNU and pax are understood. The standard library's `tarfile` is not used, because the archive may be hostile:
it takes a bad header in the middle for the end, reads extended headers of any size, recurses from one to the next,
and searches them with regular expressions that take quadratic time. What is here is a loop over 512-byte blocks:

    header → (L, K, x: says more about the next header) → its data, padded to a block → next header
    a block of zeros, or the end of the file between two entries: done; whatever follows is padding

What the entries may be called and contain is for `trees` to decide.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..model.errors import InvalidRequest
from .trees import CheckedTree, TreePlan, shown

BLOCK = 512
PIECE = 1 << 20  # of a file, read at a time: who waits for Python's lock does not get it from one who reads often
MAX_EXTENDED_BYTES = 1024 * 1024  # of one extended header; a path takes 4 KiB, the rest is room for attributes

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}
_FILE, _OLD_FILE, _CONTIGUOUS = b"0", b"\0", b"7"
_HARD_LINK, _SYMLINK, _DIRECTORY = b"1", b"2", b"5"
_GNU_LONG_NAME, _GNU_LONG_LINK, _GNU_SPARSE = b"L", b"K", b"S"
_PAX, _PAX_SOLARIS, _PAX_GLOBAL = b"x", b"X", b"g"
_WITH_DATA = {_FILE, _OLD_FILE, _CONTIGUOUS, _GNU_LONG_NAME, _GNU_LONG_LINK, _PAX, _PAX_SOLARIS, _PAX_GLOBAL}
_REFUSED = {b"3": "character device", b"4": "block device", b"6": "FIFO", _GNU_SPARSE: "sparse file"}


@dataclass(slots=True)
class _Header:
    """One header block; the fields that nobody needs are not read."""

    name: str
    mode: int
    size: int
    type: bytes
    link_name: str
    offset: int  # of the data, which begins where the header ends


def read_archive(content: bytes | BinaryIO) -> CheckedTree:
    """The tree that an uncompressed tar describes. Raises `InvalidRequest`."""
    if isinstance(content, bytes):
        file: BinaryIO = io.BytesIO(content)
    else:
        file = open(content.fileno(), "rb", buffering=PIECE, closefd=False)  # noqa: SIM115 - it is not ours to close
    plan = TreePlan()
    for header in _members(file):
        _plan_member(plan, header)
    return plan.check(content)


def _plan_member(plan: TreePlan, header: _Header) -> None:
    if header.type in (_FILE, _OLD_FILE, _CONTIGUOUS):
        # Before ustar there was no type for directories, only the slash.
        if header.name.endswith("/"):
            plan.add_directory(header.name, header.mode)
        else:
            plan.add_file(header.name, header.mode, header.offset, header.size)
    elif header.type == _DIRECTORY:
        plan.add_directory(header.name, header.mode)
    elif header.type == _SYMLINK:
        plan.add_symlink(header.name, header.link_name)
    elif header.type == _HARD_LINK:
        plan.add_hard_link(header.name, header.link_name)
    else:
        kind = _REFUSED.get(header.type, f"entry of type {shown(header.type.decode('latin-1'))}")
        raise InvalidRequest(
            f"{shown(header.name)} is a {kind}; an archive may hold files, directories and links: remove it."
        )


def _members(file: BinaryIO) -> Iterator[_Header]:
    """Every entry, with what its extended headers say already applied."""
    end = file.seek(0, io.SEEK_END)
    if end == 0:
        raise InvalidRequest("the archive is empty: send a tar.")
    at = 0
    more: dict[str, str] = {}
    while (header := _read_header(file, at, end)) is not None:
        if header.type in (_FILE, _OLD_FILE, _CONTIGUOUS) and "size" in more:
            header.size = _decimal(more["size"])
        at = _end_of_data(header, end)
        if header.type in (_GNU_LONG_NAME, _GNU_LONG_LINK, _PAX, _PAX_SOLARIS):
            more.update(_read_extended(file, header))
        elif header.type == _PAX_GLOBAL:
            _check_global(_read_extended(file, header))
        else:
            header.name = more.get("path", header.name)
            header.link_name = more.get("linkpath", header.link_name)
            yield header
            more = {}
    if more:
        raise InvalidRequest("the archive is cut short: it ends where an entry should follow.")


def _end_of_data(header: _Header, end: int) -> int:
    """Where the next header is."""
    if header.type not in _WITH_DATA:
        return header.offset
    following = header.offset + -(-header.size // BLOCK) * BLOCK
    if following > end:
        raise InvalidRequest(
            f"the archive is cut short: {shown(header.name)} claims {header.size} bytes, "
            f"{end - header.offset} are there."
        )
    return following


def _read_header(file: BinaryIO, at: int, end: int) -> _Header | None:
    """The header at that offset, or None at the end of the archive."""
    if at == end:
        return None  # the end marker is missing, as some writers have it
    block = _read(file, at, BLOCK)
    if len(block) == BLOCK and not any(block):
        return None
    if at == 0:
        _refuse_compressed(block)
    if len(block) < BLOCK or not _checksum_is_right(block):
        raise InvalidRequest(
            f"there is no valid tar header at byte {at}: send an uncompressed tar, and all of it."
            if at
            else "this is no tar archive: send an uncompressed tar."
        )
    name = _text(block[:100])
    # GNU's own format, "ustar " with a space, keeps other things where ustar has the beginning of a long path.
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    return _Header(
        name=name,
        mode=_number(block[100:108]),
        size=_number(block[124:136]),
        type=block[156:157],
        link_name=_text(block[157:257]),
        offset=at + BLOCK,
    )


def _refuse_compressed(block: bytes) -> None:
    for magic, name in _COMPRESSIONS.items():
        if block.startswith(magic) and not _checksum_is_right(block):
            raise InvalidRequest(f"the archive is compressed with {name}: send an uncompressed tar.")


def _checksum_is_right(block: bytes) -> bool:
    # The sum of all bytes, its own eight counted as spaces.
    if len(block) < BLOCK:
        return False
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    except InvalidRequest:
        return False


def _read_extended(file: BinaryIO, header: _Header) -> dict[str, str]:
    """What a GNU long name or a pax header says about the entry after it."""
    if header.size > MAX_EXTENDED_BYTES:
        raise InvalidRequest(f"an extended header is larger than {MAX_EXTENDED_BYTES} bytes: drop extended attributes.")
    data = _read(file, header.offset, header.size)
    if header.type == _GNU_LONG_NAME:
        return {"path": _text(data)}
    if header.type == _GNU_LONG_LINK:
        return {"linkpath": _text(data)}
    return _pax_records(data)


def _pax_records(data: bytes) -> dict[str, str]:
    """Records "LENGTH KEY=VALUE\\n", where LENGTH counts itself and the newline."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 10)
        length = _decimal(_text(data[at:space])) if space > 0 else 0
        key, equals, value = data[space + 1 : at + length].partition(b"=")
        if not equals or not value.endswith(b"\n") or at + length > len(data):
            raise InvalidRequest("a pax header of the archive is broken: write the archive again.")
        if key.startswith(b"GNU.sparse"):
            raise InvalidRequest("the archive holds sparse files: write it without --sparse.")
        if key in (b"path", b"linkpath", b"size"):
            records[key.decode()] = value[:-1].decode("utf-8", "surrogateescape")
        at += length
    return records


def _check_global(records: dict[str, str]) -> None:
    # `git archive` writes one with a comment, which is fine; one path or size for all entries is not.
    if records:
        raise InvalidRequest(f"a global pax header sets {shown(next(iter(records)))}: write the archive without it.")


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _text(field: bytes) -> str:
    # What is not UTF-8 is kept as lone surrogates, and refused by `trees` where it is part of a path.
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """Octal digits, or base-256 where the first bit is set (GNU; negative ones come out huge and are refused)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise InvalidRequest(f"a number in a tar header is broken: {shown(digits.decode('latin-1'))}.")
    return int(digits or b"0", 8)


def _decimal(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise InvalidRequest(f"a number in a pax header is broken: {shown(digits)}.")
    return int(digits)
