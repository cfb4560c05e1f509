"""All SQL of the SQLite store, by name.

Times are whole microseconds since 1970, UTC. `finished_at` is NULL exactly while an execution is not final. `size` is
what a row takes, in bytes. `details` holds, as JSON, the fields that no query looks at. The two outputs come last:
SQLite walks through what lies before a column, and they may be megabytes.
"""

from __future__ import annotations

# MIGRATIONS[N] brings a database from schema version N to N + 1. Add new ones at the end; never change an old one.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE executions (
            execution_id TEXT PRIMARY KEY NOT NULL,
            owner        TEXT NOT NULL,
            status       TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'killed')),
            created_at   INTEGER NOT NULL,
            started_at   INTEGER,
            finished_at  INTEGER CHECK ((finished_at IS NULL) = (status IN ('pending', 'running'))),
            size         INTEGER NOT NULL,
            details      TEXT NOT NULL,
            stdout       BLOB NOT NULL,
            stderr       BLOB NOT NULL
        )
        """,
        # Finds the unfinished and the oldest, and adds up the sizes, without touching a row.
        "CREATE INDEX executions_by_end ON executions (finished_at, size)",
    ),
)

COLUMNS = "execution_id, owner, status, created_at, started_at, finished_at, size, details, stdout, stderr"

# One execution, new or in place of what was there.
PUT = f"INSERT OR REPLACE INTO executions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 constants

# One execution by id.
GET = f"SELECT {COLUMNS} FROM executions WHERE execution_id = ?"  # noqa: S608 constants

# All that are not final.
UNFINISHED = f"SELECT {COLUMNS} FROM executions WHERE finished_at IS NULL"  # noqa: S608 constants

# Drop what finished before a time.
DROP_FINISHED_BEFORE = "DELETE FROM executions WHERE finished_at < ?"

# Bytes that all final executions take.
FINISHED_BYTES = "SELECT coalesce(sum(size), 0) FROM executions WHERE finished_at IS NOT NULL"

# Drop the final ones that don't fit into so many bytes, when the newest are packed first.
DROP_OLDEST_BEYOND = """
    DELETE FROM executions WHERE rowid IN (
        SELECT rowid FROM (
            SELECT rowid, sum(size) OVER (ORDER BY finished_at DESC, rowid DESC) AS packed
            FROM executions WHERE finished_at IS NOT NULL
        ) WHERE packed > ?
    )
"""
