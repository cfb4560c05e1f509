"""What a container is sent: a failure to read it here is ours, and is told at once."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest

from python_executor.model.errors import BackendError
from python_executor.model.events import Event
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Limits
from python_executor.sandboxes.docker.plan import Image, Kind
from python_executor.sandboxes.docker.sandbox import DockerSandbox
from python_executor.sandboxes.processors import Processors

LIMITS = Limits(timeout_seconds=3600, memory_mb=64, disk_mb=16, cpu_shares=1024)
PATIENCE = 10.0  # seconds; far less than the code's time


class Taking:
    """A container's standard input: takes all that comes."""

    async def write_in(self, data: bytes) -> None:
        pass


class Engine:
    """An engine that kills when it is told to."""

    async def kill(self, name: str) -> None:
        pass


def run(content: BinaryIO) -> None:
    """Send a file of 4 MiB, whose archive this is, to a container that waits for all of it."""

    async def send() -> None:
        engine: Any = Engine()
        kind = Kind(Image("image", "sha256:1", ""), "", LIMITS)
        sandbox = DockerSandbox(engine, "name", kind, {}, lambda _: None, Processors(None))
        stream: Any = Taking()
        sandbox._stream = stream
        tree = FileTree((FileEntry("main.py", 0o644, 0, 4 << 20),), content)
        spec = ExecutionSpec(tree=tree, entrypoint="main.py", python="", image="image", limits=LIMITS)
        events: list[Event] = []
        async with asyncio.timeout(PATIENCE):
            await sandbox.run(spec, events.append)

    asyncio.run(send())


def cut_short(file: BinaryIO) -> None:
    file.truncate(1 << 20)


def unreadable(file: BinaryIO) -> None:
    """EISDIR in place of an I/O error of the disk."""
    directory = os.open("/", os.O_RDONLY)
    os.dup2(directory, file.fileno())
    os.close(directory)


@pytest.mark.parametrize("harm", [cut_short, unreadable])
def test_an_archive_that_cant_be_read_ends_the_run_at_once_as_our_failure(harm: Callable[[BinaryIO], None]) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(4 << 20)
        harm(file)
        with pytest.raises(BackendError, match="could not be sent"):
            run(file)
