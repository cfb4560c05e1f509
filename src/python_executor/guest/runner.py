"""Runs one spec as `python main.py` would, inside a sandbox whose boundaries are all up.

Until `STARTED` is sent this is our code on the server's data: it makes the files, as the unprivileged user, and closes
the control socket. From then on the process belongs to user code, and nothing it says is believed. What we need after
that was looked up before it: user code may replace any function it can reach.

Two ways to run: in this process, a fork of the warmed zygote; or in a fresh interpreter that this process executes,
where only a fresh one does what plain Python would (a variable that is read at start, a file of the request that hides
a module already imported). Both go through `run_main`.
"""

from __future__ import annotations

import sys

PLAIN_MODULES = frozenset(sys.modules)  # in a fresh interpreter: what it needed to get here, all else is our own doing
if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/")[0])  # PYTHONSAFEPATH may have left it out

import ast
import atexit
import builtins
import gc
import io
import json
import os
import resource
import signal
import socket
import time
import types
from typing import Any, Callable, Dict, FrozenSet, List, NoReturn, Optional, Tuple

import frames

WORK = "/work"
START_VARIABLES = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_TUNABLES")
FUTURE_FLAGS = 0x1FF0000 | 0x20000  # every CO_FUTURE_* of 3.9 to 3.14
COPY_CHUNK = 1 << 20

_write = os.write
_exit = os._exit
_getpid = os.getpid


def warm_up() -> None:
    """Load what the first run would load, while it is still shared by all."""
    import traceback

    exec(compile(ast.parse("1 + 1"), "<warm-up>", "exec"), {})
    json.loads(json.dumps({"warm": [1, "up", None]}))
    traceback.format_exception_only(SyntaxError, SyntaxError("warm-up"))


# --- before user code -------------------------------------------------------------------------------------------------


def serve(control: socket.socket, report: int, plain_modules: FrozenSet[str]) -> NoReturn:
    """Receive a spec, make its files, run it, exit."""
    try:
        spec = prepare(control)
    except Exception as error:
        control.send(frames.FAILED + f"{type(error).__name__}: {error}".encode())
        _exit(125)
    control.send(frames.STARTED)
    control.close()
    os.environ.update(spec["env"])
    time.tzset()
    for command in spec["pre_commands"]:
        run_command(command)
    argv = [spec["entrypoint"], *spec["args"]]
    if needs_fresh_interpreter(spec, plain_modules):
        os.set_inheritable(report, True)
        flag = "eval" if spec["eval_last_expr"] else "run"
        os.execv(sys.executable, [sys.executable, "-u", os.path.abspath(__file__), flag, str(report), *argv])
    run_main(argv, report, eval_last_expr=spec["eval_last_expr"])


def prepare(control: socket.socket) -> Dict[str, Any]:
    """Everything that is done for user code before it: files, stdin, directory, the limit that is ours to set."""
    spec, content = receive(control)
    os.chdir(WORK)
    make_files(spec["entries"], content)
    set_stdin(content.stdin())
    content.close()
    if spec["data_limit"]:
        resource.setrlimit(resource.RLIMIT_DATA, (spec["data_limit"], spec["data_limit"]))
    return spec


class Content:
    """The bytes that follow a spec, or that came as a descriptor."""

    def __init__(self, control: socket.socket, spec: Dict[str, Any], fds: List[int]) -> None:
        self._file = fds[0] if fds else -1
        self._inline = b"" if fds else receive_exactly(control, spec["content_bytes"])
        self._stdin = receive_exactly(control, spec["stdin_bytes"])

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

    def stdin(self) -> bytes:
        """What the program is to read."""
        return self._stdin

    def close(self) -> None:
        """Let go of the archive."""
        if self._file >= 0:
            os.close(self._file)


def receive(control: socket.socket) -> Tuple[Dict[str, Any], Content]:
    """The spec, which the server made and checked."""
    head, fds, _, _ = socket.recv_fds(control, frames.SPEC_LENGTH.size, 1)
    if not head:
        _exit(0)  # never needed: the server gave this sandbox up
    head += receive_exactly(control, frames.SPEC_LENGTH.size - len(head))
    (length,) = frames.SPEC_LENGTH.unpack(head)
    spec = json.loads(receive_exactly(control, length))
    return spec, Content(control, spec, fds)


