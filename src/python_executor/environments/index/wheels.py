"""How much a wheel is when it is unpacked, going by its table of contents, which stands at the end of the file."""

from __future__ import annotations

import io
import zipfile
from asyncio import to_thread

from .upstream import Upstream
from .visit import Unavailable

TAILS = (256 << 10, 4 << 20)  # bytes that are looked at; the second where the table does not fit in the first
COUNTED_MAX = 1 << 40  # bytes of one wheel: a hostile one may say anything
FILES_MAX = 40_000  # in one wheel, PyTorch's has some 13,000: each is an object while they are counted
FILE = b"PK\x01\x02"  # how the table says that another file follows


async def unpacked_bytes(upstream: Upstream, index: int, url: str) -> int | None:
    """Return the bytes of all files in the wheel that this index's page has named; None where that can't be told."""
    for length in TAILS:
        tail = await _tail(upstream, index, url, length)
        if tail is None:
            return None
        size = await to_thread(_unpacked, tail)
        if size is not None or len(tail) < length:
            return size
    return None


async def _tail(upstream: Upstream, index: int, url: str, length: int) -> bytes | None:
    """The last bytes, if the index gives no more than these."""
    headers = {"Range": f"bytes=-{length}", "Accept-Encoding": "identity"}
    data = bytearray()
    try:
        async with upstream.fetch("GET", url, index, headers) as answer:
            if answer.status != 206:
                return None
            async for chunk in answer.chunks():
                data += chunk
                if len(data) > length:
                    return None
    except Unavailable:
        return None
    return bytes(data)


def _unpacked(tail: bytes) -> int | None:
    if tail.count(FILE) > FILES_MAX:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(tail)) as archive:
            return min(sum(file.file_size for file in archive.infolist()), COUNTED_MAX)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, OverflowError):
        return None  # the table begins before the tail, or it is none
