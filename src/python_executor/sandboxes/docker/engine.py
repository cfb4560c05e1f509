"""The connection to a container engine: whether it is there, what it can do, and the few requests that we make of it.

It may come, go and be restarted at any time. While it is away there is a sentence that says so, and it is asked again
every RETRY seconds; when it is back, what an earlier life of this server or a lost request left there is removed.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
import structlog
from aiodocker.exceptions import DockerStreamError
from aiodocker.stream import Stream

from ...model.engine import Engine
from ...model.errors import BackendError
from .plan import LIFE_LABEL, OWNER_LABEL

RETRY = 1.0  # seconds
REQUEST_TIMEOUT = 60.0  # seconds; creation and start wait for a disk now and then
UNCERTAIN = 600.0  # seconds in which a container may come that nobody was told of
NOT_FOUND, CONFLICT, FAILED = 404, 409, 500
INSTALL = (
    "install Docker (Debian's docker.io) or Podman and start it, or name its socket with DOCKER_SOCKET (docs/images.md)"
)
NO_STATUS = 900  # aiodocker's own, where nobody answered
UNFIT = 1  # in place of a status: it answers, and is not taken
MUST_BE_BOUND = {"memory": "memory", "processes": "pids"}  # boundaries, by the controllers that they need
CONTROLLERS = {"memory": "MemoryLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}  # as the engine calls their limits
ENDING = "container state improper"  # Podman's word, with status 500, where its process ends just now
IMAGE_EVENTS = ["delete", "import", "load", "pull", "remove", "tag", "untag"]
log = structlog.get_logger()


class EngineError(BackendError):
    """The engine did not do what it was asked; `status` is its HTTP status, 0 where it did not answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def find_address(setting: str | None, variables: Mapping[str, str] = os.environ) -> str | None:
    """Where the engine is to be reached: as the operator says, else the first of the usual sockets that exists."""
    if named := setting or variables.get("DOCKER_HOST"):
        return named if "://" in named else f"unix://{named}"
    own = variables.get("XDG_RUNTIME_DIR")
    places = ["/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"]
    if own:
        places[:0] = [f"{own}/docker.sock", f"{own}/podman/podman.sock"]
    return next((f"unix://{place}" for place in places if Path(place).is_socket()), None)


class Lives:
    """Whose containers are whose. A server has a data directory to itself; `run --local` may use one beside it."""

    def __init__(self, owner: str, *, is_only: bool) -> None:
        self._beside = f"{owner}-beside"
        self._owner = owner
        self._life = secrets.token_hex(8)
        self._is_only = is_only

    @property
    def labels(self) -> dict[str, str]:
        """Of our own containers."""
        return {OWNER_LABEL: self._owner if self._is_only else self._beside, LIFE_LABEL: self._life}

    def is_over(self, labels: Mapping[str, str], state: str) -> bool:
        """Whether nobody will ever ask for that container again: PID 1 ends when its server does."""
        if labels.get(LIFE_LABEL) == self._life:
            return False
        is_ours = self._is_only and labels[OWNER_LABEL] == self._owner
        return is_ours or (labels[OWNER_LABEL] == self._beside and state in ("exited", "dead"))


