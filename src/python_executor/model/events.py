"""The only way anything leaves a sandbox. Whoever follows ignores kinds that it does not know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .environment import Stage


class Termination(StrEnum):
    """Whose doing the end of an execution was: `ERROR`, `LOST` and `EVICTED` are ours, all others theirs."""

    EXITED = "exited"
    SIGNALED = "signaled"
    TIMEOUT = "timeout"
    CPU = "cpu"
    MEMORY = "memory"
    KILLED = "killed"
    ENVIRONMENT = "environment"
    IMAGE = "image"
    LOST = "lost"
    EVICTED = "evicted"  # ended for the machine's lack of memory, though within its own limit
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel counted for an execution; zero where nothing could count it."""

    cpu_ms: int = 0
    memory_peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Preparing:
    """How far the environment or the image is. Before the code runs; it comes from us, not from a sandbox."""

    stage: Stage
    what: str = ""  # what is being worked at, such as a file's name
    done: int = 0  # bytes
    total: int = 0  # bytes; 0: not known


@dataclass(frozen=True, slots=True)
class Stdout:
    """Bytes that the code wrote to descriptor 1."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Bytes that the code wrote to descriptor 2."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """`repr()` of the last expression's value, as the code's own process told it: never trusted, only shown."""

    text: str | None
    truncated: bool = False
    unshown: str = ""  # why there is no text


@dataclass(frozen=True, slots=True)
class Raised:
    """The uncaught exception, as the code's own process told it: its class's name and a line of the entrypoint."""

    error_type: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Exited:
    """The last event of every sandbox: how the code ended, as a shell would see it, and what it used.

    `termination` is `EXITED`, `SIGNALED`, `CPU`, `MEMORY` or `EVICTED`; why a sandbox was killed from outside is for
    `executions` to know.
    """

    exit_code: int  # 0-255, 128 + N for signal N
    termination: Termination
    usage: Usage
    reason: str = ""  # of `MEMORY`, where it was not the limit that the request names


Event = Stdout | Stderr | Result | Raised | Exited
