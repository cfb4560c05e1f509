"""What packages an execution asks for, going by its request or its files.

In this order, and the first that says anything decides: `requirements_txt` of the request; of its files the script's
own metadata (PEP 723) in the entrypoint, `requirements.txt`, `pyproject.toml`, each beside the entrypoint or else at
the top. What code imports comes after all of these (`imports.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from packaging.specifiers import SpecifierSet

from ..model.errors import EnvironmentFailed
from ..model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter
from .declared import Declared, project_dependencies, script_metadata
from .requirements import Requirements, read_requirements, requirements_file

SCRIPT_MAX = 1 << 20  # bytes of the entrypoint in which its metadata must be
FILE_MAX = (256 << 10) + 1  # bytes; a longer one is refused by whoever reads it
MARK = b"# /// script"


def says_something(spec: ExecutionSpec) -> bool:
    """Whether the request or its files may ask for packages; quickly."""
    return bool(spec.requirements) or any(_declaring(spec))


def wanted(spec: ExecutionSpec, interpreter: Interpreter) -> Requirements | None:
    """The packages that are asked for, None where nothing says so. Raises `EnvironmentFailed`."""
    if spec.requirements:
        return read_requirements(spec.requirements, "requirements_txt")
    for entry in _declaring(spec):
        declared = _declared(spec.tree, entry)
        if declared is not None:
            _check_python(declared, entry.path, interpreter)
            return declared.requirements
    return None


def _declaring(spec: ExecutionSpec) -> Iterator[FileEntry]:
    """The files that may declare packages, in the order in which they count."""
    if not spec.finds_requirements:
        return
    beside = spec.entrypoint.rpartition("/")[0]
    files = (f"{place}/{name}".lstrip("/") for name in ("requirements.txt", "pyproject.toml") for place in (beside, ""))
    paths = dict.fromkeys((spec.entrypoint, *files))
    found = {e.path: e for e in spec.tree.entries if e.path in paths and isinstance(e, FileEntry)}
    for path in paths:
        if path in found and (path != spec.entrypoint or MARK in spec.tree.read(found[path], SCRIPT_MAX)):
            yield found[path]


def _declared(tree: FileTree, entry: FileEntry) -> Declared | None:
    name = entry.path.rpartition("/")[2]
    if name == "requirements.txt":
        return Declared(requirements_file(tree.read(entry, FILE_MAX), entry.path), None)
    if name == "pyproject.toml":
        return project_dependencies(tree.read(entry, FILE_MAX))
    return script_metadata(tree.read(entry, SCRIPT_MAX))


def _check_python(declared: Declared, path: str, interpreter: Interpreter) -> None:
    wanted = declared.requires_python
    if wanted is not None and not SpecifierSet(wanted).contains(interpreter.version, prereleases=True):
        raise EnvironmentFailed(
            f"{path} asks for Python {wanted}, and this is {interpreter.version}: choose another with python_version, "
            "or with docker_image python:X.Y."
        )
