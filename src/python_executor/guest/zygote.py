"""The zygote: PID 1 of a box, a warmed interpreter that every sandbox is forked from.

    zygote (PID 1 of the box)
      ├─ pause   PID 1 of a sandbox's own PID namespace: a few instructions that reap; killing it kills the sandbox
      └─ fork    PID 2 there: enters the sandbox (entry.py), waits for its spec and runs it (runner.py)

It never runs user code, parses no request and holds no secret. It does what the server's packets say (make a sandbox,
show it packages), tells when a user process has ended, and reaps. It never waits: not for a child, not for a full
socket, or nothing would be reaped and nothing would ever be gone. When the server's end of the socket closes it exits,
and as PID 1 takes everything with it.

A sandbox's network and PID namespace are made here, since only children enter a new PID namespace; afterwards the
zygote returns to its own.
"""

from __future__ import annotations

import sys

PLAIN_MODULES = frozenset(sys.modules)  # what `python main.py` would have imported before its first line
sys.path.pop(0)  # our own directory: user code must not find it
GUEST_DIRECTORY = __file__.rpartition("/")[0]
sys.path.append(GUEST_DIRECTORY)

import ahead

RECORD = ahead.Record(PLAIN_MODULES)

import base64
import collections
import errno
import gc
import importlib
import json
import marshal
import os
import resource
import select
import signal
import socket
import struct
import warnings
from typing import Any, NamedTuple

import ending
import entry
import environment
import frames
import intake
import kernel
import networks
import runner
import sharing
import store

sys.path.remove(GUEST_DIRECTORY)
for name in (
    "ahead",
    "conceal",
    "ending",
    "entry",
    "environment",
    "frames",
    "intake",
    "kernel",
    "networks",
    "runner",
    "sharing",
    "source",
    "store",
    "streams",
):
    del sys.modules[name]  # a request may bring files of these names

CONTROL_FD = 3
NETWORK_SETTINGS_FD = 4
LOG_FD = 5
FDS_MAX = 16
REHEARSALS = 20
RESEEDED = ("random", "numpy.random")  # modules whose global generator must differ between sandboxes
_exit = os._exit  # user code may replace the other


class Child(NamedTuple):
    """A process of ours that has not been reaped."""

    sandbox: int
    pid: int
    is_user: bool  # the user process, else its pause


class Job(NamedTuple):
    """What a fork has to become."""

    uid: int
    file_system: int
    fds: list[int]


