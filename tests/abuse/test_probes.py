"""Layers that lie behind others, or that no twin can be without; each says why it has none. Direct probes, from inside."""

from __future__ import annotations

import platform

import pytest

from python_executor.sandboxes.native.seccomp import syscall_numbers
from tests.abuse.attacks import PRELUDE
from tests.abuse.conftest import Neighbour
from tests.support.api import Api

NUMBERS = syscall_numbers(platform.machine())
OWN = ("/work", "/tmp", "/dev/shm", "/dev/pts", "/proc")


def said(api: Api, code: str) -> str:
    result = api.eval(PRELUDE + code)
    assert (result["termination"], result["exit_code"]) == ("exited", 0), result
    text: str = result["stdout"]
    return text


MOUNTS = "points = [line.split(' ')[4] for line in open('/proc/self/mountinfo')]\n"


@pytest.mark.parametrize(
    ("flag", "where"),
    [("ST_RDONLY", f"not point.startswith({OWN})"), ("ST_NOSUID", "True"),
     ("ST_NODEV", "not point.startswith(('/dev/n', '/dev/z', '/dev/f', '/dev/r', '/dev/u', '/dev/pts'))")],
)  # fmt: skip
def test_each_mount_has_its_flags(flag: str, where: str, attacked_api: Api, undisturbed: Neighbour) -> None:
    """Each a layer: the filter and the lack of capabilities already keep code from using what these deny."""
    code = f"{MOUNTS}print([point for point in points if {where} and not os.statvfs(point).f_flag & os.{flag}])"
    assert said(attacked_api, code) == "[]\n"


def test_no_signal_ends_its_init(attacked_api: Api, undisturbed: Neighbour) -> None:
    """The kernel's own rule for the first process of a PID namespace: no signal from inside that it has no handler for."""
    code = """
import signal
for number in range(1, 65):
    try: os.kill(1, number)
    except (PermissionError, ValueError, OSError): pass
try: os.kill(1, 0); print("alive")
except PermissionError: print("alive")
"""
    assert said(attacked_api, code) == "alive\n"


def test_killing_everybody_kills_its_own(attacked_api: Api, undisturbed: Neighbour) -> None:
    """As above: -1 ends at the PID namespace. That it reaches a neighbour without one is in test_neighbours.py."""
    code = "import signal\nif (child := os.fork()) == 0: signal.pause()\nos.kill(-1, 9)\nprint(os.waitpid(child, 0)[1])"
    assert said(attacked_api, code) == "9\n"


@pytest.mark.parametrize(
    "option",
    ["1, 9", "4, 0", "36, 1", "15, b'pause'", "23, 0", "8, 1", "33, 1, 1", "0x59616d61, -1", "35, 8, 4096"],
    ids=["PDEATHSIG", "DUMPABLE", "CHILD_SUBREAPER", "NAME", "CAPBSET_READ", "KEEPCAPS", "MCE_KILL", "PTRACER", "MM"],
)
def test_what_prctl_changes_is_its_own(option: str, attacked_api: Api, undisturbed: Neighbour) -> None:
    """Allowed, and without effect on others by the kernel's design: nothing to switch off."""
    assert said(attacked_api, f"libc.prctl({option}, 0, 0, 0)\nprint('on')") == "on\n"


def test_the_interpreter_that_it_changes_is_its_own(attacked_api: Api, undisturbed: Neighbour) -> None:
    """Private pages are copied when written, by the kernel: no layer of ours to switch off."""
    code = """
place = ctypes.cast(libc.getpid, ctypes.c_void_p).value
ret = {"x86_64": bytes.fromhex("b8d2040000c3"), "aarch64": bytes.fromhex("409a80d2c0035fd6")}[os.uname().machine]
if WRITE:
    assert libc.mprotect(ctypes.c_void_p(place & -4096), 8192, 7) == 0
    ctypes.memmove(place, ret, len(ret))  # mov 1234; ret
print(libc.getpid())
"""
    assert said(attacked_api, "WRITE = True" + code) == "1234\n"
    for _ in range(3):
        assert said(attacked_api, "WRITE = False" + code) == "2\n"


def test_new_memory_holds_nothing_of_the_one_before(attacked_api: Api, undisturbed: Neighbour) -> None:
    """Pages are zeroed by the kernel before they are given to anybody: no layer of ours to switch off."""
    said(attacked_api, "kept = [b'python-executor was here' * 43690 for _ in range(100)]")
    code = """
import mmap
page = mmap.mmap(-1, 128 << 20)
print(page[:] == bytes(128 << 20))
"""
    assert said(attacked_api, code) == "True\n"


def test_the_number_of_its_uid_is_not_the_machines(attacked_api: Api, undisturbed: Neighbour) -> None:
    """/proc/self/uid_map shows what the box calls it: a twin's box would have to lie about the mapping itself."""
    inside, outside, count = map(int, said(attacked_api, "print(open('/proc/self/uid_map').read())").split())
    assert (inside, count) == (1000, 1) and outside < 1 << 16


def test_numbers_of_x32_are_unknown(attacked_api: Api, undisturbed: Neighbour) -> None:
    """Kernels are built without x32: its calls would fail without the filter, too."""
    if platform.machine() != "x86_64":
        return
    unshare = 0x40000000 | NUMBERS["unshare"]
    assert said(attacked_api, f"call({unshare}, 0x10000000)") == "ENOSYS\n"


def test_it_cannot_become_the_last_that_the_oom_killer_takes(attacked_api: Api, undisturbed: Neighbour) -> None:
    """Its /proc is read-only: the kernel's own rule asks for CAP_SYS_RESOURCE of the server, which it may lack."""
    code = "def lower():\n  with open('/proc/self/oom_score_adj', 'w') as file: file.write('-1000')\nreach(lower)"
    assert said(attacked_api, code) == "EROFS\n"


@pytest.mark.parametrize("name", ["lookup_dcookie", "vhangup", "ustat", "sysfs", "nfsservctl", "remap_file_pages"])
def test_old_calls_do_no_harm(name: str, attacked_api: Api, undisturbed: Neighbour) -> None:
    """Not in every kernel, or allowed: there is no common way to show that they were reached."""
    if name in NUMBERS:
        assert "REACHED" not in said(attacked_api, f"call({NUMBERS[name]}, 0, 0, 0, 0, 0)")


def test_its_own_landlock_and_filters_work_and_bind_nobody_else(attacked_api: Api, undisturbed: Neighbour) -> None:
    """What a program may do to itself: to be allowed, not to be held."""
    code = """
import struct
rules = libc.syscall(444, struct.pack("=Q", 4), 8, 0)  # landlock_create_ruleset: handles reading files
libc.prctl(38, 1, 0, 0, 0)
bound = rules >= 0 and libc.syscall(446, rules, 0) == 0
try: open("/etc/passwd"); print("free")
except PermissionError: print("bound")
"""
    assert said(attacked_api, code) in ("bound\n", "free\n")  # free: a kernel without landlock
    assert said(attacked_api, "open('/etc/passwd'); print('free')") == "free\n"


def test_its_uid_is_nobody_elses_on_the_machine(privilege: None, attacked_api: Api, undisturbed: Neighbour) -> None:
    """The layer behind the PID namespace; SIGNALS in test_neighbours.py switch both off."""
    numbers = [said(attacked_api, "print(open('/proc/self/uid_map').read())").split()[1] for _ in range(3)]
    assert "0" not in numbers
