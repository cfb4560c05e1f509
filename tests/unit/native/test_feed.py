"""Standard input on its way in: a pipe that is filled as it is read, and that nobody waits for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from python_executor.sandboxes.native.feed import Feed

HELD = 1 << 16  # bytes, by a pipe


def with_feed(data: bytes, use: Callable[[Feed], Awaitable[object]]) -> None:
    async def work() -> None:
        feed = Feed(data)
        try:
            async with asyncio.timeout(10):
                await use(feed)
        finally:
            feed.close()
            feed.close()

    asyncio.run(work())


def read_all(fd: int, at_once: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, at_once), b""))


def is_open(feed: Feed) -> bool:
    return feed._write_end >= 0


def test_what_a_pipe_holds_is_there_before_anybody_reads_and_nothing_is_left_to_do() -> None:
    async def use(feed: Feed) -> None:
        assert not is_open(feed)
        assert os.read(feed.read_end, HELD) == b"line\n"
        assert os.read(feed.read_end, HELD) == b""
        feed.close_read_end()

    with_feed(b"line\n", use)


@pytest.mark.parametrize("at_once", [1 << 10, 1 << 12, 1 << 20])
def test_what_a_pipe_does_not_hold_follows_as_it_is_read(at_once: int) -> None:
    data = os.urandom(1 << 20)

    async def use(feed: Feed) -> None:
        assert await asyncio.to_thread(read_all, feed.read_end, at_once) == data
        assert not is_open(feed)
        feed.close_read_end()

    with_feed(data, use)


def test_nothing_is_left_to_do_once_nobody_can_read_any_more() -> None:
    async def use(feed: Feed) -> None:
        assert is_open(feed)
        feed.close_read_end()
        await asyncio.sleep(0.1)
        assert not is_open(feed)

    with_feed(bytes(1 << 20), use)


def test_whoever_reads_page_by_page_does_not_keep_the_event_loop_busy() -> None:
    turns = 0

    async def use(feed: Feed) -> None:
        nonlocal turns
        write = feed._write

        def counted() -> None:
            nonlocal turns
            turns += 1
            write()

        feed._write = counted  # type: ignore[method-assign]
        await asyncio.to_thread(read_all, feed.read_end, 1 << 12)

    with_feed(bytes(4 << 20), use)
    assert turns < 512  # of 1,024 pages
