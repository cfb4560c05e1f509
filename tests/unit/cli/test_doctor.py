"""`doctor` asks each interpreter of the machine once: each answer takes a process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from python_executor.cli import doctor
from python_executor.environments import interpreters
from python_executor.model.isolation import BOUNDARIES, Finding, State
from python_executor.model.spec import Interpreter

from .conftest import Cli

FOUND = Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12")


class Backend:
    """Finds every boundary as it should be."""

    findings: Sequence[Finding] = [Finding(boundary, State.OK, "") for boundary in BOUNDARIES]
    network_unavailable = None
    engine = None

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_interpreters_are_looked_for_once(flags: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(executable: str) -> Interpreter:
        asked.append(executable)
        return FOUND

    def native_backend(_settings: object, found: Sequence[Interpreter] | None = None) -> Backend:
        if found is None:
            interpreters.find_interpreters()
        return Backend()

    monkeypatch.setattr(interpreters, "_ask", ask)
    monkeypatch.setattr(doctor, "native_backend", native_backend)
    monkeypatch.setattr(doctor, "docker_backend", lambda *_, **__: Backend())
    monkeypatch.setattr(doctor, "log_to_stderr", lambda _level: None)  # this process has more tests to log for
    outcome = cli("doctor", *flags)
    assert outcome.code == 0 and FOUND.executable in outcome.stdout
    assert sorted(asked) == sorted(set(asked))
