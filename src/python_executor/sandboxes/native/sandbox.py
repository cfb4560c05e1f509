"""The server's end of one sandbox: sends the spec in, turns what comes out into events, kills, sees that it is gone.

What may come out, and is never trusted: bytes on the pipes of stdout and stderr, frames on the report pipe. What tells
the truth: the pidfd of the sandbox's PID 1 (readable once every process inside is gone), the exit status that the
zygote reaped, the cgroup. An `EXIT` frame ends the run at once, since plain code sends it after its last byte of
output; a forged one ends its forger. Whatever ends the run, the sandbox is killed first and the pipes are read after,
at most as much as they can hold.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...guest import frames
from ...model.errors import BackendError
from ...model.events import Event, Exited, Stderr, Stdout, Termination, Usage
from ...model.isolation import Isolation
from ...model.spec import MEBIBYTE, ExecutionSpec, Limits
from .. import cpu, handover
from ..base import Emit
from ..report import ReportReader
from . import watch
from .cgroups import Cgroup
from .feed import Feed
from .pipes import READ_SIZE, Output, Pipes, read_now
from .plan import UV

if TYPE_CHECKING:
    from .box import Box
    from .network import Uplink

READY_TIMEOUT = 10.0  # seconds; it takes two milliseconds
DESTROY_TIMEOUT = 30.0  # seconds; it takes milliseconds, and whoever waits must not wait for ever
SOCKETS_MAX = 1024  # of one sandbox; each may keep some 40 KiB that no cgroup counts
UDP_SOCKETS_UNSEEN = 64  # whose queues together are no more than what may be uncounted
UNCOUNTED_MAX = 16 << 20  # bytes that may be in sockets beyond the limit of memory


class NativeSandbox:
    """Implements `Sandbox`."""

    def __init__(
        self, box: Box, number: int, uid: int, pipes: Pipes, pidfd: int, cgroup: Cgroup | None, disk_bytes: int
    ) -> None:
        self._box = box
        self._number = number
        self._uid = uid
        self._pipes = pipes
        self._pidfd = pidfd
        self._cgroup = cgroup
        self._uplink: Uplink | None = None
        self._has_environment = False  # of its own, beside what its box may have
        self._disk_bytes = disk_bytes
        self._emit: Emit | None = None
        self._outputs = [
            Output(pipes.stdout, lambda data: self._emit_event(Stdout(data))),
            Output(pipes.stderr, lambda data: self._emit_event(Stderr(data))),
        ]
        self._memory_bytes = 0
        self._over_memory = False
        self._over_what = ""  # where that is not the limit of memory
        self._sockets: watch.SocketMeter | None = None  # once it has run for a while
        self._usage_seen = Usage()
        self._report = ReportReader()
        self._failure: str | None = None
        self._box_died = False
        self._was_killed = False
        self._was_signaled = False
        self._started = False
        self._status: int | None = None
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._reaped: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._destroyed: asyncio.Task[None] | None = None
        loop.add_reader(pidfd, self._on_gone)

    @property
    def python(self) -> str:
        """Full version of its interpreter."""
        return self._box.interpreter.version

    @property
    def isolation(self) -> Isolation:
        """How its box's boundaries stood when they were tried."""
        return self._box.isolation

    @property
    def is_running(self) -> bool:
        """Whether it has been given its spec and has not ended."""
        return self._emit is not None and not self._ended.done()

    @property
    def is_usable(self) -> bool:
        """Whether it still waits for a spec."""
        return self._emit is None and not self._ended.done() and self._destroyed is None

    @property
    def pidfd(self) -> int:
        """Of its PID 1, until it is destroyed."""
        return self._pidfd

    @property
    def memory_bytes(self) -> int:
        """The limit of its memory."""
        return self._memory_bytes

    @property
    def has_cgroup(self) -> bool:
        """Whether the kernel counts and bounds what it takes."""
        return self._cgroup is not None

    def processes(self) -> list[Path]:
        """Directories in /proc of what is alive in it."""
        return watch.processes(self._pidfd)

    def controllers(self) -> set[str]:
        """Whose cgroups hold its processes."""
        return set() if self._cgroup is None else self._cgroup.controllers()

    async def wait_until_ready(self) -> None:
        """Until every boundary is up, which one from a pool has behind it; OSError says which could not be made."""
        try:
            word = self._pipes.control.recv(READ_SIZE)
        except BlockingIOError:
            word = await self._first_word()
        if word != frames.READY:
            raise OSError(word.removeprefix(frames.FAILED).decode(errors="replace") or "it died on its way in")

    async def _first_word(self) -> bytes:
        receiving = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(self._pipes.control, READ_SIZE))
        try:
            either: set[asyncio.Future[Any]] = {receiving, self._ended}
            done, _ = await asyncio.wait(either, timeout=READY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise OSError(f"it was not ready after {READY_TIMEOUT:g} s")
            return receiving.result() if receiving.done() else b""
        finally:
            receiving.cancel()

    async def set_limits(self, spec: ExecutionSpec, processes: int) -> None:
        """Put the spec's limits in force, before its code is there; OSError where that failed."""
        self._memory_bytes = spec.limits.memory_mb * MEBIBYTE
        disk_bytes = spec.limits.file_system_bytes
        if disk_bytes != self._disk_bytes:
            await self._box.resize(self._number, disk_bytes)
        if self._cgroup is not None:
            self._cgroup.set_limits(
                memory_bytes=self._memory_bytes,
                processes=processes,
                cpu_shares=spec.limits.cpu_shares,
                cpus=spec.limits.cpus,
            )

    async def attach(self, uplink: Uplink) -> None:
        """Give it the network, before its code is there; OSError where that failed."""
        await self._box.expose(self._number)
        self._uplink = uplink
        await uplink.attach(self._pidfd)
        if self._cgroup is not None:
            self._cgroup.add(uplink.pid)

    async def show(self, name: str) -> None:
        """Mount a directory of its box's store at /venv, before its code is there; OSError where that failed."""
        await self._box.show(self._number, name)
        self._has_environment = name != UV

    async def listen(self, port: int) -> socket.socket:
        """A socket that listens on its loopback, for us to serve; OSError where that failed."""
        return socket.socket(fileno=await self._box.listen(self._number, port))

    async def run(self, spec: ExecutionSpec, emit: Emit) -> None:
        """Run the spec; see `Sandbox.run`."""
        self._emit = emit
        self._listen()
        feed = Feed(spec.stdin) if spec.stdin else None
        try:
            with (
                self._box.processors.some(spec.limits.cpus) as processors,
                cpu.limited(spec.limits, self._used, self.kill),
            ):
                await self._send(spec, processors, feed)
                await self._ended
        finally:
            if feed is not None:
                feed.close()
            self._stop_listening()
            self._kill()
        if self._cgroup is None:
            await self._reaped  # only then has the kernel counted
        self._read_rest()
        exited = self._classify(spec.limits)
        for event in (*self._report.events, exited):
            emit(event)

    # --- in ---

    async def _send(self, spec: ExecutionSpec, processors: tuple[int, int] | None, feed: Feed | None) -> None:
        """Send the spec and its files, unless it ends before."""
        try:
            make = partial(self._message, spec, processors)
            message = make() if spec.tree.is_small else await asyncio.to_thread(make)
            unsent = self._send_at_once(spec.tree.content, message, feed)
        finally:
            if feed is not None:
                feed.close_read_end()
        if not unsent:
            return
        sending = asyncio.create_task(self._send_on(unsent))
        try:
            await asyncio.wait({self._ended, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and (error := sending.exception()) is not None:
                raise BackendError(f"the spec could not be sent: {error}") from error
        finally:
            sending.cancel()

    def _send_at_once(self, content: bytes | BinaryIO, message: bytes, feed: Feed | None) -> list[memoryview]:
        """Send the message of the spec and what it comes with; return what the socket does not take now."""
        control, head, archive = self._pipes.control, frames.SPEC_LENGTH.size, -1
        fds = [] if feed is None else [feed.read_end]
        data = [memoryview(message)]
        if isinstance(content, bytes):
            data.append(memoryview(content))
        else:
            archive = os.open(f"/proc/self/fd/{content.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
            fds.append(archive)
        with _guest_may_be_gone():
            try:
                if fds:
                    socket.send_fds(control, [data[0][:head]], fds)
                    data[0] = data[0][head:]
            finally:
                if archive >= 0:
                    os.close(archive)
            with suppress(BlockingIOError):
                sent = control.sendmsg(data)
                while data and sent >= len(data[0]):
                    sent -= len(data.pop(0))
                if data:
                    data[0] = data[0][sent:]
            return data
        return []

    async def _send_on(self, data: list[memoryview]) -> None:
        with _guest_may_be_gone():
            for part in data:
                await asyncio.get_running_loop().sock_sendall(self._pipes.control, part)

    def _message(self, spec: ExecutionSpec, processors: tuple[int, int] | None = None) -> bytes:
        return handover.message(
            spec,
            content_bytes=len(spec.tree.content) if isinstance(spec.tree.content, bytes) else 0,
            file_limit=self._memory_bytes,
            data_limit=self._memory_bytes if self._cgroup is None else 0,
            has_environment=self._has_environment,
            processors=processors,
        )

    # --- out ---

    def _listen(self) -> None:
        for output in self._outputs:
            output.listen()
        asyncio.get_running_loop().add_reader(self._pipes.report, self._on_report)

    def _stop_listening(self) -> None:
        for output in self._outputs:
            output.stop()
        asyncio.get_running_loop().remove_reader(self._pipes.report)

    def _on_report(self) -> None:
        data = read_now(self._pipes.report)
        if data == b"":
            asyncio.get_running_loop().remove_reader(self._pipes.report)
        elif data and self._report.feed(data):
            self._end()
        elif self._report.is_broken:  # let whoever writes there wait
            asyncio.get_running_loop().remove_reader(self._pipes.report)

    def _read_control(self) -> None:
        """Before its first line of user code the guest has said that it has come so far, or why it has not."""
        try:
            data = self._pipes.control.recv(READ_SIZE)
        except OSError:
            return  # it has said nothing
        if data.startswith(frames.STARTED):
            self._started = True
        elif data.startswith(frames.FAILED):
            self._failure = data.removeprefix(frames.FAILED).decode(errors="replace")

    def _emit_event(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)

    def _read_rest(self) -> None:
        """What was written before the end and not read yet."""
        for output in self._outputs:
            output.read_rest()
        left = fcntl.fcntl(self._pipes.report, fcntl.F_GETPIPE_SZ)
        while left > 0 and (data := read_now(self._pipes.report)):
            self._report.feed(data)
            left -= len(data)
        self._read_control()

    # --- the end ---

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def user_process_ended(self, status: int, usage: Usage) -> None:
        """The zygote reaped the user process; with it the run is over, whatever it left running."""
        self._status = status
        self._see(usage)
        if not self._reaped.done():
            self._reaped.set_result(None)
        self._end()

    def _see(self, usage: Usage) -> None:
        """Where no cgroup counts: the most that anybody has seen."""
        seen = self._usage_seen
        peak = max(seen.memory_peak_bytes, usage.memory_peak_bytes)
        self._usage_seen = Usage(max(seen.cpu_ms, usage.cpu_ms), peak)

    def box_died(self) -> None:
        """Zygote and sandbox are dead."""
        if self._status is None and self._report.exit_code is None:
            self._box_died = True
        if not self._reaped.done():
            self._reaped.set_result(None)
        self._end()

    def _on_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self._gone.done():
            self._gone.set_result(None)
        self._end()

    def check_memory(self, sample: Usage | None = None) -> None:
        """Called now and then while the code runs: ends it when it has taken more than it may.

        That is so when any of its processes was killed for memory, or when its sockets hold too much. A sample is what
        its processes were seen to use, where there is no cgroup. OSError, ValueError where it has just ended.
        """
        if not self.is_running:
            return
        if sample is not None:
            self._see(sample)
            if sample.memory_peak_bytes > self._memory_bytes:
                self.end_for_memory("")
        elif self._cgroup is not None and self._cgroup.verdict():
            self.kill()
        self._check_sockets()

    def _check_sockets(self) -> None:
        if self._sockets is None:
            self._sockets = watch.SocketMeter(self._pidfd)
        count, datagram = self._sockets.count()
        if count > SOCKETS_MAX:
            self.end_for_memory(f"{count} sockets were open, the limit is {SOCKETS_MAX}")
            return
        queued = self._sockets.queued_bytes() if datagram > UDP_SOCKETS_UNSEEN else 0
        if self._cgroup is not None:
            queued = max(queued, self._cgroup.uncounted_bytes())
            if queued > UNCOUNTED_MAX and queued + self._cgroup.memory_bytes() > self._memory_bytes + UNCOUNTED_MAX:
                self.end_for_memory(f"{queued >> 20} MiB were in sockets beside the rest, {self._within()}")
        elif queued > self._memory_bytes + UNCOUNTED_MAX:
            self.end_for_memory(f"{queued >> 20} MiB were in sockets, {self._within()}")

    def _within(self) -> str:
        return f"the limit for both is {self._memory_bytes >> 20} MiB (memory_mb)"

    def end_for_memory(self, over_what: str) -> None:
        """Kill it for what it has taken: more than its limit of memory, or, in words, of what."""
        self._over_memory, self._over_what = True, over_what
        self.kill()

    async def _used(self) -> Usage:
        return self._usage()

    def _usage(self) -> Usage:
        return self._cgroup.usage() if self._cgroup is not None else self._usage_seen

    def _classify(self, limits: Limits) -> Exited:
        """How it ended, from what the kernel and the zygote say first, and from the code's own word last."""
        usage = self._usage()
        verdict = self._cgroup.verdict() if self._cgroup is not None else None
        if self._over_memory or verdict is Termination.MEMORY:
            return Exited(128 + signal.SIGKILL, Termination.MEMORY, usage, self._over_what)
        if verdict is Termination.EVICTED:
            return Exited(128 + signal.SIGKILL, Termination.EVICTED, usage)
        if self._box_died:
            raise BackendError("the zygote has died, and its sandboxes with it")
        if self._failure is not None and not self._started:
            raise BackendError(f"the sandbox failed before its code: {self._failure}")
        if cpu.is_used_up(limits, usage):
            return Exited(128 + signal.SIGXCPU, Termination.CPU, usage)
        if self._report.exit_code is not None:
            return Exited(self._report.exit_code, Termination.EXITED, usage)
        if not self._started and not self._was_killed:
            raise BackendError("the sandbox was killed before its code, and not by us")
        if self._status is None:
            return Exited(128 + signal.SIGKILL, Termination.SIGNALED, usage)
        try:
            code = os.waitstatus_to_exitcode(self._status)
        except ValueError:
            raise BackendError(f"the zygote told of an end that no process can have: {self._status}") from None
        if code < 0:
            return Exited(128 - code, Termination.SIGNALED, usage)
        return Exited(code, Termination.EXITED, usage)

    def kill(self) -> None:
        """Kill PID 1 of the sandbox, and by that everything in it; see `Sandbox.kill`."""
        self._was_killed = True
        self._kill()

    def _kill(self) -> None:
        if not self._gone.done() and not self._was_signaled:
            self._was_signaled = True  # once is enough
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def destroy(self) -> None:
        """See `Sandbox.destroy`."""
        if self._destroyed is None:
            self._destroyed = asyncio.create_task(self._destroy())
        await asyncio.shield(self._destroyed)

    async def _destroy(self) -> None:
        self.kill()
        async with asyncio.timeout(DESTROY_TIMEOUT):
            if self._uplink is not None:
                await self._uplink.end()
            await asyncio.shield(self._gone)
        self._end()
        if self._sockets is not None:
            self._sockets.close()
        os.close(self._pidfd)
        self._pipes.close_host_ends()
        self._box.forget(self._number, self._uid, self._cgroup)
        self._emit = None  # which holds the execution and all its output
        self._outputs.clear()  # and these hold this


def _guest_may_be_gone() -> suppress:
    """Its end is noticed by its exit, not by what can't be sent any more."""
    return suppress(BrokenPipeError, ConnectionResetError)
