"""Which packages an execution asks for: by its request, by its files, in an order."""

from __future__ import annotations

import re
from typing import Any

import pytest

from python_executor.environments.wanted import says_something, wanted
from python_executor.model.errors import EnvironmentFailed
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter, Limits

INTERPRETER = Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12")
SCRIPT = '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["script"]\n# ///\n'
PROJECT = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["project"]\n'


def spec(files: dict[str, str | bytes], entrypoint: str = "main.py", **fields: Any) -> ExecutionSpec:
    entries, content = [], b""
    for path, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        entries.append(FileEntry(path, 0o644, len(content), len(data)))
        content += data
    tree = FileTree(tuple(entries), content)
    return ExecutionSpec(tree, entrypoint, "3.12", Limits(1, 64, 16, 1024), **{"finds_requirements": True, **fields})


def names(what: ExecutionSpec) -> tuple[str, ...] | None:
    found = wanted(what, INTERPRETER)
    assert says_something(what) or found is None
    return found if found is None else found.names


def test_the_request_goes_before_its_files() -> None:
    files = {"main.py": SCRIPT, "requirements.txt": "file", "pyproject.toml": PROJECT}
    assert names(spec(files, requirements="asked")) == ("asked",)
    assert names(spec(files)) == ("script",)
    del files["main.py"]
    assert names(spec({"main.py": "", **files})) == ("file",)
    del files["requirements.txt"]
    assert names(spec({"main.py": "", **files})) == ("project",)
    assert names(spec({"main.py": ""})) is None


def test_files_beside_the_entrypoint_go_before_those_at_the_top_and_others_do_not_count() -> None:
    files = {
        "src/main.py": "",
        "src/requirements.txt": "near",
        "requirements.txt": "far",
        "x/requirements.txt": "other",
    }
    assert names(spec(files, "src/main.py")) == ("near",)
    del files["src/requirements.txt"]
    assert names(spec(files, "src/main.py")) == ("far",)
    del files["requirements.txt"]
    assert names(spec(files, "src/main.py")) is None


def test_only_the_entrypoint_is_the_script() -> None:
    assert names(spec({"main.py": "", "other.py": SCRIPT})) is None


def test_files_are_not_looked_at_where_the_request_says_so() -> None:
    assert not says_something(spec({"main.py": SCRIPT, "requirements.txt": "file"}, finds_requirements=False))


def test_files_that_say_that_they_need_nothing_are_an_answer() -> None:
    assert names(spec({"main.py": "", "requirements.txt": "# nothing\n"})) == ()


def test_a_file_that_does_not_declare_packages_is_passed_over() -> None:
    assert names(spec({"main.py": "", "pyproject.toml": "[tool.black]\n"})) is None
    assert names(spec({"main.py": "# /// script of another kind\n", "requirements.txt": "file"})) == ("file",)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"main.py": SCRIPT.replace("3.11", "3.13")},
            "main.py asks for Python >=3.13, and this is 3.12.1: choose another",
        ),
        ({"pyproject.toml": PROJECT.replace("3.10", "4")}, "pyproject.toml asks for Python >=4, and this is 3.12.1"),
        ({"requirements.txt": b"\xffsix"}, "requirements.txt"),
        ({"requirements.txt": "--index-url https://x"}, "requirements.txt line 1: the option --index-url"),
        ({"requirements.txt": "x\n" * 200_000}, "requirements.txt"),
        ({"pyproject.toml": "[[["}, "pyproject.toml"),
    ],
)
def test_what_cannot_be_meant_is_told_with_the_file(files: dict[str, Any], told: str) -> None:
    with pytest.raises(EnvironmentFailed, match=re.escape(told)):
        wanted(spec({"main.py": "", **files}), INTERPRETER)
