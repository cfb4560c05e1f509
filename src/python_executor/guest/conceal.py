"""Hides our frames below a program's, and how deep they are: plainly there are none.

The interpreter knows one frame as the current one, and each new frame is linked to it. Where that is taken away just
before a program is called, the program's first frame is linked to nothing: no stack, warning or dump shows ours. It
comes back by itself as our functions call and return.
"""

from __future__ import annotations

import sys
from _functools import partial as by_c  # type: ignore[import-not-found]

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each container
if TYPE_CHECKING:
    from typing import Any, Optional

WORD = 8
CFRAME = {(3, 11): (56, 8), (3, 12): (56, 0)}  # of it in the thread's state, and of the current frame in it
FIELDS = 12  # words at the beginning of the thread's state, among which it is else
DEPTH = 32  # of how many levels there are, until 3.10
LEVELS = {(3, 11): (32, 36), (3, 12): (32, 36), (3, 13): (44, 48)}  # of how many are left, and of their limit
FEW = 100  # levels that ours may be
F_FRAME = 3 * WORD  # of a frame object: what the interpreter itself calls a frame


__all__ = ["Current", "Nowhere", "by_c"]  # the last calls from C: since 3.11 a call by Python links the frames itself


def is_known() -> bool:
    """Whether this is an interpreter that looks as described here."""
    is_usual = sys.maxsize > 2**32 and "t" not in sys.abiflags and not hasattr(sys, "gettotalrefcount")
    return sys.implementation.name == "cpython" and is_usual


class Nowhere:
    """Where the current frame can't be found."""

    value: Optional[int] = None

    @classmethod
    def slot(cls) -> Any:
        """See `Current.slot`."""
        return cls()

    @staticmethod
    def lift(_: int) -> bool:
        """See `Current.lift`."""
        return False


class Current:
    """Where the main thread's current frame is kept."""

    def __init__(self) -> None:
        self._address, self._within = 0, -1
        if not is_known():
            return
        try:
            import ctypes
        except ImportError:
            return  # an interpreter without it
        self._word, self._integer = ctypes.c_void_p, ctypes.c_int
        word = self._word
        self._state = state = ctypes.PYFUNCTYPE(word)(("PyThreadState_Get", ctypes.pythonapi))()
        own: Optional[int] = id(sys._getframe())
        version = sys.version_info[:2]
        if version >= (3, 11):
            own = word.from_address(own + F_FRAME).value  # type: ignore[operator]
        if version in CFRAME:
            field, within = CFRAME[version]
            cframe = word.from_address(state + field).value
            if cframe and word.from_address(cframe + within).value == own:
                self._address, self._within = state + field, within
            return
        fields = (word * FIELDS).from_address(state)[:]  # by no function of Python, which would have a frame
        if fields.count(own) == 1:
            self._address = state + WORD * fields.index(own)

    def lift(self, levels: int) -> bool:
        """Have so many levels of recursion count no more; whether that was possible."""
        if not self._address:
            return False
        integer = self._integer.from_address
        version = sys.version_info[:2]
        if version < (3, 11):
            depth = integer(self._state + DEPTH)
            if levels <= depth.value < FEW:
                depth.value -= levels
                return True
        elif version in LEVELS:
            left, limit = (integer(self._state + field) for field in LEVELS[version])
            if limit.value == sys.getrecursionlimit() and 0 < limit.value - left.value < FEW:
                left.value += levels
                return True
        return False

    def slot(self) -> Any:
        """Something whose `value` set to None hides all frames, from what the caller calls next."""
        if not self._address:
            return Nowhere()
        if self._within < 0:
            return self._word.from_address(self._address)
        cframe = self._word.from_address(self._address).value
        return self._word.from_address((cframe or 0) + self._within)
