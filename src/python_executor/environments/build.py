"""Makes one environment: requirements in, a published directory out.

    server                                       sandboxes with uv, no network, no secret, no file of anybody's
      ├─ resolve: requirements, a program ──────▶ guest/build.py
      │                  GET /N/simple/, /N/files/  ◀── packages, through `index/`, at a socket that we serve
      │                  PUT /result                ◀── what the requirements came to; its hash is the key
      └─ install: that lock, the same program ──▶ another one
                         GET /N/files/              ◀── the packages that the lock names, hashes compared
                         PUT /result                ◀── the installed files; found once the last of them is here

Source distributions run code when they are built, even to be resolved, and wheels are unpacked: all of that happens in
there, as the unprivileged user of an ordinary sandbox, whose limits are the build's own. Two sandboxes, because an
environment is shared by all whose requirements come to the same lock: what one package says in the first can't change
what the second installs of others; what it does in the second is bound to a lock that names it.
"""

from __future__ import annotations

import asyncio
import json
import platform
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from ..model.environment import Stage
from ..model.errors import BackendError, EnvironmentFailed
from ..model.events import Event, Exited, Preparing, Stderr, Termination
from ..model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter, Limits
from .base import PackagesTooLarge, PackagesUnavailable, Places, Tell, Work, Workshop
from .cache import Cache, Draft, Lease
from .files import TooMuch
from .index import PackageIndex
from .index.settings import TORCH_PACKAGES
from .index.visit import Visit
from .locks import Lock, held_to_hashes, lock_key, read_lock
from .making import put
from .requirements import PackageFilter, Requirements
from .sizes import Choice, check_sizes, choices_of

if TYPE_CHECKING:
    from aiohttp import web

    Take = Callable[[web.Request], Awaitable[None]]

PORT = 3141
LOCK_MAX = 4 << 20  # bytes
STDERR_MAX = 64 << 10  # bytes of uv's explanation
EXPLANATION_MAX = 2000  # characters
CHUNK = 1 << 20
NO_WHEEL = (
    "has no wheel, only source distributions, whose builds run code: this server does not allow that (PACKAGE_BUILDS): "
    "name another version or package, or ask its operator"
)
TORCH_FAILURE_KEPT = 300.0  # seconds that PyTorch's own index is not asked again, where it had no answer
MEMORY_TO_WORK_MB = 1024  # beside what the files take
RESOLVING_MB = 192  # of memory, where no source distribution has to be built for it
SMALL_DOWNLOAD = 4  # what a small build may download is its memory divided by this; unpacked it is a few times that
T = TypeVar("T")
PLATFORM = "-".join((platform.machine(), *platform.libc_ver()))


@dataclass(frozen=True, slots=True)
class BuildPolicy:
    """What a build may do and take."""

    wheels_only: bool
    filter: PackageFilter
    max_mb: int  # MiB of an environment, and of what is downloaded for it
    timeout_seconds: int  # of each of its two steps
    cpu_shares: int = 256  # a quarter of what an execution has by default

    @property
    def memory_mb(self) -> int:
        """MiB of a build at most: files live in memory there, what is downloaded beside what is made of it."""
        return 2 * self.max_mb + MEMORY_TO_WORK_MB

    def limits(self, memory_mb: int) -> Limits:
        """Return those of a sandbox that was promised so much memory."""
        return Limits(self.timeout_seconds, memory_mb, min(2 * self.max_mb, memory_mb), self.cpu_shares)


class _Larger(Exception):
    """It takes more memory than a small build has."""


@dataclass(frozen=True, slots=True)
class _Order:
    """How packages are to be had, and for whom."""

    interpreter: Interpreter
    tell: Tell
    torch: bool  # whether PyTorch's come from the index that is theirs


