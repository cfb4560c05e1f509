"""What a stranger wants installed, as requirements that mean the same to everybody.

They come as the text of a requirements.txt, in a script's inline metadata (PEP 723) or in a project's pyproject.toml.
All three end up as `Requirements`, whose canonical text is the only thing that uv is given. It holds these promises:

- it has names, extras, versions, markers and hashes, and no other option, URL, path or variable of the environment;
- a name is normalized, so no line can be taken for a file or an option;
- it is printable ASCII, sorted, without duplicates, and read again it is itself.

All work is bounded by the constants below and takes time in proportion to the input. Whatever can't be taken is an
`EnvironmentFailed` with the sentence that its sender should read.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BytesIO

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..model.errors import EnvironmentFailed

MAX_TEXT = 4 * 1024 * 1024  # characters in all: locks are long, because uv gives each wheel's hash a line
MAX_TEXT_BESIDES_HASHES = 256 * 1024
MAX_LINES_BESIDES_HASHES = 10_000
MAX_LINE = 2_000  # characters, and as many of one requirement without its hashes
MAX_REQUIREMENTS = 1_000
MAX_HASHES = 2_000  # of one requirement
MAX_NAME = 200
MAX_PIN = 250  # of "name==version" in a lock, so that 1,000 of them are never too much besides hashes
MAX_PARENTHESES = 50  # of one requirement: packaging reads them recursively
MAX_KEY_DOTS = 32  # of one TOML key: tomllib takes minutes for one of thousands
MAX_SOURCE = 4 * 1024 * 1024  # bytes of a script that has metadata
MAX_BLOCK = 64 * 1024  # bytes of the metadata
MAX_PROJECT = 256 * 1024  # bytes of a pyproject.toml

HASH = re.compile(r"--hash=(sha256:[0-9a-fA-F]{64}|sha384:[0-9a-fA-F]{96}|sha512:[0-9a-fA-F]{128})")
BETWEEN_HASHES = " \\\n    "  # as uv and pip-compile write it

_HASH_WITH_ITS_LINE = re.compile(r"--hash=sha\d{3}:[0-9a-fA-F]{64,128} ?\\?\n? {0,4}")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # neither tab nor newline
_COMMENT = re.compile(r"(?<!\S)#")
_OPTION = re.compile(r"(?<!\S)-")
_ARCHIVES = (".whl", ".zip", ".egg", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz")
_NOT_OF_THE_INDEX = re.compile(r"[@/\\:]|^[.~]")  # never part of a name, its extras and versions

_INDEX = "this server's operator chooses the index"
_FILES = "no other file is read; write its lines here"
_REASONS = {
    "-i": _INDEX, "--index-url": _INDEX, "--extra-index-url": _INDEX, "--no-index": _INDEX, "--pypi-url": _INDEX,
    "-f": _INDEX, "--find-links": _INDEX, "--trusted-host": _INDEX,
    "-r": _FILES, "--requirement": _FILES, "-c": _FILES, "--constraint": _FILES,
    "-e": "nothing is installed from a path or a URL", "--editable": "nothing is installed from a path or a URL",
}  # fmt: skip


def shown(text: str) -> str:
    """A stranger's text, quoted and short enough for an error message."""
    return repr(text if len(text) <= 100 else text[:100] + "…")


@dataclass(frozen=True, slots=True, order=True)
class Requested:
    """One requirement in canonical form."""

    name: str  # normalized: "scikit-learn"
    requirement: str  # "scikit-learn[extra]>=1; marker", without hashes
    hashes: tuple[str, ...] = ()  # "sha256:…", sorted
    version: str | None = None  # of one that is pinned with ==

    @property
    def line(self) -> str:
        """As it stands in a requirements.txt, each hash continued on a line of its own."""
        return BETWEEN_HASHES.join((self.requirement, *(f"--hash={digest}" for digest in self.hashes)))

    @property
    def is_locked(self) -> bool:
        """Whether it leaves nothing to choose: an exact version, for every machine, with a SHA-256."""
        is_exact = self.requirement == f"{self.name}=={self.version}" and len(self.requirement) <= MAX_PIN
        return is_exact and any(digest.startswith("sha256:") for digest in self.hashes)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What is wanted, sorted and without duplicates."""

    requested: tuple[Requested, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each requirement, its hashes included."""
        return tuple(one.line for one in self.requested)

    @property
    def text(self) -> str:
        """The canonical requirements.txt."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def names(self) -> tuple[str, ...]:
        """The normalized names, sorted; each once."""
        return tuple(sorted({one.name for one in self.requested}))

    @property
    def has_hashes(self) -> bool:
        """Whether its sender accepts nothing but certain files; if one requirement has hashes, all have."""
        return any(one.hashes for one in self.requested)

    @property
    def is_lock(self) -> bool:
        """Whether nothing is left to resolve; if so, `read_lock` takes the text."""
        return all(one.is_locked for one in self.requested) and len(self.names) == len(self.requested)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a script or a project says of itself."""

    requirements: Requirements
    requires_python: str | None  # version specifiers: ">=3.11"


