"""The guest's modules as the sandbox has them: top-level names, beside each other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

GUEST = Path(str(files("python_executor.guest")))


@contextmanager
def guest_modules() -> Iterator[dict[str, ModuleType]]:
    """`intake` and `runner` by name; gone from ours afterwards, with all that they imported of the guest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(GUEST))
        patch.setattr(sys, "dont_write_bytecode", True)
        yield {name: importlib.import_module(name) for name in ("intake", "runner")}
    for path in GUEST.glob("*.py"):
        sys.modules.pop(path.stem, None)
