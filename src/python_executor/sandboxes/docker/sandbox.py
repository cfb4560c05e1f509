"""The server's end of one container: sends the spec in, turns what comes out into events, kills, sees that it is gone.

What may come out, and is never trusted: frames on its standard output (`stream.py`). What tells the truth: the engine,
of how the container stands, what it used, and whether the kernel killed anything in it for memory. As in the native
backend, the code's own last frame ends the run at once; a forged one ends its forger.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from aiodocker.stream import Stream

from ...guest import frames
from ...model.errors import BackendError, ImageFailed
from ...model.events import Event, Exited, Stderr, Stdout, Termination, Usage
from ...model.isolation import Isolation
from ...model.spec import ExecutionSpec, FileEntry, Limits
from .. import cpu, handover
from ..base import Emit
from ..processors import Processors
from ..report import ReportReader
from .counters import Counters, check_is_ours, find_counters, is_root
from .engine import NOT_FOUND, Connection, EngineError
from .plan import USER_ID, Kind, Terms, container, guest_files
from .stream import FrameReader, Said

if TYPE_CHECKING:
    from ..native.network import Uplink

STDOUT = 1  # as the engine numbers what it passes on
ALIVE_TIMEOUT = 30.0  # seconds; it takes a third of one
STATS_PATIENCE = 0.25  # seconds
STATS_PAUSE = 0.5  # seconds between two questions of the engine, which may take a second to answer each
STATS_TIMEOUT = 10.0  # seconds
OOM_PATIENCE = 1.0  # seconds in which the engine tells of what it looks like
COMPLAINT_MAX = 2000  # bytes of PID 1's own standard error that are kept
SHOWN_MAX = 200  # characters of it that an error repeats
COPY_CHUNK = 1 << 20
VERSION = re.compile(rb"3\.\d{1,3}\.[0-9a-z+]{1,20}")
FULL = 0.95  # of the memory limit: so near to it, somebody may have been killed
log = structlog.get_logger()


class DockerSandbox:
    """Implements `Sandbox`."""

    def __init__(
        self,
        engine: Connection,
        name: str,
        kind: Kind,
        isolation: Isolation,
        gone: Callable[[DockerSandbox], None],
        processors: Processors,
    ) -> None:
        self.name = name
        self.kind = kind
        self.python = ""
        self.isolation = isolation
        self._engine = engine
        self._gone = gone
        self._processors = processors
        self._uplink: Uplink | None = None
        self._stream: Stream | None = None
        self._frames = FrameReader()
        self._report = ReportReader()
        self._emit: Emit | None = None
        self._counters: Counters | None = None
        self._usage = Usage()  # when it was killed
        self._complaint = b""
        self._failure: str | None = None
        self._started = False
        self._status: int | None = None
        self._is_cut = False  # nothing comes from it any more
        self._over_memory = False
        self._was_killed = False
        loop = asyncio.get_running_loop()
        self._alive: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._destroyed: asyncio.Task[None] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it still waits for a spec."""
        return self._emit is None and not self._ended.done() and self._destroyed is None

    def processes(self) -> list[Path]:
        """Not known: the engine's user may be another."""
        return []

    def controllers(self) -> set[str]:
        """Of which the engine says that they bound containers."""
        return set(self._engine.controllers)

    async def start(self, python: str, terms: Terms) -> None:
        """Make the container, up to where it waits for a spec. Raises `BackendError` and `ImageFailed`."""
        await self._engine.create(self.name, container(self.kind, python, terms))
        self._stream = await self._engine.attach(self.name)
        await self._engine.start_container(self.name)
        self._spawn(self._read(self._stream))
        await self._write(guest_files())
        await asyncio.wait({self._alive, self._ended}, timeout=ALIVE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not self._alive.done():
            raise await self._stillborn()
        found = await self._engine.inspect(self.name)
        pid, container_id = int((found.get("State") or {}).get("Pid") or 0), str(found["Id"])
        if not (self.kind.as_root or self.kind.has_own_kernel) and is_root(pid, container_id):
            raise ImageFailed(
                f"docker_image {self.kind.image.name}: its user {self.kind.image.user} is root, or in its group"
            )
        self._counters = find_counters(pid, container_id)

    async def _stillborn(self) -> BackendError | ImageFailed:
        """Why it never came so far; the engine is asked first, lest its failure be told as the image's."""
        image = self.kind.image.name
        state = (await self._engine.inspect(self.name)).get("State") or {}
        if not self._ended.done():
            return ImageFailed(f"docker_image {image}: its Python was not up after {ALIVE_TIMEOUT:g} s")
        if self._frames.is_broken:
            return ImageFailed(f"docker_image {image}: its Python says what no Python would")
        if state.get("Running"):
            return BackendError("the engine has let go of the container's output")
        if state.get("ExitCode") == 128 + signal.SIGKILL and not state.get("OOMKilled"):
            return BackendError("somebody has killed the container")  # from inside, nobody can
        said = self._complaint.decode(errors="replace").strip().splitlines()
        words = said[-1][:SHOWN_MAX] if said else f"it ended with {state.get('ExitCode')}"
        return ImageFailed(f"docker_image {image}: its Python does not start: {words}")

    async def attach(self, uplink: Uplink) -> None:
        """Give it a network. Raises `BackendError` and OSError."""
        found = await self._engine.inspect(self.name)
        pid = int((found.get("State") or {}).get("Pid") or 0)
        if pid <= 0:
            raise OSError("it has ended")
        pidfd = os.pidfd_open(pid)
        try:
            check_is_ours(pid, str(found["Id"]))
            self._uplink = uplink
            await uplink.attach(pidfd)
        finally:
            os.close(pidfd)

    async def run(self, spec: ExecutionSpec, emit: Emit) -> None:
        """Run the spec; see `Sandbox.run`."""
        self._emit = emit
        with suppress(OSError):  # it has just ended
            if self._counters is not None:
                self._counters.begin()
        pause = cpu.PAUSE if self._counters else STATS_PAUSE
        sending = None
        try:
            with (
                self._processors.some(spec.limits.cpus) as processors,
                cpu.limited(spec.limits, self._used, self.kill, pause),
            ):
                sending = asyncio.create_task(self._send(spec, processors))
                await asyncio.wait({self._ended, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done() and (error := sending.exception()) is not None:
                    raise BackendError(f"the spec could not be sent: {error}") from error
                await self._ended
            usage = await self._look()
        finally:
            if sending is not None:
                sending.cancel()
            self._kill()
        exited = self._classify(usage, spec.limits)
        for event in (*self._report.events, exited):
            emit(event)

    # --- in ---

    async def _send(self, spec: ExecutionSpec, processors: tuple[int, int] | None) -> None:
        """The spec, its files, its stdin as it is read; that the container is gone is noticed by its end."""
        becomes = USER_ID if self.kind.as_root else 0
        make = partial(
            handover.message, spec, file_limit=self.kind.memory_bytes, becomes=becomes, processors=processors
        )
        message = make() if spec.tree.is_small else await asyncio.to_thread(make)
        with suppress(BackendError):
            await self._write(message)
            for chunk in _contents(spec):
                await self._write(chunk)
            for offset in range(0, len(spec.stdin), COPY_CHUNK):
                await self._write(spec.stdin[offset : offset + COPY_CHUNK])

    async def _write(self, data: bytes) -> None:
        if self._stream is None:
            raise BackendError("the container is not attached to")
        try:
            await self._stream.write_in(data)
        except (OSError, RuntimeError, AssertionError) as error:  # the other end is gone
            raise BackendError(f"the container could not be written to: {error!r}") from error

    # --- out ---

    async def _read(self, stream: Stream) -> None:
        try:
            while not self._frames.is_broken and (message := await stream.read_out()) is not None:
                if message.stream == STDOUT:
                    for said in self._frames.feed(message.data):
                        self._take(said)
                else:
                    self._complaint = (self._complaint + message.data)[:COMPLAINT_MAX]
        except Exception as error:  # whatever a broken connection is to the library
            log.debug("a container's output broke off", failure=repr(error))
        finally:
            self._is_cut = True
            self._end()

    def _take(self, said: Said) -> None:
        if self._ended.done():
            return
        if said.kind == frames.OUTPUT:
            self._emit_event(Stdout(said.data))
        elif said.kind == frames.ERRORS:
            self._emit_event(Stderr(said.data))
        elif said.kind == frames.REPORT:
            if self._report.feed(said.data):
                self._end()
        elif said.kind == frames.WORD:
            self._hear(said.data)
        elif said.kind == frames.ALIVE and VERSION.fullmatch(said.data) and not self._alive.done():
            self.python = said.data.decode()
            self._alive.set_result(None)
        elif said.kind == frames.ENDED and len(said.data) == frames.ENDED_BODY.size:
            (self._status,) = frames.ENDED_BODY.unpack(said.data)
            self._end()

    def _hear(self, word: bytes) -> None:
        """Before its first line of user code the guest says that it has come so far, or why it has not."""
        if word.startswith(frames.STARTED):
            self._started = True
        elif word.startswith(frames.FAILED) and not self._started:
            self._failure = word.removeprefix(frames.FAILED).decode(errors="replace")

    def _emit_event(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)

    # --- the end ---

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def over_memory(self) -> None:
        """The engine tells that something in it was killed for memory, which is the end of all of it."""
        self._over_memory = True
        self.kill()

    async def _look(self) -> Usage:
        """What the code can't be asked for. Raises `BackendError` where the engine that knows it is away."""
        if self._is_cut:
            if not self._was_killed:
                await self._judge_death()
            return self._usage  # nothing counts any more
        with suppress(OSError):  # it is just ending
            if self._counters is not None:
                self._over_memory = self._over_memory or self._counters.out_of_memory()
                return self._counters.usage()
        usage = await self._ask_for_usage(STATS_PATIENCE)
        usage = Usage(max(usage.cpu_ms, self._usage.cpu_ms), usage.memory_peak_bytes)
        if self._status == signal.SIGKILL or usage.memory_peak_bytes > FULL * self.kind.memory_bytes:
            await self._wait_for_oom()
        return usage

    async def _used(self) -> Usage:
        """What it has used so far: the engine counts from the container's start."""
        if self._counters is not None:
            return self._counters.usage()
        self._usage = max(self._usage, await self._ask_for_usage(STATS_TIMEOUT), key=lambda usage: usage.cpu_ms)
        return self._usage

    async def _ask_for_usage(self, patience: float) -> Usage:
        """As the engine has it, which takes it up to a second, and that may be too long."""
        with suppress(TimeoutError, EngineError, AttributeError, TypeError, ValueError):  # Podman has other shapes
            async with asyncio.timeout(patience):
                return _usage(await self._engine.stats(self.name))
        return Usage()

    async def _judge_death(self) -> None:
        """PID 1 is dead, or out of reach, and not by us."""
        try:
            state = (await self._engine.inspect(self.name)).get("State") or {}
        except EngineError as error:
            if error.status == NOT_FOUND:
                raise BackendError("somebody has removed the container") from error
            raise
        if state.get("OOMKilled"):
            self._over_memory = True
        elif state.get("Running"):
            raise BackendError("the engine has let go of the container's output")
        elif state.get("ExitCode") == 128 + signal.SIGKILL:
            raise BackendError("somebody has killed the container")  # from inside, nobody can
        else:
            raise BackendError(f"PID 1 of the container has ended with {state.get('ExitCode')}")  # as gVisor's may

    async def _wait_for_oom(self) -> None:
        """It looks as if the kernel had killed somebody; the engine hears of it a moment later."""
        with suppress(TimeoutError, EngineError):
            async with asyncio.timeout(OOM_PATIENCE):
                while not self._over_memory:
                    state = (await self._engine.inspect(self.name)).get("State") or {}
                    self._over_memory = bool(state.get("OOMKilled"))
                    await asyncio.sleep(0.02)

    def _classify(self, usage: Usage, limits: Limits) -> Exited:
        """How it ended, from what the engine says first, and from the code's own word last."""
        if self._over_memory:
            return Exited(128 + signal.SIGKILL, Termination.MEMORY, usage)
        if self._failure is not None and not self._started:
            raise BackendError(f"the container failed before its code: {self._failure}")
        if cpu.is_used_up(limits, usage):
            return Exited(128 + signal.SIGXCPU, Termination.CPU, usage)
        if self._report.exit_code is not None:
            return Exited(self._report.exit_code, Termination.EXITED, usage)
        if not self._started and not self._was_killed:
            said = self._complaint.decode(errors="replace").strip()[-SHOWN_MAX:]  # not the code's: there was none yet
            raise BackendError(f"the container ended before its code, and not by us: {said or self._status}")
        if self._status is None:
            return Exited(128 + signal.SIGKILL, Termination.SIGNALED, usage)
        with suppress(ValueError):
            code = os.waitstatus_to_exitcode(self._status)
            if 0 <= code <= 255:
                return Exited(code, Termination.EXITED, usage)
            if 0 < -code < signal.NSIG:
                return Exited(128 - code, Termination.SIGNALED, usage)
        return Exited(128 + signal.SIGKILL, Termination.SIGNALED, usage)  # no process ends like that: its own lie

    def kill(self) -> None:
        """Kill PID 1 of the container, and by that everything in it; see `Sandbox.kill`."""
        with suppress(OSError):  # it is just ending
            self._usage = self._counters.usage() if self._counters is not None else self._usage
        self._was_killed = True
        self._kill()

    def _kill(self) -> None:
        if self._destroyed is None:
            self._spawn(self._kill_now())

    async def _kill_now(self) -> None:
        with suppress(EngineError):  # destroy() comes after, and is not given up so soon
            await self._engine.kill(self.name)

    async def destroy(self) -> None:
        """See `Sandbox.destroy`."""
        if self._destroyed is None:
            self._destroyed = asyncio.create_task(self._destroy())
        await asyncio.shield(self._destroyed)

    async def _destroy(self) -> None:
        try:
            await self._engine.remove(self.name)
        except EngineError as error:
            log.warning("a container is left, to be removed later", failure=str(error))
        finally:
            for task in self._tasks:
                task.cancel()
            if self._stream is not None:
                with suppress(AssertionError, OSError):  # it is closed
                    await self._stream.close()
            self._end()
            self._gone(self)
        if self._uplink is not None:
            await self._uplink.end()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _contents(spec: ExecutionSpec) -> Iterator[bytes]:
    """Yield the bytes of each file, in the order of the entries. Raises OSError where they can't be read."""
    content = spec.tree.content
    for entry in spec.tree.entries:
        if not isinstance(entry, FileEntry):
            continue
        for offset in range(entry.offset, entry.offset + entry.size, COPY_CHUNK):
            size = min(COPY_CHUNK, entry.offset + entry.size - offset)
            if isinstance(content, bytes):
                chunk = content[offset : offset + size]
            else:
                chunk = os.pread(content.fileno(), size, offset)
            if len(chunk) != size:  # the container would wait for the rest until the code's time is over
                raise OSError(f"{entry.path} is cut short in the archive that was kept of it")
            yield chunk


def _usage(stats: dict[str, Any]) -> Usage:
    """As the engine has it from the kernel; a peak of memory on cgroup v1 alone, else what is taken now."""
    cpu = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    memory = stats.get("memory_stats") or {}
    peak = memory.get("max_usage") or memory.get("usage") or 0
    return Usage(int(cpu.get("total_usage") or 0) // 1_000_000, int(peak))
