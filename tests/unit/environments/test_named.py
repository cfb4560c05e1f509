"""Names of environments: a file each, that any process may read and change."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_executor.environments.named import Definition, Definitions

SCIENCE = Definition("science", "3.12", "numpy\n", ("numpy",), "env_" + "a" * 32, "numpy==2.0.0\n")


def test_what_was_defined_is_seen_by_all_who_look(tmp_path: Path) -> None:
    here, there = Definitions(tmp_path / "named"), Definitions(tmp_path / "named")
    here.put(SCIENCE)
    assert there.get("science") == SCIENCE and there.all() == [SCIENCE]
    changed = Definition("science", "3.13", "six\n", (), "env_" + "b" * 32, "six==1\n")
    here.put(changed)
    assert there.get("science") == changed
    assert here.remove("science") and not here.remove("science")
    assert there.get("science") is None and there.all() == []


def test_no_name_leads_out_of_the_directory(tmp_path: Path) -> None:
    definitions = Definitions(tmp_path / "named")
    definitions.open()
    (tmp_path / "secret.json").write_text("{}")
    for name in ("../secret", "", ".", "..", "a/b", "A", "-x", "x" * 65, "ä"):
        assert definitions.get(name) is None and not definitions.remove(name)
    assert (tmp_path / "secret.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "name": "x"}', "\xff"])
def test_a_file_that_is_no_definition_is_none(tmp_path: Path, text: str) -> None:
    definitions = Definitions(tmp_path)
    (tmp_path / "broken.json").write_text(text, encoding="latin-1")
    assert definitions.get("broken") is None and definitions.all() == []


def test_there_may_be_no_directory_yet(tmp_path: Path) -> None:
    assert Definitions(tmp_path / "none").all() == []
