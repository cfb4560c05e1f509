"""What the SQLite store promises beyond the port: one writer, one server, a file that can be trusted or is refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from datetime import UTC, datetime

import pytest

from python_executor.model.errors import StoreError
from python_executor.storage import queries
from python_executor.storage.sqlite import DATABASE, SqliteStore
from python_executor.storage.worker import Job, Worker, do_together

from .test_contract import ended, pending

MAX_BYTES = 100_000


def with_store(directory, check, max_bytes: int = MAX_BYTES) -> None:
    async def run():
        store = SqliteStore(directory, max_bytes)
        await store.open()
        try:
            await check(store)
        finally:
            await store.close()

    asyncio.run(run())


async def nothing(store) -> None:
    """Opens and closes only."""


def by_hand(directory, *statements: str) -> None:
    """Do something to the database that the store would not."""
    directory.mkdir(exist_ok=True)
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_what_was_put_is_there_after_a_restart(tmp_path):
    with_store(tmp_path, lambda store: store.put(ended()))

    async def check(store):
        assert await store.get("exe_0") == ended()

    with_store(tmp_path, check)


def test_the_directory_and_the_database_are_for_their_owner_alone(tmp_path):
    directory = tmp_path / "a" / "b"

    async def check(store):
        await store.put(ended())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        assert set(modes.values()) == {0o600} and DATABASE in modes
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    before = os.umask(0)
    try:
        with_store(directory, check)
    finally:
        os.umask(before)


def test_nothing_of_what_has_expired_stays_in_the_files(tmp_path):
    secret = b"what a stranger printed "

    def count() -> int:
        return sum(path.read_bytes().count(secret) for path in tmp_path.iterdir())

    async def check(store):
        await store.put(ended(stdout=secret * 10_000), ended(1, stderr=secret))
        assert count() > 9_000  # some are torn by borders of pages
        await store.expire(datetime.max.replace(tzinfo=UTC))
        assert count() == 0

    with_store(tmp_path, check, max_bytes=10 * MAX_BYTES)
    assert count() == 0


def test_a_second_server_is_told_which_directory_and_what_to_do(tmp_path):
    async def check(store):
        second = SqliteStore(tmp_path, MAX_BYTES)
        with pytest.raises(StoreError, match=f"{tmp_path} is in use by another server: stop that one, or"):
            await second.open()
        await second.close()
        await store.put(ended())

    with_store(tmp_path, check)
    with_store(tmp_path, nothing)


def test_a_directory_that_cannot_be_made_is_told_with_the_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        with_store(tmp_path / "file" / "data", nothing)


def test_a_database_that_cannot_be_opened_is_told_with_the_reason(tmp_path):
    (tmp_path / DATABASE).mkdir()
    with pytest.raises(StoreError, match=r"can't be used .*Is a directory"):
        with_store(tmp_path, nothing)


def test_a_new_database_gets_every_migration(tmp_path):
    with_store(tmp_path, nothing)
    connection = sqlite3.connect(tmp_path / DATABASE)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(queries.MIGRATIONS),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_database_of_an_older_schema_is_brought_up_to_date_and_keeps_its_rows(tmp_path, monkeypatch):
    with_store(tmp_path, lambda store: store.put(ended()))
    newer = (*queries.MIGRATIONS, ("ALTER TABLE executions ADD COLUMN note TEXT", "CREATE TABLE notes (note TEXT)"))
    monkeypatch.setattr(queries, "MIGRATIONS", newer)

    async def check(store):
        assert await store.get("exe_0") == ended()

    with_store(tmp_path, check)
    with_store(tmp_path, check)


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    with_store(tmp_path, nothing)
    with monkeypatch.context() as patch:
        patch.setattr(queries, "MIGRATIONS", (*queries.MIGRATIONS, ("CREATE TABLE notes (note TEXT)", "no SQL")))
        with pytest.raises(StoreError, match="can't be used"):
            with_store(tmp_path, nothing)
    with_store(tmp_path, nothing)


def test_a_database_of_a_newer_release_is_refused_with_what_to_do(tmp_path):
    by_hand(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"newer release \(schema 99, this one knows 1\): upgrade python-executor"):
        with_store(tmp_path, nothing)


def test_a_file_that_is_no_database_is_refused_with_what_to_do(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreError, match="is damaged: move it away and start again"):
        with_store(tmp_path, nothing)


def test_a_database_damaged_in_the_middle_is_refused_when_it_is_opened(tmp_path):
    async def fill(store):
        await asyncio.gather(*(store.put(ended(number)) for number in range(200)))

    with_store(tmp_path, fill)
    content = bytearray((tmp_path / DATABASE).read_bytes())
    content[len(content) // 2 :] = b"\xa5" * (len(content) - len(content) // 2)
    (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        with_store(tmp_path, nothing)


def test_after_a_refusal_the_directory_is_free_again(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreError):
        with_store(tmp_path, nothing)
    (tmp_path / DATABASE).unlink()
    with_store(tmp_path, nothing)


def test_a_full_disk_is_told_to_the_one_who_puts(tmp_path):
    async def check(store):
        await store._writer.do(lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchall())
        with pytest.raises(StoreError, match="is full: make room, or lower STORE_MAX_MB"):
            await store.put(ended(1, stdout=b"x" * 90_000))
        await store.put(ended(2))
        assert await store.get("exe_1") is None
        assert await store.get("exe_2") == ended(2)

    with_store(tmp_path, check)


def test_of_what_is_put_together_all_is_written_or_nothing(tmp_path):
    async def check(store):
        await store._writer.do(lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchall())
        with pytest.raises(StoreError, match="is full"):
            await store.put(ended(1), ended(2, stdout=b"x" * 90_000), ended(3))
        assert [await store.get(f"exe_{number}") for number in (1, 2, 3)] == [None] * 3

    with_store(tmp_path, check)


def test_the_size_limit_holds_between_two_sweeps_too(tmp_path):
    async def check(store):
        for number in range(30):
            await store.put(ended(number, after=number, stdout=b"x" * 10_000))
        kept = [number for number in range(30) if await store.get(f"exe_{number}")]
        assert kept == list(range(30 - len(kept), 30))
        assert 9 <= len(kept) <= 11

    with_store(tmp_path, check)


def test_a_put_whose_caller_went_away_is_done_all_the_same(tmp_path):
    async def check(store):
        putting = asyncio.create_task(store.put(ended()))
        await asyncio.sleep(0)
        putting.cancel()
        await store.put(pending(1))
        assert await store.get("exe_0") == ended()

    with_store(tmp_path, check)


def test_closing_writes_what_waits(tmp_path):
    async def check(store):
        putting = [asyncio.create_task(store.put(ended(number))) for number in range(50)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*putting)
        with pytest.raises(StoreError, match="closed"):
            await store.put(ended())

    with_store(tmp_path, check)

    async def look(store):
        assert await store.get("exe_49") == ended(49)

    with_store(tmp_path, look)


def test_reading_does_not_wait_for_a_long_write(tmp_path):
    async def check(store):
        await store.put(ended())
        connection = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")  # a write that takes its time
        assert await store.get("exe_0") == ended()
        connection.rollback()
        connection.close()

    with_store(tmp_path, check)


def test_what_waits_is_written_in_one_transaction(tmp_path):
    async def check(store):
        statements: list[str] = []
        gate = threading.Event()
        busy = asyncio.create_task(store._writer.do(lambda connection: gate.wait()))
        await asyncio.sleep(0.01)
        puts = [asyncio.create_task(store.put(ended(number))) for number in range(100)]
        await asyncio.sleep(0)
        tracing = asyncio.create_task(store._writer.do(lambda c: c.set_trace_callback(statements.append)))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(busy, *puts, tracing)
        await store.put(ended())
        assert [statement.split()[0] for statement in statements] == ["COMMIT", "BEGIN", "INSERT", "COMMIT"]

    with_store(tmp_path, check)


def test_a_job_that_fails_takes_no_other_with_it():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")

    async def check():
        def insert(number):
            return Job(lambda c: c.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount, None)

        outcomes = do_together(connection, [insert(1), insert(1), insert(2)])
        assert [outcomes[0], outcomes[2]] == [1, 1]
        assert isinstance(outcomes[1], sqlite3.IntegrityError)
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (2,)

    asyncio.run(check())
    connection.close()


def test_a_worker_whose_connection_cannot_be_made_says_so_and_ends():
    def connect():
        raise sqlite3.OperationalError("no")

    async def check():
        worker = Worker("test", connect)
        with pytest.raises(sqlite3.OperationalError):
            await worker.start()
        await worker.stop()
        assert not worker._thread.is_alive()

    asyncio.run(check())


def test_nothing_of_the_spec_has_a_column():
    columns = {column.strip() for column in queries.COLUMNS.split(",")}
    assert columns == {
        *("execution_id", "owner", "status", "created_at", "started_at", "finished_at"),
        *("size", "details", "stdout", "stderr"),
    }
