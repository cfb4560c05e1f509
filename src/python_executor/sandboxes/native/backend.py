"""The native backend: a box and a pool of sandboxes for each interpreter, cgroups where they can be had."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from ...model.egress import EgressPolicy
from ...model.errors import BackendError
from ...model.isolation import Finding, State, explain, is_accepted
from ...model.spec import MEBIBYTE, ExecutionSpec, Interpreter, Limits
from .box import Box
from .cgroups import Cgroup, CgroupTree, find_hierarchies
from .identities import choose_identities
from .network import Network
from .pool import Pool
from .sandbox import NativeSandbox
from .selftest import examine, probe_spec

PROCESSES_MAX = 256
WATCH_INTERVAL = 0.1  # seconds
DESCRIPTORS = 16  # of ours, for each sandbox with its cgroups
DESCRIPTORS_SPARED = 2048  # where there are many
log = structlog.get_logger()


class NativeBackend:
    """Implements `Backend`."""

    name = "native"

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
    ) -> None:
        self._interpreters = {interpreter.minor_version: interpreter for interpreter in interpreters}
        self._default_python = default_python
        self._limits = default_limits
        self._pool_max = pool_max
        self._preload = tuple(preload)
        self._insecure_allow = insecure_allow
        self._identities = choose_identities()
        self._network = Network(egress or EgressPolicy(), self._identities)
        self._network_failure: str | None = None
        self._boxes: dict[str, Box] = {}
        self._pools = {
            version: Pool(partial(self._make, version), least=pool_min, most=pool_max) for version in self._interpreters
        }
        self._starting = {version: asyncio.Lock() for version in self._interpreters}
        self._cgroups: CgroupTree | None = None
        self._watching: asyncio.Task[None] | None = None  # from start() to close()

    @property
    def interpreters(self) -> Sequence[Interpreter]:
        """Newest first."""
        return tuple(self._interpreters.values())

    @property
    def findings(self) -> Sequence[Finding]:
        """How each boundary stood when the default interpreter's box was started."""
        return self._boxes[self._first_version].findings

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

    async def start(self) -> None:
        """Make the default interpreter's box and begin to fill its pool; see `Backend.start`."""
        if not self._interpreters:
            raise BackendError("no CPython 3.9 or later was found: install one, for example with `uv python install`")
        self._bound_pools(_raise_open_files_limit())
        _become_last_choice_of_oom_killer()
        try:
            self._cgroups = CgroupTree(find_hierarchies())
        except OSError as error:
            log.info("no cgroups", reason=str(error))
        self._watching = asyncio.create_task(self._watch())
        await self._box(self._first_version)
        await self._try_network()
        self._pools[self._first_version].fill()

    def _bound_pools(self, open_files: int) -> None:
        """No more sandboxes wait than our descriptors are enough for, with some left for those that run."""
        affordable = max(open_files // 2, open_files - DESCRIPTORS_SPARED) // DESCRIPTORS // len(self._pools)
        if affordable < self._pool_max:
            log.warning(
                "POOL_MAX is lowered: all interpreters' pools would need more open files",
                pool_max=affordable,
                limit=open_files,
            )
            for pool in self._pools.values():
                pool.bound(affordable)

    async def acquire(self, spec: ExecutionSpec) -> NativeSandbox:
        """One from the pool, else one made now; see `Backend.acquire`."""
        sandbox = await self._pools[spec.python].take()
        return await self._with_limits(sandbox, spec)

    async def close(self) -> None:
        """See `Backend.close`."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await asyncio.gather(*(box.close() for box in self._boxes.values()))
        if self._cgroups is not None:
            self._cgroups.close()

    async def _make(self, version: str) -> NativeSandbox:
        box = await self._box(version)
        cgroup = self._make_cgroup()
        return await box.make(cgroup, self._limits.file_system_bytes)

    async def _box(self, version: str) -> Box:
        """The interpreter's box, started when first asked for and again when it has died."""
        async with self._starting[version]:
            box = self._boxes.get(version)
            if box is None or not box.is_alive:
                box = Box(
                    self._interpreters[version],
                    self._identities,
                    PROCESSES_MAX,
                    self._network.policy,
                    self._preload,
                    self._release_cgroup,
                )
                await box.start()
                self._boxes[version] = box  # to be closed with the others, whatever comes now
                await self._try_boundaries(box)
            return box

    async def _try_boundaries(self, box: Box) -> None:
        """Before anybody's code runs in a box: see that it holds, or close it and say what to change."""
        try:
            box.findings = await examine(partial(self._make_in, box), PROCESSES_MAX)
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
                sandbox = await self._make_in(self._boxes[self._first_version], probe_spec(network=True))
                await sandbox.destroy()
            except BackendError as error:
                self._network_failure = str(error)
        if self.network_unavailable:
            log.info("no network can be given to code", reason=self.network_unavailable)

    async def _make_in(self, box: Box, spec: ExecutionSpec) -> NativeSandbox:
        sandbox = await box.make(self._make_cgroup(), self._limits.file_system_bytes)
        return await self._with_limits(sandbox, spec)

    async def _with_limits(self, sandbox: NativeSandbox, spec: ExecutionSpec) -> NativeSandbox:
        """The sandbox with the spec's limits in force, and its network; destroyed where that fails."""
        what = "its boundaries"
        try:
            await sandbox.wait_until_ready()
            what = "its limits"
            await sandbox.set_limits(spec, PROCESSES_MAX)
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

    async def _watch(self) -> None:
        """Trim the pools, and end what has run out of memory, also where the kernel killed just a child."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            for pool in self._pools.values():
                pool.trim()
            for box in list(self._boxes.values()):
                for sandbox in box.running():
                    with suppress(OSError, ValueError):  # it has just ended
                        await sandbox.check_memory()


def _raise_open_files_limit() -> int:
    """As far as it goes; where it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _become_last_choice_of_oom_killer() -> None:
    """With privilege; without it, the boxes make themselves the first choice."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-900")
