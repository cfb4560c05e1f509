"""An execution as it is seen from outside at one moment: what the API shows and the store keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from .environment import Environment
from .events import Preparing, Termination, Usage
from .isolation import Isolation


class Status(StrEnum):
    """Where an execution stands; the last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def is_final(self) -> bool:
        """Whether nothing about the execution will change any more."""
        return self not in (Status.PENDING, Status.RUNNING)


class Block(Protocol):
    """Some of the bytes of an output, wherever they are."""

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...


class Blocks:
    """Bytes in several blocks, which all snapshots that show them share. Equal to the same bytes in one piece."""

    __slots__ = ("_size", "blocks")

    def __init__(self, *blocks: Block) -> None:
        self.blocks = blocks
        self._size = sum(map(len, blocks))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(map(bytes, self.blocks))

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, bytes | Blocks) else NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __repr__(self) -> str:
        return f"Blocks({bytes(self)!r})"


def pieces(data: bytes | Blocks, size: int) -> Iterator[bytes]:
    """The bytes again in pieces of at most that size."""
    for block in map(bytes, data.blocks if isinstance(data, Blocks) else (data,)):
        for start in range(0, len(block), size):
            yield block[start : start + size]


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Execution:
    """A snapshot. Times are aware and in UTC; `stdout` and `stderr` are the bytes kept, at most the cap."""

    execution_id: str
    owner: str  # the server that runs it
    status: Status
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stdout: bytes | Blocks = b""
    stderr: bytes | Blocks = b""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    exit_code: int | None = None
    termination: Termination | None = None
    error: str | None = None
    error_type: str | None = None
    error_line: int | None = None
    result: str | None = None
    warnings: tuple[str, ...] = ()
    backend: str | None = None
    python: str | None = None  # full version: "3.12.1"
    usage: Usage | None = None
    isolation: Isolation | None = field(default=None, hash=False)  # from its start on
    environment: Environment | None = None  # its packages, once they are there
    preparing: Preparing | None = None  # how far they are, as long as they are not; not on record

    @property
    def output_bytes(self) -> int:
        """Bytes of output that it holds."""
        return len(self.stdout) + len(self.stderr)

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds from start to finish, None until both are known."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round((self.finished_at - self.started_at).total_seconds() * 1000)
