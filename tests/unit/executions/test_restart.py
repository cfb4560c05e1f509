"""Two lives of a server over one database. The first is a process of its own, so that it can really die."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from python_executor.executions.service import Executions, Policy
from python_executor.model.errors import StoreError
from python_executor.model.events import Termination
from python_executor.model.execution import Status
from python_executor.sandboxes.fake import FakeBackend
from python_executor.storage.sqlite import SqliteStore

POLICY = Policy(
    max_concurrent=1,
    memory_budget_mb=1000,
    queue_max=10,
    queue_max_bytes=1 << 30,
    spool_max_bytes=1 << 30,
    max_output_bytes=1000,
    cleanup_ttl_seconds=300,
)

FIRST_LIFE = """
import asyncio, os, signal, sys
from pathlib import Path
from python_executor.executions.service import Executions, Policy
from python_executor.model.spec import ExecutionSpec, FileTree, Limits
from python_executor.sandboxes.fake import HELLO, FakeBackend, always
from python_executor.storage.sqlite import SqliteStore

async def main():
    policy = Policy(
        max_concurrent=1, memory_budget_mb=1000, queue_max=10, queue_max_bytes=1 << 30, spool_max_bytes=1 << 30, max_output_bytes=1000, cleanup_ttl_seconds=300
    )
    backend = FakeBackend(HELLO)
    executions = Executions(backend, SqliteStore(Path(sys.argv[1]), 10**6), policy, "first")
    await executions.start()
    spec = ExecutionSpec(FileTree((), b""), "main.py", "3.12", Limits(300, 64, 64, 1024))
    ended = (await executions.run(spec)).execution_id
    while executions._lives:
        await asyncio.sleep(0.001)
    backend.script = always(asyncio.Event())
    running, waiting = await executions.submit(spec), await executions.submit(spec)
    print(ended, running, waiting, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def make_executions(directory: Path) -> Executions:
    return Executions(FakeBackend(), SqliteStore(directory, 10**6), POLICY, "second")


def test_what_was_under_way_when_the_server_died_is_lost_and_what_had_ended_is_kept(tmp_path):
    dead = subprocess.run([sys.executable, "-c", FIRST_LIFE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    ended, running, waiting = dead.stdout.splitlines()[-1].split()  # after its log

    async def check():
        executions = make_executions(tmp_path)
        await executions.start()
        for execution_id in (running, waiting):
            shown = await executions.get(execution_id)
            assert (shown.status, shown.termination, shown.exit_code) == (Status.FAILED, Termination.LOST, 125)
            assert shown.error == "the server died before the execution had finished"
        shown = await executions.get(ended)
        assert (shown.status, shown.stdout, shown.owner) == (Status.COMPLETED, b"Hello, World!\n", "first")
        await executions.close(grace=0)

    asyncio.run(check())


def test_two_servers_cannot_have_one_directory_at_a_time(tmp_path):
    async def check():
        first, second = make_executions(tmp_path), make_executions(tmp_path)
        await first.start()
        with pytest.raises(StoreError, match="in use by another server"):
            await second.start()
        assert not second.ready
        await first.close(grace=0)
        await second.start()
        await second.close(grace=0)

    asyncio.run(check())
