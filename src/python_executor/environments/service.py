"""Environments by what asks for them: found, made, shared, removed. All that `executions` sees of this room.

    prepare() ── a named one ────────────────────────────▶ its key, made again from its lock where it is gone
              ── requirements ── asked for before ───────▶ the environment that they came to
              │                  being made now ─────────▶ wait for that, see its progress
              │                  failed a moment ago ────▶ the same failure
              │                  else ───────────────────▶ made, when there is a place for it
              └─ imports ─▶ names of distributions ──────▶ as requirements; without those that can't be had

What is being made is made for all who ask: it goes on when one of them is killed, and ends with the last. An execution
holds its environment until it has ended; what nobody holds may be removed, the longest unused first.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from ..model.environment import Environment, NamedEnvironment
from ..model.errors import BackendError, EnvironmentFailed, ExecutorError
from ..model.spec import ExecutionSpec, Interpreter
from ..rounds import repeat
from .base import PackagesUnavailable, Places, Prepared, Tell, Workshop
from .build import TORCH_FAILURE_KEPT, Builder, BuildPolicy, program_spec
from .cache import Cache, Lease
from .imports import LIMITS, ImportReader, Imports, may_import_packages
from .index import PackageIndex
from .locks import bill_of_materials
from .making import FAILURE_KEPT, Makings, put
from .named import Definition, Definitions
from .requirements import Requirements, read_requirements
from .standard_library import without_standard_library
from .wanted import says_something, wanted
from .wishes import Wish, as_requirements, wishes_of, without_extras

ABSENCE_KEPT = 30.0  # seconds that a name which no index has is not asked for again, where an import named it
ROUNDS_MAX = 5  # of leaving out what can't be had
IMPORTS_PATIENCE = 120.0  # seconds that code waits for what it imports: nobody has asked for that
SMALL = 64 << 10  # bytes that are looked through on the event loop
TIDY_INTERVAL = 10.0  # seconds
log = structlog.get_logger()
T = TypeVar("T")


class PackageEnvironments:
    """Implements `Environments`."""

    def __init__(
        self,
        workshop: Workshop,
        interpreters: Sequence[Interpreter],
        cache: Cache,
        definitions: Definitions,
        index: PackageIndex,
        policy: BuildPolicy,
        *,
        places: Places,
        max_bytes: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workshop = workshop
        self._interpreters = {interpreter.minor_version: interpreter for interpreter in interpreters}
        self._cache = cache
        self._definitions = definitions
        self._index = index
        self._policy = policy
        self._max_bytes = max_bytes
        self._now = now
        self._builder = Builder(workshop, places, index, cache, policy)
        self._reader = ImportReader(workshop, places)
        self._makings = Makings(now)
        self._absent: dict[tuple[str, str], tuple[float, str]] = {}  # why, by interpreter and distribution
        self._fallbacks: dict[str, tuple[float, str]] = {}  # until when, and keys, by hash of requirements
        self._no_index_until = 0.0  # imports wait for none: a machine may have no way to any
        self._shown: dict[str, tuple[Definition, Environment]] = {}  # named ones that sandboxes are made ahead for
        self._tidying: asyncio.Task[None] | None = None  # from start() to close()

    async def start(self) -> None:
        """Learn what is there."""
        await asyncio.to_thread(self._cache.open)
        await asyncio.to_thread(self._definitions.open)
        self._tidying = asyncio.create_task(self._tidy_for_ever())

    async def close(self) -> None:
        """Give up what is being made."""
        if self._tidying is not None:
            self._tidying.cancel()
        await self._makings.close()
        await self._index.close()

    def concerns(self, spec: ExecutionSpec) -> bool:
        """Whether it may need packages."""
        return bool(spec.environment) or says_something(spec) or (spec.detects_imports and may_import_packages(spec))

    async def prepare(self, spec: ExecutionSpec, tell: Tell) -> Prepared:
        """See `Environments.prepare`."""
        if spec.environment:
            return await self._prepare_named(spec.environment, tell)
        interpreter = self._interpreters[spec.python]
        size = len(spec.requirements) + spec.tree.total_bytes if spec.tree.is_small else SMALL
        requirements = await _unblocking(size, wanted, spec, interpreter)
        if requirements is not None:
            requirements, warnings = without_standard_library(requirements, interpreter)
            if not requirements.lines:
                return Prepared(warnings=warnings)
            lease = await self.have(requirements, interpreter, tell)
            return _prepared(lease, warnings=(*warnings, *self._fallback_warnings(lease)))
        if spec.detects_imports:
            return await self._prepare_imports(spec, interpreter, tell)
        return Prepared()

    async def have(
        self,
        requirements: Requirements,
        interpreter: Interpreter,
        tell: Tell,
        *,
        anew: bool = False,
        may_wait: bool = True,
    ) -> Lease:
        """The environment that has these; `anew` looks for newer versions than those that they came to before.

        Raises `EnvironmentFailed`, also where it would have to be made and nobody `may_wait`, and `BackendError`.
        """
        self._check_allowed(requirements.names)
        request = self._hash(requirements, interpreter)
        for _ in range(2):  # what is removed in the moment between is made once more
            lease = None if anew else await self._cache.lease_for(request) or await self._fallback_lease(request)
            if lease is not None:
                break
            if not may_wait:
                raise EnvironmentFailed("no package index could be reached a moment ago")
            key = await self._makings.made(request, partial(self._make, request, requirements, interpreter), tell)
            lease = await self._cache.lease(key)
            if lease is not None:
                break
        else:
            raise EnvironmentFailed("the packages were installed, and are gone again: try once more.")
        return self._allowed(lease)

    async def _fallback_lease(self, request: str) -> Lease | None:
        """What such requirements came to while PyTorch's own index had no answer, and may not have one yet."""
        until, key = self._fallbacks.get(request, (0.0, ""))
        return await self._cache.lease(key) if self._now() < until else None

    def _fallback_warnings(self, lease: Lease) -> tuple[str, ...]:
        failure = self._builder.fallback(lease.stored.key)
        if failure is None:
            return ()
        return (f"PyTorch's packages are not from their own index (TORCH_INDEX), which has no answer: {failure}",)

    def _allowed(self, lease: Lease) -> Lease:
        """The lease, if all that is in there may be had."""
        try:
            self._check_allowed(package.name for package in lease.stored.lock.packages)
        except EnvironmentFailed:
            lease.release()
            raise
        return lease

    async def _make(self, request: str, requirements: Requirements, interpreter: Interpreter, tell: Tell) -> str:
        lease = await self._builder.build(requirements, interpreter, tell)
        try:
            if self._builder.fallback(lease.stored.key) is None:
                self._cache.remember(request, lease.stored.key)
            else:
                put(self._fallbacks, request, (self._now() + TORCH_FAILURE_KEPT, lease.stored.key))
            await self._make_room()
            return lease.stored.key
        finally:
            lease.release()

    def _hash(self, requirements: Requirements, interpreter: Interpreter) -> str:
        what = [requirements.text, *self._builder.origin(interpreter).values()]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def _check_allowed(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._policy.filter.allows(name):
                raise PackagesUnavailable(self._policy.filter.refusal(name), frozenset({name}))

    # --- imports ---

    async def _prepare_imports(self, spec: ExecutionSpec, interpreter: Interpreter, tell: Tell) -> Prepared:
        """As much of what the code imports as can be had, in reasonable time; that never makes a run fail."""
        try:
            async with asyncio.timeout(IMPORTS_PATIENCE):
                imports = await self._reader.read(spec.tree, interpreter, spec.module)
                wishes = wishes_of(imports, interpreter)
                names = {wish.name for wish in wishes if wish.name is not None}
                absent = {name: why for name in names if (why := self._why_absent(name, interpreter))}
                lease = await self._have_most(wishes, names - absent.keys(), interpreter, tell, absent)
                hints = tuple(wish.hint(absent) for wish in wishes if wish.is_needed and wish.name in {None, *absent})
                if lease is None:
                    return Prepared(hints=hints)
                hints = (*hints, *await self._missing(lease, wishes, imports))
                return _prepared(lease, hints, self._fallback_warnings(lease))
        except TimeoutError:
            return Prepared(hints=(f"what the code imports was not installed: that takes over {IMPORTS_PATIENCE:g} s",))
        except EnvironmentFailed as failure:
            return Prepared(hints=(f"what the code imports was not installed: {failure}",))
        except ExecutorError as failure:
            log.warning("imports could not be looked at", failure=str(failure))
            return Prepared()

    async def _have_most(
        self, wishes: Sequence[Wish], names: set[str], interpreter: Interpreter, tell: Tell, absent: dict[str, str]
    ) -> Lease | None:
        """An environment with these, without those that can't be had, which are added to `absent`."""
        for _ in range(ROUNDS_MAX):
            if not names:
                return None
            requirements = as_requirements(wishes, names)
            try:
                return await self.have(requirements, interpreter, tell, may_wait=self._may_ask_index())
            except PackagesUnavailable as failure:
                if failure.no_index:
                    self._no_index_until = self._now() + FAILURE_KEPT
                lacking = names & failure.names
                lacking = lacking or {name for name in names if name in str(failure).split()}
                if not failure.no_index and (fewer := without_extras(wishes, lacking)) is not None:
                    wishes = fewer
                    names &= {wish.name for wish in wishes if wish.name is not None}
                    continue
                for name in lacking & failure.names:
                    put(self._absent, (interpreter.version, name), (self._now() + ABSENCE_KEPT, str(failure)))
                if failure.no_index or not lacking:
                    raise
                absent.update(dict.fromkeys(lacking, str(failure)))
                names = names - lacking
        return None

    async def _missing(self, lease: Lease, wishes: Iterable[Wish], imports: Imports) -> tuple[str, ...]:
        """Say which modules that the code needs are not in what was installed for them."""
        versions = {package.name: package.version for package in lease.stored.lock.packages}
        whose: dict[str, str] = {}
        for wish in wishes:
            if wish.name in versions and wish.module and wish.is_needed:
                top = wish.module.partition(".")[0]
                modules = (name for name in imports.modules if f"{wish.module}.".startswith(f"{name}."))
                whose |= dict.fromkeys((top, *modules), wish.name)
        lacking = await self._cache.missing_modules(lease.stored.key, tuple(sorted(whose)))
        return tuple(
            f"{name} is no module of {whose[name]} {versions[whose[name]]}, which was installed for it: "
            "name a version or a package that has it in requirements_txt"
            for name in lacking
        )

    def _may_ask_index(self) -> bool:
        return self._now() >= self._no_index_until

    def _why_absent(self, name: str, interpreter: Interpreter) -> str | None:
        until, why = self._absent.get((interpreter.version, name), (0.0, ""))
        return why if self._now() < until else None

    # --- named ---

    def named(self) -> Sequence[NamedEnvironment]:
        """Those that the operator has defined, as they are on disk now."""
        return [definition.described for definition in self._definitions.all()]

    async def _prepare_named(self, name: str, tell: Tell) -> Prepared:
        definition = self._definitions.get(name)
        if definition is None:
            raise EnvironmentFailed(f"there is no environment called {name!r} any more.")
        interpreter = self._interpreters[definition.python]
        lease = await self._cache.lease(definition.key)
        if lease is not None and not lease.stored.is_for(interpreter):  # another release of it is here now
            lease.release()
            lease = None
        if lease is None:
            lease = await self.have(read_requirements(definition.lock, name), interpreter, tell)
        environment = replace(self._allowed(lease).stored.environment, name=name, preload=definition.preload)
        self._shown[name] = definition, environment
        return Prepared(environment, release=lease.release)

    async def define(
        self,
        name: str,
        python: str,
        requirements: str,
        preload: Sequence[str],
        tell: Tell,
        *,
        anew: bool = False,
    ) -> Definition:
        """Make an environment, try it, and give it a name; one that has it already gives way. Raises as `have()`."""
        interpreter = self._interpreters[python]
        lease = await self.have(read_requirements(requirements, "the requirements"), interpreter, tell, anew=anew)
        try:
            stored = lease.stored
            definition = Definition(name, python, requirements, tuple(preload), stored.key, stored.lock.text)
            environment = replace(stored.environment, name=name, preload=definition.preload)
            await self._try(environment, interpreter)
            await asyncio.to_thread(self._definitions.put, definition)
        finally:
            lease.release()
        return definition

    async def _try(self, environment: Environment, interpreter: Interpreter) -> None:
        """Get one sandbox of it: what its zygote is to import can be imported. Raises `BackendError`."""
        try:
            sandbox = await self._workshop.acquire(program_spec("imports.py", {}, interpreter, LIMITS), environment)
            await sandbox.destroy()
        except BackendError:
            await self._workshop.forget(environment)
            raise

    # --- what is there ---

    def lock(self, key: str) -> str | None:
        """See `Environments.lock`."""
        stored = self._cache.find(key)
        return None if stored is None else stored.lock.text

    def bill_of_materials(self, key: str) -> dict[str, object] | None:
        """See `Environments.bill_of_materials`."""
        stored = self._cache.find(key)
        return None if stored is None else bill_of_materials(stored.lock, python=stored.python, key=key)

    async def prune(self, keep_bytes: int) -> tuple[int, int]:
        """Remove what nobody uses and no name stands for, until no more is left than that; how many, how many bytes."""
        kept = {definition.key for definition in self._definitions.all()}
        await asyncio.to_thread(self._cache.refresh)
        left, count, freed = self._cache.bytes, 0, 0
        for key in await asyncio.to_thread(self._cache.by_last_use):
            if left - freed <= keep_bytes:
                break
            if key not in kept:
                await self._workshop.forget(Environment(key, ()))
                given_back = await asyncio.to_thread(self._cache.remove, key)
                count, freed = count + (given_back > 0), freed + given_back
        return count, freed

    async def _make_room(self) -> None:
        if self._cache.bytes > self._max_bytes:
            await self.prune(self._max_bytes)

    async def _tidy_for_ever(self) -> None:
        """Let go of named environments that were removed or replaced, and of what others have made too much of."""
        await repeat("environments could not be tidied", TIDY_INTERVAL, self._tidy)

    async def _tidy(self) -> None:
        gone = await asyncio.to_thread(self._cache.refresh)
        for key in gone:  # or what a sandbox could be shown of it keeps its files on disk
            await self._workshop.forget(Environment(key, ()))
        for name, (definition, environment) in list(self._shown.items()):
            if self._definitions.get(name) != definition or environment.key in gone:
                del self._shown[name]
                await self._workshop.forget(environment)
        await self._make_room()


async def _unblocking(size: int, work: Callable[..., T], *arguments: object) -> T:
    """Do it here, or in a thread where it would keep everybody else waiting."""
    return work(*arguments) if size < SMALL else await asyncio.to_thread(work, *arguments)


def _prepared(lease: Lease, hints: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> Prepared:
    return Prepared(lease.stored.environment, hints, warnings, lease.release)