class Builder:
    """Makes environments for one cache."""

    def __init__(
        self, workshop: Workshop, places: Places, index: PackageIndex, cache: Cache, policy: BuildPolicy
    ) -> None:
        self._workshop = workshop
        self._places = places
        self._index = index
        self._cache = cache
        self._policy = policy
        self._installing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by key
        self._torch_failed = 0.0, ""  # until when PyTorch's own index is not asked, and why
        self._fallbacks: dict[str, str] = {}  # by key, why PyTorch's packages are not from there

    async def build(self, requirements: Requirements, interpreter: Interpreter, tell: Tell) -> Lease:
        """The environment, new or found. Raises `EnvironmentFailed`, in words for whoever asked, and `BackendError`."""
        if self._index.settings.unusable:
            raise EnvironmentFailed(_sentence(self._index.settings.unusable))
        asks_for_torch = not TORCH_PACKAGES.isdisjoint(requirements.names)
        if self._index.settings.torch is not None and self._torch_failure() is None:
            try:
                return await self._build(requirements, _Order(interpreter, tell, torch=True))
            except PackagesUnavailable as problem:
                if problem.torch_failure is not None:
                    self._torch_failed = time.monotonic() + TORCH_FAILURE_KEPT, problem.torch_failure
                elif not (requirements.has_hashes and asks_for_torch):  # which may be those of other indexes
                    raise
        failure = self._torch_failure()
        try:
            lease = await self._build(requirements, _Order(interpreter, tell, torch=False))
        except PackagesUnavailable as problem:
            if failure is None or not asks_for_torch:
                raise
            message = f"{problem}; PyTorch's own index (TORCH_INDEX) has no answer: {failure}"
            raise PackagesUnavailable(message, problem.names, no_index=problem.no_index) from problem
        if failure is not None and not TORCH_PACKAGES.isdisjoint(each.name for each in lease.stored.lock.packages):
            put(self._fallbacks, lease.stored.key, failure)
        return lease

    def fallback(self, key: str) -> str | None:
        """Return why PyTorch's packages in an environment are not from the index that is theirs; None if they are."""
        return self._fallbacks.get(key)

    def _torch_failure(self) -> str | None:
        """Why PyTorch's own index is not asked for the moment."""
        until, failure = self._torch_failed
        return failure if time.monotonic() < until else None

    async def _build(self, requirements: Requirements, order: _Order) -> Lease:
        if requirements.is_lock:
            lock = read_lock(requirements.text)
        else:
            lock = held_to_hashes(await self._resolve(requirements, order), requirements)
        key = lock_key(lock, **self.origin(order.interpreter))
        async with self._installing.setdefault(key, asyncio.Lock()):
            lease = await self._cache.lease(key)
            if lease is None:
                await self._install(key, lock, requirements.is_lock, order)
                lease = await self._cache.lease(key)
        if lease is None:
            raise EnvironmentFailed("the packages were installed, and are gone again: try once more")
        return lease

    def origin(self, interpreter: Interpreter) -> dict[str, str]:
        """What else than a lock, or what came to it, tells one environment from another."""
        kind = "wheels" if self._policy.wheels_only else "wheels and builds"
        return {
            "python": f"{interpreter.version} at {interpreter.path_in_sandbox}",
            "platform": f"{PLATFORM}, {kind}",
            "index": self._index.settings.identity,
        }

    async def _resolve(self, requirements: Requirements, order: _Order) -> Lock:
        order.tell(Preparing(Stage.RESOLVING))
        received, visit = await _as_small_as_can_be(partial(self._lock_of, requirements.text, order))
        try:
            lock = read_lock(received.decode())
        except ValueError as problem:
            raise EnvironmentFailed(_sentence(str(problem))) from problem
        await self._check_size(choices_of(lock, visit.pages, order.interpreter))
        return lock

    async def _check_size(self, choices: Mapping[str, Sequence[Choice]]) -> None:
        """Refuse what is too large before anything of it is downloaded. Raises `PackagesTooLarge`."""
        found = await check_sizes(choices, self._policy.max_mb << 20, self._index.unpacked_bytes)
        if found is not None:
            message = (
                f"the packages take more than {self._policy.max_mb} MiB (ENVIRONMENT_MAX_MB): at least "
                f"{found.bytes >> 20} MiB, {found.of_largest >> 20} of them {found.largest}"
            )
            raise PackagesTooLarge(_sentence(message), frozenset({found.largest}))

    async def _lock_of(self, text: str, order: _Order, work: Work) -> tuple[bytearray, Visit]:
        received = bytearray()

        async def take_lock(request: web.Request) -> None:
            async for data in request.content.iter_chunked(CHUNK):
                received.extend(data)
                if len(received) > LOCK_MAX:
                    raise ValueError(f"the lock has more than {LOCK_MAX} bytes")

        return received, await self._run("resolve", text, take_lock, order, work)

    async def _install(self, key: str, lock: Lock, is_foreign: bool, order: _Order) -> None:
        order.tell(Preparing(Stage.INSTALLING))
        await _as_small_as_can_be(partial(self._fill, key, lock, is_foreign, order))

    async def _fill(self, key: str, lock: Lock, is_foreign: bool, order: _Order, work: Work) -> None:
        draft = Draft(self._cache.directory, self._policy.max_mb << 20)

        async def take_files(request: web.Request) -> None:
            order.tell(Preparing(Stage.STORING))
            async for data in request.content.iter_chunked(CHUNK):
                await asyncio.to_thread(draft.feed, data)

        try:
            step = "install foreign" if is_foreign else "install"
            await self._run(step, lock.text, take_files, order, work)
            if not draft.receiver.is_complete:
                raise EnvironmentFailed(_sentence("the installed files ended before the last one"))
            index = self._index.settings.identity
            await asyncio.to_thread(self._cache.publish, draft, key, lock, order.interpreter, index)
        finally:
            await asyncio.shield(asyncio.to_thread(draft.close))

    async def _run(self, step: str, text: str, take: Take, order: _Order, work: Work) -> Visit:
        """One step in a sandbox of its own, once there is a place for it; what it saw of the index.

        Raises `EnvironmentFailed` where it does not come to its end, and `_Larger` where it was too large for `work`.
        """
        indexes = len(self._index.settings.urls)
        instructions = {"step": step, "text": text, "port": PORT, "indexes": indexes,
                        "wheels_only": self._policy.wheels_only}  # fmt: skip
        stdin = json.dumps(instructions).encode()
        run = Run(take)
        async with self._places.place(work, self._memory_mb(step, work)) as run.memory_mb:
            others = {"frames.py": guest_file("frames.py")}
            spec = program_spec("build.py", others, order.interpreter, self._policy.limits(run.memory_mb), stdin)
            await self._serve(spec, run, order, self._download_max(run.memory_mb, work))
        if run.broken is not None:
            raise run.broken
        if run.exited is not None and run.exited.termination is Termination.EVICTED:
            raise BackendError("a build was ended because the server ran out of memory")
        if not run.has_succeeded:
            if work is Work.BUILD and run.is_short_of_memory:
                raise _Larger
            message = explanation(run, self._policy, self._index.settings.describe())
            kind = PackagesTooLarge if run.is_too_large or run.is_short_of_memory else PackagesUnavailable
            visit = run.visit
            raise kind(message, run.lacking(), no_index=visit.no_index, torch_failure=visit.torch_failure)
        return run.visit

    def _memory_mb(self, step: str, work: Work) -> int:
        """MiB that a step asks for: a small one what is usual, a large one all that it is allowed."""
        if work is Work.LARGE_BUILD:
            return self._policy.memory_mb
        return RESOLVING_MB if step == "resolve" else work.usual_mb

    def _download_max(self, memory_mb: int, work: Work) -> int:
        """Bytes that it may download: a small one no more than it could unpack."""
        whole = self._policy.max_mb << 20
        return whole if work is Work.LARGE_BUILD else min(whole, (memory_mb << 20) // SMALL_DOWNLOAD)

    async def _serve(self, spec: ExecutionSpec, run: Run, order: _Order, download_max: int) -> None:
        """Run it in a sandbox that sees the package index."""
        sandbox, listener = await self._workshop.acquire_to_build(spec, PORT)
        try:
            async with self._index.serving(
                listener,
                wheels_only=self._policy.wheels_only,
                allows=self._policy.filter.allows,
                download_max=download_max,
                tell=lambda name, done, total: order.tell(Preparing(Stage.DOWNLOADING, name, done, total)),
                torch=order.torch,
                routes=run.routes(),
            ) as run.visit:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._policy.timeout_seconds):
                        await sandbox.run(spec, run.feed)
        finally:
            await sandbox.destroy()


