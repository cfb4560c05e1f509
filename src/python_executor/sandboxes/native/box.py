"""The server's end of a box: starts its zygote, asks it for sandboxes, hears of processes that ended.

A packet to the zygote asks for a sandbox; its answer brings the descriptor (a pidfd) by which the sandbox is killed and
known to be gone. When the zygote dies, every sandbox of the box dies with it and is told so.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import as_file, files
from typing import NamedTuple

from ...guest import frames
from ...model.egress import EgressPolicy
from ...model.environment import Environment
from ...model.errors import BackendError
from ...model.events import Usage
from ...model.isolation import Finding, Isolation
from ...model.spec import Interpreter
from ..processors import Processors
from . import seccomp
from .cgroups import Cgroup
from .identities import Identities
from .pipes import Pipes
from .plan import NO_STORE, PAUSE_PATH, PackageStore, plan_box
from .sandbox import NativeSandbox

START_TIMEOUT = 30.0  # seconds; a box takes about 0.2
MAKE_TIMEOUT = 10.0  # seconds; a sandbox takes a few milliseconds
QUESTIONS_MAX = 16  # that the zygote has not answered yet; its socket takes more
OOM_SCORE_ADJ = 900
INODES = 1 << 17
HINTS = {  # by a word of what failed
    "unshare": "user namespaces must be allowed: see the sysctls user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or the seccomp profile of the "
    "container (docs/containers.md)",
    "mount proc": "a container must show its /proc without masks, as with systempaths=unconfined (docs/containers.md); "
    "a systemd unit must do without ProtectKernelTunables=, ProtectKernelLogs= and ProcSubset=",
    "sethostname": "the seccomp profile of the container must allow it (docs/containers.md)",
}
RLIMITS = {
    "RLIMIT_CORE": 1,  # bytes; 0 would still start a core_pattern program of the host's
    "RLIMIT_MEMLOCK": 8 << 20,
    "RLIMIT_MSGQUEUE": 128 << 10,  # a queue as POSIX makes it by default takes 82 KiB
    "RLIMIT_SIGPENDING": 1024,
    "RLIMIT_RTPRIO": 0,  # what the server's account may have: LimitRTPRIO=, an audio group
    "RLIMIT_NICE": 0,
}


class Answer(NamedTuple):
    """What the zygote owes us."""

    kind: int
    fds: asyncio.Future[list[int]]


class Box:
    """A zygote and what is forked from it."""

    def __init__(
        self,
        interpreter: Interpreter,
        identities: Identities,
        processes: int,
        egress: EgressPolicy,
        preload: Sequence[str],
        release_cgroup: Callable[[Cgroup], None],
        processors: Processors,
        store: PackageStore = NO_STORE,
        environment: Environment | None = None,
    ) -> None:
        self.interpreter = interpreter
        self.processors = processors
        self._store = store
        self.environment = environment  # which all its sandboxes have
        self._egress = egress
        self._identities = identities
        self._processes = processes
        self._preload = preload
        self._release_cgroup = release_cgroup
        self.findings: Sequence[Finding] = ()  # how its boundaries stood, once they have been tried
        self._number = 0
        self._free_uids = deque(range(1, identities.count) if identities.has_own_uids else ())
        self._sandboxes: dict[int, NativeSandbox] = {}
        self._asking = asyncio.Semaphore(QUESTIONS_MAX)
        self._answers: dict[int, Answer] = {}  # by sandbox
        self._guardian: subprocess.Popen[bytes] | None = None
        self._zygote: int | None = None  # its pidfd
        self._control: socket.socket | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it can still make sandboxes."""
        return self._control is not None

    @property
    def isolation(self) -> Isolation:
        """The findings, as results show them."""
        return {finding.boundary.name: finding.state for finding in self.findings}

    async def start(self) -> None:
        """Start the zygote; BackendError says which step of the box failed, and how."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._launch(ours, theirs)
        except BaseException as error:
            ours.close()
            self._end_guardian()
            if not isinstance(error, (OSError, TimeoutError)):
                raise
            hint = next((f"; {hint}" for word, hint in HINTS.items() if word in str(error)), "")
            raise BackendError(f"no box for Python {self.interpreter.version}: {error}{hint}") from error
        finally:
            theirs.close()
        self._control = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)

    async def _launch(self, ours: socket.socket, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with as_file(files("python_executor.guest")) as guest:
            fd = theirs.fileno()
            argv = [self.interpreter.executable, "-ISB", str(guest / "box.py"), str(fd), str(os.getpid())]
            # Not asyncio's: the box dies with the thread that started it, and must be waited for without a loop.
            self._guardian = subprocess.Popen(  # noqa: ASYNC220
                argv, pass_fds=[fd], stdin=subprocess.DEVNULL, env={}, cwd="/"
            )
        theirs.close()
        plan = plan_box(
            self.interpreter,
            has_own_uids=self._identities.has_own_uids,
            oom_score_adj=OOM_SCORE_ADJ,
            nameservers=self._egress.nameservers,
            store=self._store,
            environment=self.environment,
        ).message()
        data = json.dumps(plan).encode()
        await loop.sock_sendall(ours, len(data).to_bytes(8, "big"))
        for start in range(0, len(data), frames.PACKET_MAX):
            await loop.sock_sendall(ours, data[start : start + frames.PACKET_MAX])
        await self._expect(ours, {b"map"})
        self._identities.map(self._guardian.pid)
        await loop.sock_sendall(ours, b"!")
        await loop.sock_sendall(ours, json.dumps(self._zygote_config()).encode())
        await self._expect(ours, {b"forked", b"ready"})

    async def _expect(self, ours: socket.socket, words: set[bytes]) -> None:
        """Wait until each word has come, in any order; the pidfd of the zygote comes with one of them."""
        while words:
            await readable(ours.fileno())
            try:
                word, fds, _, _ = socket.recv_fds(ours, 4096, 1)
            except ConnectionResetError:  # it died with packets of ours unread; its own last words come after this
                word, fds, _, _ = socket.recv_fds(ours, 4096, 1)
            if fds:
                self._zygote = fds[0]
            if word not in words:
                raise OSError(word.decode(errors="replace") or "its process died")
            words = words - {word}

    def _zygote_config(self) -> dict[str, object]:
        return {
            "pause": [PAUSE_PATH],
            "inodes": INODES,
            "processes": self._processes,
            "rlimits": RLIMITS,
            "preload": self._preload,
            "environment": None if self.environment is None else self.environment.preload,
            "processors": self.processors.usual,
            "seccomp": {
                "zygote": base64.b64encode(seccomp.zygote_program()).decode(),
                "sandbox": base64.b64encode(seccomp.sandbox_program()).decode(),
            },
        }

    async def make(self, cgroup: Cgroup | None, disk_bytes: int) -> NativeSandbox:
        """A sandbox on its way to waiting for its spec, see `NativeSandbox.wait_until_ready`. Raises BackendError."""
        pipes: Pipes | None = None
        try:
            pipes = Pipes()
            async with asyncio.timeout(MAKE_TIMEOUT):
                return await self._request(pipes, cgroup, disk_bytes)
        except BaseException as error:
            if pipes is not None:
                pipes.close()
            if cgroup is not None:
                cgroup.is_spoiled = True  # the zygote may still make what we no longer wait for
                self._release_cgroup(cgroup)
            if not isinstance(error, (OSError, TimeoutError)):
                raise
            raise BackendError(
                f"no sandbox for Python {self.interpreter.version}: {str(error) or 'timed out'}"
            ) from error

    async def _request(self, pipes: Pipes, cgroup: Cgroup | None, disk_bytes: int) -> NativeSandbox:
        if self._identities.has_own_uids and not self._free_uids:
            raise OSError(f"all of the {self._identities.count - 1} uids for sandboxes are in use")
        uid = self._free_uids.popleft() if self._free_uids else 0
        try:
            joins = cgroup.open_to_join() if cgroup is not None else []
            self._number += 1
            number = self._number
            body = frames.MAKE_BODY.pack(uid, disk_bytes)
            pidfds = await self._ask(frames.MAKE, number, body, [*pipes.guest_ends(), *joins])
        except BaseException:
            self._give_back(uid)
            raise
        pipes.close_guest_ends()
        sandbox = NativeSandbox(self, number, uid, pipes, pidfds[0], cgroup, disk_bytes)
        self._sandboxes[number] = sandbox
        return sandbox

    async def resize(self, number: int, disk_bytes: int) -> None:
        """Change how much the files of a waiting sandbox may take; OSError where that failed."""
        await self._ask(frames.RESIZE, number, frames.RESIZE_BODY.pack(disk_bytes), [])

    async def expose(self, number: int) -> None:
        """Before a sandbox's network namespace gets a way out: see to it that nobody else ever gets it; OSError."""
        await self._ask(frames.EXPOSE, number, b"", [])

    async def show(self, number: int, name: str) -> None:
        """Mount a directory of the store at /venv of a waiting sandbox; OSError where that failed."""
        await self._ask(frames.SHOW, number, name.encode(), [])

    async def listen(self, number: int, port: int) -> int:
        """The descriptor of a socket that listens on the loopback inside of a waiting sandbox; OSError."""
        (fd,) = await self._ask(frames.LISTEN, number, frames.LISTEN_BODY.pack(port), [])
        return fd

    async def forget_shown(self, name: str) -> None:
        """Let go of a directory of the store, which is about to be removed; OSError where that failed."""
        self._number += 1
        await self._ask(frames.FORGET, self._number, name.encode(), [])

    async def _ask(self, kind: int, number: int, body: bytes, fds: list[int]) -> list[int]:
        """One question to the zygote about a sandbox; the descriptors of its answer."""
        async with self._asking:
            if self._control is None:
                raise OSError("the zygote has died")
            answer = self._answers[number] = Answer(kind, asyncio.get_running_loop().create_future())
            try:
                socket.send_fds(self._control, [frames.HEADER.pack(kind, number) + body], fds)
                return await answer.fds
            except asyncio.CancelledError:
                if answer.fds.done() and not answer.fds.cancelled() and answer.fds.exception() is None:
                    let_go(answer.fds.result())  # both at once
                raise
            finally:
                del self._answers[number]

    def forget(self, number: int, uid: int, cgroup: Cgroup | None) -> None:
        """A sandbox is gone: its uid and its cgroup may be another's."""
        if self._sandboxes.pop(number, None) is not None:
            self._give_back(uid)
            if cgroup is not None:
                self._release_cgroup(cgroup)

    def _give_back(self, uid: int) -> None:
        if uid:
            self._free_uids.append(uid)

    @property
    def is_idle(self) -> bool:
        """Whether there is no sandbox in it, nor one on its way."""
        return not self._sandboxes and not self._answers

    def running(self) -> list[NativeSandbox]:
        """The sandboxes that run code now."""
        return [sandbox for sandbox in self._sandboxes.values() if sandbox.is_running]

    def _receive(self) -> None:
        """One packet of the zygote. It is ours, but what it runs beside is not: lengths are checked all the same."""
        control = self._control
        if control is None:
            return
        try:
            packet, rights, _, _ = control.recvmsg(frames.PACKET_MAX, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
            fds = [fd for _, _, data in rights for (fd,) in struct.iter_unpack("i", data)]
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        try:
            self._understand(packet, fds)
        except struct.error:  # an empty packet, too: the zygote is gone, or not itself any more
            self._lose()
        let_go(fds)

    def _understand(self, packet: bytes, fds: list[int]) -> None:
        """Tell whom it concerns; descriptors that are handed on are taken off the list. Raises `struct.error`."""
        kind, number = frames.HEADER.unpack_from(packet)
        body, answer = packet[frames.HEADER.size :], self._answers.get(number)
        if kind == frames.EXITED and number in self._sandboxes:
            status, cpu_ms, peak = frames.EXITED_BODY.unpack(body)
            self._sandboxes[number].user_process_ended(status, Usage(cpu_ms, peak))
        elif answer is not None and not answer.fds.done():
            if kind == frames.DONE and brings(answer.kind, fds):
                answer.fds.set_result(fds.copy())
                fds.clear()
            else:
                answer.fds.set_exception(
                    OSError(body.decode(errors="replace") or "no descriptor came; too many open files?")
                )

    def _lose(self) -> None:
        """The zygote is dying, and with it all that runs in the box; the guardian stays until it has reaped it."""
        self._disconnect()
        if self._zygote is None:
            self._end_guardian()
        else:
            asyncio.get_running_loop().add_reader(self._zygote, self._end_guardian)
        for sandbox in list(self._sandboxes.values()):
            sandbox.box_died()

    def _disconnect(self) -> None:
        """Let go of the control socket; a zygote that still lives ends by that."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        for answer in self._answers.values():
            if not answer.fds.done():
                answer.fds.set_exception(OSError("the zygote has died"))

    def _end_guardian(self) -> None:
        if self._guardian is not None:
            self._guardian.send_signal(signal.SIGKILL)
            self._guardian.wait()
            self._guardian = None
        if self._zygote is not None:
            asyncio.get_running_loop().remove_reader(self._zygote)
            os.close(self._zygote)
            self._zygote = None

    async def close(self) -> None:
        """Kill the zygote, and by that all sandboxes; the guardian goes last, since it is what reaps the zygote."""
        self._disconnect()
        if self._zygote is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._zygote, signal.SIGKILL)
            await readable(self._zygote)
        self._end_guardian()
        for sandbox in list(self._sandboxes.values()):
            sandbox.box_died()
            await sandbox.destroy()


def let_go(fds: list[int]) -> None:
    """Of sandboxes that nobody waits for any more."""
    for fd in fds:
        with suppress(OSError):  # it has ended, or is no process at all
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def brings(kind: int, fds: list[int]) -> bool:
    """Whether these are the descriptors that such a question is answered with."""
    if kind == frames.MAKE:
        return len(fds) == 1 and is_process(fds[0])
    if kind == frames.LISTEN:
        return len(fds) == 1 and stat.S_ISSOCK(os.fstat(fds[0]).st_mode)
    return not fds


def is_process(fd: int) -> bool:
    """Whether it is the pidfd of a process that lives."""
    try:
        signal.pidfd_send_signal(fd, 0)
    except OSError:
        return False
    return True


async def readable(fd: int) -> None:
    """Wait until there is something to read; of a pidfd: until its process is gone."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)


if sys.platform != "linux":
    raise ImportError("the native backend needs Linux")