class Zygote:
    """State between two packets of the server."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self.control = control
        self.pause = config["pause"]
        self.boundaries = entry.Boundaries(
            inodes=config["inodes"],
            processes=config["processes"],
            seccomp=kernel.SeccompProgram(base64.b64decode(config["seccomp"]["sandbox"])),
        )
        self.epoll = select.epoll()
        self.epoll.register(control, select.EPOLLIN)
        self.children: dict[int, Child] = {}  # by pidfd
        self.file_systems: dict[int, int] = {}  # by sandbox: descriptor of its tmpfs
        self.outgoing: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self.is_blocked = False  # the socket takes no more for now
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.networks = networks.Networks(NETWORK_SETTINGS_FD)
        self.lent: dict[int, int] = {}  # by sandbox: descriptor of its network namespace
        self.users: dict[int, int] = {}  # by sandbox: pidfd of its user process
        self.store = store.Store()
        self.fork = os.fork if len(os.listdir("/proc/self/task")) == 1 else fork_with_threads

    def serve(self) -> Job:
        """Do what packets and ended children ask for, until the server is gone. Returns in forks only."""
        while True:
            for fd, events in self.epoll.poll():
                if fd in self.children:
                    self.reap(fd)
                    continue
                if events & select.EPOLLOUT:
                    self.flush()
                if events & (select.EPOLLIN | select.EPOLLHUP):
                    job = self.receive()
                    if job is not None:
                        return job

    def receive(self) -> Job | None:
        """One packet of the server, with the descriptors that came along."""
        try:
            packet, rights, flags, _ = self.control.recvmsg(
                frames.PACKET_MAX, socket.CMSG_SPACE(4 * FDS_MAX), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:  # the server died with packets of ours unread
            packet, rights, flags = b"", [], 0
        if not packet:
            os._exit(0)
        fds = [fd for _, _, data in rights for (fd,) in struct.iter_unpack("i", data)]
        kind, sandbox = frames.HEADER.unpack_from(packet)
        body = packet[frames.HEADER.size :]
        job = None
        try:
            if flags & socket.MSG_CTRUNC:
                raise OSError("descriptors were lost on their way to the zygote: too many open files")
            if kind == frames.MAKE:
                job = self.make(sandbox, body, fds)
            else:
                self.send(frames.DONE, sandbox, b"", self.change(kind, sandbox, body))
        except (OSError, KeyError) as error:
            self.send(frames.REFUSED, sandbox, str(error).encode())
        finally:
            for fd in [] if job else fds:  # the fork needs them
                os.close(fd)
        return job

    def change(self, kind: int, sandbox: int, body: bytes) -> list[int]:
        """Something about a sandbox that waits; descriptors that the server is to have."""
        if kind == frames.RESIZE:
            (size,) = frames.RESIZE_BODY.unpack(body)
            kernel.reconfigure(self.file_systems[sandbox], {"size": str(size)})
        elif kind == frames.SHOW:
            self.store.show(body.decode(), self.users[sandbox])
        elif kind == frames.FORGET:
            self.store.forget(body.decode())
        elif kind in (frames.EXPOSE, frames.LISTEN):
            network = self.lent.pop(sandbox)  # and so it is nobody else's, ever
            try:
                return [self.networks.listen(network, *frames.LISTEN_BODY.unpack(body))] if body else []
            finally:
                os.close(network)
        return []

    def make(self, sandbox: int, body: bytes, fds: list[int]) -> Job | None:
        """A new sandbox that waits for its spec. `fds`: stdout, stderr, report, control, then its cgroups' files."""
        uid, size = frames.MAKE_BODY.unpack(body)
        file_system = pause = user = network = -1
        try:
            network = self.networks.enter()
            kernel.unshare(kernel.CLONE_NEWPID)
            file_system = kernel.detached_tmpfs(self.boundaries.tmpfs_options(size))
            pause = self.spawn_pause()
            pidfd = self.watch(Child(sandbox, pause, is_user=False))
            user = self.fork()
            if user == 0:
                return Job(uid, file_system, fds)  # back to main(): no frame below user code may know its neighbours
            self.users[sandbox] = self.watch(Child(sandbox, user, is_user=True))
        except OSError:
            for fd in {file_system, network} - {-1}:
                os.close(fd)
            if pause >= 0:
                os.kill(pause, signal.SIGKILL)
            raise
        finally:
            if user != 0:
                kernel.setns(self.own_pid_namespace, kernel.CLONE_NEWPID)
                self.networks.leave()
        self.file_systems[sandbox], self.lent[sandbox] = file_system, network
        self.send(frames.DONE, sandbox, b"", [os.dup(pidfd)])
        return None

    def forget(self) -> None:
        """In a fork: know nothing of other sandboxes. To free all that is here would copy it first.

        What owns a descriptor must not close it when the interpreter ends: by then it is another's.
        """
        self.epoll.close()
        self.control.detach()
        tables = (self.children, self.file_systems, self.lent, self.users, self.outgoing, self.networks.spares)
        for table in tables:
            table.clear()

    def spawn_pause(self) -> int:
        """PID 1 of the next child's PID namespace; it inherits nothing, least of all an environment."""
        close = [(os.POSIX_SPAWN_CLOSE, fd) for fd in (0, 1, 2)]
        return os.posix_spawn(self.pause[0], self.pause, {}, file_actions=close)

    def watch(self, child: Child) -> int:
        pidfd = os.pidfd_open(child.pid)
        self.children[pidfd] = child
        self.epoll.register(pidfd, select.EPOLLIN)
        return pidfd

    def reap(self, pidfd: int) -> None:
        """Take an ended child off the kernel's list, and tell the server if it was a user process."""
        child = self.children.pop(pidfd)
        self.epoll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(child.pid, 0)
        if child.is_user:
            del self.users[child.sandbox]
            cpu_ms = int((usage.ru_utime + usage.ru_stime) * 1000)
            self.send(frames.EXITED, child.sandbox, frames.EXITED_BODY.pack(status, cpu_ms, usage.ru_maxrss * 1024))
        elif child.sandbox in self.file_systems:
            os.close(self.file_systems.pop(child.sandbox))
            if child.sandbox in self.lent:
                self.networks.release(self.lent.pop(child.sandbox))

    def send(self, kind: int, sandbox: int, body: bytes, fds: list[int] = []) -> None:  # noqa: B006 - never changed
        self.outgoing.append((frames.HEADER.pack(kind, sandbox) + body, fds))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes; the rest when it takes more."""
        while self.outgoing:
            packet, fds = self.outgoing[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
            try:
                self.control.sendmsg([packet], rights, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.epoll.modify(self.control, select.EPOLLIN | select.EPOLLOUT)
                self.is_blocked = True
                return
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                    raise
                os._exit(0)
            self.outgoing.popleft()
            for fd in fds:
                os.close(fd)
        if self.is_blocked:
            self.epoll.modify(self.control, select.EPOLLIN)
            self.is_blocked = False


def fork_with_threads() -> int:
    """Python warns of it, in our log: whoever starts threads when it is imported has to handle forks, and most do."""
    with warnings.catch_warnings(module=warnings):
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Scratch:
    """Somewhere to write for modules that insist on it when they are imported; it vanishes with what they wrote."""

    PLACES = ("/work", "/tmp", "/dev/shm")
    OPTIONS = "mode=1777,size=64m"

    def __enter__(self) -> None:
        for place in self.PLACES:
            kernel.mount("scratch", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, self.OPTIONS)

    def __exit__(self, *_: object) -> None:
        for place in self.PLACES:
            kernel.umount_detach(place)


class HeldBackHooks:
    """What modules of the standard library want done in each fork, kept for the forks that user code will make.

    It costs a sandbox a tenth of its processor time, and none of it is needed in a fork of ours: the zygote has one
    thread, which holds no lock, and random state is renewed here.
    """

    MODULES = ("threading", "logging", "random")

    def __init__(self) -> None:
        self.hooks: list[dict[str, Any]] = []
        self.register = os.register_at_fork

    def __enter__(self) -> None:
        os.register_at_fork = self.hold_back

    def __exit__(self, *_: object) -> None:
        os.register_at_fork = self.register

    def hold_back(self, **hooks: Any) -> None:
        if all(hook.__module__ in self.MODULES for hook in hooks.values()):
            self.hooks.append(hooks)
        else:
            self.register(**hooks)

    def release(self, modules: dict[str, Any]) -> None:
        """In a fork that becomes a sandbox."""
        for hooks in self.hooks:
            self.register(**hooks)
        if threading := modules.get("threading"):
            if threading.active_count() > 1:
                threading._after_fork()  # the others have stayed behind
            threading.main_thread()._set_native_id()
        for name in RESEEDED:
            if name in modules:
                modules[name].seed()


def harden(limits: dict[str, int], seccomp: kernel.SeccompProgram) -> None:
    """What all sandboxes inherit, so that none of them pays for it."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_bounding_set()
    for name, value in limits.items():
        number = getattr(resource, name)
        _, hard = resource.getrlimit(number)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # our own: four for each sandbox
    kernel.come_after_others()
    os.umask(0o022)
    seccomp.install()


