"""The Docker backend: a container for each execution, made ahead for images in use."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from ...model.egress import EgressPolicy
from ...model.engine import Engine
from ...model.environment import Environment
from ...model.errors import (
    BackendError,
    ImageFailed,
    InvalidRequest,
    NetworkUnavailable,
    NoBackendForImage,
    Unavailable,
)
from ...model.isolation import Isolation, State, explain, is_accepted
from ...model.spec import ExecutionSpec, Interpreter, Limits
from ...rounds import do_all, repeat
from ..base import Tell
from ..native.identities import choose_identities
from ..native.network import Network
from ..native.selftest import LIMITS, Acquire, Seen, observe
from ..pool import Pool
from ..processors import Processors
from . import machine, seccomp
from .engine import NOT_FOUND, Connection, EngineError, Lives
from .images import Images
from .plan import NETWORK_RUNTIMES, PROCESSES_MAX, Image, Kind, Terms, alike, kind_of
from .sandbox import DockerSandbox
from .selftest import MAY_BE_WEAKER_HERE, judge

NAME = "docker"
PYTHONS = ("python3", "python")
IMAGES_DOING = ("unable to find user", "exec format error", "invalid mount config", "Duplicate mount point")
PROBES = 3  # how often it is tried
WATCH_INTERVAL = 1.0  # seconds
IN_USE = 600.0  # seconds after its last use for which containers wait for an image
IMAGES_IN_USE = 4  # for which they do, at most
log = structlog.get_logger()

Tried = tuple[int, str, str]  # connection, runtime, key of the image


class DockerBackend:
    """Implements `Backend`."""

    interpreters: Sequence[Interpreter] = ()
    network_unavailable = None

    def __init__(
        self,
        address: str | None,
        *,
        owner: str,
        is_only: bool,
        default_limits: Limits,
        pool_max: int,
        pull_timeout: float,
        egress: EgressPolicy,
        root_commands: bool,
        insecure_allow: frozenset[str],
        profile: Path,
        is_required: bool,
    ) -> None:
        self._limits = default_limits
        self._processors = Processors(default_limits.cpus)
        self._pool_max = pool_max
        self._network = Network(egress, choose_identities())
        self._root_commands = root_commands
        self._insecure_allow = insecure_allow
        self._profile = profile
        self._is_required = is_required
        self._connection = Connection(
            address,
            Lives(owner, is_only=is_only),
            insecure_allow=insecure_allow,
            on_oom=self._on_oom,
            on_images=self._on_images,
        )
        self._images = Images(lambda: self._connection, pull_timeout)
        self._pools: dict[Kind, Pool[DockerSandbox]] = {}  # the longest unused first
        self._used: dict[Kind, float] = {}
        self._pythons: dict[str, str] = {}  # by image: the name of its interpreter
        self._isolation: dict[Tried, Isolation] = {}
        self._trying: dict[Tried, asyncio.Lock] = {}
        self._is_closing = False
        self._sandboxes: dict[str, DockerSandbox] = {}  # that are not destroyed, by name
        self._watching: asyncio.Task[None] | None = None  # from start() to close()

    @property
    def engine(self) -> Engine:
        """The engine as it is known now."""
        return self._connection.state

    def name_of(self, _spec: ExecutionSpec) -> str:
        """See `Backend.name_of`."""
        return NAME

    async def start(self) -> None:
        """Connect to the engine; see `Backend.start`."""
        await self._connection.start()
        if self._is_required and self.engine.unavailable:
            await self._connection.close()
            raise BackendError(self.engine.unavailable)
        self._watching = asyncio.create_task(self._watch())

    def check(self, spec: ExecutionSpec) -> None:
        """See `Backend.check`."""
        engine = self.engine
        if engine.unavailable and self._connection.was_there:
            raise Unavailable("the container engine does not answer at the moment: try again in a few seconds.")
        if engine.unavailable:
            raise NoBackendForImage(f"docker_image {spec.image} can't be run here: {engine.unavailable}.")
        if spec.runtime and spec.runtime not in engine.runtimes:
            raise InvalidRequest(f"runtime {spec.runtime} is none of the engine's: use {', '.join(engine.runtimes)}.")
        if spec.network and (why := self._why_no_network(self._runtime(spec))):
            raise NetworkUnavailable(f"the network can't be had for docker_image {spec.image}: {why}.")

    def _why_no_network(self, runtime: str) -> str | None:
        if runtime not in NETWORK_RUNTIMES:
            return f"the runtime {runtime} has a network stack of its own, that no filter is made for"
        if os.geteuid() != 0 and not self.engine.is_rootless:
            return "it takes a server that runs as root"
        if not self.engine.address.startswith("unix://"):
            return "its engine is on another machine"
        return self._network.unavailable

    def is_prepared(self, spec: ExecutionSpec) -> bool:
        """Whether the image is known to be there, and what isolates it; see `Backend.is_prepared`."""
        image = self._images.known(spec.image)
        return image is not None and self._tried(image, self._runtime(spec)) in self._isolation

    async def prepare(self, spec: ExecutionSpec, tell: Tell) -> None:
        """Pull the image if it is not there, and try what its runtime isolates; see `Backend.prepare`."""
        await self._try(await self._images.find(spec.image, tell), self._runtime(spec))

    def _runtime(self, spec: ExecutionSpec) -> str:
        return spec.runtime or next(iter(self.engine.runtimes), "")

    def _tried(self, image: Image, runtime: str) -> Tried:
        """What was seen holds for the same engine; and for one image, whose Python may have lied about itself."""
        return self._connection.connections, runtime, image.key

    async def _try(self, image: Image, runtime: str) -> None:
        """See once how each boundary stands around such containers. Raises `ImageFailed` and `BackendError`."""
        if not runtime:
            raise BackendError(self.engine.unavailable or "the engine is away")
        tried = self._tried(image, runtime)
        async with self._trying.setdefault(tried, asyncio.Lock()):
            if tried not in self._isolation:
                self._isolation[tried] = await self._examine(image, runtime)
        self._trying.pop(tried, None)

    async def _examine(self, image: Image, runtime: str) -> Isolation:
        """Raises `BackendError` where a boundary is missing."""
        kind = Kind(image, runtime, alike(LIMITS))

        async def acquire(_spec: ExecutionSpec) -> DockerSandbox:
            return await self._make(kind, {})

        seen = await self._observe(acquire, image)
        try:
            findings = judge(seen, has_own_kernel=kind.has_own_kernel)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ImageFailed(f"docker_image {image.name}: its Python tells nonsense of what isolates it") from error
        for finding in findings:
            may_be_weaker = finding.state is State.WEAKER and finding.boundary.name in MAY_BE_WEAKER_HERE
            if not (may_be_weaker or is_accepted(finding, self._insecure_allow)):
                raise BackendError(f"containers of the runtime {runtime}: {explain(finding)}")
        return {finding.boundary.name: finding.state for finding in findings}

    async def _observe(self, acquire: Acquire, image: Image) -> Seen:
        """What is seen of a container's boundaries, once it gets to its end, which gVisor does not always."""
        self._terms()  # which may raise a failure that is not the image's
        failure: Exception | None = None
        for _ in range(PROBES):
            try:
                return await observe(acquire, PROCESSES_MAX)
            except EngineError:
                raise
            except (BackendError, ValueError, RecursionError) as error:  # no JSON, or too deep
                failure = error
        words = f"docker_image {image.name}: its Python can't try what isolates it: {failure}"
        raise ImageFailed(words) from failure

    async def acquire(self, spec: ExecutionSpec, _environment: Environment | None = None) -> DockerSandbox:
        """One that waits, else one made now; see `Backend.acquire`."""
        image = await self._images.find(spec.image)
        runtime = self._runtime(spec)
        await self._try(image, runtime)  # again only if the engine is another since it was prepared
        kind = kind_of(image, spec, runtime, root_commands=self._root_commands)
        sandbox = await (self._pool(kind).take() if self._is_default(kind) else self._make(kind))
        if spec.network:
            await self._attach(sandbox)
        return sandbox

    async def close(self) -> None:
        """See `Backend.close`."""
        if self._watching is not None:
            self._watching.cancel()
        self._is_closing = True
        for pool in list(self._pools.values()):
            await pool.close()
        sandboxes = list(self._sandboxes.values())
        await asyncio.gather(*(sandbox.destroy() for sandbox in sandboxes), return_exceptions=True)
        await self._connection.close()

    # --- containers ---

    def _is_default(self, kind: Kind) -> bool:
        """Whether another request may want the same, as most want no limits of their own."""
        return not kind.as_root and not kind.given and kind.limits == alike(self._limits)

    def _pool(self, kind: Kind) -> Pool[DockerSandbox]:
        """Of containers of this kind, which is in use now."""
        pool = self._pools.pop(kind, None) or Pool(lambda: self._make(kind), least=1, most=self._pool_max)
        self._pools[kind] = pool
        self._used[kind] = time.monotonic()
        return pool

    async def _make(self, kind: Kind, isolation: Isolation | None = None) -> DockerSandbox:
        """A container that waits for its spec. Raises `BackendError` and `ImageFailed`."""
        if isolation is None:
            isolation = self._isolation.get(self._tried(kind.image, kind.runtime))
        if isolation is None:
            raise BackendError("the engine is another since this was asked for")
        known = self._pythons.get(kind.image.key)
        failure: Exception | None = None
        for python in (known, known) if known else PYTHONS:  # a busy engine may fail to find what is there
            try:
                sandbox = await self._start(kind, python, isolation)
            except EngineError as error:
                if error.status in (0, NOT_FOUND) or f'"{python}"' not in str(error):
                    raise self._as_image_failure(kind, error) from error
                failure = error
            else:
                self._pythons[kind.image.key] = python
                return sandbox
        if known and failure:
            raise failure
        raise ImageFailed(f"docker_image {kind.image.name} has no Python: {_short(failure)}") from failure

    def _as_image_failure(self, kind: Kind, error: EngineError) -> Exception:
        """What the engine says of an image that it can't start is told to whoever named it."""
        if error.status == NOT_FOUND and "No such image" in str(error):
            self._images.forget()
            return ImageFailed(f"docker_image {kind.image.name} is not there any more: it was removed meanwhile")
        if any(words in str(error) for words in IMAGES_DOING):
            return ImageFailed(f"docker_image {kind.image.name} can't be started: {error}")
        return error

    async def _start(self, kind: Kind, python: str, isolation: Isolation) -> DockerSandbox:
        if self._is_closing:
            raise BackendError("the server is ending")
        name = f"python-executor-{secrets.token_hex(12)}"
        sandbox = self._sandboxes[name] = DockerSandbox(
            self._connection,
            name,
            kind,
            isolation,
            self._gone,
            self._processors,
        )
        try:
            await sandbox.start(python, self._terms())
        except BaseException:
            await sandbox.destroy()
            raise
        return sandbox

    def _terms(self) -> Terms:
        connection = self._connection
        return Terms(
            connection.lives.labels,
            tuple(self._network.policy.nameservers),
            seccomp=self._profile_file() if connection.is_podman else seccomp.profile(),
            is_podman=connection.is_podman,
            has_ipv6=machine.has_ipv6(),
        )

    def _profile_file(self) -> str:
        """Where Podman reads the profile, which it does not take otherwise. Raises `BackendError`."""
        try:
            if not self._profile.exists() or self._profile.read_text() != seccomp.profile():
                new = self._profile.with_suffix(f".{secrets.token_hex(4)}")
                new.write_text(seccomp.profile())
                new.replace(self._profile)
        except OSError as error:
            raise BackendError(f"Podman's seccomp profile can't be written to {self._profile}: {error}") from error
        return str(self._profile)

    def _gone(self, sandbox: DockerSandbox) -> None:
        self._sandboxes.pop(sandbox.name, None)

    async def _attach(self, sandbox: DockerSandbox) -> None:
        try:
            await sandbox.attach(self._network.uplink())
        except BaseException as error:
            await sandbox.destroy()
            if not isinstance(error, OSError):
                raise
            raise BackendError(f"the container could not be given its network: {error or 'timed out'}") from error

    # --- what happens meanwhile ---

    def _on_oom(self, name: str) -> None:
        if sandbox := self._sandboxes.get(name):
            sandbox.over_memory()

    def _on_images(self) -> None:
        self._images.forget()

    async def _watch(self) -> None:
        await repeat("a look at the containers failed", WATCH_INTERVAL, self._look)

    async def _look(self) -> None:
        """Keep no more containers waiting than there is demand for, and none where memory is short."""
        is_short = machine.is_memory_short()
        latest_first = list(reversed(self._pools))
        try:
            do_all(partial(self._bound, kind, number, is_short=is_short) for number, kind in enumerate(latest_first))
        finally:
            await self._connection.retry_removals()

    def _bound(self, kind: Kind, number: int, *, is_short: bool) -> None:
        """How many containers of a kind wait, the `number`th most recently used."""
        pool = self._pools[kind]
        is_unused = number >= IMAGES_IN_USE or time.monotonic() - self._used[kind] > IN_USE
        pool.bound(0 if is_short or is_unused else self._pool_max)
        pool.trim()
        if is_unused and not pool.is_busy and not pool.waiting:
            del self._pools[kind], self._used[kind]


def _short(failure: Exception | None) -> str:
    """The part of an engine's sentence that tells of the program."""
    return str(failure).rpartition("exec: ")[2].removesuffix(": unknown")
