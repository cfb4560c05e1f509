"""The store of a single machine: one SQLite database in a directory that belongs to one server.

Two threads, each with its own connection: the writer, the only one that ever writes, and the reader, which write-ahead
logging lets read at any time without waiting for it. Both do all that waits in one transaction (`worker.py`). With
`synchronous=NORMAL` a commit survives the death of the process; that of the machine may take the last moments with
it, but never leaves a damaged file.

The directory is locked with `flock` on a file of its own, which the kernel lets go of when the server dies, however
it dies. Descriptors are closed on exec, so nothing that the server starts keeps the lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from ..model.errors import StoreError
from ..model.execution import Execution
from . import queries
from .base import lost
from .rows import Row, microseconds, size_of, to_execution, to_row
from .worker import Worker

T = TypeVar("T")

DATABASE, LOCK = "executions.sqlite3", "lock"
PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_size_limit = 67108864",  # bytes of log that stay on disk once they are in the database
    "PRAGMA secure_delete = ON",  # what is dropped is overwritten: strangers' output does not wait in free pages
)


class SqliteStore:
    """Keeps executions in `directory`; the final ones take `max_bytes` there, and a tenth more for a moment."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._path = directory / DATABASE
        self._max_bytes = max_bytes
        self._lock: int | None = None
        self._writer: Worker | None = None
        self._reader: Worker | None = None
        self._grown = 0  # bytes put since the size was looked at; the writer's thread alone touches it

    async def open(self) -> None:
        """Lock the directory, make the database or bring it up to date, start the threads. Raises `StoreError`."""
        self._lock = lock_directory(self._directory)
        self._writer = Worker("store-writer", lambda: connect_writer(self._path))
        self._reader = Worker("store-reader", lambda: connect(self._path))
        try:
            await self._explained(self._writer.start())
            await self._explained(self._reader.start())
        except BaseException:
            await self.close()
            raise

    async def put(self, *executions: Execution) -> None:
        """Insert or replace; committed on return."""
        await self._do(self._writer, lambda connection: self._put(connection, executions))

    async def get(self, execution_id: str) -> Execution | None:
        """The execution as it was last committed, or None."""
        row = await self._do(self._reader, lambda connection: find(connection, execution_id))
        return None if row is None else to_execution(row)

    async def mark_lost(self, now: datetime) -> int:
        """End all that is not final."""
        return await self._do(self._writer, lambda connection: self._mark_lost(connection, now))

    async def expire(self, finished_before: datetime) -> int:
        """Drop what finished earlier, then the oldest beyond the size limit; nothing of it stays in the files."""
        time = microseconds(finished_before)
        dropped = await self._do(self._writer, lambda connection: self._expire(connection, time))
        await self._explained(asyncio.to_thread(empty_log, self._path))
        return dropped

    async def close(self) -> None:
        """Write what waits, close the database, let the directory go."""
        for worker in (self._reader, self._writer):  # the last to close tidies up the log: the writer may do that
            if worker is not None:
                await worker.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _do(self, worker: Worker | None, work: Callable[[sqlite3.Connection], T]) -> T:
        if worker is None:
            raise StoreError("the store is not open")
        return await self._explained(worker.do(work))

    async def _explained(self, doing: Awaitable[T]) -> T:
        try:
            return await doing
        except (sqlite3.Error, OSError) as failure:
            raise StoreError(explain(failure, self._path)) from failure

    def _put(self, connection: sqlite3.Connection, executions: Sequence[Execution]) -> None:
        for row in map(to_row, executions):
            connection.execute(queries.PUT, row)
            self._grown += size_of(row)
            if self._grown > self._max_bytes // 10:  # the next expire() may be gigabytes away
                self._drop_oldest(connection)

    def _mark_lost(self, connection: sqlite3.Connection, now: datetime) -> int:
        rows = connection.execute(queries.UNFINISHED).fetchall()
        connection.executemany(queries.PUT, [to_row(lost(to_execution(row), now)) for row in rows])
        return len(rows)

    def _expire(self, connection: sqlite3.Connection, time: int) -> int:
        dropped = connection.execute(queries.DROP_FINISHED_BEFORE, (time,)).rowcount
        return dropped + self._drop_oldest(connection)

    def _drop_oldest(self, connection: sqlite3.Connection) -> int:
        self._grown = 0
        (taken,) = connection.execute(queries.FINISHED_BYTES).fetchone()
        if taken <= self._max_bytes:
            return 0
        return connection.execute(queries.DROP_OLDEST_BEYOND, (self._max_bytes,)).rowcount


def lock_directory(directory: Path) -> int:
    """Make the directory, for its owner alone, and take it for this process; the descriptor that holds the lock."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
    except BlockingIOError as failure:
        reason = f"the data directory {directory} is in use by another server"
        raise StoreError(f"{reason}: stop that one, or give this one a DATA_DIR of its own") from failure
    except OSError as failure:
        reason = f"the data directory {directory} can't be used ({failure.strerror})"
        raise StoreError(f"{reason}: set DATA_DIR to a local one that this user may write to") from failure
    return descriptor


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose transactions are begun by hand."""
    return sqlite3.connect(path, isolation_level=None)


def connect_writer(path: Path) -> sqlite3.Connection:
    """The connection that makes and changes the database: checked, and at the newest schema."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite itself would let everybody read it
    connection = connect(path)
    try:
        for pragma in PRAGMAS:
            connection.execute(pragma)
        migrate(connection, path)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(damaged(path))
    except BaseException:
        connection.close()
        raise
    return connection


def empty_log(path: Path) -> None:
    """Move what the log holds into the database and cut it to nothing: until then, it repeats what was dropped.

    It changes nothing where somebody reads or writes for seconds on end; the next time will do.
    """
    with closing(connect(path)) as connection:  # of its own: those of the workers are within transactions
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Take the steps that the database has not seen yet, each with its version in one transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = len(queries.MIGRATIONS)
    if version > known:
        reason = f"the database {path} was made by a newer release (schema {version}, this one knows {known})"
        raise StoreError(f"{reason}: upgrade python-executor, or move that file away")
    for number, statements in enumerate(queries.MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN")
        with connection:
            for statement in (*statements, f"PRAGMA user_version = {number}"):
                connection.execute(statement)


def find(connection: sqlite3.Connection, execution_id: str) -> Row | None:
    """The row with that id. Ids come from outside: one that is no text SQLite could hold is simply not there."""
    with suppress(UnicodeEncodeError):
        row: Row | None = connection.execute(queries.GET, (execution_id,)).fetchone()
        return row
    return None


def explain(failure: sqlite3.Error | OSError, path: Path) -> str:
    """What went wrong, and what to do."""
    code = getattr(failure, "sqlite_errorcode", 0) & 0xFF  # the rest refines it
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path)
    if code == sqlite3.SQLITE_FULL:
        return f"the disk that holds {path} is full: make room, or lower STORE_MAX_MB"
    return f"the database {path} can't be used ({failure})"


def damaged(path: Path) -> str:
    """The sentence for a file that is not, or no longer, a database."""
    return f"the database {path} is damaged: move it away and start again; it holds nothing but recent results"
