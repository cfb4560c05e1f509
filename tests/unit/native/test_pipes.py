"""The descriptors between the server and a sandbox."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from python_executor.sandboxes.native.pipes import Output, Pipes


@pytest.mark.parametrize("failing", ["pipe2", "socketpair"])
def test_where_not_all_can_be_had_none_is_kept(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    before = os.listdir("/proc/self/fd")
    really_make, made = os.pipe2, []

    def fail(*_: object) -> tuple[int, int]:
        if failing == "pipe2" and len(made) < 2:
            made.append(1)
            return really_make(os.O_CLOEXEC)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os if failing == "pipe2" else socket, failing, fail)
    with pytest.raises(OSError, match="Too many open files"):
        Pipes()
    assert os.listdir("/proc/self/fd") == before


def test_a_stream_that_is_written_to_all_the_time_is_read_in_few_pieces() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    heard: list[bytes] = []
    lines = [b"%d\n" % n for n in range(5000)]

    def write() -> None:
        for line in lines:
            os.write(write_end, line)

    async def hear_all() -> None:
        output = Output(read_end, heard.append)
        output.listen()
        await asyncio.to_thread(write)
        output.stop()
        output.read_rest()

    asyncio.run(hear_all())
    os.close(read_end)
    os.close(write_end)
    assert b"".join(heard) == b"".join(lines)
    assert len(heard) < 500
