"""The pause program: right ELF headers for both machines, and, where it can be run, what it does."""

from __future__ import annotations

import platform
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from python_executor.sandboxes.native import pause
from python_executor.sandboxes.native.seccomp import syscall_numbers

here = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no pause for this machine")


def arm64_calls(code: bytes) -> list[int]:
    """What x8 holds at each `svc`, from the `movz` before it."""
    calls, x8 = [], -1
    for (word,) in struct.iter_unpack("<I", code):
        if word & 0xFFE0001F == 0xD2800008:
            x8 = word >> 5 & 0xFFFF
        elif word == 0xD4000001:
            calls.append(x8)
    return calls


def x86_calls(code: bytes) -> list[int]:
    """What eax holds at each `syscall`, from the `mov` just before it."""
    return [int.from_bytes(part[-4:], "little") for part in code.split(b"\x0f\x05")[:-1] if part[-5] == 0xB8]


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_the_elf_is_one_executable_segment_that_holds_the_whole_file(machine, number):
    program = pause.program(machine)
    magic, bits, order, kind, elf_machine = struct.unpack_from("<4sBB10xHH", program)
    entry, header_at, sections_at = struct.unpack_from("<QQQ", program, 24)
    header_size, entry_size, count = struct.unpack_from("<HHH", program, 52)
    assert (magic, bits, order, kind, elf_machine) == (b"\x7fELF", 2, 1, 2, number)
    assert (header_at, sections_at, header_size, entry_size, count) == (64, 0, 64, 56, 1)
    load, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (load, flags, offset, in_file, in_memory) == (1, 5, 0, len(program), len(program))  # readable, executable
    assert address % align == 0
    assert entry == address + 64 + 56


@pytest.mark.parametrize(
    ("machine", "calls", "expected"),
    [("x86_64", x86_calls, "prctl rt_sigaction pause"), ("aarch64", arm64_calls, "prctl rt_sigaction ppoll")],
)
def test_its_calls_are_three_and_its_sigaction_is_aligned(machine, calls, expected):
    names = {number: name for name, number in syscall_numbers(machine).items()}
    code = pause.program(machine)[64 + 56 : -32]
    assert [names[number] for number in calls(code)] == expected.split()
    assert len(code) % 8 == 0


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ignores_sigchld(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    return bool(ignored >> signal.SIGCHLD - 1 & 1)


@pytest.fixture
def executable(tmp_path) -> str:
    path = tmp_path / "pause"
    path.write_bytes(pause.program())
    path.chmod(0o755)
    return str(path)


@here
def test_it_sleeps_ignores_sigchld_and_dies_when_killed(executable):
    with subprocess.Popen([executable], env={}) as process:
        try:
            wait_until(lambda: ignores_sigchld(process.pid))
            process.send_signal(signal.SIGCHLD)
            time.sleep(0.01)
            assert process.poll() is None
            assert "(sleeping)" in Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.kill()
        assert process.wait(5) == -signal.SIGKILL


@here
def test_what_ends_below_it_leaves_no_zombie(executable):
    script = 'sleep 0.05 >&- & echo $!; exec "$0"'
    with subprocess.Popen(["/bin/sh", "-c", script, executable], stdout=subprocess.PIPE) as process:
        try:
            child = Path(f"/proc/{int(process.stdout.readline())}")
            wait_until(lambda: not child.exists())
            assert process.poll() is None
        finally:
            process.kill()