def receive_exactly(control: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    position = 0
    while position < length:
        received = control.recv_into(view[position:])
        if not received:
            _exit(0)
        position += received
    return bytes(data)


def make_files(entries: List[List[Any]], content: Content) -> None:
    """Carry out the plan that the host checked; directories get their modes last, so that all of it can be written."""
    for kind, path, *rest in entries:
        target = os.path.join(WORK, path)
        if kind == "directory":
            os.makedirs(target, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if kind == "file":
            mode, offset, size = rest
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            content.copy(offset, size, fd)
            os.fchmod(fd, mode)
            os.close(fd)
        elif kind == "symlink":
            os.symlink(rest[0], target)
    for kind, path, *rest in reversed(entries):
        if kind == "directory":
            os.chmod(os.path.join(WORK, path), rest[0])


def set_stdin(data: bytes) -> None:
    """A pipe, as in `echo data | python main.py`; a file in memory where a pipe would not hold it all."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        complete = not data or os.write(write_end, data) == len(data)
    except BlockingIOError:
        complete = False
    os.close(write_end)
    if not complete:
        os.close(read_end)
        read_end = os.memfd_create("stdin")
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(read_end, rest) :]
        os.lseek(read_end, 0, os.SEEK_SET)
    os.dup2(read_end, 0)
    os.close(read_end)


# --- user code from here on -------------------------------------------------------------------------------------------


def run_command(command: str) -> None:
    """One of `pre_commands`; the first that fails is the end."""
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        _exit(code if code > 0 else 128 - code)


def needs_fresh_interpreter(spec: Dict[str, Any], plain_modules: FrozenSet[str]) -> bool:
    """Whether only an interpreter that starts now would behave as `python main.py`."""
    if any(name.startswith(START_VARIABLES) for name in spec["env"]):
        return True
    directory = os.path.dirname(os.path.join(WORK, spec["entrypoint"]))
    try:
        names = {name.partition(".")[0] for name in os.listdir(directory)}
    except OSError:
        return False  # no such entrypoint; the run will say so
    return any(name in sys.modules and name not in plain_modules for name in names - {"__main__"})


def run_main(argv: List[str], report: int, *, eval_last_expr: bool) -> NoReturn:
    """`python ARGV...`: run the file as `__main__`, then end as the interpreter would, with a report."""
    own_pid = _getpid()
    path = os.path.join(WORK, argv[0])
    main = prepare_main(argv, path)
    said: List[bytes] = []
    sys.setrecursionlimit(sys.getrecursionlimit() + frames_above(sys._getframe()))
    code, fatal_signal = 0, 0
    try:
        value = execute(path, main, eval_last_expr=eval_last_expr)
        if value is not None:
            said.append(result_frame(value))
    except SystemExit as exit_request:
        code = exit_code_of(exit_request)
    except BaseException as error:
        code = 1
        fatal_signal = signal.SIGINT if isinstance(error, KeyboardInterrupt) else 0
        said.append(raised_frame(error, path))
        show(error)
    code = finish(main, code)
    if fatal_signal:
        signal.signal(fatal_signal, signal.SIG_DFL)
        os.kill(own_pid, fatal_signal)
    if _getpid() == own_pid:  # else user code forked, and this is not the process that we report on
        tell(report, b"".join([*said, frames.frame(frames.EXIT, bytes([code]))]))
    _exit(code)


def frames_above(frame: Optional[types.FrameType]) -> int:
    """How deep we are already, where plain Python would begin: user code may recurse as far as it could there."""
    depth = 1
    while frame is not None:
        depth += 1
        frame = frame.f_back
    return depth


def prepare_main(argv: List[str], path: str) -> types.ModuleType:
    """`sys` and `__main__` as the interpreter sets them before the first line."""
    sys.argv[:] = argv
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable, *argv]
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    vars(main).update(__builtins__=builtins, __cached__=None)
    if sys.version_info < (3, 14):
        vars(main)["__annotations__"] = {}
    sys.modules["__main__"] = main
    return main


def execute(path: str, main: types.ModuleType, *, eval_last_expr: bool) -> Optional[str]:
    """Run the file; `repr()` of its last expression's value where that is asked for and there is one."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"python: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    if not eval_last_expr:
        exec(compile(source, path, "exec", dont_inherit=True), vars(main))
        return None
    tree = ast.parse(source, path)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, path, "exec", dont_inherit=True), vars(main))
        return None
    del tree.body[-1]
    body = compile(tree, path, "exec", dont_inherit=True)
    expression = compile(ast.Expression(last.value), path, "eval", body.co_flags & FUTURE_FLAGS, dont_inherit=True)
    exec(body, vars(main))
    value = eval(expression, vars(main))
    return None if value is None else repr(value)


