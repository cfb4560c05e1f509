"""The end of an interpreter, where somebody could see it; and a look at whether anybody could.

CPython's own end takes down all modules, ours too: 10 to 20 ms, of which nothing shows where nothing is left that does
something when it goes. So exit handlers and threads have their turn, and then every object that has come since user
code began is looked at. One with a finalizer, a suspended generator, an open file, a weak reference that calls
somebody, a thread that is still there, a library of somebody else's: then the interpreter ends as it always does.
"""

from __future__ import annotations

import _thread
import _weakref
import atexit
import gc
import io
import resource
import sys
import types

import conceal

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each container
if TYPE_CHECKING:
    from typing import Any, Callable, Collection, Dict, Optional

SMALL_KIB = 64 << 10  # that a program may have taken: to look through more is as dear as to end
HARMLESS, FINALIZED, SUSPENDED, TYPE, REFERENCE = range(5)
HAS_GC = 1 << 14  # of type flags: its objects are found by `gc.get_objects()`

_by_c = conceal.by_c
_threads = _thread._count
_objects = gc.get_objects
_freeze = gc.freeze
_debug = gc.get_debug
_usage = resource.getrusage
_mro = type.__dict__["__mro__"].__get__
_flags = type.__dict__["__flags__"].__get__
_dict = type.__dict__["__dict__"].__get__
_module_dict: Any = vars(types.ModuleType)["__dict__"].__get__
_callback = vars(_weakref.ReferenceType)["__callback__"].__get__
_suspended = vars(types.GeneratorType)["gi_frame"].__get__
_QUIET_STREAMS = (io.TextIOWrapper, io.StringIO)  # whose flush runs no Python


class Beginning:
    """What was there before user code."""

    def __init__(self, ahead: Collection[str] = ()) -> None:
        self.modules = set(sys.modules)
        self.ahead = ahead
        self.size = _usage(resource.RUSAGE_SELF).ru_maxrss
        _freeze()  # so that what comes is told from it

    def leaves_nothing(self, frames_of_ours: Any) -> bool:
        """Have threads and exit handlers end; whether nobody could see the rest of the interpreter's end."""
        threading = sys.modules.get("threading")
        ignore_errors(getattr(threading, "_shutdown", None), frames_of_ours)
        ignore_errors(atexit._run_exitfuncs, frames_of_ours)
        return self.is_quiet()

    def is_quiet(self) -> bool:
        """Whether nobody could see the end, now that threads and exit handlers have ended."""
        return (
            _threads() == 0
            and _debug() == 0
            and all(flushes(getattr(sys, name, None)) for name in ("stdout", "stderr"))
            and _usage(resource.RUSAGE_SELF).ru_maxrss - self.size < SMALL_KIB
            and not self._has_foreign_library()
            and not has_finalizers()
        )

    def _has_foreign_library(self) -> bool:
        """Whether code of others has been loaded that the C library may know, with handlers and buffers of its own."""
        for name in sys.modules.keys() - self.modules:
            if name in self.ahead:
                continue
            module = sys.modules[name]
            if name == "_ctypes":
                return True
            if type(module) is types.ModuleType:
                file = _module_dict(module).get("__file__")
                if type(file) is str and file.endswith(".so") and "/lib-dynload/" not in file:
                    return True
        return False


def flushes(stream: object) -> bool:
    """Flush it, where that calls nobody; whether it was so, and went well."""
    if stream is None:
        return True
    if not is_one_of(type(stream), *_QUIET_STREAMS):
        return False
    try:
        if not stream.closed:  # type: ignore[attr-defined]
            stream.flush()  # type: ignore[attr-defined]
    except BaseException:
        return False  # the interpreter will say so
    return True


def is_one_of(cls: type, *classes: type) -> bool:
    """What `in` would say; that asks the class's own class, which may be user code."""
    return any(cls is each for each in classes)


def has_finalizers() -> bool:
    """Whether there is an object whose end may be seen."""
    kinds: Dict[int, int] = {}  # by id: types may be unhashable
    for each in _objects():
        of = type(each)
        kind = kinds.get(id(of))
        if kind is None:
            kind = kinds[id(of)] = kind_of(of)
        if kind != HARMLESS and (kind == FINALIZED or is_visible(each, kind)):
            return True
    return False


def kind_of(cls: type) -> int:
    """What is to be known of its objects."""
    if cls is types.GeneratorType:
        return SUSPENDED
    if is_one_of(cls, io.BytesIO, io.StringIO):
        return HARMLESS
    bases = _mro(cls)
    if any("__del__" in _dict(base) for base in bases):
        return FINALIZED
    if is_one_of(type, *bases):
        return TYPE
    return REFERENCE if is_one_of(_weakref.ReferenceType, *bases) else HARMLESS


def is_visible(each: object, kind: int) -> bool:
    """Whether the end of this one may be seen."""
    if kind == SUSPENDED:
        return _suspended(each) is not None
    if kind == TYPE:  # objects of a few types can't be found
        return not _flags(each) & HAS_GC and any("__del__" in _dict(base) for base in _mro(each))
    return not is_bookkeeping(_callback(each))


def is_bookkeeping(callback: object) -> bool:
    """Whether a weak reference calls nobody, or the standard library's own, which says nothing."""
    if callback is None:
        return True
    if type(callback) is types.FunctionType:
        return callback.__globals__.get("__name__") in ("weakref", "_weakrefset")
    if type(callback) is types.BuiltinFunctionType:
        return callback.__name__ == "_destroy"  # of an abstract class
    return getattr(sys.modules.get("weakref"), "finalize", None) is type(callback)  # has run, by `atexit`


def ignore_errors(call: Optional[Callable[[], object]], frames_of_ours: Any) -> None:
    """Call it; what goes wrong has been printed by what it calls, and the end goes on."""
    try:
        if call is not None:
            frames_of_ours.value = None  # see conceal.py
            _by_c(call)()
    except BaseException:
        pass