async def _as_small_as_can_be(build: Callable[[Work], Awaitable[T]]) -> T:
    """Build with the memory of a small one; with that of a large one where it turns out to take more.

    So what is small, which is most, waits behind nothing that is large.
    """
    try:
        return await build(Work.BUILD)
    except _Larger:
        return await build(Work.LARGE_BUILD)


class Run:
    """What is known of one step."""

    def __init__(self, take: Take) -> None:
        self.memory_mb = 0
        self.visit = Visit()
        self.exited: Exited | None = None
        self.said = b""  # uv's explanation, or what took its place
        self.refusal: str | None = None  # of what came
        self.is_too_large = False  # which was the reason
        self.broken: BackendError | None = None  # where we could not keep it
        self._take = take
        self._has_begun = False
        self._is_done = False

    @property
    def has_succeeded(self) -> bool:
        """Whether the result came, and the program ended well."""
        return self._is_done and self.exited is not None and self.exited.exit_code == 0

    @property
    def is_short_of_memory(self) -> bool:
        """Whether it needed more than it had, for its processes or for its files."""
        is_killed = self.exited is not None and self.exited.termination is Termination.MEMORY
        return is_killed or b"No space left on device" in self.said or self.visit.is_too_large

    def lacking(self) -> frozenset[str]:
        """Names of packages that can't be had, as far as that is known."""
        visit = self.visit
        return frozenset(visit.missing | visit.refused | visit.only_sources)

    def routes(self) -> list[web.RouteDef]:
        """Where the sandbox brings what it has made."""
        from aiohttp import web

        return [web.put("/result", self._receive)]

    def feed(self, event: Event) -> None:
        """What its process says."""
        if isinstance(event, Stderr):
            self.said = (self.said + event.data)[-STDERR_MAX:]
        elif isinstance(event, Exited):
            self.exited = event

    async def _receive(self, request: web.Request) -> web.Response:
        """The result, once; where it breaks off, this is cancelled."""
        from aiohttp import web

        if self._has_begun:
            return web.Response(status=409)
        self._has_begun = True
        try:
            await self._take(request)
        except ValueError as problem:
            self.refusal, self.is_too_large = str(problem), isinstance(problem, TooMuch)
            return web.Response(status=400)
        except BackendError as problem:  # a full disk, say
            self.broken = problem
            return web.Response(status=500)
        self._is_done = True
        return web.Response()


