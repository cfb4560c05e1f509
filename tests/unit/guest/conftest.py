"""The guest's modules as the sandbox has them: top-level names, beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.guest import GUEST, guest_modules


@pytest.fixture(scope="session")
def guest_files() -> list[Path]:
    """All files of the guest."""
    return sorted(GUEST.glob("*.py"))


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """Modules of the guest by name."""
    with guest_modules() as found:
        yield found


@pytest.fixture
def runner(modules, tmp_path, monkeypatch) -> ModuleType:
    """runner.py, with a directory of the test's own in place of /work."""
    monkeypatch.setattr(modules["runner"], "WORK", str(tmp_path))
    return modules["runner"]


@pytest.fixture
def intake(modules, runner) -> ModuleType:
    """intake.py, likewise."""
    return modules["intake"]
