"""What a stranger wants installed, as requirements that mean the same to everybody.

They come as the text of a requirements.txt, or as a script or a project declares them (`declared.py`). All end up as
`Requirements`, whose canonical text is the only thing that uv is given. It holds these promises:

- it has names, extras, versions, markers and hashes, and no other option, URL, path or variable of the environment;
- a name is normalized, so no line can be taken for a file or an option;
- it is printable ASCII, sorted, without duplicates, and read again it is itself.

All work is bounded by the constants below and takes time in proportion to the input. Whatever can't be taken is an
`EnvironmentFailed` with the sentence that its sender should read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

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

HASH = re.compile(r"--hash=(sha256:[0-9a-fA-F]{64}|sha384:[0-9a-fA-F]{96}|sha512:[0-9a-fA-F]{128})")
BETWEEN_HASHES = " \\\n    "  # as uv and pip-compile write it

_HASH_WITH_ITS_LINE = re.compile(r"--hash=sha\d{3}:[0-9a-fA-F]{64,128} ?\\?\n? {0,4}")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # neither tab nor newline
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


def requirements_file(data: bytes, what: str) -> Requirements:
    """The requirements in the bytes of a file. Raises `EnvironmentFailed`."""
    return read_requirements(decoded(data, what), what)


def read_requirements(text: str, what: str) -> Requirements:
    """The requirements in the text of a requirements.txt; `what` names it in messages. Raises `EnvironmentFailed`."""
    if len(text) > MAX_TEXT:
        raise EnvironmentFailed(f"{what} is longer than {MAX_TEXT} characters: ask for fewer packages.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    _check_size(text, what)
    _check_characters(text, what)
    requirements = collected(_logical_lines(text, what), what)
    if len(requirements.text) > MAX_TEXT:  # what came with less space between its hashes
        raise EnvironmentFailed(f"{what} is longer than {MAX_TEXT} characters: ask for fewer packages.")
    return requirements


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


def decoded(data: bytes, what: str) -> str:
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
    if found := UNPRINTABLE.search(text):
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


def collected(lines: Iterable[tuple[str, str]], what: str) -> Requirements:
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
