"""What an execution is while it lives: the state machine, and nothing that waits.

    PENDING ──start()──▶ RUNNING ──┐
       │                           ├── decide() ──▶ (decided) ──finish()──▶ COMPLETED, FAILED or KILLED
       └───────────────────────────┘

A kill, a timeout, a shutdown, a failure of ours and the code's own exit may all come at once. Each of them calls
`decide()` with the ending that it stands for; the first wins and the others change nothing, whatever their order.
Between the decision and `finish()` the sandbox is dying: output and the kernel's usage figures still come in and are
kept. The one thing that goes before a decision already made is a sandbox that does not die of being killed: nobody
may be told that code was stopped while it may still be running.

Nothing here does I/O or looks at a clock; `lifecycle.py` drives it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import datetime

from ..model.environment import Environment
from ..model.events import Event, Exited, Preparing, Raised, Result, Stderr, Stdout, Termination, Usage
from ..model.execution import Block, Blocks, Execution, Status
from ..model.isolation import Isolation
from ..model.spec import ExecutionSpec, Limits
from .absences import TAIL_BYTES, explain_absence, explain_network
from .spool import Keep, keep_in_memory


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ends, as it is shown."""

    status: Status
    termination: Termination
    exit_code: int
    error: str | None = None


KILLED = Ending(Status.KILLED, Termination.KILLED, 137)
SHUT_DOWN = Ending(Status.FAILED, Termination.LOST, 125, "the server was shut down before the execution had finished")
BLOCK_BYTES = 256 * 1024  # of output that are kept as one object: large enough that freeing it gives memory back
IMPORT_ERRORS = ("ModuleNotFoundError", "ImportError")
OUR_FAILURE = Ending(
    Status.FAILED, Termination.ERROR, 125, "the server failed to run this; it was not the code's doing: try again"
)

EVICTED = Ending(
    Status.FAILED,
    Termination.EVICTED,
    125,
    "ended because the server ran out of memory; the code was within its own limit: try again",
)


def without_packages(error: str) -> Ending:
    """The ending of an execution whose packages can't be had."""
    return Ending(Status.FAILED, Termination.ENVIRONMENT, 1, error)


def without_image(error: str) -> Ending:
    """The ending of an execution whose image can't be had, or runs no Python."""
    return Ending(Status.FAILED, Termination.IMAGE, 125, error)


def timed_out(limits: Limits) -> Ending:
    """The ending of an execution that ran past its time."""
    error = f"execution timed out after {limits.timeout_seconds} s"
    return Ending(Status.FAILED, Termination.TIMEOUT, 124, error)


def out_of_time(limits: Limits) -> Ending:
    """The ending of an execution that has used up its processor time."""
    error = f"execution used up its {limits.cpu_seconds} s of processor time (cpu_seconds)"
    return Ending(Status.FAILED, Termination.CPU, 128 + signal.SIGXCPU, error)


def ended_by_itself(event: Exited, limits: Limits) -> Ending:
    """The ending that the sandbox told of."""
    if event.termination is Termination.MEMORY:
        error = f"out of memory: {event.reason or f'the limit is {limits.memory_mb} MiB (memory_mb)'}"
        return Ending(Status.COMPLETED, Termination.MEMORY, 137, error)
    if event.termination is Termination.CPU:
        return out_of_time(limits)
    if event.termination is Termination.EVICTED:
        return EVICTED
    return Ending(Status.COMPLETED, event.termination, event.exit_code)


class Output:
    """The first `limit` bytes of a stream, in blocks that snapshots share, however small the packets are."""

    def __init__(self, limit: int, keep: Keep = keep_in_memory) -> None:
        self.truncated = False
        self._room = limit
        self._keep = keep
        self._blocks: list[Block] = []
        self._last = bytearray()  # what is no whole block yet
        self._shown: bytes | None = None  # the same, as long as nothing more has come

    def feed(self, data: bytes) -> None:
        """Keep what still fits and let go of the rest."""
        self.truncated = self.truncated or len(data) > self._room
        kept = data[: self._room]
        self._room -= len(kept)
        if not kept:
            return
        self._last += kept
        self._shown = None
        if len(self._last) >= BLOCK_BYTES:
            self._blocks.append(self._keep(bytes(self._last)))
            self._last.clear()

    def tail(self, size: int) -> bytes:
        """Return the last bytes that were kept, as far as they are in memory."""
        return bytes(self._last[-size:])

    def snapshot(self) -> bytes | Blocks:
        """The bytes so far; costs no more than the last block, however many there are."""
        if self._shown is None:
            self._shown = bytes(self._last)
        last = self._shown
        return Blocks(*self._blocks, last) if self._blocks else last