def program_spec(
    name: str, others: dict[str, bytes], interpreter: Interpreter, limits: Limits, stdin: bytes = b""
) -> ExecutionSpec:
    """One of our own programs, to be run in a sandbox as anybody's, with other files beside it."""
    files = {name: guest_file(name), **others}
    entries, offset = [], 0
    for path, data in files.items():
        entries.append(FileEntry(path, 0o644, offset, len(data)))
        offset += len(data)
    tree = FileTree(tuple(entries), b"".join(files.values()))
    return ExecutionSpec(tree, name, interpreter.minor_version, limits, stdin=stdin)


def guest_file(name: str) -> bytes:
    """What is run inside of a sandbox, or beside it."""
    return resources.files("python_executor.guest").joinpath(name).read_bytes()


def explanation(run: Run, policy: BuildPolicy, index: str) -> str:
    """Why there is no environment: what we know best goes first, then what uv said."""
    visit, exited = run.visit, run.exited
    uv = one_line(run.said.decode(errors="replace"), index)
    if exited is None:
        return _sentence(f"it took longer than {policy.timeout_seconds} s (ENVIRONMENT_TIMEOUT)", visit.failure)
    if exited.termination is Termination.MEMORY or "No space left on device" in uv:
        if 0 < run.memory_mb < policy.memory_mb:
            return _sentence(f"that takes more than the {run.memory_mb} MiB that it may have here (MEMORY_BUDGET)")
        return _sentence(f"the packages take more than {policy.max_mb} MiB (ENVIRONMENT_MAX_MB)")
    if run.refusal is not None:
        return _sentence(run.refusal)
    known = [policy.filter.refusal(name) for name in sorted(visit.refused)]
    only_sources = sorted(visit.only_sources) or [
        f"{name} {version}"
        for name, versions in sorted(visit.source_versions.items())
        for version in sorted(versions)
        if f"{name}=={version}" in uv.split()
    ]
    known += [f"{what} {NO_WHEEL}" for what in only_sources]
    return _sentence(*known, visit.failure, uv or f"uv ended with exit code {exited.exit_code}")


def _sentence(*reasons: str | None) -> str:
    told = "; ".join(reason.rstrip(".") for reason in reasons if reason)
    return f"the packages could not be installed: {told[:EXPLANATION_MAX]}"


def one_line(text: str, index: str) -> str:
    """uv's explanation without its drawing, and with the operator's index in place of ours."""
    text = re.sub(rf"http://127\.0\.0\.1:{PORT}/\d+/(simple/?|files/\d+-\d+/)", f"{index} ", text)
    text = re.sub(r"[×╰├│─▶]+", " ", text)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line.removeprefix("error: ").replace(" cause: ", ": ")
