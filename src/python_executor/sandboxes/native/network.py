"""The network of a sandbox that asked for one: user-mode networking behind a filter that its code can't change.

    server ├─ nft           in the sandbox's network namespace: loads the filter and ends, before there is any way out
           └─ slirp4netns   in the host's: one for each such sandbox, carries its connections as sockets of its own

The way out is `tap0`, whose packets slirp4netns reads. Whatever they ask for it does as a process of the host, so it
would reach the host's loopback and its neighbours. What may leave is decided before that (`egress.py`), by nftables in
the sandbox's network namespace, for each packet by its destination; routes would not do, SO_BINDTODEVICE gets past
them. That namespace belongs to the box's user namespace. User code is in one below it and has no rights there.

Both programs run as the box's root, an unprivileged uid, never as the host's; slirp4netns also gives up capabilities,
most system calls and all files but /etc and /run by itself. It is trusted not to be taken over by packets. It is
charged to the sandbox's cgroup, where there is one, and goes before the server when memory is short. It ends with the
sandbox, or when the server does (`--exit-fd`). If it dies before, this one sandbox has no network any more, and nothing
else happens.

Nothing here falls back to another network: where a step fails, the execution does.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from ...model.egress import EgressPolicy
from .box import OOM_SCORE_ADJ, readable
from .egress import own_addresses, ruleset
from .identities import Identities
from .pipes import read_now
from .watch import pid_of

ATTACH_TIMEOUT = 10.0  # seconds; it takes about 0.02
OPEN_FILES = 1024  # of one slirp4netns: a socket for each connection
SAID_MAX = 500  # characters of what a program said that an error repeats
TAP = "tap0"
MTU = 65520
PACKAGES = {"nsenter": "util-linux", "nft": "nftables", "slirp4netns": "slirp4netns"}  # by program, Debian's names
TUN = "/dev/net/tun"
SYSTEM_PATH = "/usr/sbin:/sbin"  # where nft is, and an ordinary user's PATH is not
log = structlog.get_logger()


class Network:
    """Gives sandboxes their network."""

    def __init__(self, policy: EgressPolicy, identities: Identities) -> None:
        self.policy = policy
        self._has_own_uids = identities.has_own_uids
        path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
        self._programs = {name: shutil.which(name, path=path) for name in PACKAGES}

    @property
    def unavailable(self) -> str | None:
        """Why there can be no network here, and what to do; None where there can be one."""
        if missing := [PACKAGES[name] for name, program in self._programs.items() if program is None]:
            return f"its machine lacks {' and '.join(missing)}: install the packages of that name"
        try:
            mode = os.stat(TUN).st_mode
        except OSError:
            return f"its machine has no {TUN}: load the kernel's module tun, or give the device to its container"
        is_open = mode & 0o006 == 0o006 if self._has_own_uids else os.access(TUN, os.R_OK | os.W_OK)
        return None if is_open else f"{TUN} is closed to ordinary users on its machine: give it the mode 0666"

    def uplink(self) -> Uplink:
        """The network of one sandbox, to be attached."""
        return Uplink(self)

    def argv(self, program: str, *arguments: str, **namespaces: int) -> list[str]:
        """What runs a program as root of a user namespace, `user`, and perhaps in others."""
        found = {name: path or name for name, path in self._programs.items()}
        others = {kind: fd for kind, fd in namespaces.items() if not _is_own(kind, fd)}
        if not others:
            return [found[program], *arguments]
        entered = [f"--{kind}=/proc/self/fd/{fd}" for kind, fd in others.items()]
        as_root = [] if self._has_own_uids else ["--preserve-credentials"]  # which then are root's already
        return [found["nsenter"], *entered, *as_root, found[program], *arguments]


class Uplink:
    """The network of one sandbox. Whatever `attach()` came to, `end()` leaves nothing of it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._slirp: Program | None = None
        self._exit = -1  # slirp4netns ends when this is closed, if only by our death

    async def attach(self, pause: int) -> None:
        """Give the network to the sandbox whose PID 1 is behind this pidfd. Raises OSError."""
        async with asyncio.timeout(ATTACH_TIMEOUT):
            with _namespaces(pause) as (user, net):
                await self._load_filter(user, net)
                await self._start(user, net)

    @property
    def pid(self) -> int:
        """Of slirp4netns, once it is attached."""
        assert self._slirp is not None  # noqa: S101 - as said
        return self._slirp.pid

    async def _load_filter(self, user: int, net: int) -> None:
        rules = os.memfd_create("ruleset")
        try:
            os.write(rules, ruleset(self._network.policy, own_addresses()).encode())
            os.lseek(rules, 0, os.SEEK_SET)
            nft = Program(self._network.argv("nft", "-f", "-", user=user, net=net), [user, net], stdin=rules)
        finally:
            os.close(rules)
        try:
            await nft.ended()
        finally:
            status = nft.close()
        if status != 0:
            raise OSError(f"nft ended with {status}: {nft.said} (the kernel needs nf_tables with inet, reject and ct)")

    async def _start(self, user: int, net: int) -> None:
        """Both namespaces are named by our descriptors, which nothing inside the sandbox can change."""
        exiting, self._exit = os.pipe2(os.O_CLOEXEC)
        ready, theirs = os.pipe2(os.O_CLOEXEC)
        options = ["--configure", f"--mtu={MTU}", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]
        if self._network.policy.dns_servers:
            options.append("--disable-dns")
        options += [f"--ready-fd={theirs}", f"--exit-fd={exiting}", "--netns-type=path", f"/proc/self/fd/{net}", TAP]
        try:
            argv = self._network.argv("slirp4netns", *options, user=user)
            self._slirp = Program(argv, [user, net, theirs, exiting])
            os.close(theirs)
            theirs = -1
            await readable(ready)
            if not os.read(ready, 1):
                await self._slirp.ended()
                raise OSError(f"slirp4netns ended with {self._slirp.close()}: {self._slirp.said}")
        finally:
            for fd in {exiting, ready, theirs} - {-1}:
                os.close(fd)
        _bound(self._slirp.pid)

    async def end(self) -> None:
        """Take it away again; returns once slirp4netns is gone."""
        if self._slirp is not None:
            self._slirp.kill()
            await self._slirp.ended()
            status = self._slirp.close()
            if status != -signal.SIGKILL:
                log.warning("slirp4netns had ended before its sandbox", status=status, said=self._slirp.said)
        if self._exit >= 0:
            os.close(self._exit)
            self._exit = -1


