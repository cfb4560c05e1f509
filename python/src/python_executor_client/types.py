"""Type definitions for python-executor client.

This module contains the data types used by the PythonExecutorClient:
- ExecutionStatus: Enum for execution states
- ExecutionConfig: Resource limits and settings
- Metadata: Execution parameters
- ExecutionResult: Response from the server
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Optional


class ExecutionStatus(str, Enum):
    """Status of a code execution.

    Attributes:
        PENDING: Execution is queued but not yet started.
        RUNNING: Execution is currently in progress.
        COMPLETED: Execution finished successfully (exit code may be non-zero).
        FAILED: The code could not be run, or not to its end: a timeout or an internal error (not a script error).
        KILLED: Execution was terminated by the user.

    Example:
        >>> result = client.get_execution(exec_id)
        >>> if result.status == ExecutionStatus.COMPLETED:
        ...     print(result.stdout)
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"

    def __str__(self) -> str:
        """Return the bare word, as enum.StrEnum does from Python 3.11 on."""
        return self.value


def _without_nothing(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


@dataclass
class ExecutionConfig:
    """Resource limits and execution settings.

    Configure resource constraints and network access for code execution.

    Attributes:
        timeout_seconds: Maximum execution time in seconds, such as 0.5. Default is 300 (5 min).
        network_disabled: If True, the code has no network access. Default is True.
        memory_mb: Memory limit in megabytes. Default is 1024 (1 GB).
        disk_mb: Disk space limit in megabytes. Default is 2048 (2 GB).
        cpu_shares: CPU shares (relative weight). Default is 1024.
        cpus: Processors' worth of time at most, such as 0.5. Default is None: the server's.
        cpu_seconds: Processor time at most, in seconds, of all processes together. Default is None: no such limit.

    Example:
        >>> config = ExecutionConfig(
        ...     timeout_seconds=60,
        ...     network_disabled=False,  # Allow network for pip install
        ...     memory_mb=2048
        ... )
        >>> metadata = Metadata(entrypoint="main.py", config=config)
    """

    timeout_seconds: float = 300
    network_disabled: bool = True
    memory_mb: int = 1024
    disk_mb: int = 2048
    cpu_shares: int = 1024
    cpus: Optional[float] = None
    cpu_seconds: Optional[float] = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary for JSON serialization."""
        return _without_nothing(asdict(self))


@dataclass
class Metadata:
    """Execution metadata specifying how to run the code.

    Attributes:
        entrypoint: The Python file to execute (e.g., "main.py"); "" where module says what to run.
        docker_image: Docker image to use. Default is "python:3.11-slim". The server runs names of interpreters that
            it has on those, and others in containers.
        requirements_txt: Contents of requirements.txt: packages that the server installs before the code runs.
            Note: Older servers need the network to be enabled for that; the code itself does not need it.
        pre_commands: Shell commands to run before executing Python.
        stdin: Data to provide on standard input to the script.
        config: Resource limits. See ExecutionConfig.
        env_vars: Environment variables as "KEY=value" strings.
        script_args: Arguments to pass to the Python script (sys.argv).
        eval_last_expr: If True, the result carries the repr() of the last expression's value, as with eval().
        detect_imports: If True, have the packages that the code imports, where nothing else says which it needs.
            Default is None: the server's choice.
        environment: Name of an environment of the server's, in place of requirements_txt.
        runtime: Runtime of the server's container engine, such as "runsc", where its operator permits it.
        module: Module or package to run in place of entrypoint, as `python -m` does.

    Example:
        >>> metadata = Metadata(
        ...     entrypoint="main.py",
        ...     requirements_txt="requests\\nnumpy",
        ...     env_vars=["API_KEY=secret"],
        ...     script_args=["--verbose", "input.txt"],
        ...     config=ExecutionConfig(network_disabled=False)
        ... )
    """

    entrypoint: str
    docker_image: Optional[str] = None
    requirements_txt: Optional[str] = None
    pre_commands: Optional[list[str]] = None
    stdin: Optional[str] = None
    config: Optional[ExecutionConfig] = None
    env_vars: Optional[list[str]] = None
    script_args: Optional[list[str]] = None
    eval_last_expr: Optional[bool] = None
    detect_imports: Optional[bool] = None
    environment: Optional[str] = None
    runtime: Optional[str] = None
    module: Optional[str] = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary for JSON serialization; what is None is left to the server."""
        data = asdict(self)
        data["config"] = self.config and self.config.to_dict()
        return _without_nothing(data)


@dataclass
class ExecutionResult:
    """Result of a code execution.

    Contains the output and status of a completed or in-progress execution. The attributes from `termination`
    on keep their defaults where the server is one that does not know them.

    Attributes:
        execution_id: Unique identifier for this execution.
        status: Current status (pending, running, completed, failed, killed).
        stdout: Standard output from the Python script.
        stderr: Standard error from the Python script.
        exit_code: Process exit code (0 = success, non-zero = error).
        error: Error message if the execution failed internally.
        started_at: When execution started (UTC, aware).
        finished_at: When execution finished (UTC, aware).
        duration_ms: Total execution time in milliseconds.
        result: REPL expression result when eval_last_expr is enabled.
            Contains the repr() of the last expression's value, or None if the
            last statement was not an expression.
        error_type: Class name of the uncaught exception that ended the script.
        error_line: Line of the entrypoint where that exception came from.
        termination: Whose doing the end was: "exited", "signaled", "timeout", "cpu", "memory", "killed",
            "environment", "image", or the server's own "lost" and "error". Newer servers may know more words.
        stdout_truncated: True if the script wrote more to stdout than the server keeps.
        stderr_truncated: The same for stderr.
        warnings: What the server did otherwise than asked, one sentence each.
        backend: What ran the code, e.g. "native".
        python: Full version of the interpreter, e.g. "3.12.1".
        usage: What the execution used: "cpu_ms" and "memory_peak_bytes".
        isolation: How each boundary around it stood, by name: "ok", "weaker" or "missing".
        environment: The packages it had: "key", "name" (of one that the server's operator has named, or None) and
            "packages", a list of dicts with "name" and "version". None where it had none.
        preparing: While it waits for its image or its packages, how far they are: "stage" ("pulling", "resolving",
            "downloading", "installing", "storing"), "what" (such as a file's name), "done_bytes" and "total_bytes"
            (None: not known).

    Example:
        >>> result = client.execute_sync(
        ...     files={"main.py": "print('hello')"}
        ... )
        >>> print(result.status)
        completed
        >>> print(result.exit_code)
        0
        >>> print(result.stdout)
        hello

        # REPL-style evaluation:
        >>> result = client.eval("x = 5\\nx * 2")
        >>> print(result.result)
        10
    """

    execution_id: str
    status: ExecutionStatus
    stdout: Optional[str] = None
    stderr: Optional[str] = None
    exit_code: Optional[int] = None
    error: Optional[str] = None
    started_at: Optional[datetime] = None
    finished_at: Optional[datetime] = None
    duration_ms: Optional[int] = None
    result: Optional[str] = None
    error_type: Optional[str] = None
    error_line: Optional[int] = None
    termination: Optional[str] = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    warnings: list[str] = field(default_factory=list)
    backend: Optional[str] = None
    python: Optional[str] = None
    usage: Optional[dict[str, int]] = None
    isolation: Optional[dict[str, str]] = None
    environment: Optional[dict[str, Any]] = None
    preparing: Optional[dict[str, Any]] = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ExecutionResult:
        """Create an ExecutionResult from an API response dictionary.

        Args:
            data: Dictionary from the JSON API response. Fields that this client does not know are ignored;
                only "execution_id" and "status" have to be there.

        Returns:
            ExecutionResult: Parsed result object.

        Raises:
            ValueError: If the status is an unknown word, or a time is none.
        """
        known = {item.name: data[item.name] for item in fields(cls) if data.get(item.name) is not None}
        known["status"] = ExecutionStatus(data["status"])
        for name in _TIMES & known.keys():
            known[name] = _parse_time(known[name])
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary for JSON serialization, with times as the API writes them."""
        data = asdict(self)
        data["status"] = self.status.value
        for name in _TIMES:
            if data[name] is not None:
                data[name] = data[name].isoformat(timespec="microseconds").replace("+00:00", "Z")
        return data


_TIMES = {"started_at", "finished_at"}
_TIME_FORMAT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d*))?(?:Z|([+-]\d\d):?(\d\d))?")


def _parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time with any number of fraction digits; one without an offset is taken as UTC.

    `datetime.fromisoformat` takes all of these only from Python 3.11 on. Digits past the microseconds are cut off.
    """
    match = _TIME_FORMAT.fullmatch(text)
    if match is None:
        raise ValueError(f"the server sent {text!r} where an ISO 8601 time belongs")
    day, clock, fraction, hours, minutes = match.groups(default="")
    offset = f"{hours}:{minutes}" if hours else "+00:00"
    return datetime.fromisoformat(f"{day}T{clock}.{fraction[:6]:0<6}{offset}").astimezone(timezone.utc)
