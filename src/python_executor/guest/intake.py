"""Takes a spec in, inside a sandbox whose boundaries are all up, and starts its code.

Until `STARTED` is sent this is our code on the server's data, carried out as the unprivileged user: files, stdin,
directory. Then the control socket is closed, and what follows is user code: first the request's own commands, then its
program, in this fork of the zygote; or in a fresh interpreter, where only that behaves as `python main.py` would (a
variable that is read at start, or was by a module that is imported already; a module to run).
"""

from __future__ import annotations

import marshal
import os
import resource
import signal
import sys
import time

import environment
import frames
import runner

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each container
if TYPE_CHECKING:
    import socket
    from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

    from ahead import Ahead

START_VARIABLES = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_TUNABLES")
COPY_CHUNK = 1 << 20
RECEIVE_SIZE = 1 << 16
TWO_DESCRIPTORS = 24  # bytes of ancillary data: CMSG_LEN(8)


def serve(control: Control, report: int, imported: Optional[Ahead]) -> NoReturn:
    """Receive a spec, make its files, run it, exit."""
    try:
        spec = prepare(control)
    except Exception as error:
        control.send(frames.FAILED + f"{type(error).__name__}: {error}".encode())
        os._exit(125)
    control.start(spec)
    control.close()
    if spec["environment"]:
        environment.activate()
        if imported:
            imported.settle_in()
    if spec["env"]:
        os.environ.update(spec["env"])
        time.tzset()
    for command in spec["pre_commands"]:
        run_command(command)
    if spec["becomes"]:
        become(spec["becomes"])
    if spec["module"]:  # of which only the interpreter itself makes a `__main__`, with runpy's frames below it
        os.execv(sys.executable, [sys.executable, "-u", "-m", spec["module"], *spec["args"]])
    modules = imported.modules if imported else {}
    begin_anew(modules)
    argv = [spec["entrypoint"], *spec["args"]]
    directory = runner.directory_of(spec["entrypoint"])
    if needs_fresh_interpreter(spec["env"], imported):
        os.set_inheritable(report, True)
        flag = "eval" if spec["eval_last_expr"] else "run"
        os.execv(sys.executable, [sys.executable, "-u", runner.__file__, flag, str(report), *argv])
    runner.run_main(argv, directory, report, eval_last_expr=spec["eval_last_expr"], ahead=modules)


def begin_anew(modules: Dict[str, Any]) -> None:
    """What a module remembers of the moment of its import: of this program it is now, and not when the box began."""
    logging = modules.get("logging")
    if logging is not None:
        logging._startTime = time.time_ns() if type(logging._startTime) is int else time.time()  # from 3.13 on an int


def prepare(control: Control) -> Dict[str, Any]:
    """Everything that is done for user code before it: files, stdin, directory, the limits that are the spec's."""
    spec, content = receive(control)
    os.chdir(runner.WORK)
    if spec["becomes"]:  # later; until then the files are to be its own
        os.setegid(spec["becomes"])
        os.seteuid(spec["becomes"])
    make_files(spec["entries"], content)
    set_stdin(content.stdin)
    content.close()
    if spec["becomes"]:
        os.seteuid(0)
        os.setegid(0)
    if spec["processors"]:
        keep_to(*spec["processors"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (spec["file_limit"], spec["file_limit"]))
    if spec["data_limit"]:
        resource.setrlimit(resource.RLIMIT_DATA, (spec["data_limit"], spec["data_limit"]))
    return spec


def keep_to(first: int, count: int) -> None:
    """Use so many of the processors that are ours, from that place on: whatever counts them then finds the limit."""
    own = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, [own[(first + number) % len(own)] for number in range(count)])
    except OSError:
        pass  # in a container, its engine may forbid it; the limit itself holds