class Program:
    """A program of the host's that serves one sandbox; of what it says, as much is kept as a pipe holds."""

    def __init__(self, argv: list[str], fds: list[int], stdin: int = subprocess.DEVNULL) -> None:
        self.said = ""  # once it is closed
        self._output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Not asyncio's: it must be possible to end it without a loop.
            self._process = subprocess.Popen(
                argv, pass_fds=fds, stdin=stdin, stdout=theirs, stderr=theirs, env={}, cwd="/", start_new_session=True
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        self._pidfd: int | None = None
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self.close()
            raise

    async def ended(self) -> None:
        """Wait for its end."""
        if self._pidfd is not None:
            await readable(self._pidfd)

    def kill(self) -> None:
        """End it, now."""
        self._process.kill()

    def close(self) -> int:
        """Reap it, ended if it has not; its status."""
        if self._output >= 0:
            self.kill()
            self._process.wait()
            self.said = (read_now(self._output) or b"").decode(errors="replace").strip()[-SAID_MAX:]
            os.close(self._output)
            self._output = -1
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
        return self._process.returncode


def _is_own(kind: str, fd: int) -> bool:
    """Whether we are in that namespace, as a container's user namespace may be the machine's: it can't be entered."""
    return os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{kind}"))


def _bound(pid: int) -> None:
    """Limit what slirp4netns may take, and let it go before the server does."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJ))


@contextmanager
def _namespaces(pause: int) -> Iterator[tuple[int, int]]:
    """Descriptors of the user and the network namespace of the process behind a pidfd; it must be alive."""
    fds: list[int] = []
    try:
        directory = f"/proc/{pid_of(pause)}/ns"
        fds.append(os.open(f"{directory}/user", os.O_RDONLY | os.O_CLOEXEC))
        fds.append(os.open(f"{directory}/net", os.O_RDONLY | os.O_CLOEXEC))
        signal.pidfd_send_signal(pause, 0)  # it lives: its number was not another's when we opened them
        yield fds[0], fds[1]
    finally:
        for fd in fds:
            os.close(fd)