def printable(text: str) -> str:
    """The text without lone surrogates, which no JSON can carry."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


class LiveExecution:
    """One execution from its admission to its end: what it has said so far, and how it will end once that is known."""

    def __init__(
        self,
        execution_id: str,
        owner: str,
        backend: str,
        spec: ExecutionSpec,
        created_at: datetime,
        max_output: int,
        keep: Keep = keep_in_memory,
    ) -> None:
        self.execution_id = execution_id
        self.limits = spec.limits
        self.final: Execution | None = None
        self._owner = owner
        self._backend = backend
        self._request_warnings = spec.warnings
        self._has_network = spec.network
        self._packages_advice = spec.packages_advice
        self._created_at = created_at
        self._started_at: datetime | None = None
        self._python: str | None = None
        self._isolation: Isolation | None = None
        self._stdout, self._stderr = Output(max_output, keep), Output(max_output, keep)
        self._result: Result | None = None
        self._raised: Raised | None = None
        self._usage: Usage | None = None
        self._ending: Ending | None = None
        self._environment: Environment | None = None
        self._preparing: Preparing | None = None  # until it is started
        self._hints: tuple[str, ...] = ()  # about imports, for a run that fails to import something
        self._package_warnings: tuple[str, ...] = ()

    @property
    def is_started(self) -> bool:
        """Whether its code may have run."""
        return self._started_at is not None

    @property
    def is_decided(self) -> bool:
        """Whether it is known how it ends."""
        return self._ending is not None

    def prepare(self, progress: Preparing) -> None:
        """Its image or its packages are not there yet."""
        self._preparing = progress

    def equip(self, environment: Environment | None, hints: tuple[str, ...], warnings: tuple[str, ...] = ()) -> None:
        """It has its packages, if any."""
        self._environment, self._hints, self._package_warnings = environment, hints, warnings
        self._preparing = None

    def start(self, python: str, isolation: Isolation, now: datetime) -> bool:
        """It has a sandbox, of which it shows that, and its clock runs; False if it was ended before it got so far."""
        if self.is_decided:
            return False
        self._python = python
        self._isolation = isolation
        self._started_at = max(now, self._created_at)  # wall clocks may be set back
        return True

    def decide(self, ending: Ending) -> bool:
        """Make this its ending, unless it has one; whether it was the first."""
        if self.is_decided:
            return False
        self._ending = ending
        return True

    def feed(self, event: Event) -> bool:
        """Take in what the sandbox said; whether that was the last of it."""
        if self.final is not None:
            return False
        match event:
            case Stdout(data):
                self._stdout.feed(data)
            case Stderr(data):
                self._stderr.feed(data)
            case Result():
                self._result = event
            case Raised():
                self._raised = event
            case Exited():
                self._usage = event.usage
                self.decide(ended_by_itself(event, self.limits))
                return True
        return False

    def give_up(self) -> None:
        """It was to end and did not: from now on that is our failure, whatever was decided."""
        if self.final is None:
            self._ending = OUR_FAILURE

    def finish(self, now: datetime) -> Execution:
        """Nothing will change any more: the snapshot that stays."""
        if self.final is None:
            self.final = self._snapshot(self._ending or OUR_FAILURE, max(now, self._started_at or self._created_at))
            self._stdout = self._stderr = Output(0)  # the bytes live on in `final` alone
        return self.final

    def snapshot(self) -> Execution:
        """How it stands now."""
        return self.final or self._snapshot(None, None)

    def _snapshot(self, ending: Ending | None, finished_at: datetime | None) -> Execution:
        raised, result = self._raised, self._result
        return Execution(
            execution_id=self.execution_id,
            owner=self._owner,
            status=ending.status if ending else Status.RUNNING if self.is_started else Status.PENDING,
            created_at=self._created_at,
            started_at=self._started_at,
            finished_at=finished_at,
            stdout=self._stdout.snapshot(),
            stderr=self._stderr.snapshot(),
            stdout_truncated=self._stdout.truncated,
            stderr_truncated=self._stderr.truncated,
            exit_code=ending.exit_code if ending else None,
            termination=ending.termination if ending else None,
            error=ending.error if ending else None,
            error_type=printable(raised.error_type) if raised else None,
            error_line=raised.line if raised else None,
            result=printable(result.text) if result and result.text is not None else None,
            warnings=self._warnings(),
            backend=self._backend,
            python=self._python,
            usage=self._usage,
            isolation=self._isolation,
            environment=self._environment,
            preparing=None if ending else self._preparing,
        )

    def _warnings(self) -> tuple[str, ...]:
        warnings = self._request_warnings + self._package_warnings
        if self._raised is not None and self._raised.error_type in IMPORT_ERRORS:
            warnings += self._hints
            if self._raised.error_type == "ModuleNotFoundError" and self._packages_advice and self._environment is None:
                warnings += (self._packages_advice,)
        result = self._result
        if result is not None and result.truncated:
            warnings += (f"the result was too long: only its first {len(result.text or '')} characters are shown",)
        elif result is not None and result.unshown:
            reason = " ".join(printable(result.unshown).split())
            warnings += (f"the result can't be shown, its repr() failed: {reason}",)
        tail = self._stderr.tail(TAIL_BYTES)
        network = None if self._has_network else explain_network(tail)
        return warnings + tuple(sentence for sentence in (explain_absence(tail), network) if sentence)
