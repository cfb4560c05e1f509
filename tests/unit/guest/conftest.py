"""The guest's modules as the sandbox has them: top-level names, beside each other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

GUEST = Path(str(files("python_executor.guest")))


@pytest.fixture(scope="session")
def guest_files() -> list[Path]:
    """All files of the guest."""
    return sorted(GUEST.glob("*.py"))


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """Modules of the guest by name; gone from ours afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(GUEST))
        patch.setattr(sys, "dont_write_bytecode", True)
        yield {name: importlib.import_module(name) for name in ("intake", "runner")}
    for path in GUEST.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def runner(modules, tmp_path, monkeypatch) -> ModuleType:
    """runner.py, with a directory of the test's own in place of /work."""
    monkeypatch.setattr(modules["runner"], "WORK", str(tmp_path))
    return modules["runner"]


@pytest.fixture
def intake(modules, runner) -> ModuleType:
    """intake.py, likewise."""
    return modules["intake"]
