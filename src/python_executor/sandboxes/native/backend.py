"""The native backend: sandboxes of each interpreter and of named environments, cgroups where they can be had."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog

from ...model.egress import EgressPolicy
from ...model.environment import Environment
from ...model.errors import BackendError, NoBackendForImage
from ...model.events import Usage
from ...model.isolation import Finding, State, explain, is_accepted
from ...model.spec import MEBIBYTE, ExecutionSpec, Interpreter, Limits
from ...rounds import do_all, repeat
from ..base import Tell
from ..processors import Processors
from . import watch
from .box import Box
from .cgroups import Cgroup, CgroupTree, find_hierarchies
from .identities import choose_identities
from .network import Network
from .plan import NO_STORE, UV, PackageStore, place_of
from .sandbox import NativeSandbox
from .selftest import examine, probe_spec
from .supply import Supply

NAME = "native"
PROCESSES_MAX = 256
WATCH_INTERVAL = 0.1  # seconds
FILE_LOCKS_MAX = 1 << 16  # of one sandbox; 192 bytes each, that no cgroup counts
DESCRIPTORS = 20  # of ours, for each sandbox with its cgroups
DESCRIPTORS_SPARED = 2048  # where there are many
WAITING_MB = 2  # of one that waits; 1.5 were measured
WAITING_PROCESSES = 8  # in one that waits, at most; it has two
MEMORY_TO_SPARE = 8  # a part in so many of all that was promised, for what has ended and is not given back yet
log = structlog.get_logger()


class Named(NamedTuple):
    """Sandboxes of a named environment."""

    environment: Environment
    supply: Supply
    directory: tuple[int, int]  # that its box shows; another may have taken its place since


class Promised(NamedTuple):
    """All that may run at once: executions, builds and readers of imports together."""

    memory_mb: int
    sandboxes: int


class NativeBackend:
    """Implements `Backend`."""

    engine = None

    def __init__(
        self,
        interpreters: Sequence[Interpreter],
        *,
        default_python: str,
        default_limits: Limits,
        pool_min: int,
        pool_max: int,
        preload: Sequence[str] = (),
        insecure_allow: frozenset[str] = frozenset(),
        egress: EgressPolicy | None = None,
        store: PackageStore = NO_STORE,
        promised: Promised | None = None,
    ) -> None:
        self._interpreters = {interpreter.minor_version: interpreter for interpreter in interpreters}
        self._default_python = default_python
        self._limits = default_limits
        self._processors = Processors(default_limits.cpus)
        self._pool_min, self._pool_max = pool_min, pool_max
        self._store = store
        self._promised = promised
        self._preload = tuple(preload)
        self._insecure_allow = insecure_allow
        self._identities = choose_identities()
        self._network = Network(egress or EgressPolicy(), self._identities)
        self._network_failure: str | None = None
        self._supplies = {version: self._supply(interpreter) for version, interpreter in self._interpreters.items()}
        self._named: dict[str, Named] = {}  # by name
        self._retiring: set[Supply] = set()
        self._cgroups: CgroupTree | None = None
        self._watching: asyncio.Task[None] | None = None  # from start() to close()
        self._aside: dict[str, asyncio.Task[None]] = {}  # what takes longer than a look may, by what it does

    @property
    def interpreters(self) -> Sequence[Interpreter]:
        """Newest first."""
        return tuple(self._interpreters.values())

    @property
    def findings(self) -> Sequence[Finding]:
        """How each boundary stood when the default interpreter's box was started."""
        box = self._supplies[self._first_version].started
        return box.findings if box is not None else ()

    @property
    def _first_version(self) -> str:
        return self._default_python if self._default_python in self._interpreters else next(iter(self._interpreters))

    @property
    def network_unavailable(self) -> str | None:
        """Why it can give no network, with what to change; None where it can. Known once it is started."""
        return self._network.unavailable or self._network_failure

    @property
    def has_cgroups(self) -> bool:
        """Whether limits are the kernel's own, for a sandbox as a whole."""
        return self._cgroups is not None

    def name_of(self, _spec: ExecutionSpec) -> str:
        """See `Backend.name_of`."""
        return NAME

    def check(self, spec: ExecutionSpec) -> None:
        """It runs interpreters of this machine; see `Backend.check`."""
        if spec.image:
            raise NoBackendForImage(
                f"docker_image {spec.image} takes a container engine, which this server does not use "
                "(BACKEND native): name python:X.Y with a version that it has, or leave it out."
            )

    def is_prepared(self, _spec: ExecutionSpec) -> bool:
        """Always; see `Backend.is_prepared`."""
        return True

    async def prepare(self, _spec: ExecutionSpec, _tell: Tell) -> None:
        """Nothing to do; see `Backend.prepare`."""

    async def start(self) -> None:
        """Make the default interpreter's box and begin to fill its pool; see `Backend.start`."""
        if not self._interpreters:
            raise BackendError("no CPython 3.9 or later was found: install one, for example with `uv python install`")
        _become_last_choice_of_oom_killer()
        try:
            self._cgroups = CgroupTree(find_hierarchies())
        except OSError as error:
            log.info("no cgroups", reason=str(error))
        self._bound_pools(_raise_open_files_limit())
        self._watching = asyncio.create_task(self._watch())
        await self._supplies[self._first_version].box()
        await self._try_network()
        self._supplies[self._first_version].pool.fill()

    def _bound_pools(self, open_files: int) -> None:
        """No more sandboxes wait than our descriptors are enough for, with some left for those that run."""
        supplies = [supply for supply in self._all_supplies() if supply not in self._retiring]
        affordable = max(open_files // 2, open_files - DESCRIPTORS_SPARED) // DESCRIPTORS // len(supplies)
        if affordable < self._pool_max:
            log.warning(
                "POOL_MAX is lowered: all interpreters' pools would need more open files",
                pool_max=affordable,
                limit=open_files,
            )
        for supply in supplies:
            supply.pool.bound(affordable)
        self._bound_together(min(affordable, self._pool_max) * len(supplies))

    def _bound_together(self, waiting: int) -> None:
        """Bound what all sandboxes take, to more than was promised to those that run and than the others take."""
        if self._cgroups is None or self._promised is None:
            return
        memory_mb, sandboxes = self._promised
        try:
            self._cgroups.bound(
                memory_bytes=(memory_mb + memory_mb // MEMORY_TO_SPARE + waiting * WAITING_MB) * MEBIBYTE,
                processes=sandboxes * PROCESSES_MAX + waiting * WAITING_PROCESSES,
            )
        except OSError as error:
            log.warning("what all sandboxes take together is not bounded", reason=str(error))

    async def acquire(self, spec: ExecutionSpec, environment: Environment | None = None) -> NativeSandbox:
        """One from the pool, else one made now; see `Backend.acquire`."""
        if environment is None:
            return await self._with_limits(await self._supplies[spec.python].pool.take(), spec)
        if environment.name is not None:
            return await self._with_limits(await self._named_supply(spec.python, environment).pool.take(), spec)
        sandbox = await self._supplies[spec.python].pool.take()
        return await self._with_limits(sandbox, spec, place_of(environment))

    async def acquire_to_build(self, spec: ExecutionSpec, port: int) -> tuple[NativeSandbox, socket.socket]:
        """A sandbox with uv at /venv, and a socket that listens at this port of its loopback, for us to serve."""
        sandbox = await self._with_limits(await self._supplies[spec.python].pool.take(), spec, UV)
        try:
            return sandbox, await sandbox.listen(port)
        except BaseException as error:
            await sandbox.destroy()
            if not isinstance(error, OSError):
                raise
            raise BackendError(f"the sandbox could not be given its package index: {error}") from error

    async def forget(self, environment: Environment) -> None:
        """Let go of an environment that is about to be removed, and of all that was made ahead with it."""
        if environment.name is not None:
            named = self._named.get(environment.name)
            if named is not None and named.environment == environment:
                del self._named[environment.name]
                self._retire(named.supply)
        for supply in self._supplies.values():
            if supply.started is not None and supply.started.is_alive:
                with suppress(OSError):  # it has died, or never had it
                    await supply.started.forget_shown(place_of(environment))

    def _named_supply(self, python: str, environment: Environment) -> Supply:
        """The one of this environment; what an older one of the same name has running ends by itself."""
        assert environment.name is not None  # noqa: S101 - as the caller saw
        known, directory = self._named.get(environment.name), self._store.identity(environment)
        if known is not None and (known.environment, known.directory) == (environment, directory):
            return known.supply
        if known is not None:
            self._retire(known.supply)
        supply = self._supply(self._interpreters[python], environment)
        self._named[environment.name] = Named(environment, supply, directory)
        self._bound_pools(_raise_open_files_limit())
        return supply

    def _all_supplies(self) -> list[Supply]:
        return [*self._supplies.values(), *(named.supply for named in self._named.values()), *self._retiring]

    def _retire(self, supply: Supply) -> None:
        """To be closed once all that it made has ended."""
        supply.pool.bound(0)
        self._retiring.add(supply)

    async def close(self) -> None:
        """See `Backend.close`."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*self._aside.values(), return_exceptions=True)
        await asyncio.gather(*(supply.close() for supply in self._all_supplies()))
        if self._cgroups is not None:
            self._cgroups.close()

    def _supply(self, interpreter: Interpreter, environment: Environment | None = None) -> Supply:
        return Supply(
            lambda: Box(
                interpreter,
                self._identities,
                PROCESSES_MAX,
                self._network.policy,
                self._preload,
                self._release_cgroup,
                self._processors,
                self._store,
                environment,
            ),
            self._try_boundaries,
            lambda box: box.make(self._make_cgroup(), self._limits.file_system_bytes),
            pool_min=self._pool_min,
            pool_max=self._pool_max,
        )

    async def _try_boundaries(self, box: Box) -> None:
        """Before anybody's code runs in a box: see that it holds, or close it and say what to change."""
        try:
            box.findings = await examine(
                partial(self._make_in, box), PROCESSES_MAX, has_packages=box.environment is not None
            )
            for finding in box.findings:
                if not is_accepted(finding, self._insecure_allow):
                    raise BackendError(explain(finding))
        except BaseException:
            await box.close()  # or the next request would find a box that nobody has tried
            raise
        if short := {
            finding.boundary.name: finding.state.value for finding in box.findings if finding.state != State.OK
        }:
            log.warning("not every boundary is at its full strength: see `python-executor doctor`", **short)

    async def _try_network(self) -> None:
        """Once for real: the programs may be there, and the kernel's part not."""
        if self._network.unavailable is None:
            try:
                box = await self._supplies[self._first_version].box()
                sandbox = await self._make_in(box, probe_spec(network=True))
                await sandbox.destroy()
            except BackendError as error:
                self._network_failure = str(error)
        if self.network_unavailable:
            log.info("no network can be given to code", reason=self.network_unavailable)

    async def _make_in(self, box: Box, spec: ExecutionSpec) -> NativeSandbox:
        sandbox = await box.make(self._make_cgroup(), self._limits.file_system_bytes)
        return await self._with_limits(sandbox, spec)

    async def _with_limits(
        self, sandbox: NativeSandbox, spec: ExecutionSpec, shown: str | None = None
    ) -> NativeSandbox:
        """The sandbox with the spec's limits in force, its packages and its network; destroyed where that fails."""
        what = "its boundaries"
        try:
            await sandbox.wait_until_ready()
            what = "its limits"
            await sandbox.set_limits(spec, PROCESSES_MAX)
            if shown is not None:
                what = "its packages"
                await sandbox.show(shown)
            if spec.network:
                what = "its network"
                await sandbox.attach(self._network.uplink())
        except BaseException as error:
            await sandbox.destroy()
            if not isinstance(error, OSError):
                raise
            raise BackendError(f"the sandbox could not be given {what}: {str(error) or 'timed out'}") from error
        return sandbox

    def _make_cgroup(self) -> Cgroup | None:
        if self._cgroups is None:
            return None
        cgroup = None
        try:
            cgroup = self._cgroups.acquire()
            cgroup.set_limits(
                memory_bytes=self._limits.memory_mb * MEBIBYTE,
                processes=PROCESSES_MAX,
                cpu_shares=self._limits.cpu_shares,
                cpus=self._limits.cpus,
            )
        except OSError as error:
            if cgroup is not None:
                cgroup.is_spoiled = True
                self._cgroups.release(cgroup)
            raise BackendError(f"no cgroup for a sandbox: {error}") from error
        return cgroup

    def _release_cgroup(self, cgroup: Cgroup) -> None:
        if self._cgroups is not None:
            self._cgroups.release(cgroup)

    # --- what happens meanwhile ---

    async def _watch(self) -> None:
        await repeat("a look at the sandboxes failed", WATCH_INTERVAL, self._look)

    async def _look(self) -> None:
        """Trim the pools, and end what has run out of memory, also where the kernel killed just a child."""
        supplies = self._all_supplies()
        running = [sandbox for supply in supplies for sandbox in supply.running()]
        usages = await self._usages(running)
        do_all(
            (
                *(partial(_check, sandbox, usages.get(sandbox.pidfd)) for sandbox in running),
                *(supply.pool.trim for supply in supplies),
                self._close_retired,
                self._empty_cgroups,
                self._end_holders_of_locks,
            )
        )

    async def _usages(self, running: list[NativeSandbox]) -> dict[int, Usage]:
        """Return what those that no cgroup counts use now, by their pidfd."""
        uncounted = {sandbox.pidfd: sandbox.memory_bytes for sandbox in running if not sandbox.has_cgroup}
        return await asyncio.to_thread(watch.samples, uncounted) if uncounted else {}

    def _close_retired(self) -> None:
        for supply in [supply for supply in self._retiring if supply.is_idle]:
            self._retiring.remove(supply)
            self._do_aside(f"close {id(supply)}", supply.close())

    def _empty_cgroups(self) -> None:
        if self._cgroups is not None and (laden := self._cgroups.take_laden()):
            self._do_aside(f"empty {id(laden)}", self._give_back(self._cgroups, laden))

    async def _give_back(self, cgroups: CgroupTree, laden: list[Cgroup]) -> None:
        for cgroup in laden:
            await asyncio.to_thread(cgroup.give_back)
            cgroups.emptied(cgroup)

    def _end_holders_of_locks(self) -> None:
        if "locks" not in self._aside and watch.locks_of_all() > FILE_LOCKS_MAX:
            self._do_aside("locks", self._look_at_locks())

    async def _look_at_locks(self) -> None:
        for sandbox in [sandbox for supply in self._all_supplies() for sandbox in supply.running()]:
            count = await asyncio.to_thread(lambda: watch.locks(sandbox.processes()))  # noqa: B023 - awaited here
            if count > FILE_LOCKS_MAX and sandbox.is_running:
                sandbox.end_for_memory(f"{count} file locks were held, the limit is {FILE_LOCKS_MAX}")
        await asyncio.sleep(1)  # others of the machine may hold many, and counting them is work

    def _do_aside(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Begin something that no look waits for; its failure is logged."""
        task = self._aside[name] = asyncio.create_task(work)

        def end(ended: asyncio.Task[None]) -> None:
            del self._aside[name]
            if not ended.cancelled() and (failure := ended.exception()) is not None:
                log.error("what a look at the sandboxes began has failed", failure=repr(failure))

        task.add_done_callback(end)


def _check(sandbox: NativeSandbox, usage: Usage | None) -> None:
    with suppress(OSError, ValueError):  # it has just ended
        sandbox.check_memory(usage)


def _raise_open_files_limit() -> int:
    """As far as it goes; where it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _become_last_choice_of_oom_killer() -> None:
    """With privilege; without it, the boxes make themselves the first choice."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-900")
