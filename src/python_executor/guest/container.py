"""PID 1 of a container: forks the user process, passes on what it says, reaps, and sees to the end.

    standard input    the server: a spec, then the program's standard input, which PID 1 passes on as it is read; its
                      end means that the server is gone, and ends the container
    standard output   frames (frames.py): all that the user process writes, and how it ended
      └─ fork         PID 2: waits for its spec (intake.py) and runs it (runner.py)

It has the user's rights and none beyond them: what the code does to it, the code does to its own answer.
"""

from __future__ import annotations

import sys

PLAIN_MODULES = frozenset(sys.modules) - {"container"}

import os
import select
import signal
import time

import frames
import intake
import runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn

REPORT_FD = 3
CONTROL_FD = 4
STDIN_FD = 5  # until it is 0
SERVER, OUT = 0, 1
WAITS = 0.05  # seconds after which nobody is in a hurry
BUSY = 16  # reads after which the streams are read less often, see native/pipes.py
NAP = 0.001  # seconds


class Control(intake.Control):
    """The way to the server in a container: standard input, and a pipe to PID 1."""

    def __init__(self) -> None:
        self.fds = []

    def take(self, length: int) -> bytes:
        """See `intake.Control.take`."""
        return intake.take_exactly(read_from_server, length)

    def content(self, spec: Dict[str, Any]) -> intake.Content:
        """See `intake.Control.content`."""
        return Content(self, spec)

    def send(self, data: bytes) -> None:
        """See `intake.Control.send`."""
        os.write(CONTROL_FD, data)

    def start(self, spec: Dict[str, Any]) -> None:
        """See `intake.Control.start`. What is left of what the server sends is stdin, for PID 1 to pass on."""
        self.send(frames.STARTED + frames.STDIN_BYTES.pack(spec["stdin_bytes"]))

    def close(self) -> None:
        """Standard input is the program's by now."""
        os.close(CONTROL_FD)


class Content(intake.Content):
    """Files that come one after the other, so that none has to be held."""

    def __init__(self, control: intake.Control, spec: Dict[str, Any]) -> None:
        control.fds.append(STDIN_FD)
        if not spec["stdin_bytes"]:
            os.close(control.fds.pop())
        super().__init__(control, spec)
        self._control = control

    def copy(self, offset: int, size: int, target: int) -> None:
        """Write the next `size` bytes to a file."""
        while size > 0:
            rest = memoryview(self._control.take(min(size, intake.COPY_CHUNK)))
            size -= len(rest)
            while rest:
                rest = rest[os.write(target, rest) :]


def read_from_server(buffer: memoryview) -> int:
    return os.readv(SERVER, [buffer])