class Connection:
    """Implements what the backend needs of an engine."""

    def __init__(
        self,
        setting: str | None,
        lives: Lives,
        *,
        insecure_allow: frozenset[str],
        on_oom: Callable[[str], None],
        on_images: Callable[[], None],
    ) -> None:
        self._setting = setting
        self.lives = lives
        self._insecure_allow = insecure_allow
        self._on_oom, self._on_images = on_oom, on_images
        self._docker: aiodocker.Docker | None = None
        self._following: asyncio.Task[None] | None = None  # from start() to close()
        self._first_answer = asyncio.Event()
        self._lost: set[str] = set()  # containers that could not be removed
        self._uncertain: dict[str, float] = {}  # those that may be there only later, until when
        self.was_there = False
        self.is_podman = False
        self.controllers: frozenset[str] = frozenset()  # that bound containers
        self.connections = 0  # so far: each may be to another engine
        self.state = Engine(setting or "", f"no container engine was found: {INSTALL}")

    async def start(self) -> None:
        """Connect, if there is anything to connect to."""
        self._following = asyncio.create_task(self._follow_for_ever())
        await self._first_answer.wait()

    async def close(self) -> None:
        """Disconnect."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._lost:
            log.error("containers could not be removed; the next start will", count=len(self._lost))
        await self._disconnect()

    # --- requests ---

    async def inspect_image(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image; EngineError with NOT_FOUND where it has none of that name."""
        with _told(f"the image {name} could not be looked at"):
            return await self._asked.images.inspect(name)

    async def pull(self, name: str) -> AsyncIterator[dict[str, Any]]:
        """Fetch an image; its progress, item by item."""
        with _told(f"the image {name} could not be pulled"):
            async for item in self._asked.images.pull(name, stream=True, timeout=None):
                yield item

    async def create(self, name: str, config: dict[str, Any]) -> None:
        """Make a container. Who is cancelled meanwhile waits for the answer, or nobody would know what to remove."""
        creating = asyncio.create_task(self._create(name, config))
        try:
            await asyncio.shield(creating)
        except asyncio.CancelledError:
            await asyncio.wait({creating})  # which has a time
            if not creating.cancelled():
                creating.exception()
            raise

    async def _create(self, name: str, config: dict[str, Any]) -> None:
        try:
            with _told("the container could not be created"):
                await self._asked.containers.create(config, name=name)
        except EngineError as error:
            if error.status == 0:
                self._uncertain[name] = time.monotonic() + UNCERTAIN  # it may be made yet
            raise

    async def attach(self, name: str) -> Stream:
        """The way in and out of a container that has not been started."""
        with _told("the container could not be attached to"):
            stream = self._container(name).attach(stdin=True, stdout=True, stderr=True, logs=False)
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await stream.__aenter__()

    async def start_container(self, name: str) -> None:
        """Start it."""
        with _told("the container could not be started"):
            await self._container(name).start()

    async def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        with _told("the container could not be looked at"):
            return await self._container(name).show()

    async def stats(self, name: str) -> dict[str, Any]:
        """What the kernel has counted for it, now."""
        with _told("the container's usage could not be read"):
            query = {"stream": "false", "one-shot": "true"}
            answer: dict[str, Any] = await self._asked._query_json(f"containers/{name}/stats", params=query)
        return answer

    async def kill(self, name: str) -> None:
        """Kill it; nothing where it has ended."""
        with suppress_status(NOT_FOUND, CONFLICT), _told("the container could not be killed"):
            await self._container(name).kill(signal="SIGKILL")

    async def remove(self, name: str) -> None:
        """Kill and remove it with all that is its own; later, where that is not possible now."""
        self._lost.add(name)
        await self._remove(name)
        if self._uncertain.get(name, 0) < time.monotonic():
            self._uncertain.pop(name, None)
            self._lost.discard(name)

    async def retry_removals(self) -> None:
        """Of what could not be removed."""
        for name in list(self._lost):
            with suppress(EngineError):
                await self.remove(name)

    # --- whether it is there ---

    @property
    def _asked(self) -> aiodocker.Docker:
        if self._docker is None:
            raise EngineError(self.state.unavailable or "the engine is away")
        return self._docker

    def _container(self, name: str) -> aiodocker.containers.DockerContainer:
        return self._asked.containers.container(name)

    async def _follow_for_ever(self) -> None:
        while True:
            address = find_address(self._setting)
            try:
                if address is None:
                    self.state = Engine("", f"no container engine was found: {INSTALL}")
                else:
                    await self._follow(address)
            except EngineError as error:
                self._go_away(address or "", str(error) if error.status else f"{error}: {INSTALL}")
            except Exception as error:
                log.error("the engine's events could not be followed", failure=repr(error))
                self._go_away(address or "", f"the engine at {address} does not answer as an engine would")
            self._first_answer.set()
            await asyncio.sleep(RETRY)

    def _go_away(self, address: str, why: str) -> None:
        if self.state.unavailable is None:
            log.warning("the container engine is away", reason=why)
        self.state = Engine(address, why)
        self._on_images()

    def _check_bounds(self, address: str) -> None:
        """An engine whose containers could take all of the machine is as good as none."""
        unbounded = [name for name, controller in MUST_BE_BOUND.items() if controller not in self.controllers]
        unbounded = [name for name in unbounded if name not in self._insecure_allow]
        if unbounded:
            raise EngineError(
                status=UNFIT,
                message=f"the engine at {address} can't limit the {' and '.join(unbounded)} of containers: "
                f"give it cgroups (docs/containers.md), or accept that with --insecure-allow {','.join(unbounded)}",
            )

    async def _follow(self, address: str) -> None:
        """Connect, and hear what happens there until it goes away. Raises `BackendError`."""
        await self._disconnect()
        self._docker = docker = _client(address)
        with _told(f"the engine at {address} does not answer"):
            async with asyncio.timeout(REQUEST_TIMEOUT):
                version, info = await docker.version(), await docker.system.info()
        self.controllers = _controllers(info)
        self._check_bounds(address)
        state = _describe(address, version, info)
        self.is_podman = "podman" in state.name.lower()
        self.connections += 1
        await self._sweep()
        log.info("images run on a container engine", engine=state.name, address=address)
        self.state, self.was_there = state, True
        while True:
            self._on_images()  # what has changed while nobody listened is not known
            self._first_answer.set()
            failure = await self._listen(docker)
            with _told(f"the engine at {address} has gone"):
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    await docker.version()  # else all containers would go with a connection that has just hiccupped
            log.warning("the engine's events broke off", failure=failure)
            await asyncio.sleep(RETRY)

    async def _listen(self, docker: aiodocker.Docker) -> str:
        """Hear what happens there, until that breaks off; why it did."""
        events = docker.events.subscribe(create_task=False)  # type: ignore[no-untyped-call]
        wanted = {"type": ["container", "image"], "event": ["oom", *IMAGE_EVENTS]}
        running = asyncio.create_task(docker.events.run(filters=json.dumps(wanted)))
        try:
            while (event := await events.get()) is not None:
                self._hear(event)
            await running
        except Exception as error:  # an image's labels may be longer than any line that is read
            return repr(error)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return "it ended"

    def _hear(self, event: Mapping[str, Any]) -> None:
        if event.get("Type") == "image":
            self._on_images()
        elif event.get("Action") == "oom":
            self._on_oom(event.get("Actor", {}).get("Attributes", {}).get("name", ""))

    async def _sweep(self) -> None:
        """Remove what an earlier life left, and what could not be removed before."""
        with _told("containers could not be listed"):
            found = await self._asked.containers.list(all="true", filters=json.dumps({"label": [OWNER_LABEL]}))
        left = {each.id for each in found if self.lives.is_over(each["Labels"], str(each["State"]))}
        for name in left | self._lost:
            with suppress(EngineError):
                await self._remove(name)
                self._lost.discard(name)
        if left:
            log.warning("containers that an earlier life left were removed", count=len(left))

    async def _remove(self, name: str) -> None:
        until = time.monotonic() + REQUEST_TIMEOUT
        with _told("the container could not be removed"):
            while time.monotonic() < until:
                try:
                    await self._container(name).delete(force=True, v=True)
                except aiodocker.DockerError as error:
                    if error.status == NOT_FOUND:
                        return
                    if error.status != CONFLICT and ENDING not in str(error.message):
                        raise
                    await asyncio.sleep(0.05)  # somebody else is at it
                else:
                    return
            raise TimeoutError("it is being removed, and never gone")

    async def _disconnect(self) -> None:
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.close()
            await docker.connector.close()


