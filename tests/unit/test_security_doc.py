"""docs/security.md promises with tests: they exist, and no boundary is without a line."""

from __future__ import annotations

import re
from pathlib import Path

from python_executor.model.isolation import BOUNDARIES, MAY_BE_WEAKER

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/security.md").read_text()
NAMES = set(re.findall(r"`([^`\n]+)`", TEXT))


def test_every_test_that_is_named_exists() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    functions = {name for name in NAMES if name.startswith("test_")}
    assert len(functions) > 15
    assert not {name for name in functions if f"def {name}(" not in sources}
    assert not [name for name in NAMES if name.startswith("tests/") and not (ROOT / name).exists()]


def test_every_boundary_has_its_line_and_every_weaker_form_its_own() -> None:
    assert {boundary.name for boundary in BOUNDARIES} <= NAMES
    weaker = TEXT.partition("## What is weaker")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)`", weaker, re.MULTILINE)) == MAY_BE_WEAKER
