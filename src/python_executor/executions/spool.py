"""Keeps long output in files without a name: what code prints takes disk, and not the server's memory.

An execution whose output is longer than a block has a file of its own, which goes with the last snapshot that shows it,
and with the server in any case. A thread writes it, since a disk may be slow. A block that is not written yet, or that
can't be, is in memory.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog

from ..model.execution import Block, Blocks, Execution

DISK_SHARE = 16  # bytes on disk that count as one in memory

log = structlog.get_logger()
Keep = Callable[[bytes], Block]


def price_of(execution: Execution) -> int:
    """Return what its output takes now, in bytes of memory."""
    outputs = (execution.stdout, execution.stderr)
    blocks = (block for output in outputs for block in (output.blocks if isinstance(output, Blocks) else (output,)))
    return sum(len(block) // DISK_SHARE if _is_on_disk(block) else len(block) for block in blocks)


def _is_on_disk(block: Block) -> bool:
    return isinstance(block, _Block) and block.is_on_disk


def keep_in_memory(data: bytes) -> Block:
    """Keep a block as it is."""
    return data


class Spool:
    """Where the executions of a server keep their output."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory  # None: in memory
        self._writer = ThreadPoolExecutor(1, "output")

    def keeper(self) -> Keep:
        """Return what keeps the blocks of one execution."""
        return keep_in_memory if self._directory is None else _Shelf(self._directory, self._writer).keep

    def close(self) -> None:
        """Write no more."""
        self._writer.shutdown(wait=False, cancel_futures=True)


class _Shelf:
    """The file of one execution, made for its first block."""

    def __init__(self, directory: Path, writer: ThreadPoolExecutor) -> None:
        self._directory = directory
        self._writer = writer
        self._file: _File | None = None

    def keep(self, data: bytes) -> Block:
        block = _Block(data)
        with suppress(RuntimeError):  # it is closed: the server ends
            self._writer.submit(self._write, block)
        return block

    def _write(self, block: _Block) -> None:
        try:
            if self._file is None:
                self._file = _File(self._directory)
            block.move_to(self._file)
        except OSError as failure:
            log.warning("output stays in memory", reason=failure.strerror)


class _File:
    """A file without a name, closed when nobody refers to it any more."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed below
        self._size = 0

    def append(self, data: bytes) -> int:
        """Write at the end; return where that is. Raises OSError where not all of it could be written."""
        at = self._size
        if os.pwrite(self._file.fileno(), data, at) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(data)
        return at

    def read(self, size: int, at: int) -> bytes:
        return os.pread(self._file.fileno(), size, at)

    def __del__(self) -> None:
        self._file.close()


class _Block:
    """A piece of output, in memory until it is in a file."""

    __slots__ = ("_at", "_data", "_file", "_size")

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._file: _File | None = None
        self._at = 0
        self._size = len(data)

    def move_to(self, file: _File) -> None:
        """In the thread that writes. The memory goes last: somebody may be reading."""
        assert self._data is not None  # noqa: S101 - nobody else moves it
        self._at = file.append(self._data)
        self._file = file
        self._data = None

    @property
    def is_on_disk(self) -> bool:
        return self._data is None

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        if (data := self._data) is not None:
            return data
        assert self._file is not None  # noqa: S101 - it was set before the memory went
        return self._file.read(self._size, self._at)
