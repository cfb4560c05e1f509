"""Prints which modules the files below `files/` import, found by parsing them: `python imports.py`, in a sandbox.

One JSON object on stdout: `imports`, dotted names that the code needs; `optional`, those whose absence it handles;
`modules`, what of these must be a module; `signs`, which of the signs of use on stdin there are (a line each, as in
`environments/needs.py`); `installs`, what it has pip install; `unparsed`, the files that are not Python. What the
interpreter or the files themselves provide is left out. The files are hostile: they are parsed, never run or imported,
and whoever reads the answer believes nothing of it either.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import stat
import sys
import warnings
from typing import Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

ROOT = "files"
MAX_NAMES = 200  # of imports and optional ones together, and likewise of files that could not be parsed
MAX_NAME_LENGTH = 200
MAX_INSTALLS = 50
MAX_COMMAND = 10_000  # characters
MAX_SOURCE = 10 * 1024 * 1024  # bytes of a file; its tree takes some hundred times that
ABSENCE = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
TRIES = (ast.Try, getattr(ast, "TryStar", ast.Try))  # `except*` came with 3.11
PIP = re.compile(r"(?:.*/)?pip3?(?:\.\d+)?$")
COMPUTED = "?"
OPTIONS_WITH_VALUE = frozenset({
    "-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-i", "--index-url", "--extra-index-url", "-f",
    "--find-links", "-t", "--target", "--prefix", "--root", "--src", "--python", "--platform", "--timeout", "--retries",
    "--proxy", "--trusted-host", "--cache-dir", "--upgrade-strategy", "--log", "--progress-bar", "--only-binary",
    "--no-binary",
})  # fmt: skip
MODULE_SUFFIXES = frozenset({"py", "pyc", "so"})


class Signs:
    """Signs of use that are looked for."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.all = frozenset(lines)
        self.beginnings = {sign[1:-2]: sign for sign in self.all if sign.endswith('*"')}
        self.ends = {sign[2:-1]: sign for sign in self.all if sign.startswith('"*')}
        self._beginnings, self._ends = tuple(self.beginnings), tuple(self.ends)

    def of(self, node: ast.AST) -> Iterator[str]:
        """Those that the node shows itself."""
        if isinstance(node, ast.Attribute):
            yield "." + node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from ("." + alias.name for alias in node.names)
        elif isinstance(node, ast.keyword):
            yield f"{node.arg}="
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from self._of_text(node.value)

    def _of_text(self, text: str) -> Iterator[str]:
        if len(text) < MAX_NAME_LENGTH:
            yield f'"{text}"'
        if text.startswith(self._beginnings):
            yield from (sign for beginning, sign in self.beginnings.items() if text.startswith(beginning))
        if text.endswith(self._ends):
            yield from (sign for end, sign in self.ends.items() if text.endswith(end))


NO_SIGNS = Signs(())


class Found(NamedTuple):
    """Names as they stand in the code, those of the standard library and of the code itself included."""

    imports: Set[str]
    optional: Set[str]
    modules: Set[str]
    signs: Set[str]
    installs: Set[str]

    def add(self, other: Found) -> None:
        """What another file has, too."""
        for own, others in zip(self, other):
            own.update(others)


def nothing() -> Found:
    return Found(set(), set(), set(), set(), set())


class Tree(NamedTuple):
    """The .py files below a directory, and the top-level names that they can import from each other."""

    sources: List[str]
    modules: Set[str]


# --- the files --------------------------------------------------------------------------------------------------------


def survey(root: str) -> Tree:
    """Look at every directory below the root, and through no symlink."""
    sources: List[str] = []
    listings: Dict[str, Tuple[List[str], List[str]]] = {}
    ahead = [root]
    while ahead:
        directory = ahead.pop()
        files, directories = listings[directory] = listing(directory)
        sources += [name for name in (f"{directory}/{file}" for file in files) if is_source(name)]
        ahead += [path for path in (f"{directory}/{name}" for name in directories) if not os.path.islink(path)]
    importing = {os.path.dirname(source) for source in sources}
    packages = ancestors(importing, root)
    modules = set(listings[root][1])
    for directory in importing | {root}:
        files, directories = listings[directory]
        modules.update(file.partition(".")[0] for file in files if file.rpartition(".")[2] in MODULE_SUFFIXES)
        modules.update(name for name in directories if is_package(f"{directory}/{name}", packages))
    return Tree(sorted(sources), modules)


