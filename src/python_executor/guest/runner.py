"""Runs a file as `python main.py` would, and reports how it ended.

Two ways in: `run_main` in a fork of the warmed zygote (intake.py calls it), or `run_fresh` in an interpreter that was
started anew, where only that behaves as plain Python would. The process belongs to user code, and nothing it says is
believed. What we need after user code was looked up before it: it may replace any function that it can reach.
"""

from __future__ import annotations

import sys

PLAIN_MODULES = frozenset(sys.modules)  # in a fresh interpreter: what it needed to get here, all else is our own doing
if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/")[0])  # PYTHONSAFEPATH may have left it out

import builtins
import io
import os
import types

import conceal
import ending
import frames
import source
import streams

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each container
if TYPE_CHECKING:
    from typing import Any, Collection, List, NoReturn, Optional

WORK = "/work"

_write = os.write
_exit = os._exit
_getpid = os.getpid
_by_c = conceal.by_c


_current: Any = conceal.Nowhere  # see `settle`


def settle() -> None:
    """Once in an interpreter, ahead of all programs: see to its streams, and find out how to hide our frames."""
    global _current
    streams.settle()
    _current = conceal.Current()


def forget_modules(but: Collection[str]) -> None:
    """User code imports its own copy of each, or the file of the request that hides it."""
    for name in sys.modules.keys() - set(but) - {"atexit"}:  # whose handlers belong to the module, until 3.9
        del sys.modules[name]


def warm_up() -> None:
    """Load what the first run would load, while it is still shared by all."""
    import ast
    import traceback

    exec(compile(ast.parse("1 + 1"), "<warm-up>", "exec"), {})
    traceback.format_exception_only(SyntaxError, SyntaxError("warm-up"))


def directory_of(entrypoint: str) -> str:
    """Where the file really is, which comes first in `sys.path`; links are rare, and following them takes time."""
    path = os.path.join(WORK, entrypoint)
    if "/" in entrypoint or os.path.islink(path):
        return os.path.dirname(os.path.realpath(path))
    return WORK


def run_main(
    argv: List[str], directory: str, report: int, *, eval_last_expr: bool, ahead: Collection[str] = ()
) -> NoReturn:
    """`python ARGV...`: run the file as `__main__`, then end as the interpreter would, with a report.

    `ahead` are the names of modules that were imported before this, whether they are in `sys.modules` or not.
    """
    own_pid = _getpid()
    path = os.path.join(WORK, argv[0])
    beginning = ending.Beginning(ahead)
    main = prepare_main(argv, path, directory)
    said: List[bytes] = []
    levels = frames_above(sys._getframe())
    if not _current.lift(levels):
        sys.setrecursionlimit(sys.getrecursionlimit() + levels)
    code, is_interrupted = 0, False
    left: Optional[SystemExit] = None  # to the interpreter, which has something to say of it
    try:
        try:
            said.append(execute(path, main, eval_last_expr=eval_last_expr))
        except SystemExit:
            raise
        except BaseException as error:
            code, is_interrupted = 1, isinstance(error, KeyboardInterrupt)
            said.append(raised_frame(error, path))
            if hasattr(sys, "stderr"):
                show(error)  # whose hook may exit as well
    except SystemExit as request:
        known, is_interrupted = exit_code_of(request), False
        code, left = (0, request) if known is None else (known, None)
    is_over = not is_interrupted and left is None and beginning.leaves_nothing(_current.slot())
    if is_over:
        said.append(frames.frame(frames.EXIT, bytes([code])))
    if _getpid() == own_pid:  # else user code forked, and this is not the process that we report on
        tell(report, b"".join(said))
    if is_over:
        _exit(code)
    if is_interrupted:
        sys.excepthook = ignore  # it has been shown
        raise KeyboardInterrupt  # after its end the interpreter kills itself by SIGINT
    raise left or SystemExit(code)  # to the interpreter, which ends; its status tells the rest


def ignore(*_: object) -> None:
    """Do nothing."""


def frames_above(frame: Optional[types.FrameType]) -> int:
    """How deep we are already, where plain Python would begin: user code may recurse as far as it could there."""
    depth = 1 if sys.version_info >= (3, 12) else 2  # until then `exec` itself counted
    while frame is not None:
        depth += 1
        frame = frame.f_back
    return depth