def requirements_file(data: bytes, what: str) -> Requirements:
    """The requirements in the bytes of a file. Raises `EnvironmentFailed`."""
    return read_requirements(_decoded(data, what), what)


def read_requirements(text: str, what: str) -> Requirements:
    """The requirements in the text of a requirements.txt; `what` names it in messages. Raises `EnvironmentFailed`."""
    if len(text) > MAX_TEXT:
        raise EnvironmentFailed(f"{what} is longer than {MAX_TEXT} characters: ask for fewer packages.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    _check_size(text, what)
    _check_characters(text, what)
    requirements = _collected(_logical_lines(text, what), what)
    if len(requirements.text) > MAX_TEXT:  # what came with less space between its hashes
        raise EnvironmentFailed(f"{what} is longer than {MAX_TEXT} characters: ask for fewer packages.")
    return requirements


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


class PackageFilter:
    """The operator's word on which packages may be installed: patterns of names, as in a shell."""

    def __init__(self, allow: Sequence[str], deny: Sequence[str]) -> None:
        """An empty `allow` allows everything; what `deny` matches is refused in any case."""
        self._allow = [_normalized_pattern(pattern) for pattern in allow]
        self._deny = [_normalized_pattern(pattern) for pattern in deny]

    def allows(self, name: str) -> bool:
        """Whether a package of this name may be installed."""
        return not self._denies(name) and (not self._allow or _matches(name, self._allow))

    def refusal(self, name: str) -> str:
        """The sentence for a name that is not allowed."""
        setting = "PACKAGES_DENY" if self._denies(name) else "PACKAGES_ALLOW"
        return f"the package {shown(name)} is not allowed on this server ({setting}): leave it out or ask its operator."

    def _denies(self, name: str) -> bool:
        return _matches(name, self._deny)


def _normalized_pattern(pattern: str) -> str:
    return re.sub(r"[-_.]+", "-", pattern.strip()).lower()  # as for a name; [._] becomes [-], which is right, too


def _matches(name: str, patterns: Sequence[str]) -> bool:
    normalized = canonicalize_name(name)
    return any(fnmatchcase(normalized, pattern) for pattern in patterns)


# From text to logical lines.


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EnvironmentFailed(f"{what} is not UTF-8: save it as UTF-8.") from None


def _check_size(text: str, what: str) -> None:
    rest = _HASH_WITH_ITS_LINE.sub("", text)
    for count, unit, most in (
        (len(rest), "characters", MAX_TEXT_BESIDES_HASHES),
        (rest.count("\n"), "lines", MAX_LINES_BESIDES_HASHES),
    ):
        if count > most:
            raise EnvironmentFailed(f"{what} has more than {most} {unit} besides hashes: ask for fewer packages.")


def _check_characters(text: str, what: str) -> None:
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise EnvironmentFailed(f"{what} line {line}: the character {found[0]!r} has no place here: remove it.")


def _logical_lines(text: str, what: str) -> Iterator[tuple[str, str]]:
    """Where each line begins, and the line: continued over backslashes, without its comment."""
    parts: list[str] = []
    where = ""
    for number, physical in enumerate(text.split("\n"), start=1):
        if not parts:
            where = f"{what} line {number}"
        if len(physical) > MAX_LINE:
            raise EnvironmentFailed(f"{what} line {number} is longer than {MAX_LINE} characters: shorten it.")
        comment = _COMMENT.search(physical)
        line = (physical[: comment.start()] if comment else physical).rstrip(" \t")
        is_continued = not comment and line.endswith("\\")  # a comment ends with its line, whatever is in it
        parts.append(line[:-1] if is_continued else line)
        if not is_continued:
            yield where, "".join(parts)
            parts = []
    yield where, "".join(parts)


# From lines to requirements.


def _collected(lines: Iterable[tuple[str, str]], what: str) -> Requirements:
    found: list[tuple[str, Requested]] = []
    for where, line in lines:
        if line := line.replace("\t", " ").strip(" "):
            found.append((where, _requested(line, where)))
        if len(found) > MAX_REQUIREMENTS:
            raise EnvironmentFailed(f"{what} has more than {MAX_REQUIREMENTS} requirements: ask for fewer packages.")
    if any(one.hashes for _, one in found):
        _check_hashed(found)
    return Requirements(tuple(sorted({one for _, one in found})))


def _check_hashed(found: Iterable[tuple[str, Requested]]) -> None:
    """What pip asks for as soon as there is one hash."""
    for where, one in found:
        if not one.hashes:
            raise EnvironmentFailed(
                f"{where}: {shown(one.requirement)} has no --hash but others have: give all of them hashes, or none."
            )
        if one.version is None:
            raise EnvironmentFailed(
                f"{where}: {shown(one.requirement)} has a --hash but no exact version: pin it with ==."
            )


def _requested(line: str, where: str) -> Requested:
    if "${" in line:
        raise EnvironmentFailed(f"{where}: variables such as ${{NAME}} are not expanded: write out what you mean.")
    option = _OPTION.search(line)
    requirement = line[: option.start()].rstrip(" \t") if option else line
    hashes = _hashes(line[option.start() :], where) if option else ()
    if not requirement:
        raise EnvironmentFailed(f"{where}: a --hash stands alone: put a backslash at the end of the line before it.")
    _check_requirement(requirement, where)
    try:
        return _canonical(Requirement(requirement), hashes)
    except ValueError as error:  # InvalidRequirement, InvalidName, InvalidVersion
        reason = str(error).partition("\n")[0]
        raise EnvironmentFailed(
            f"{where}: {shown(requirement)} is not a requirement ({shown(reason)}): write it like 'name>=1.0'."
        ) from None


def _hashes(options: str, where: str) -> tuple[str, ...]:
    hashes: set[str] = set()
    for word in options.split():
        found = HASH.fullmatch(word)
        if not found:
            raise EnvironmentFailed(f"{where}: {_option_refusal(word)}")
        hashes.add(found[1].lower())
    if len(hashes) > MAX_HASHES:
        raise EnvironmentFailed(f"{where}: there are more than {MAX_HASHES} hashes of one requirement: give fewer.")
    return tuple(sorted(hashes))


def _option_refusal(word: str) -> str:
    if not word.startswith("-"):
        return f"{shown(word)} comes after an option: put each requirement on a line of its own, before its hashes."
    name = word.partition("=")[0] if word.startswith("--") else word[:2]
    if name == "--hash":
        return f"{shown(word)} is not a hash that is taken: write --hash=sha256:, sha384: or sha512: and the digits."
    name = name if name.isascii() and len(name) <= 40 else shown(name)
    return f"the option {name} is not taken from a request: {_REASONS.get(name, 'only --hash is')}; remove it."


def _check_requirement(requirement: str, where: str) -> None:
    """What packaging would take, or would take too long for."""
    if len(requirement) > MAX_LINE:
        raise EnvironmentFailed(f"{where}: a requirement is longer than {MAX_LINE} characters: shorten it.")
    before_marker = requirement.partition(";")[0]
    path = before_marker.partition("[")[0].rstrip(" \t").lower()
    if _NOT_OF_THE_INDEX.search(before_marker) or path.endswith(_ARCHIVES):
        raise EnvironmentFailed(
            f"{where}: {shown(requirement)} is a URL or a path: name a package of the index, like 'name==1.0'."
        )
    if not requirement.isascii() or "\\" in requirement:  # both are outside of PEP 508
        raise EnvironmentFailed(f"{where}: {shown(requirement)} holds a backslash or is not ASCII: remove that.")
    if requirement.count("(") > MAX_PARENTHESES:
        raise EnvironmentFailed(f"{where}: a requirement has more than {MAX_PARENTHESES} parentheses: simplify it.")


def _canonical(parsed: Requirement, hashes: tuple[str, ...]) -> Requested:
    """Raises `ValueError` for what packaging parses but nobody can install."""
    name = canonicalize_name(parsed.name, validate=True)
    if len(name) > MAX_NAME:
        raise ValueError(f"its name is longer than {MAX_NAME} characters")
    extras = ",".join(sorted({canonicalize_name(extra, validate=True) for extra in parsed.extras}))
    version = _pinned_version(parsed.specifier)
    return Requested(
        name=name,
        requirement="".join((
            name,
            f"[{extras}]" if extras else "",
            f"=={version}" if version else str(parsed.specifier),
            f"; {parsed.marker}" if parsed.marker else "",
        )),
        hashes=hashes,
        version=version,
    )  # fmt: skip


def _pinned_version(specifiers: SpecifierSet) -> str | None:
    for specifier in specifiers:
        if specifier.operator == "===":
            Version(specifier.version)  # packaging takes any text there, uv only a version
    if len(specifiers) != 1:
        return None
    only = next(iter(specifiers))
    return str(Version(only.version)) if only.operator == "==" and not only.version.endswith(".*") else None


# What scripts and projects declare.

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
    text = _decoded(data, what)
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
    requirements = _collected(_dependency_lines(dependencies, what), what)
    return Declared(requirements, _requires_python(table.get("requires-python"), what))


def _dependency_lines(dependencies: Sequence[str], what: str) -> Iterator[tuple[str, str]]:
    for number, dependency in enumerate(dependencies, start=1):
        where = f"{what}, dependency {number}"
        if "\n" in dependency or _UNPRINTABLE.search(dependency):
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
