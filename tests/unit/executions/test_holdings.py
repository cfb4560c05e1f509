"""Requests that wait or run hold a bounded number of bytes, and give them back however they end."""

from __future__ import annotations

import asyncio
import io

import pytest

from python_executor.model.errors import QueueFull
from python_executor.model.spec import FileEntry, FileTree
from python_executor.sandboxes.fake import always, exited

from .support import make_spec, run, settle, world

MEBIBYTE = 1 << 20
BOUNDS = {"queue_max_bytes": 32 * MEBIBYTE, "spool_max_bytes": 200 * MEBIBYTE, "max_concurrent": 1}


def archive(mebibytes: int) -> FileTree:
    return FileTree((FileEntry("main.py", 0o644, 0, 1),), io.BytesIO(bytes(mebibytes * MEBIBYTE)))


@pytest.mark.parametrize(
    ("fields", "setting"),
    [(lambda: {"stdin": bytes(15 * MEBIBYTE)}, "QUEUE_MAX_MB"), (lambda: {"tree": archive(90)}, "SPOOL_MAX_MB")],
    ids=["memory", "files"],
)
def test_what_waits_holds_no_more_bytes_than_it_may_and_gives_them_back(fields, setting):
    async def check():
        gate = asyncio.Event()
        async with world(always(gate, exited(0)), **BOUNDS) as w:
            ids = [await w.executions.submit(make_spec(**fields())) for _ in range(2)]
            await settle()
            with pytest.raises(QueueFull, match=setting):
                await w.executions.submit(make_spec(**fields()))
            small = await w.executions.submit(make_spec(stdin=b"x" * 1000))
            await w.executions.kill(ids[1])
            await settle()
            ids.append(await w.executions.submit(make_spec(**fields())))
            gate.set()
            for execution_id in (*ids, small):
                await w.executions.wait(execution_id, 60)
            await settle()
            assert (w.executions.holdings.memory, w.executions.holdings.files) == (0, 0)

    run(check())


def test_many_small_files_and_strings_are_counted_too():
    async def check():
        gate = asyncio.Event()
        async with world(always(gate, exited(0)), **BOUNDS) as w:
            entries = tuple(FileEntry(f"{number}", 0o644, 0, 0) for number in range(10_000))
            await w.executions.submit(make_spec(tree=FileTree(entries, b""), args=("x" * MEBIBYTE,)))
            assert w.executions.holdings.memory > 4 * MEBIBYTE
            gate.set()

    run(check())


def test_a_refused_one_holds_nothing():
    async def check():
        gate = asyncio.Event()
        async with world(always(gate, exited(0)), **BOUNDS, queue_max=0) as w:
            await w.executions.submit(make_spec())
            before = w.executions.holdings.memory
            with pytest.raises(QueueFull):
                await w.executions.submit(make_spec())
            assert w.executions.holdings.memory == before
            gate.set()

    run(check())