def listing(directory: str) -> Tuple[List[str], List[str]]:
    """Names of files and of directories; a symlink is whatever it leads to."""
    files: List[str] = []
    directories: List[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                (directories if is_directory(entry) else files).append(entry.name)
    except OSError:
        pass  # a path longer than the kernel opens
    return files, directories


def is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a symlink that leads in circles


def is_source(path: str) -> bool:
    """A regular file that is called Python."""
    try:
        return path.endswith(".py") and stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_package(path: str, packages: Set[str]) -> bool:
    """A directory with a .py file somewhere below; a symlinked one may have any."""
    return path in packages or os.path.islink(path)


def ancestors(directories: Set[str], root: str) -> Set[str]:
    """The directories and all above them, up to the root."""
    known: Set[str] = set()
    for directory in directories:
        while directory not in known and len(directory) >= len(root):
            known.add(directory)
            directory = os.path.dirname(directory)
    return known


def read(path: str) -> bytes:
    """The file's bytes. Raises `OSError`, and `ValueError` for one that is too large."""
    with open(path, "rb") as file:
        source = file.read(MAX_SOURCE + 1)
    if len(source) > MAX_SOURCE:
        raise ValueError("too large to parse")
    return source


# --- one file's imports -----------------------------------------------------------------------------------------------


def find_imports(tree: ast.AST, signs: Signs = NO_SIGNS) -> Found:
    """Walk the tree without recursion: an expression may be nested deeper than Python's stack is."""
    found = nothing()
    ahead: List[Tuple[ast.AST, bool]] = [(tree, False)]
    while ahead:
        node, is_optional = ahead.pop()
        (found.optional if is_optional else found.imports).update(imported_by(node))
        found.modules.update(modules_of(node))
        found.signs.update(sign for sign in signs.of(node) if sign in signs.all)
        if isinstance(node, ast.Call):
            found.installs.update(installed_by(node))
        ahead += children(node, is_optional)
    return found


def children(node: ast.AST, is_optional: bool) -> Iterator[Tuple[ast.AST, bool]]:
    """What to look at below a node, and whether an import there may fail."""
    skipped: List[ast.stmt] = []
    guarded: List[ast.stmt] = []
    if isinstance(node, ast.If):
        skipped = branch_for_type_checkers(node)
    elif isinstance(node, TRIES):
        guarded = node.body if any(catches_absence(handler.type) for handler in node.handlers) else []
    elif isinstance(node, ast.With):
        guarded = node.body if any(suppresses_absence(item.context_expr) for item in node.items) else []
    left_out = {id(statement) for statement in skipped}
    may_fail = {id(statement) for statement in guarded}
    for child in ast.iter_child_nodes(node):
        if id(child) not in left_out:
            yield child, is_optional or id(child) in may_fail


def branch_for_type_checkers(node: ast.If) -> List[ast.stmt]:
    """The branch that never runs: of `if TYPE_CHECKING` the body, of `if not TYPE_CHECKING` the other."""
    if isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not):
        return node.orelse if last_name(node.test.operand) == "TYPE_CHECKING" else []
    return node.body if last_name(node.test) == "TYPE_CHECKING" else []


def catches_absence(caught: Optional[ast.expr]) -> bool:
    """Whether `except CAUGHT` is reached when a module is not there."""
    if isinstance(caught, ast.Tuple):
        return any(last_name(element) in ABSENCE for element in caught.elts)
    return caught is None or last_name(caught) in ABSENCE


def suppresses_absence(context: ast.expr) -> bool:
    """`contextlib.suppress(ImportError)`, or one of its parents."""
    if not isinstance(context, ast.Call) or last_name(context.func) != "suppress":
        return False
    return any(last_name(argument) in ABSENCE for argument in context.args)


def last_name(expression: ast.expr) -> str:
    """`c` of `a.b.c`, and of `c`; "" of all else."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def imported_by(node: ast.AST) -> Iterator[str]:
    """Absolute names of what a node imports itself."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            yield node.module if alias.name == "*" else f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Call) and last_name(node.func) in ("import_module", "__import__"):
        name = first_argument(node)
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value