def take_signals() -> None:
    """As a program finds them that a shell has started, whatever the server was told to ignore or block."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # which Python ignores
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def preload(control: socket.socket, names: list[str], *, is_lenient: bool) -> None:
    """Import these modules; where it is lenient, what there is of them."""
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            if is_lenient and isinstance(error, ModuleNotFoundError):
                continue
            told = f"the module {name} can't be imported ahead (PRELOAD): {type(error).__name__}: {error}"
            control.send(told.encode(errors="replace")[: frames.PACKET_MAX])
            os._exit(1)


def preload_counting(control: socket.socket, names: list[str], processors: int) -> int:
    """Import modules that may start as many threads as they find processors, here the usual limit; 0: all.

    Tell what compiled libraries have found, which don't look again; 0 where none was loaded.
    """
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(own)[: processors or None])
    preload(control, names, is_lenient=False)
    found = len(os.sched_getaffinity(0))
    os.sched_setaffinity(0, own)
    with open("/proc/self/maps") as maps:
        return found if f" {environment.PREFIX}/" in maps.read() else 0


def rehearse() -> None:
    """Do what a sandbox does before it is shared: what the interpreter learns on the way is then written only once.

    It keeps what it finds out about each instruction, class and dictionary beside them, and the first run in each fork
    would copy those pages.
    """
    code = b"print('Hello')\n1 + 1"
    spec = {
        "entries": [["file", "main.py", 0o644, 0, len(code)]], "content_bytes": len(code), "stdin_bytes": 0, "env": {},
    }  # fmt: skip
    data = marshal.dumps(spec, frames.SPEC_FORMAT)
    argv, path, stdout, own_main = sys.argv[:], sys.path[:], sys.stdout, sys.modules["__main__"]
    with Scratch(), open(os.devnull, "wb", buffering=0) as nowhere, open(os.devnull, "w") as sys.stdout:
        for turn in range(REHEARSALS):
            ours, theirs = socket.socketpair()
            ours.sendall(frames.SPEC_LENGTH.pack(len(data)) + data + code)
            control = intake.Control(theirs)
            received, content = intake.receive(control)
            intake.make_files(received["entries"], content)
            content.close()
            control.close()
            ours.close()
            directory = runner.directory_of("main.py")
            beginning = ending.Beginning()
            file = runner.WORK + "/main.py"
            main = runner.prepare_main(["main.py"], file, directory)
            said = runner.execute(file, main, eval_last_expr=turn % 2 == 0)
            beginning.is_quiet()
            end = frames.frame(frames.EXIT, b"\0")
            runner.tell(nowhere.fileno(), b"".join([said, end]))
    sys.argv[:], sys.path[:], sys.stdout, sys.modules["__main__"] = argv, path, stdout, own_main


def main() -> None:
    """Warm up, then serve."""
    os.environ.pop("LD_BIND_NOW", None)  # see native/plan.py
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    os.set_inheritable(NETWORK_SETTINGS_FD, False)
    for stream in (1, 2):
        os.dup2(LOG_FD, stream)
    os.close(LOG_FD)
    take_signals()
    config = json.loads(control.recv(frames.PACKET_MAX * 4))
    harden(config["rlimits"], kernel.SeccompProgram(base64.b64decode(config["seccomp"]["zygote"])))
    hooks, counted = HeldBackHooks(), 0
    with hooks:
        preload(control, config["preload"], is_lenient=True)
        if config["environment"] is not None:
            with Scratch():
                environment.activate()
                counted = preload_counting(control, config["environment"], config["processors"])
    runner.warm_up()
    runner.settle()
    RECORD.stop()
    imported = ahead.Ahead(RECORD, counted)
    imported.hide()
    zygote = Zygote(control, config)
    del config
    gc.collect()
    sharing.make_immortal()
    gc.freeze()
    rehearse()
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    job, boundaries = zygote.serve(), zygote.boundaries
    try:
        zygote.forget()
        hooks.release(imported.modules)
        entry.enter(boundaries, *job, imported)
    except (SystemExit, KeyboardInterrupt):
        raise  # its code has run, and the interpreter is to end
    except BaseException:
        pass
    _exit(125)  # whatever happens, a fork never goes on as a zygote


if __name__ == "__main__":
    main()
