"""What scripts and projects say that they need: inline metadata (PEP 723) and pyproject.toml.

What they say is held to the same rules as a requirements.txt, and in the same bounds.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from packaging.specifiers import SpecifierSet

from ..model.errors import EnvironmentFailed
from .requirements import MAX_LINE, UNPRINTABLE, Requirements, collected, decoded, shown

MAX_KEY_DOTS = 32  # of one TOML key: tomllib takes minutes for one of thousands
MAX_SOURCE = 4 * 1024 * 1024  # bytes of a script that has metadata
MAX_BLOCK = 64 * 1024  # bytes of the metadata
MAX_PROJECT = 256 * 1024  # bytes of a pyproject.toml

_OPENER = re.compile(rb"# /// ([a-zA-Z0-9-]+)")
_CLOSER = b"# ///"

# Finds just what strings and comments are, so that no dot in them counts. No alternative can fail after its first
# characters, whatever follows: that would make it quadratic.
_TOML_TOKEN = re.compile(
    r"""
    (?P<key> "{3}(?:[^\\]|\\.?)*?(?:"{3}|\Z) | '{3}.*?(?:'{3}|\Z) | "(?:[^"\\\n]|\\.?)*"? | '[^'\n]*'?
           | [A-Za-z0-9_-]+ | [ \t]+ )
    | (?P<dot> \. )
    | (?P<end> \#[^\n]* | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a script or a project says of itself."""

    requirements: Requirements
    requires_python: str | None  # version specifiers: ">=3.11"


def script_metadata(source: bytes) -> Declared | None:
    """What a script's PEP 723 block declares, None if it has no such block. Raises `EnvironmentFailed`."""
    if b"# /// script" not in source:
        return None
    what = "the script's metadata"
    if len(source) > MAX_SOURCE:
        raise EnvironmentFailed(f"the script is longer than {MAX_SOURCE} bytes: move what it needs to other files.")
    blocks = [content for kind, content in _blocks(source) if kind == b"script"]
    if len(blocks) > 1:
        raise EnvironmentFailed(f"{what} stands in {len(blocks)} blocks '# /// script': keep one.")
    if not blocks:
        return None
    if len(blocks[0]) > MAX_BLOCK:
        raise EnvironmentFailed(f"{what} is longer than {MAX_BLOCK} bytes: shorten it.")
    return _declared(_toml(blocks[0], what), what)


def project_dependencies(pyproject: bytes) -> Declared | None:
    """What the [project] table declares, None if it has no dependencies of its own. Raises `EnvironmentFailed`."""
    what = "pyproject.toml"
    if len(pyproject) > MAX_PROJECT:
        raise EnvironmentFailed(f"{what} is longer than {MAX_PROJECT} bytes: shorten it.")
    project = _toml(pyproject, what).get("project")
    if not isinstance(project, dict) or "dependencies" not in project:
        return None
    dynamic = project.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        return None
    return _declared(project, what)


def _blocks(source: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each metadata block, as PEP 723's regular expression finds them, but in linear time.

    That expression lets a block reach to the last closing line of consecutive comments, so there is at most one in each
    run of them: behind that line nothing closes another.
    """
    for run in _comment_runs(source):
        if _CLOSER not in run:
            continue
        last = len(run) - 1 - run[::-1].index(_CLOSER)
        for start in range(last - 1):  # at least one line of content
            if opener := _OPENER.fullmatch(run[start]):
                yield opener[1], b"\n".join(line[2:] for line in run[start + 1 : last])
                break


def _comment_runs(source: bytes) -> Iterator[list[bytes]]:
    """Consecutive lines that are "#" or begin with "# "."""
    run: list[bytes] = []
    source = source.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in BytesIO(source):
        line = line.removesuffix(b"\n")
        if line == b"#" or line.startswith(b"# "):
            run.append(line)
        elif run:
            yield run
            run = []
    yield run


def _toml(data: bytes, what: str) -> dict[str, object]:
    text = decoded(data, what)
    _check_keys(text, what)
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError; or a number of too many digits
        raise EnvironmentFailed(f"{what} is not valid TOML ({shown(str(error))}): correct it.") from None
    except RecursionError:
        raise EnvironmentFailed(f"{what} is nested too deeply: make it flatter.") from None


def _check_keys(text: str, what: str) -> None:
    dots = 0
    for token in _TOML_TOKEN.finditer(text):
        if token.lastgroup == "dot":
            dots += 1
        elif token.lastgroup == "end":
            dots = 0
        if dots > MAX_KEY_DOTS:
            raise EnvironmentFailed(f"{what} has a key of more than {MAX_KEY_DOTS} parts: shorten it.")


def _declared(table: dict[str, object], what: str) -> Declared:
    dependencies = table.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(dependency, str) for dependency in dependencies):
        raise EnvironmentFailed(f"{what}: dependencies is not a list of strings: make it one.")
    requirements = collected(_dependency_lines(dependencies, what), what)
    return Declared(requirements, _requires_python(table.get("requires-python"), what))


def _dependency_lines(dependencies: Sequence[str], what: str) -> Iterator[tuple[str, str]]:
    for number, dependency in enumerate(dependencies, start=1):
        where = f"{what}, dependency {number}"
        if "\n" in dependency or UNPRINTABLE.search(dependency):
            raise EnvironmentFailed(f"{where}: {shown(dependency)} holds an unprintable character: remove it.")
        yield where, dependency


def _requires_python(value: object, what: str) -> str | None:
    if value is None:
        return None
    try:
        if not isinstance(value, str) or len(value) > MAX_LINE or not value.isascii():
            raise ValueError
        return str(SpecifierSet(value))
    except ValueError:
        raise EnvironmentFailed(f"{what}: requires-python is not understood: write it like '>=3.11'.") from None
