"""Keeps the zygote's memory shared with what is forked from it.

A page is copied when a fork first writes to it, and CPython writes to an object whenever it looks at it: it counts
references in there. Where an interpreter has objects that are not counted because they never go (3.12 and later, PEP
683), all that is preloaded becomes one of them: the zygote never frees it anyway. That spares each sandbox a third of
its page faults, and half of the memory in which it waits.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types
from typing import Any, List

UINT32 = ctypes.c_uint32


def has_immortal_objects() -> bool:
    """Whether the count is where we look for it, and has a value that means "never count"."""
    if sys.version_info < (3, 12) or "t" in sys.abiflags or hasattr(sys, "gettotalrefcount"):
        return False
    probe = [object()] * 7
    return UINT32.from_address(id(probe[0])).value == 7 and UINT32.from_address(id(None)).value >= 1 << 31


def make_immortal() -> None:
    """All objects that can be found."""
    if not has_immortal_objects():
        return
    immortal = UINT32.from_address(id(None)).value
    found: dict[int, Any] = {}  # which keeps them alive while we write to them
    left = gc.get_objects()
    while left:
        each = left.pop()
        if id(each) not in found and each is not found and not isinstance(each, types.FrameType):
            found[id(each)] = each
            left += referents(each)
    for address in found:
        UINT32.from_address(address).value = immortal


def referents(each: Any) -> List[Any]:
    """What it holds."""
    if isinstance(each, types.CodeType):  # of which the collector knows nothing
        return [each.co_consts, each.co_names, each.co_filename, each.co_name, each.co_qualname, each.co_linetable,
                each.co_exceptiontable]  # fmt: skip
    return gc.get_referents(each)
