"""What goes out: an execution as JSON, and the models that describe the answers in the OpenAPI document.

The bytes are built by hand, field by field: a model would validate again what our own types already promise, on
every request and over up to 20 MiB of output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from ..model.engine import Engine
from ..model.environment import Environment, NamedEnvironment, Stage
from ..model.events import Preparing, Termination
from ..model.execution import Execution, Status
from ..model.isolation import State

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encoded(content: object) -> bytes:
    """The content as JSON. A lone surrogate, which UTF-8 can't say, becomes "?"."""
    return _encode(content).encode("utf-8", "replace")


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encoded(content), status, headers, media_type="application/json")


def execution_content(execution: Execution) -> dict[str, Any]:
    """The result as clients read it; every field is always there."""
    usage = execution.usage
    return {
        "execution_id": execution.execution_id,
        "status": execution.status,
        "stdout": bytes(execution.stdout).decode("utf-8", "replace"),
        "stderr": bytes(execution.stderr).decode("utf-8", "replace"),
        "exit_code": execution.exit_code,
        "error": execution.error,
        "error_type": execution.error_type,
        "error_line": execution.error_line,
        "result": execution.result,
        "started_at": _timestamp(execution.started_at),
        "finished_at": _timestamp(execution.finished_at),
        "duration_ms": execution.duration_ms,
        "termination": execution.termination,
        "stdout_truncated": execution.stdout_truncated,
        "stderr_truncated": execution.stderr_truncated,
        "warnings": list(execution.warnings),
        "backend": execution.backend,
        "python": execution.python,
        "isolation": execution.isolation,
        "usage": usage and {"cpu_ms": usage.cpu_ms, "memory_peak_bytes": usage.memory_peak_bytes},
        "environment": execution.environment and _environment_content(execution.environment),
        "preparing": execution.preparing and _preparing_content(execution.preparing),
    }


def _environment_content(environment: Environment) -> dict[str, Any]:
    packages = [{"name": package.name, "version": package.version} for package in environment.packages]
    return {"key": environment.key, "name": environment.name, "packages": packages}


def _preparing_content(progress: Preparing) -> dict[str, Any]:
    return {
        "stage": progress.stage,
        "what": progress.what,
        "done_bytes": progress.done,
        "total_bytes": progress.total or None,
    }


def named_content(named: NamedEnvironment) -> dict[str, Any]:
    """A named environment as clients read it."""
    return {
        "name": named.name,
        "key": named.key,
        "python": named.python,
        "requirements": named.requirements,
        "preload": list(named.preload),
    }


def engine_content(engine: Engine) -> dict[str, Any]:
    """The container engine as clients read it."""
    return {
        "address": engine.address,
        "name": engine.name,
        "runtimes": list(engine.runtimes),
        "unavailable": engine.unavailable,
    }


def _timestamp(moment: datetime | None) -> str | None:
    # Always six digits: older parsers take three or six, and isoformat() alone drops them at a full second.
    return None if moment is None else moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class UsageResult(BaseModel):
    """What the kernel counted."""

    cpu_ms: int
    memory_peak_bytes: int


class PackageResult(BaseModel):
    """An installed package."""

    name: str
    version: str


class EnvironmentResult(BaseModel):
    """The packages of an execution."""

    key: str = Field(description="Names its lock: /api/v1/environments/{key}/lock.")
    name: str | None = Field(description="Of one that the operator has named.")
    packages: list[PackageResult]


class PreparingResult(BaseModel):
    """How far the image or the packages of an execution are."""

    stage: Stage
    what: str = Field(description="What is being worked at, such as the name of an image or of a file.")
    done_bytes: int
    total_bytes: int | None


class ExecutionResult(BaseModel):
    """An execution: its state and, once it has finished, its result."""

    execution_id: str = Field(examples=["exe_550e8400-e29b-41d4-a716-446655440000"])
    status: Status
    stdout: str
    stderr: str
    exit_code: int | None = Field(description="As a shell sees it; null while pending or running.", ge=0, le=255)
    error: str | None = Field(description="Why it could not be run, or not to its end.")
    error_type: str | None = Field(description="Class of the uncaught exception.")
    error_line: int | None = Field(description="Line of the entrypoint that it came from.")
    result: str | None = Field(description="repr() of the last expression, with `eval_last_expr`.")
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    termination: Termination | None = Field(description="Whose doing the end was; null before it.")
    stdout_truncated: bool
    stderr_truncated: bool
    warnings: list[str]
    backend: str | None = Field(description="What runs it.", examples=["native"])
    python: str | None = Field(examples=["3.12.1"])
    isolation: dict[str, State] | None = Field(
        description="How each boundary around it stood when the server tried them; null before its start.",
        examples=[{"seccomp": "ok", "memory": "weaker"}],
    )
    usage: UsageResult | None
    environment: EnvironmentResult | None = Field(description="The packages that it has; null where it asked for none.")
    preparing: PreparingResult | None = Field(
        description="How far its image or its packages are; null unless it waits for them."
    )


class NamedEnvironmentResult(BaseModel):
    """An environment that requests can name."""

    name: str = Field(examples=["data-science"])
    key: str = Field(examples=["env_0123456789abcdef0123456789abcdef"])
    python: str = Field(description="Minor version of its interpreter.", examples=["3.12"])
    requirements: str = Field(description="As the operator gave them.")
    preload: list[str] = Field(description="Modules that are imported before any code comes.")


class NamedEnvironments(BaseModel):
    """All environments that requests can name."""

    environments: list[NamedEnvironmentResult]


class BillOfMaterials(BaseModel):
    """CycloneDX 1.6."""

    bomFormat: str
    specVersion: str


class Accepted(BaseModel):
    """An execution that was taken and will run."""

    execution_id: str = Field(examples=["exe_550e8400-e29b-41d4-a716-446655440000"])


class StatusResult(BaseModel):
    """Where an execution stands after a kill."""

    status: Status


class Health(BaseModel):
    """The server is alive."""

    status: str = Field(examples=["ok"])


class EngineResult(BaseModel):
    """The container engine."""

    address: str = Field(examples=["unix:///run/docker.sock"])
    name: str = Field(description="With its version, once it has answered.", examples=["Docker Engine 20.10.24"])
    runtimes: list[str] = Field(description="By name, its default one first.", examples=[["runc", "runsc"]])
    unavailable: str | None = Field(description="Why no image can be run, with what to do; null where they can.")


class Readiness(Health):
    """The server takes work."""

    engine: EngineResult | None = Field(description="The container engine that it uses; null where it uses none.")


class Error(BaseModel):
    """A request that was not taken."""

    error: str = Field(description="One sentence that says what to do.")
    code: str = Field(description="A stable word for programs.", examples=["invalid_request"])
