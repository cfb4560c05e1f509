"""`pause`: PID 1 of every sandbox, and the guardian of every box, as a static program of a few instructions.

A second Python process for it would cost each sandbox more than all else that makes it one. It makes itself unreadable
to others of its uid, ignores SIGCHLD so that the kernel reaps for it, and sleeps. No compiler is needed: the code is
below, as an assembler prints it, and `program()` puts it into a minimal ELF.
"""

from __future__ import annotations

import platform
import struct

_X86_64 = bytes.fromhex(
    "bf04000000"  # mov edi, 4           prctl(PR_SET_DUMPABLE,
    "31f6"  # xor esi, esi               0)
    "b89d000000"  # mov eax, 157
    "0f05"  # syscall
    "bf11000000"  # mov edi, 17          rt_sigaction(SIGCHLD,
    "488d351e000000"  # lea rsi, [rip+30]  &ignore,
    "31d2"  # xor edx, edx               NULL,
    "41ba08000000"  # mov r10d, 8        8)
    "b80d000000"  # mov eax, 13
    "0f05"  # syscall
    "b822000000"  # again: mov eax, 34   pause()
    "0f05"  # syscall
    "ebf7"  # jmp again
    "660f1f440000"  # nop, up to a multiple of 8
)
_AARCH64 = bytes.fromhex(
    "800080d2"  # mov x0, #4             prctl(PR_SET_DUMPABLE,
    "010080d2"  # mov x1, #0             0)
    "e81480d2"  # mov x8, #167
    "010000d4"  # svc #0
    "200280d2"  # mov x0, #17            rt_sigaction(SIGCHLD,
    "a1010010"  # adr x1, ignore         &ignore,
    "020080d2"  # mov x2, #0             NULL,
    "030180d2"  # mov x3, #8             8)
    "c81080d2"  # mov x8, #134
    "010000d4"  # svc #0
    "000080d2"  # again: mov x0, #0      ppoll(NULL,
    "010080d2"  # mov x1, #0             0,
    "020080d2"  # mov x2, #0             NULL,
    "030080d2"  # mov x3, #0             NULL)
    "280980d2"  # mov x8, #73
    "010000d4"  # svc #0
    "faffff17"  # b again
    "1f2003d5"  # nop, up to a multiple of 8
)
_IGNORE = struct.pack("<QQQQ", 1, 0, 0, 0)  # struct sigaction with SIG_IGN
_MACHINES = {"x86_64": (62, _X86_64 + _IGNORE), "aarch64": (183, _AARCH64 + _IGNORE)}  # e_machine, code and data

_LOAD_ADDRESS = 0x400000
_ELF_HEADER_SIZE, _PROGRAM_HEADER_SIZE = 64, 56


def program(machine: str = platform.machine()) -> bytes:
    """The ELF executable for a machine as `uname -m` names it; KeyError where there is none."""
    elf_machine, code = _MACHINES[machine]
    headers = _ELF_HEADER_SIZE + _PROGRAM_HEADER_SIZE
    size = headers + len(code)
    elf_header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0),  # 64 bits, little-endian, version 1, System V
        *(2, elf_machine, 1),  # an executable, of version 1
        *(_LOAD_ADDRESS + headers, _ELF_HEADER_SIZE, 0),  # entry point, program headers, no sections
        *(0, _ELF_HEADER_SIZE, _PROGRAM_HEADER_SIZE, 1, 0, 0, 0),
    )
    read_and_execute = 5
    program_header = struct.pack("<IIQQQQQQ", 1, read_and_execute, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return elf_header + program_header + code
