"""The native backend's filter as a seccomp profile for Docker: a container's code may call what a sandbox's may.

The rules are read from the code of the native conditions, path by path, so each call's rules exclude one another. The
engine compares all 64 bits of an argument, the kernel uses the low 32, and user code sets the others as it likes: every
comparison is of a masked value, and "anything but this" becomes a rule for each bit that may be the first to differ.
Where that would be hundreds of rules (whatever is not in a list of options, requests or protocols) there is none: the
call then fails with EPERM, which is the profile's default, and not with the native filter's errno.
"""

from __future__ import annotations

import errno
import functools
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..native.seccomp import ALLOWED, conditions

_LOAD, _AND, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_FIRST_ARGUMENT = 16  # in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
LEFT_TO_DEFAULT = frozenset({errno.EPERM, errno.ENOTTY, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT})


@dataclass(frozen=True)
class _Bits:
    """32-bit numbers by some of their bits: those of `mask` read `value`."""

    mask: int = 0
    value: int = 0

    def agreeing(self, other: _Bits) -> Iterator[_Bits]:
        """Those that are the other's too, if there are any."""
        if not (self.value ^ other.value) & self.mask & other.mask:
            yield _Bits(self.mask | other.mask, self.value | other.value)

    def differing(self, other: _Bits) -> Iterator[_Bits]:
        """Those that are not the other's, by the first bit that differs."""
        if (self.value ^ other.value) & self.mask & other.mask:
            yield self
            return
        mask, value = self.mask, self.value
        for bit in (1 << position for position in reversed(range(32))):
            if bit & other.mask & ~self.mask:
                mask |= bit
                yield _Bits(mask, value | bit & ~other.value)
                value |= bit & other.value


_Code = list[tuple[int, int, int, int]]
_Arguments = dict[int, _Bits]


def _paths(code: _Code, known: _Arguments, index: int = 0, mask: int = 0) -> Iterator[tuple[int, _Arguments]]:
    """Each answer that the code may end in, with the arguments that lead there."""
    operation, if_true, if_false, value = code[0]
    if operation == _LOAD:
        yield from _paths(code[1:], known, (value - _FIRST_ARGUMENT) // 8, 0xFFFFFFFF)
    elif operation == _AND:
        yield from _paths(code[1:], known, index, mask & value)
    elif operation == _IF_EQUAL:
        argument, looked_for = known.get(index, _Bits()), _Bits(mask, value)
        for bits in argument.agreeing(looked_for):
            yield from _paths(code[1 + if_true :], {**known, index: bits}, index, mask)
        for bits in argument.differing(looked_for):
            yield from _paths(code[1 + if_false :], {**known, index: bits}, index, mask)
    elif operation == _RETURN:
        yield value, known
    else:
        raise NotImplementedError(f"BPF operation {operation:#x}")


def _answer(answer: int) -> dict[str, Any]:
    if answer == _ALLOW:
        return {"action": "SCMP_ACT_ALLOW"}
    return {"action": "SCMP_ACT_ERRNO", "errnoRet": answer & ~_ERRNO}


def _compare(index: int, bits: _Bits) -> dict[str, Any]:
    return {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": bits.mask, "valueTwo": bits.value}


def _rules(name: str, condition: bytes) -> Iterator[dict[str, Any]]:
    for answer, arguments in _paths(list(struct.iter_unpack("=HBBI", condition)), {}):
        if answer == _ALLOW or answer & ~_ERRNO not in LEFT_TO_DEFAULT:
            yield {"names": [name], **_answer(answer), "args": [_compare(*pair) for pair in arguments.items()]}


@functools.cache
def profile() -> str:
    """The profile as JSON, for `SecurityOpt: ["seccomp=…"]` of the engine's API."""
    rules = [{"names": sorted(ALLOWED), **_answer(_ALLOW)}]
    for name, condition in sorted(conditions().items()):
        rules += _rules(name, condition)
    architectures = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
    machines = [{"architecture": name, "subArchitectures": []} for name in architectures]  # a 32-bit call kills
    document = {"defaultAction": "SCMP_ACT_ERRNO", "archMap": machines, "syscalls": rules}
    return json.dumps(document, separators=(",", ":"))
