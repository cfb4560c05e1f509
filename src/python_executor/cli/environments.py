"""What `env …` does, on the data directory of this machine, in this process. Each function returns an exit code.

A server may run there at the same time: an environment appears by a rename, its name by another, and what anybody uses
is locked. So nothing here asks a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..assembly import cache_of, definitions_of, workshop
from ..environments.cache import Cache, Stored
from ..environments.locks import LockedPackage, read_lock
from ..environments.named import NAME, Definition
from ..model.errors import BackendError, EnvironmentFailed
from ..model.spec import Interpreter
from ..settings import MEBIBYTE, Settings
from . import output, program
from .engine import load_settings, log_to_stderr
from .errors import INTERRUPTED, Failure
from .waiting import Tell, waiting

SHOWN_PACKAGES = 3  # in a table
NAMED_HEADER = ("NAME", "PYTHON", "PACKAGES", "SIZE", "PRELOAD")
UNNAMED_HEADER = ("KEY", "PYTHON", "PACKAGES", "SIZE", "LAST USED")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment is to be made of."""

    name: str
    python: str | None
    requirements: str
    preload: tuple[str, ...]
    anew: bool = False  # with the newest versions, whatever these requirements came to before


def add(name: str, requirements: Path, python: str | None, preload: str, data_dir: Path | None, silent: bool) -> int:
    """Make an environment, try it, name it."""
    if not NAME.fullmatch(name):
        raise Failure(
            f"{name!r} is no name for an environment: use at most 64 small letters, digits, dots, dashes and "
            "underscores, a letter or a digit first"
        )
    recipe = Recipe(name, python, program.read_text(requirements), _modules(preload))
    return _define(recipe, _settings(data_dir), silent)


def rebuild(name: str, data_dir: Path | None, silent: bool) -> int:
    """Make a named environment anew, from what it was made of."""
    settings = _settings(data_dir)
    old = _definition(name, settings)
    return _define(Recipe(name, old.python, old.requirements, old.preload, anew=True), settings, silent)


def remove(name: str, data_dir: Path | None) -> int:
    """Take a name away, and leave its files."""
    settings = _settings(data_dir)
    _definition(name, settings)
    if not definitions_of(settings).remove(name):
        raise Failure(f"can't remove {name}: may you write to {settings.data_dir}?")
    return 0


def prune(keep_mb: int, data_dir: Path | None) -> int:
    """Remove what has no name and is not in use, and tell how much that was."""
    settings = _settings(data_dir)
    with _failures(settings):
        count, freed = asyncio.run(_prune(settings, keep_mb * MEBIBYTE))
    output.show_line(f"{_counted(count, 'environment')} removed, {_mib(freed)} given back")
    return 0


def show_lock(name: str, data_dir: Path | None) -> int:
    """Print what a name stands for, or what a key does."""
    settings = _settings(data_dir)
    definition = definitions_of(settings).get(name)
    stored = None if definition else cache_of(settings).find(name)
    if definition is None and stored is None:
        raise Failure(f"there is no environment {name}: `python-executor env list` shows those that there are")
    text = definition.lock if definition else stored.lock.text if stored else ""
    output.show_line(text.rstrip("\n"))
    return 0


def show_all(data_dir: Path | None, as_json: bool) -> int:
    """Print what there is, with a name and without."""
    settings = _settings(data_dir)
    cache, named = cache_of(settings), definitions_of(settings).all()
    on_disk = [stored for key in reversed(cache.by_last_use()) if (stored := cache.find(key)) is not None]
    unnamed = [stored for stored in on_disk if stored.key not in {definition.key for definition in named}]
    if as_json:
        output.show_json(
            {
                "named": [_named_content(definition, cache) for definition in named],
                "unnamed": [_unnamed_content(stored, cache) for stored in unnamed],
            }
        )
    elif not named and not unnamed:
        output.show_line(f"there are no environments in {settings.data_dir}")
    else:
        _show_tables([_named_row(each, cache) for each in named], [_unnamed_row(each, cache) for each in unnamed])
    return 0


# --- made and removed ---


def _define(recipe: Recipe, settings: Settings, silent: bool) -> int:
    try:
        with _failures(settings), waiting("getting ready", silent) as tell:
            definition = asyncio.run(_made(recipe, settings, tell))
    except KeyboardInterrupt:
        output.say("stopped: no name has changed")
        return INTERRUPTED
    packages = _counted(len(read_lock(definition.lock).packages), "package")
    output.show_line(f"{definition.name} {definition.key} {packages} {_size(cache_of(settings).find(definition.key))}")
    return 0