class Supervisor:
    """PID 1 while there is a user process."""

    def __init__(self, user: int, pipes: Dict[int, int], woken: int, stdin: int) -> None:
        self.user = user
        self.stdin = stdin  # where the program's standard input goes, as long as there is more of it
        self.stdin_left = 0  # bytes of it that the server has still to send
        self.stdin_held = b""  # that its pipe has not taken
        self.pipes = pipes  # kind of frame by descriptor, in the order in which they are emptied
        self.woken = woken  # readable when a child has ended
        self.reads = 0
        self.poll = select.poll()
        for fd in (*pipes, woken):
            self.poll.register(fd, select.POLLIN)
        self.poll.register(SERVER, 0)  # just its end: what comes is for the user process

    def serve(self) -> NoReturn:
        """Pass on what comes until the user process has ended, then wait to be given up."""
        while True:
            ready = dict(self.poll.poll())
            if ready.get(SERVER, 0) & ~select.POLLIN:
                os._exit(0)  # and the kernel ends everything else
            if SERVER in ready:
                self.stdin_held = os.read(SERVER, min(self.stdin_left, frames.CHUNK_MAX)) or os._exit(0)
                self.stdin_left -= len(self.stdin_held)
            if SERVER in ready or self.stdin in ready:
                self.feed()
            if self.woken in ready:
                os.read(self.woken, 512)
                self.reap()
            for fd in [fd for fd in self.pipes if fd in ready]:
                self.pass_on(fd)

    def pass_on(self, fd: int) -> None:
        """One chunk; what the code said of itself comes after all that it wrote before."""
        try:
            data = os.read(fd, frames.CHUNK_MAX)
        except BlockingIOError:
            return
        if not data:
            self.poll.unregister(fd)
            del self.pipes[fd]
            return
        if self.pipes[fd] == frames.REPORT:
            self.empty(frames.OUTPUT, frames.ERRORS)
        send(self.pipes[fd], data)
        self.reads += 1
        if self.reads > BUSY and len(data) < frames.CHUNK_MAX // 2:
            time.sleep(NAP)
        if self.pipes[fd] == frames.WORD and data.startswith(frames.STARTED) and self.stdin >= 0:
            (self.stdin_left,) = frames.STDIN_BYTES.unpack_from(data, len(frames.STARTED))
            self.feed()

    def feed(self) -> None:
        """Pass standard input on, as the program reads it, and its end."""
        try:
            self.stdin_held = self.stdin_held[os.write(self.stdin, self.stdin_held) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody will read it
            self.stdin_held, self.stdin_left = b"", 0
        self.poll.register(self.stdin, select.POLLOUT)
        self.poll.register(SERVER, select.POLLIN if self.stdin_left and not self.stdin_held else 0)
        if not self.stdin_held:
            self.poll.unregister(self.stdin)
            if not self.stdin_left:
                os.close(self.stdin)
                self.stdin = -1

    def empty(self, *kinds: int) -> None:
        """All that is in these pipes, and no more than they hold, whoever still writes."""
        for fd, kind in list(self.pipes.items()):
            left = 1 << 20 if kind in kinds else 0
            while left > 0:
                try:
                    data = os.read(fd, frames.CHUNK_MAX)
                except BlockingIOError:
                    break
                if not data:
                    break
                send(kind, data)
                left -= len(data)

    def reap(self) -> None:
        """Take ended children off the kernel's list; the user process among them takes all others with it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.user:
                try:
                    os.kill(-1, signal.SIGKILL)
                except OSError:
                    pass  # there is nobody else
                self.empty(*self.pipes.values())
                send(frames.ENDED, frames.ENDED_BODY.pack(status))


def send(kind: int, data: bytes) -> None:
    """A frame to the server, all of it."""
    rest = memoryview(frames.frame(kind, data))
    while rest:
        rest = rest[os.write(OUT, rest) :]


def main() -> NoReturn:
    """Fork the user process, and be PID 1 to it. Does not return."""
    sys.path.remove(os.path.dirname(__file__))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which PID 1 never gets from inside, unless it has a handler
    woken, wake = os.pipe()
    for fd in (woken, wake):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    kinds = (frames.WORD, frames.OUTPUT, frames.ERRORS, frames.REPORT)
    pipes = {kind: os.pipe() for kind in kinds}
    stdin, stdin_end = os.pipe()
    user = os.fork()
    if user == 0:
        try:
            order = (frames.OUTPUT, frames.ERRORS, frames.REPORT, frames.WORD)
            become_user_process([*(pipes[kind][1] for kind in order), stdin])
            if not select.select([SERVER], [], [], WAITS)[0]:
                runner.warm_up()
            runner.forget_modules(PLAIN_MODULES)
            intake.serve(Control(), REPORT_FD, None)
        except (SystemExit, KeyboardInterrupt):
            raise  # its code has run, and the interpreter is to end
        except OSError as error:
            os.write(pipes[frames.WORD][1], frames.FAILED + str(error).encode())
        except BaseException:
            pass
        os._exit(125)
    for ours, theirs in pipes.values():
        os.close(theirs)
        os.set_blocking(ours, False)
    os.close(stdin)
    os.set_blocking(stdin_end, False)
    send(frames.ALIVE, sys.version.split()[0].encode())
    Supervisor(user, {pipes[kind][0]: kind for kind in kinds}, woken, stdin_end).serve()


def become_user_process(fds: List[int]) -> None:
    """A session and descriptors of its own: standard input from the server, until all of the spec is here."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    for fd in (*fds[:2], fds[-1]):
        try:
            os.fchmod(fd, 0o666)  # so that code may open /dev/stdin and /dev/stdout, whatever its uid
        except PermissionError:
            pass  # gVisor's pipes are root's, and it lets nobody open them
    for target, fd in enumerate([os.dup(fd) for fd in fds], start=1):
        os.dup2(fd, target, inheritable=target < REPORT_FD)
    os.closerange(STDIN_FD + 1, 256)
    runner.settle()
