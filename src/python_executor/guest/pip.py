"""What `pip` says in a sandbox: what is installed there, and how to get what is not. It installs nothing.

This stands in for pip where that is not installed itself. Packages are chosen before code runs; what code was seen to
have pip install is among them, so that `pip install NAME` mostly has nothing left to do.
"""

import json
import re
import sys
from importlib import metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Sequence, Tuple

__version__ = "0+sandbox"
HOW = "list it in requirements_txt (--requirements), or import it with detect_imports (--detect-imports)"
FLAGS_WITH_VALUE = {
    "-c", "--constraint", "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "-t", "--target", "--prefix",
    "--root", "--python", "--timeout", "--retries", "--proxy", "--trusted-host", "--cache-dir", "--upgrade-strategy",
    "--log", "--progress-bar", "--only-binary", "--no-binary", "--format", "--exclude", "--path",
}  # fmt: skip
FILES, PLACES = {"-r", "--requirement"}, {"-e", "--editable"}
REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^]]*\])?\s*\(?([^;@()]*)\)?\s*(;.*)?", re.ASCII)
CLAUSE = re.compile(r"(===|==|!=|~=|<=|>=|<|>)\s*([^\s,]+)")
VERSION = re.compile(
    r"v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?"
    r"(?:[-_.]?(post|rev|r)[-_.]?(\d*)|-(\d+))?(?:[-_.]?(dev)[-_.]?(\d*))?(?:\+.*)?",
    re.IGNORECASE | re.ASCII,
)