def _client(address: str) -> aiodocker.Docker:
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
    if not address.startswith("unix://"):
        return aiodocker.Docker(address, timeout=timeout)
    connector = aiohttp.UnixConnector(address.removeprefix("unix://"), limit=0)  # each sandbox holds one for its life
    return aiodocker.Docker("unix://localhost", connector=connector, timeout=timeout)


def _describe(address: str, version: Mapping[str, Any], info: Mapping[str, Any]) -> Engine:
    components = [str(each.get("Name", "")) for each in version.get("Components") or []]
    kind = "Podman" if any("podman" in name.lower() for name in components) else "Docker"
    first = str(info.get("DefaultRuntime") or "runc")
    others = sorted(name for name in info.get("Runtimes") or {} if not name.startswith("io.containerd."))
    return Engine(
        address,
        name=f"{kind} {version.get('Version', '?')}",
        runtimes=(first, *(name for name in others if name != first)),
        is_rootless=_is_rootless(info),
    )


def _is_rootless(info: Mapping[str, Any]) -> bool:
    options = [str(option) for option in info.get("SecurityOptions") or []]
    return bool(info.get("Rootless")) or any("rootless" in option for option in options)  # Podman's word, and Docker's


def _controllers(info: Mapping[str, Any]) -> frozenset[str]:
    """Whose limits hold; with cgroup v1 none for who is rootless, whatever Podman says."""
    if _is_rootless(info) and str(info.get("CgroupVersion")) == "1":
        return frozenset()
    return frozenset(name for name, key in CONTROLLERS.items() if info.get(key))


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever goes wrong with a request becomes an `EngineError` in one line."""
    try:
        yield
    except aiodocker.DockerError as error:
        is_answer = isinstance(error, DockerStreamError) or error.status < NO_STATUS
        status = (error.status or FAILED) if is_answer else 0
        raise EngineError(f"{what}: {' '.join(str(error.message).split())}", status) from error
    except (aiohttp.ClientError, OSError, TimeoutError, AssertionError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise EngineError(f"{what}: {said}") from error


@contextmanager
def suppress_status(*statuses: int) -> Iterator[None]:
    """Where the engine answers with one of these, it is as good as done."""
    try:
        yield
    except EngineError as error:
        if error.status not in statuses:
            raise
