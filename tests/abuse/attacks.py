"""The shape of an attack. Each module beside this one lists those of its kind in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXITED = ("exited", 0)


@dataclass(frozen=True)
class Attack:
    """Code that prints REACHED where it gets through a boundary, and what is switched off for the twin that does.

    Where layers overlap, `without` names the whole set that stands in its way, by the keys of
    `tests.support.mutants.MUTATIONS`; each layer then has a direct probe of its own (tests/sandbox/test_boundaries.py).
    """

    name: str  # what the code tries, as a sentence's end: "reads the server's environment"
    code: str
    without: tuple[str, ...]
    says: str = ""  # what the code prints where it is held
    verdict: tuple[str, int] = EXITED  # termination and exit code where it is held
    config: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)  # more fields of POST /eval
    twin_config: Mapping[str, Any] | None = None  # where the twin needs other limits
    needs_privilege: bool = False  # held by cgroups or uids of its own only: an ordinary user's server is weaker there
    twin_verdict: tuple[str, int] | None = None  # where the twin shows by its end, not by REACHED, that it got through

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


PRELUDE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    'A system call by number; prints REACHED or the name of the errno.'
    result = libc.syscall(*arguments)
    print("REACHED" if result >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)
    return result
def reach(attempt, *arguments):
    'Prints REACHED, or the name of the errno that the attempt ended with.'
    try: attempt(*arguments)
    except OSError as error: print(errno.errorcode[error.errno], flush=True)
    else: print("REACHED", flush=True)
"""
