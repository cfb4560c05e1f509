"""Long output is on disk, in files without a name, and is the same bytes whenever it is looked at."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from python_executor.executions import spool
from python_executor.executions.execution import BLOCK_BYTES, Output
from python_executor.executions.spool import Spool, price_of
from python_executor.model.execution import Blocks, Execution, Status

BEGINNING = datetime(2026, 11, 30, tzinfo=UTC)
LONG = os.urandom(BLOCK_BYTES) * 3 + b"end"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def kept(directory: Path) -> Iterator[Spool]:
    made = Spool(directory)
    yield made
    made.close()


def written(kept: Spool) -> None:
    """Wait until what was handed over is written."""
    kept._writer.submit(lambda: None).result(10)


def blocks_in_memory(output: Output) -> int:
    return sum(isinstance(block, bytes) or block._data is not None for block in output._blocks)  # type: ignore[attr-defined]


def fill(kept: Spool, data: bytes = LONG) -> Output:
    output = Output(1 << 30, kept.keeper())
    for start in range(0, len(data), 1000):
        output.feed(data[start : start + 1000])
    return output


def test_what_is_long_is_not_in_memory_and_reads_the_same(kept: Spool, directory: Path) -> None:
    output = fill(kept)
    assert bytes(output.snapshot()) == LONG
    written(kept)
    assert blocks_in_memory(output) == 0
    assert bytes(output.snapshot()) == LONG and len(output.snapshot()) == len(LONG)
    assert list(directory.iterdir()) == []


def test_what_is_short_has_no_file(kept: Spool) -> None:
    before = set(os.listdir("/proc/self/fd"))
    output = fill(kept, b"x" * 1000)
    written(kept)
    assert set(os.listdir("/proc/self/fd")) == before and output.snapshot() == b"x" * 1000


def test_the_file_goes_with_the_last_snapshot(kept: Spool) -> None:
    def files() -> int:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return sum("(deleted)" in os.readlink(link) for link in links if os.path.islink(link))

    before = files()
    output = fill(kept)
    snapshot = output.snapshot()
    written(kept)
    del output
    assert files() == before + 1 and bytes(snapshot) == LONG
    del snapshot
    assert files() == before


def test_it_can_be_read_while_it_is_written(kept: Spool) -> None:
    held = threading.Event()
    kept._writer.submit(held.wait, 10)
    output = fill(kept)
    assert bytes(output.snapshot()) == LONG and blocks_in_memory(output) > 0
    held.set()
    written(kept)
    assert bytes(output.snapshot()) == LONG


def test_a_full_disk_loses_nothing(kept: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spool.os, "pwrite", full)
    output = fill(kept)
    written(kept)
    assert bytes(output.snapshot()) == LONG
    assert isinstance(output.snapshot(), Blocks)


def test_what_is_still_printed_while_the_server_ends_is_kept(kept: Spool) -> None:
    keep = kept.keeper()
    kept.close()
    assert bytes(keep(LONG)) == LONG


def test_what_is_on_disk_hardly_counts_as_waiting_for_the_store(kept: Spool) -> None:
    held = threading.Event()
    kept._writer.submit(held.wait, 10)
    output = fill(kept)
    shown = Execution(
        execution_id="", owner="", status=Status.COMPLETED, created_at=BEGINNING, stdout=output.snapshot(), stderr=b"x"
    )
    assert price_of(shown) == len(LONG) + 1
    held.set()
    written(kept)
    assert price_of(shown) <= len(LONG) // spool.DISK_SHARE + BLOCK_BYTES  # the last block is not full yet


def test_without_a_directory_all_of_it_is_in_memory() -> None:
    kept = Spool(None)
    assert bytes(fill(kept).snapshot()) == LONG
    kept.close()