def prepare_main(argv: List[str], path: str, directory: str) -> types.ModuleType:
    """`sys` and `__main__` as the interpreter sets them before the first line."""
    sys.argv[:] = argv
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable, *argv]
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, directory)
    main = types.ModuleType("__main__")
    if sys.version_info < (3, 14):
        vars(main)["__annotations__"] = {}
    main.__loader__ = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    vars(main).update(__builtins__=builtins, __file__=path, __cached__=None)
    sys.modules["__main__"] = main
    return main


def execute(path: str, main: types.ModuleType, *, eval_last_expr: bool) -> bytes:
    """Run the file; a frame with what its last expression comes to, where that is asked for and there is one."""
    code = source.read(path)
    if code is None:
        os.execv(sys.executable, [sys.executable, "-u", *sys.argv])
    whole = None if eval_last_expr else compile(code, path, "exec", dont_inherit=True)
    body, expression, line = (whole, None, 0) if whole else source.halves(code, path)
    arguments = (body, vars(main))
    frames_of_ours = _current.slot()
    frames_of_ours.value = None
    exec(*arguments)  # a form that counts as a level of recursion however often the interpreter has met it
    if expression is None:
        return b""
    frames_of_ours.value = None
    held = [eval(expression, vars(main))]
    shown = b"" if held[0] is None else result_frame(held[0])
    let_go = compile("\n" * (line - 1) + "held.clear()", path, "eval", dont_inherit=True)
    eval(let_go, {"held": held})  # where a warning about the value, such as a coroutine never awaited, belongs
    return shown


def exit_code_of(request: SystemExit) -> Optional[int]:
    """What `sys.exit(...)` comes to; None where only the interpreter knows what to say of it."""
    code: object = request.code
    if code is None:
        return 0
    if isinstance(code, int) and -(2**31) <= code < 2**31:
        return code & 0xFF
    if type(code) is not str:
        return None
    try:
        sys.stderr.write(f"{code}\n")
    except BaseException:
        pass
    return 1


def show(error: BaseException) -> None:
    """Hand the exception to `sys.excepthook`, without a frame of ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, source.__file__):
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    hook = getattr(sys, "excepthook", sys.__excepthook__)
    if not hasattr(sys, "excepthook"):
        sys.stderr.write("sys.excepthook is missing\n")
    if hook is sys.__excepthook__:
        show_at_once(error)
        return
    frames_of_ours = _current.slot()
    try:
        frames_of_ours.value = None
        (_by_c(hook, type(error), error, trace) if callable(hook) else hook)()
    except SystemExit:
        raise  # it is obeyed
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


# --- the report -------------------------------------------------------------------------------------------------------


def result_frame(value: object) -> bytes:
    """What `repr()` gives; or why there is none, which is no failure of the program."""
    try:
        data = repr(value).encode("utf-8", "surrogatepass")
        how = frames.CUT if len(data) > frames.RESULT_MAX else frames.WHOLE
    except Exception as error:
        data = reason_of(error).encode("utf-8", "replace")[: frames.REASON_MAX]
        how = frames.UNSHOWN
    return frames.frame(frames.RESULT, bytes([how]) + data[: frames.RESULT_MAX])


def reason_of(error: Exception) -> str:
    """Its class and what it says."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def raised_frame(error: BaseException, path: str) -> bytes:
    """The class, and the line of the innermost frame in the entrypoint; for a SyntaxError the line it names."""
    line: object = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        try:
            line = error.lineno
        except BaseException:
            line = None  # a property of user code's, that raises
    name = type(error).__name__.encode("utf-8", "replace")[: frames.NAME_MAX]
    known = line if isinstance(line, int) and 0 < line < 2**32 else 0
    return frames.frame(frames.RAISED, frames.RAISED_LINE.pack(known) + name)


def tell(report: int, data: bytes) -> None:
    """Write it all; if user code has closed the pipe, the kernel's exit status must do."""
    try:
        while data:
            data = data[_write(report, data) :]
    except OSError:
        pass


def run_fresh() -> NoReturn:
    """The way in of a fresh interpreter: `runner.py (run|eval) REPORT_FD ENTRYPOINT ARGS...`."""
    settle()
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    forget_modules(PLAIN_MODULES)
    flag, report, *argv = sys.argv[1:]
    os.set_inheritable(int(report), False)
    run_main(argv, directory_of(argv[0]), int(report), eval_last_expr=flag == "eval")


if __name__ == "__main__":
    run_fresh()
