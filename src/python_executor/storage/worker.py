"""A thread with a SQLite connection of its own, that coroutines hand jobs to.

All jobs that wait when the thread comes round are done in one transaction: a commit costs as much as many writes, so
the busier it gets, the less each one costs. Where a transaction fails, its jobs are done again one by one, so that a
bad one harms nobody else. A coroutine that is cancelled gives up the answer, not the job.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from ..model.errors import StoreError

T = TypeVar("T")


class Job(NamedTuple):
    """What to do, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]


class Worker:
    """Does jobs in the order in which they were handed in."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()  # None: no more will come
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[Any] = self._loop.create_future()
        self._closed = False
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    async def start(self) -> None:
        """Start the thread; raises what `connect` raised in it."""
        self._thread.start()
        await self._opened

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns once its transaction is committed. Raises what it raised, or what the commit did."""
        if self._closed:
            raise StoreError("the store is closed")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(Job(work, answer))
        return await answer

    async def stop(self) -> None:
        """Do what was handed in, close the connection, end the thread; idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _live(self) -> None:
        try:
            connection = self._connect()
        except Exception as failure:
            self._tell([self._opened], [failure])
            return
        self._tell([self._opened], [None])
        try:
            while self._do_waiting_jobs(connection):
                pass  # what a job held, up to megabytes of output, is gone before the next one is waited for
        finally:
            connection.close()

    def _do_waiting_jobs(self, connection: sqlite3.Connection) -> bool:
        """Wait for jobs and do them; False when no more will come."""
        jobs = self._waiting_jobs()
        if jobs:
            self._tell([job.answer for job in jobs], do_together(connection, jobs))
        return bool(jobs)

    def _waiting_jobs(self) -> list[Job]:
        """All jobs there are, at least one; none when no more will come."""
        jobs: list[Job | None] = [self._jobs.get()]
        while jobs[-1] is not None and not self._jobs.empty():
            jobs.append(self._jobs.get())
        if jobs[-1] is None and len(jobs) > 1:
            self._jobs.put(None)  # comes round once more, alone
        return [job for job in jobs if job is not None]

    def _tell(self, answers: list[asyncio.Future[Any]], outcomes: list[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(resolve, answers, outcomes)


def do_together(connection: sqlite3.Connection, jobs: list[Job]) -> list[Any]:
    """The outcome of each job: what it returned, or the exception."""
    try:
        connection.execute("BEGIN")
        with connection:  # commits, or rolls back
            return [job.work(connection) for job in jobs]
    except Exception as failure:
        if len(jobs) == 1:
            return [failure]
    return [outcome for job in jobs for outcome in do_together(connection, [job])]


def resolve(answers: list[asyncio.Future[Any]], outcomes: list[Any]) -> None:
    """Give each of those that wait its outcome; in the loop's thread."""
    for answer, outcome in zip(answers, outcomes, strict=True):
        if answer.done():  # cancelled
            continue
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