async def _made(recipe: Recipe, settings: Settings, tell: Tell | None) -> Definition:
    """In a sandbox of our own backend."""
    backend, environments = workshop(settings)
    python = _chosen(recipe.python, backend.interpreters, settings)
    try:
        await environments.start()
        await backend.start()
        return await environments.define(
            recipe.name, python, recipe.requirements, recipe.preload, tell or (lambda _: None), anew=recipe.anew
        )
    finally:
        await environments.close()
        await backend.close()


async def _prune(settings: Settings, keep_bytes: int) -> tuple[int, int]:
    backend, environments = workshop(settings)  # the backend is not started: there is nothing of it to let go of
    try:
        await environments.start()
        return await environments.prune(keep_bytes)
    finally:
        await environments.close()
        await backend.close()


# --- what was asked for ---


def _settings(data_dir: Path | None) -> Settings:
    """Those of `serve`; of a server's own ones none can be in our way."""
    given = {"host": "127.0.0.1", "pool_min": 0, "pool_max": 0, "log_level": "error"}
    return load_settings({**given, "data_dir": data_dir} if data_dir else given)


def _definition(name: str, settings: Settings) -> Definition:
    definition = definitions_of(settings).get(name)
    if definition is None:
        raise Failure(f"no environment is called {name}: `python-executor env list` shows those that there are")
    return definition


def _modules(names: str) -> tuple[str, ...]:
    modules = tuple(filter(None, (name.strip() for name in names.split(","))))
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise Failure(f"--preload: {module} is no module such as numpy or concurrent.futures")
    return modules


def _chosen(python: str | None, interpreters: Sequence[Interpreter], settings: Settings) -> str:
    """The version that was asked for, else the default one, else the newest."""
    here = [interpreter.minor_version for interpreter in interpreters]
    if python is not None and python not in here:
        raise Failure(f"Python {python} is not here: use one of {', '.join(here)}")
    wanted = python or settings.default_python
    return wanted if wanted in here or not here else here[0]


@contextmanager
def _failures(settings: Settings) -> Iterator[None]:
    """Tell in one line why it can't be done; the log is for what is worse."""
    log_to_stderr(settings.log_level)
    try:
        yield
    except (EnvironmentFailed, BackendError) as problem:
        raise Failure(str(problem)) from problem
    except OSError as problem:
        raise Failure(f"can't use the data directory {settings.data_dir}: {problem.strerror}") from problem


# --- shown ---


def _named_content(definition: Definition, cache: Cache) -> dict[str, object]:
    stored = cache.find(definition.key)
    return {
        "name": definition.name,
        "key": definition.key,
        "python": definition.python,
        "requirements": definition.requirements,
        "preload": list(definition.preload),
        "packages": _packages_content(read_lock(definition.lock).packages),
        "bytes": stored and stored.bytes,
    }


def _unnamed_content(stored: Stored, cache: Cache) -> dict[str, object]:
    return {
        "key": stored.key,
        "python": stored.python,
        "packages": _packages_content(stored.lock.packages),
        "bytes": stored.bytes,
        "last_used": _last_used(stored, cache).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def _packages_content(packages: Sequence[LockedPackage]) -> list[dict[str, str]]:
    return [{"name": package.name, "version": package.version} for package in packages]


def _named_row(definition: Definition, cache: Cache) -> list[str]:
    packages = _packages(read_lock(definition.lock).packages)
    size = _size(cache.find(definition.key))
    return [definition.name, definition.python, packages, size, ", ".join(definition.preload)]


def _unnamed_row(stored: Stored, cache: Cache) -> list[str]:
    used = f"{_last_used(stored, cache):%Y-%m-%d %H:%M} UTC"
    return [stored.key, stored.python, _packages(stored.lock.packages), _mib(stored.bytes), used]


def _packages(packages: Sequence[LockedPackage]) -> str:
    """The first of them, and how many more there are."""
    shown = [f"{package.name} {package.version}" for package in packages[:SHOWN_PACKAGES]]
    more = len(packages) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)


def _last_used(stored: Stored, cache: Cache) -> datetime:
    return datetime.fromtimestamp(cache.last_used(stored.key) or stored.created_at, UTC)


def _size(stored: Stored | None) -> str:
    return "not on disk" if stored is None else _mib(stored.bytes)


def _mib(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _show_tables(named: Sequence[Sequence[str]], unnamed: Sequence[Sequence[str]]) -> None:
    tables = [(header, rows) for header, rows in ((NAMED_HEADER, named), (UNNAMED_HEADER, unnamed)) if rows]
    for number, (header, rows) in enumerate(tables):
        if number:
            output.show_line("")
        output.show_table(header, rows)