class Control:
    """The way to the server until user code begins: a socket, read by lengths that are known."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._received = b""
        self.fds: List[int] = []  # that came along, once something was taken

    def take(self, length: int) -> bytes:
        """So many bytes. Does not return where the server has given this sandbox up."""
        if not self._received:
            self._received, rights, _, _ = self._control.recvmsg(RECEIVE_SIZE, TWO_DESCRIPTORS)
            for _, _, data in rights:
                self.fds += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
        taken, self._received = self._received[:length], self._received[length:]
        if len(taken) < length:
            taken += take_exactly(self._control.recv_into, length - len(taken))
        return taken

    def content(self, spec: Dict[str, Any]) -> Content:
        """What follows the spec."""
        return Content(self, spec)

    def send(self, data: bytes) -> None:
        """A word to the server."""
        self._control.send(data)

    def start(self, spec: Dict[str, Any]) -> None:
        """Tell that user code comes next."""
        self.send(frames.STARTED)

    def close(self) -> None:
        """Not to be found by user code."""
        self._control.close()


def take_exactly(read_into: Callable[[memoryview], int], length: int) -> bytes:
    """So many bytes, or the end of this process."""
    data = bytearray(length)
    view = memoryview(data)
    position = 0
    while position < length:
        received = read_into(view[position:])
        if not received:
            os._exit(0)
        position += received
    return bytes(data)


class Content:
    """What comes with a spec: a pipe of its stdin, where it has any; files, as bytes or as a descriptor."""

    def __init__(self, control: Control, spec: Dict[str, Any]) -> None:
        fds = iter(control.fds)
        self.stdin = next(fds) if spec["stdin_bytes"] else -1
        self._file = next(fds, -1)
        self._inline = control.take(spec["content_bytes"]) if spec["content_bytes"] else b""

    def copy(self, offset: int, size: int, target: int) -> None:
        """Write `size` bytes from `offset` on to a file."""
        while size > 0:
            if self._file >= 0:
                chunk = os.pread(self._file, min(size, COPY_CHUNK), offset)
            else:
                chunk = self._inline[offset : offset + size]
            if not chunk:
                raise EOFError("the archive ended before its last file")
            written = os.write(target, chunk)
            offset += written
            size -= written

    def close(self) -> None:
        """Let go of the archive."""
        if self._file >= 0:
            os.close(self._file)


def receive(control: Control) -> Tuple[Dict[str, Any], Content]:
    """The spec, which the server made and checked."""
    (length,) = frames.SPEC_LENGTH.unpack(control.take(frames.SPEC_LENGTH.size))
    spec = marshal.loads(control.take(length))  # noqa: S302 - the server's own
    return spec, control.content(spec)


def make_files(entries: List[List[Any]], content: Content) -> None:
    """Carry out the plan that the host checked; directories get their modes last, so that all of it can be written."""
    for kind, path, *rest in entries:
        target = os.path.join(runner.WORK, path)
        if kind == "directory":
            os.makedirs(target, exist_ok=True)
            continue
        if "/" in path:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if kind == "file":
            mode, offset, size = rest
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            content.copy(offset, size, fd)
            os.fchmod(fd, mode)
            os.close(fd)
        elif kind == "symlink":
            os.symlink(rest[0], target)
    directories = [(path, rest[0]) for kind, path, *rest in entries if kind == "directory"]
    for path, mode in sorted(directories, key=lambda each: each[0].count("/"), reverse=True):
        os.chmod(os.path.join(runner.WORK, path), mode)


def set_stdin(read_end: int) -> None:
    """A pipe, as in `echo data | python main.py`, that is filled from outside; -1: one that has ended."""
    if read_end < 0:
        read_end, write_end = os.pipe()
        os.close(write_end)
    os.dup2(read_end, 0)
    os.close(read_end)


def run_command(command: str) -> None:
    """One of `pre_commands`; the first that fails is the end."""
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    ignored_by_python = [signal.SIGPIPE, signal.SIGXFSZ]
    argv = ["sh", "-c", command]
    try:
        pid = os.posix_spawn("/bin/sh", argv, os.environ, file_actions=actions, setsigdef=ignored_by_python)
    except OSError as error:
        os.write(2, f"pre_commands: /bin/sh can't be run: {error.strerror}\n".encode())
        os._exit(127)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def become(uid: int) -> None:
    """Give up being root, for good; what root's commands may have done is behind us."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def needs_fresh_interpreter(variables: Dict[str, str], imported: Optional[Ahead]) -> bool:
    """Whether only an interpreter that starts now would behave as `python main.py`: they are read by then."""
    if imported is not None and imported.has_looked_at(variables):
        return True
    return any(name.startswith(START_VARIABLES) for name in variables)