def main(arguments: "Optional[Sequence[str]]" = None) -> int:
    """Do as `pip ARGUMENTS...` does; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in words if not word.startswith("-")), "")
    if not command:
        is_version = "-V" in words or "--version" in words
        python = ".".join(map(str, sys.version_info[:2]))
        say(f"pip {__version__} from {__file__} (python {python})" if is_version else str(__doc__))
        return 0
    flags, names, files = sorted_out(words[words.index(command) + 1 :])
    if command == "install":
        return install(names, files)
    if command == "show":
        return show(names)
    if command == "freeze":
        return listed("freeze")
    if command == "list" and not {"-o", "--outdated", "-u", "--uptodate"} & flags.keys():
        return listed(flags.get("--format", "columns"))
    return refuse(f"pip {command} can't be done while code runs here: packages are chosen before it starts")


def sorted_out(words: "Sequence[str]") -> "Tuple[Dict[str, str], List[str], List[str]]":
    """Flags with their values, names and paths, and files of requirements."""
    flags: "Dict[str, str]" = {}
    names: "List[str]" = []
    files: "List[str]" = []
    ahead = iter(words)
    for word in ahead:
        flag, has_value, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        elif flag in FILES | PLACES | FLAGS_WITH_VALUE:
            value = value if has_value else next(ahead, "")
            (files if flag in FILES else names if flag in PLACES else []).append(value)
            flags[flag] = value
        else:
            flags[flag] = value
    return flags, names, files


# --- what is there ----------------------------------------------------------------------------------------------------


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> "Dict[str, metadata.Distribution]":
    """All of them by normalized name, in that order: what comes first in `sys.path` is what is imported."""
    found: "Dict[str, metadata.Distribution]" = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(normalized(name), distribution)
    return dict(sorted(found.items()))


def listed(form: str) -> int:
    rows = [(each.metadata["Name"], each.version) for each in installed().values()]
    if form == "json":
        say(json.dumps([{"name": name, "version": version} for name, version in rows]))
    elif form == "freeze":
        sys.stdout.write("".join(f"{name}=={version}\n" for name, version in rows))
    elif rows:
        wide, narrow = (max(map(len, column)) for column in zip(("Package", "Version"), *rows))
        table = [("Package", "Version"), ("-" * wide, "-" * narrow), *rows]
        say("\n".join(f"{name:{wide}} {version}" for name, version in table))
    return 0


def show(names: "Sequence[str]") -> int:
    there = installed()
    found = [there[normalized(name)] for name in names if normalized(name) in there]
    if found:
        say("\n---\n".join(described(each, there) for each in found))
    if absent := [name for name in names if normalized(name) not in there]:
        sys.stderr.write(f"WARNING: Package(s) not found: {', '.join(absent)}\n")
    return 0 if found else 1


def described(distribution: metadata.Distribution, there: "Dict[str, metadata.Distribution]") -> str:
    own, name = distribution.metadata, normalized(distribution.metadata["Name"])
    users = sorted(other.metadata["Name"] for other in there.values() if name in map(normalized, needed_by(other)))
    fields = {field: own[field] or "" for field in ("Name", "Version", "Summary", "Home-page", "Author")}
    fields.update(
        {"Author-email": own["Author-email"] or "", "License": own["License"] or own["License-Expression"] or ""}
    )
    fields.update(
        {"Location": str(distribution.locate_file("")).rstrip("/"), "Requires": ", ".join(needed_by(distribution))}
    )
    return "\n".join(f"{field}: {text}" for field, text in {**fields, "Required-by": ", ".join(users)}.items())


def needed_by(distribution: metadata.Distribution) -> "List[str]":
    """Names of what it depends on, but for its extras."""
    found = (REQUIREMENT.match(text) for text in distribution.requires or () if "extra ==" not in text)
    return sorted({match[1] for match in found if match})


# --- pip install ------------------------------------------------------------------------------------------------------


def install(names: "Sequence[str]", files: "Sequence[str]") -> int:
    wanted = list(names)
    for path in files:
        try:
            with open(path, encoding="utf-8") as file:
                wanted += lines_of(file.read())
        except OSError as error:
            return refuse(f"Could not open requirements file: {error}")
    if not wanted:
        return refuse("You must give at least one requirement to install")
    there = installed()
    lacking = [text for text in wanted if not is_there(text, there)]
    if lacking:
        names = ", ".join(" ".join(text.split()) for text in lacking)
        return refuse(f"{names}: not installed, and nothing can be while code runs here: {HOW}")
    return 0


def lines_of(text: str) -> "Iterator[str]":
    """Requirements of a file, without its options."""
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line and not line.startswith("-"):
            yield line.partition(" --")[0].rstrip(" \\")


def is_there(text: str, there: "Dict[str, metadata.Distribution]") -> bool:
    """Whether that needs no installation, which is then said as pip says it."""
    match = REQUIREMENT.fullmatch(text.strip())
    if match is None:
        return False  # a path or a URL
    found = there.get(normalized(match[1]))
    if found is None and normalized(match[1]) == "pip":
        say(f"Requirement already satisfied: pip ({__version__})")
        return True
    if found is None:
        return match[3] is not None  # its marker is why
    if not all(fits(found.version, *clause) for clause in CLAUSE.findall(match[2])):
        return False
    place = str(found.locate_file("")).rstrip("/")
    say(f"Requirement already satisfied: {text} in {place} ({found.version})")
    return True


def fits(version: str, operator: str, wanted: str) -> bool:
    """Whether a version is as a clause of PEP 440 says."""
    if operator == "===":
        return version == wanted
    if operator in ("==", "!=") and wanted.endswith(".*"):
        return (operator == "==") == starts_with(version, wanted[:-2])
    have, want = ordered(version), ordered(wanted)
    if operator == "~=":
        return have >= want and starts_with(version, wanted.rpartition(".")[0])
    return {"==": have == want, "!=": have != want, "<=": have <= want, ">=": have >= want, "<": have < want}.get(
        operator, have > want
    )


def starts_with(version: str, beginning: str) -> bool:
    """Whether the release of one begins with that of the other: 1.4.2 with 1.4."""
    have, want = release_of(version), release_of(beginning)
    return (have + (0,) * len(want))[: len(want)] == want


def release_of(version: str) -> "Tuple[int, ...]":
    match = VERSION.fullmatch(version)
    return tuple(map(int, match[2].split("."))) if match else ()


def ordered(version: str) -> "Tuple[object, ...]":
    """What orders versions as PEP 440 does, without their local part."""
    match = VERSION.fullmatch(version)
    if match is None:
        return (-1,)
    release = re.sub(r"(\.0+)*$", "", match[2])
    is_final = match[3] is None
    is_post = match[5] is not None or match[7] is not None
    stage = (
        ("abcr".find(match[3][0].lower().replace("p", "r").replace("c", "r")), int(match[4] or 0))
        if match[3]
        else (9, 0)
    )
    if match[8] and is_final and not is_post:
        stage = (-1, 0)
    post = int(match[6] or match[7] or 0) if is_post else -1
    dev = int(match[9] or 0) if match[8] else sys.maxsize
    return int(match[1] or 0), tuple(map(int, release.split("."))), stage, post, dev


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def refuse(why: str) -> int:
    sys.stderr.write(f"ERROR: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