def modules_of(node: ast.AST) -> Iterator[str]:
    """Names with a dot that can be nothing but a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if "." in alias.name)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level and "." in node.module:
        yield node.module


def first_argument(call: ast.Call) -> Optional[ast.expr]:
    """The name that is imported, by position or as `name=`."""
    if call.args:
        return call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == "name"), None)


# --- commands that run pip --------------------------------------------------------------------------------------------


def installed_by(call: ast.Call) -> Iterator[str]:
    """What a call has pip install, as far as it stands there: `os.system("pip install six")`."""
    for words in commands_in(call):
        start = next((n for n, word in enumerate(words[:-1]) if PIP.match(word) and words[n + 1] == "install"), None)
        if start is None and words[:1] == ["install"] and last_name(call.func) == "main":
            start = -1  # pip.main(["install", ...])
        if start is not None:
            yield from packages_among(words[start + 2 :])


def commands_in(call: ast.Call) -> Iterator[List[str]]:
    """Words of command lines in a call: its arguments, a list, a text for a shell, or a text that is split."""
    yield [text_of(argument) for argument in call.args]
    for argument in call.args[:1]:
        if isinstance(argument, (ast.List, ast.Tuple)):
            yield [text_of(element) for element in argument.elts]
    is_split = isinstance(call.func, ast.Attribute) and call.func.attr == "split"
    for text in map(text_of, [*call.args[:1], *([call.func.value] if is_split else [])]):  # type: ignore[attr-defined]
        if "pip" in text and len(text) < MAX_COMMAND:
            yield from (split(line) for line in re.split("[;&|\n]+", text))


def split(line: str) -> List[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []  # a quotation without an end


def text_of(expression: ast.expr) -> str:
    """The text that an expression is, with `?` for what is computed."""
    if isinstance(expression, ast.JoinedStr):
        return "".join(map(text_of, expression.values))
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value
    return COMPUTED


def packages_among(arguments: List[str]) -> Iterator[str]:
    """Those of `pip install` that name a package."""
    is_value = False
    for argument in arguments:
        if not is_value and not argument.startswith("-") and COMPUTED not in argument:
            yield argument
        is_value = argument in OPTIONS_WITH_VALUE


# --- the answer -------------------------------------------------------------------------------------------------------


def standard_library() -> FrozenSet[str]:
    """Top-level names that this interpreter brings along."""
    known: Optional[FrozenSet[str]] = getattr(sys, "stdlib_module_names", None)  # from 3.10 on
    if known is None:
        library = os.path.dirname(os.__file__)
        files, directories = listing(library)
        extensions, _ = listing(f"{library}/lib-dynload")
        known = frozenset([*sys.builtin_module_names, *directories, *(file.partition(".")[0] for file in files)])
        known = known.union(file.partition(".")[0] for file in extensions)
    return known | {"__main__", "test"}


def wanted(names: Set[str], provided: Set[str]) -> Set[str]:
    """Names that can be looked up, and whose module has to come from elsewhere."""
    shortened = {shorten(name) for name in names if all(part.isidentifier() for part in name.split("."))}
    return {name for name in shortened if name and name.partition(".")[0] not in provided}


def shorten(name: str) -> str:
    """As many components as the bound leaves room for; what is too deep to tell distributions apart goes."""
    while len(name) > MAX_NAME_LENGTH:
        name = name.rpartition(".")[0]
    return name


def fair_choice(names: Set[str], count: int) -> List[str]:
    """Sorted, at most so many: each top-level name gets its first before any gets its second."""
    seen: Dict[str, int] = {}
    ranked: List[Tuple[int, str]] = []
    for name in sorted(names):
        top = name.partition(".")[0]
        seen[top] = seen.get(top, 0) + 1
        ranked.append((seen[top], name))
    return sorted(name for _, name in sorted(ranked)[:count])


def printable(path: str) -> str:
    """A path relative to the root as text that survives JSON, not longer than the bound."""
    return os.fsencode(path[len(ROOT) + 1 :]).decode("utf-8", "replace")[:MAX_NAME_LENGTH]


def examine(root: str, signs: Signs) -> Dict[str, List[str]]:
    """All that is printed."""
    tree = survey(root)
    found = nothing()
    unparsed: List[str] = []
    for path in tree.sources:
        try:
            names = find_imports(ast.parse(read(path)), signs)
        except Exception:  # of syntax, encoding, codecs that a comment names, depth, memory, or the file's absence
            unparsed.append(printable(path))
            continue
        found.add(names)
    provided = tree.modules | standard_library() | {"__future__", "pip"}  # what stands in for pip is there already
    imports = fair_choice(wanted(found.imports, provided), MAX_NAMES)
    optional = fair_choice(wanted(found.optional - found.imports, provided), MAX_NAMES - len(imports))
    modules = fair_choice(wanted(found.modules, provided), MAX_NAMES)
    installs = sorted(text for text in found.installs if text.isprintable() and len(text) <= MAX_NAME_LENGTH)
    return {"imports": imports, "optional": optional, "modules": modules, "signs": sorted(found.signs),
            "installs": installs[:MAX_INSTALLS], "unparsed": unparsed[:MAX_NAMES]}  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps(examine(ROOT, Signs(sys.stdin.read().splitlines()))) + "\n")
