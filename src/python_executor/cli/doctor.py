"""`doctor`: tries every boundary of a sandbox on this machine, as `serve` does at its start, and shows how it went."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .. import __version__
from ..assembly import docker_backend, native_backend
from ..environments.interpreters import find_interpreters
from ..model.engine import Engine
from ..model.errors import BackendError
from ..model.isolation import BOUNDARIES, BY_NAME, Finding, State, is_accepted
from ..model.spec import Interpreter
from ..settings import Settings
from . import output
from .engine import load_settings, log_to_stderr

REFUSED = 1
COLORS = {State.OK: "green", State.WEAKER: "yellow", State.MISSING: "red"}


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found; `failure` says why no sandbox could be made at all, and then nothing was."""

    findings: Sequence[Finding]
    interpreters: Sequence[Interpreter]
    network: str = "available"  # or why there can be none
    engine: Engine | None = None  # of containers; None where the settings want none
    failure: str | None = None

    @property
    def refused(self) -> list[str]:
        """The boundaries for which the default policy would refuse to start."""
        return [finding.boundary.name for finding in self.findings if not is_accepted(finding, frozenset())]


def doctor(as_json: bool) -> int:
    """Examine this machine and print what was found; 1 where a server with the default policy would not start."""
    settings = load_settings({"pool_max": 0})
    log_to_stderr("error")
    examination = asyncio.run(_examine(settings))
    if as_json:
        output.show_json(_as_dict(examination, settings))
    else:
        _show(examination, settings)
    return REFUSED if examination.refused or examination.failure else 0


async def _examine(settings: Settings) -> Examination:
    """Start a backend that takes whatever it finds, and look at what that is."""
    interpreters = find_interpreters()
    backend = native_backend(settings.model_copy(update={"insecure_allow": frozenset(BY_NAME)}), interpreters)
    engine = await _look_for_engine(settings)
    try:
        await backend.start()
        return Examination(backend.findings, interpreters, _network(settings, backend.network_unavailable), engine)
    except BackendError as problem:
        untried = [Finding(boundary, State.MISSING, "not tried: no sandbox can be made") for boundary in BOUNDARIES]
        return Examination(untried, interpreters, "no sandbox can be made", engine, str(problem))
    finally:
        await backend.close()


def _network(settings: Settings, unavailable: str | None) -> str:
    if not settings.allow_network:
        return "forbidden to all code (ALLOW_NETWORK false)"
    return unavailable or "available"


async def _look_for_engine(settings: Settings) -> Engine | None:
    if settings.backend == "native":
        return None
    backend = docker_backend(settings.model_copy(update={"backend": "auto"}), is_only=False)
    try:
        await backend.start()
        return backend.engine
    finally:
        await backend.close()


def _versions() -> dict[str, str]:
    return {
        "python-executor": __version__,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
    }


def _limits(settings: Settings) -> dict[str, dict[str, int]]:
    return {
        "timeout_seconds": {"default": settings.default_timeout, "maximum": settings.max_timeout},
        "memory_mb": {"default": settings.default_memory_mb, "maximum": settings.max_memory_mb},
        "disk_mb": {"default": settings.default_disk_mb, "maximum": settings.max_disk_mb},
    }


def _as_dict(examination: Examination, settings: Settings) -> dict[str, object]:
    return {
        "versions": _versions(),
        "boundaries": [
            {
                "name": finding.boundary.name,
                "state": finding.state.value,
                "seen": finding.seen,
                "mend": "" if finding.state is State.OK else finding.boundary.mend,
            }
            for finding in examination.findings
        ],
        "network_on_request": examination.network,
        "limits": _limits(settings),
        "interpreters": [{"version": each.version, "path": each.executable} for each in examination.interpreters],
        "backends": {
            "native": examination.failure or "ok",
            **({"docker": examination.engine.unavailable or "ok"} if examination.engine else {}),
        },
        "engine": examination.engine and asdict(examination.engine),
        "refused": examination.refused,
    }


def _show(examination: Examination, settings: Settings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(", ".join(f"{name} {version}" for name, version in _versions().items()))
    table = Table("boundary", "state", "what that means", box=None)
    for finding in examination.findings:
        state = f"[{COLORS[finding.state]}]{finding.state}[/]"
        table.add_row(finding.boundary.name, state, Text("" if examination.failure else _meaning(finding)))
    console.print(table)
    console.print(f"network on request: {examination.network}", markup=False, soft_wrap=True)
    console.print(f"images: {_engine(examination.engine)}", markup=False, soft_wrap=True)
    limits = Table("limit", "default", "at most", box=None)
    for name, numbers in _limits(settings).items():
        limits.add_row(name, str(numbers["default"]), str(numbers["maximum"]))
    console.print(limits)
    pythons = Table("python", "where", box=None)
    for interpreter in examination.interpreters:
        pythons.add_row(interpreter.version, interpreter.executable)
    console.print(pythons)
    console.print(_conclusion(examination), markup=False, soft_wrap=True)


def _engine(engine: Engine | None) -> str:
    if engine is None:
        return "not run (BACKEND native)"
    if engine.unavailable:
        return f"can't be run: {engine.unavailable}"
    return f"run on {engine.name} at {engine.address}, runtimes {', '.join(engine.runtimes)}"


def _meaning(finding: Finding) -> str:
    if finding.state is State.OK:
        return f"code can't {finding.boundary.stops}"
    return f"{finding.seen}; to mend it, {finding.boundary.mend}"


def _conclusion(examination: Examination) -> str:
    if examination.failure:
        return f"No sandbox can be made here: {examination.failure}"
    if examination.refused:
        return f"A server would not start here: {', '.join(examination.refused)} must hold."
    weaker = [finding.boundary.name for finding in examination.findings if finding.state is State.WEAKER]
    if weaker:
        return f"A server starts here; weaker than it could be: {', '.join(weaker)}."
    return "A server starts here, and every boundary holds."
