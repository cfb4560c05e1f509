"""An execution as a row of `executions`, and back. No spec is ever in it: neither code nor input nor variables."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from ..model.environment import Environment, Package
from ..model.events import Termination, Usage
from ..model.execution import Execution, Status
from ..model.isolation import State

Row = tuple[str, str, str, int, int | None, int | None, int, str, bytes, bytes]  # in the order of `queries.COLUMNS`

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROW_OVERHEAD = 256  # bytes for the columns of fixed size and both indexes
DETAILS = (
    "stdout_truncated",
    "stderr_truncated",
    "exit_code",
    "termination",
    "error",
    "error_type",
    "error_line",
    "result",
    "warnings",
    "backend",
    "python",
    "isolation",
)


def to_row(execution: Execution) -> Row:
    """The row of an execution."""
    fields: dict[str, Any] = {name: getattr(execution, name) for name in DETAILS}
    usage = execution.usage
    fields["usage"] = usage and {"cpu_ms": usage.cpu_ms, "memory_peak_bytes": usage.memory_peak_bytes}
    fields["environment"] = execution.environment and asdict(execution.environment)
    details = json.dumps(fields)
    return (
        execution.execution_id,
        execution.owner,
        execution.status.value,
        microseconds(execution.created_at),
        microseconds(execution.started_at) if execution.started_at else None,
        microseconds(execution.finished_at) if execution.finished_at else None,
        ROW_OVERHEAD + len(details) + execution.output_bytes,
        details,
        bytes(execution.stdout),
        bytes(execution.stderr),
    )


def to_execution(row: Row) -> Execution:
    """The execution of a row."""
    execution_id, owner, status, created_at, started_at, finished_at, _size, details, stdout, stderr = row
    fields = json.loads(details)
    termination, usage = fields.pop("termination"), fields.pop("usage")
    environment = fields.pop("environment", None)  # older records have none
    isolation = fields.pop("isolation", None)  # which older records lack
    return Execution(
        execution_id=execution_id,
        owner=owner,
        status=Status(status),
        created_at=moment(created_at),
        started_at=None if started_at is None else moment(started_at),
        finished_at=None if finished_at is None else moment(finished_at),
        stdout=stdout,
        stderr=stderr,
        termination=termination and Termination(termination),
        usage=usage and Usage(**usage),
        environment=environment and _environment(**environment),
        warnings=tuple(fields.pop("warnings")),
        isolation=isolation and {name: State(state) for name, state in isolation.items()},
        **fields,
    )


def _environment(key: str, packages: list[dict[str, str]], name: str | None, preload: list[str]) -> Environment:
    return Environment(key, tuple(Package(**package) for package in packages), name, tuple(preload))


def size_of(row: Row) -> int:
    """Bytes that a row takes."""
    return row[6]


def microseconds(time: datetime) -> int:
    """Whole microseconds since 1970: what a datetime holds, exactly."""
    return (time - EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """The time of so many microseconds."""
    return EPOCH + timedelta(microseconds=value)