def exit_code_of(request: SystemExit) -> int:
    """What `sys.exit(...)` comes to, as the interpreter sees it."""
    code: object = request.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(2**63) <= code < 2**63 else 0xFF
    try:
        sys.stderr.write(f"{code}\n")
    except BaseException:
        pass
    return 1


def show(error: BaseException) -> None:
    """Hand the exception to `sys.excepthook`, without a frame of ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.excepthook is sys.__excepthook__:
        show_at_once(error)
        return
    try:
        sys.excepthook(type(error), error, trace)
    except BaseException as hook_error:
        hook_error.__traceback__ = hook_error.__traceback__ and hook_error.__traceback__.tb_next
        if hook_error.__context__ is error:
            hook_error.__context__ = None
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(hook_error), hook_error, hook_error.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, trace)


def show_at_once(error: BaseException) -> None:
    """The interpreter's own traceback in one write, where unbuffered it would take dozens."""
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        sys.__excepthook__(type(error), error, error.__traceback__)
        text = sys.stderr.getvalue()
    finally:
        sys.stderr = stderr
    try:
        stderr.write(text)
    except BaseException:
        pass  # closed or replaced by user code: plain Python says nothing then, either


def finish(main: types.ModuleType, code: int) -> int:
    """The end of an interpreter: threads, exit handlers, module globals, buffers. The exit code that remains."""
    threading = sys.modules.get("threading")
    ignore_errors(getattr(threading, "_shutdown", None))
    ignore_errors(atexit._run_exitfuncs)
    if sys.modules["_thread"]._count() == 0:  # a daemon thread would see its globals vanish
        ignore_errors(lambda: clear_globals(main))
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            code = code or 120
    return code


def clear_globals(main: types.ModuleType) -> None:
    """Let finalizers of what `__main__` held run, in the order in which the interpreter lets them."""
    namespace = vars(main)
    for is_private in (True, False):
        for name in list(namespace):
            if (name.startswith("_") and not name.startswith("__")) is is_private and name != "__builtins__":
                namespace[name] = None
    gc.collect()


def ignore_errors(call: Optional[Callable[[], object]]) -> None:
    """Call it; what goes wrong has been printed by what it calls, and the end goes on."""
    try:
        if call is not None:
            call()
    except BaseException:
        pass


# --- the report -------------------------------------------------------------------------------------------------------


def result_frame(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return frames.frame(frames.RESULT, bytes([len(data) > frames.RESULT_MAX]) + data[: frames.RESULT_MAX])


def raised_frame(error: BaseException, path: str) -> bytes:
    """The class and the line of the innermost frame in the entrypoint; for a SyntaxError the line it names."""
    line = None
    if isinstance(error, SyntaxError):
        line = error.lineno
    trace = error.__traceback__
    while trace is not None and not isinstance(error, SyntaxError):
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    name = type(error).__name__.encode("utf-8", "replace")[: frames.NAME_MAX]
    return frames.frame(
        frames.RAISED, frames.RAISED_LINE.pack(line if isinstance(line, int) and line > 0 else 0) + name
    )


def tell(report: int, data: bytes) -> None:
    """Write it all; if user code has closed the pipe, the kernel's exit status must do."""
    try:
        while data:
            data = data[_write(report, data) :]
    except OSError:
        pass


def run_fresh() -> NoReturn:
    """The way in of a fresh interpreter: `runner.py (run|eval) REPORT_FD ENTRYPOINT ARGS...`."""
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    for name in sys.modules.keys() - PLAIN_MODULES:
        del sys.modules[name]  # user code imports its own copy, or the file of the request that hides it
    flag, report, *argv = sys.argv[1:]
    os.set_inheritable(int(report), False)
    run_main(argv, int(report), eval_last_expr=flag == "eval")


if __name__ == "__main__":
    run_fresh()
