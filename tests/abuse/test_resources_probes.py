"""Resources that no single answer shows: shares of the processors, the server's own memory; and what has no twin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.abuse.attacks import PRELUDE
from tests.abuse.conftest import Neighbour
from tests.support.api import Api
from tests.support.guarded import Guarded
from tests.support.server import ServerProcess
from tests.support.traces import cgroups

HOGS = """
import os, time
children = []
for _ in range(23):
    children.append(os.fork())
    if children[-1] == 0: break
began = time.monotonic()
while time.monotonic() < began + 1.2: pass
if 0 in children: os._exit(0)
for child in children: os.wait()
print(sum(os.times()[:4]) / (time.monotonic() - began))
"""
VICTIM = """
import time
time.sleep(0.3)
end = time.monotonic() + 0.5
began = time.process_time()
while time.monotonic() < end: pass
print((time.process_time() - began) / 0.5)
"""


def advantage(hogs: Future[Any], victim: Any) -> float:
    """How many times the victim's share of the processors the hogs had."""
    return float(hogs.result(60)["stdout"]) / float(victim["stdout"])


@pytest.mark.usefixtures("privilege")
def test_many_busy_processes_get_no_more_than_one(
    attacked: ServerProcess, attacked_api: Api, undisturbed: Neighbour
) -> None:
    with ThreadPoolExecutor(1) as pool, closing(Api(attacked.url)) as other:
        tries = (advantage(pool.submit(other.eval, HOGS), attacked_api.eval(VICTIM)) for _ in range(4))
        assert any(times < 4 for times in tries)  # more than one, since the machine may be busy with something else


@pytest.mark.twin
def test_its_twin_gets_many_times_as_much(without: Callable[..., Guarded]) -> None:
    guarded = without("cgroup")
    tries = (advantage(guarded.start("eval", HOGS), guarded.eval(VICTIM)) for _ in range(4))
    assert any(times > 6 for times in tries)


MEMORY_FILES = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max")  # with swap, where it is counted


def resident_kib(server: ServerProcess) -> int:
    assert server.process is not None
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_output_without_end_takes_no_memory_of_the_servers_without_end(
    attacked: ServerProcess, attacked_api: Api, undisturbed: Neighbour
) -> None:
    code = "import os, threading\ndef flood(fd):\n  while True: os.write(fd, b'x' * 65536)\n" \
        "threading.Thread(target=flood, args=(2,)).start()\nflood(1)"  # fmt: skip
    before, most = resident_kib(attacked), 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, resident_kib(attacked))

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = attacked_api.eval(code, config={"timeout_seconds": 1})
    done.set()
    watcher.join()
    assert (result["termination"], result["stdout_truncated"], result["stderr_truncated"]) == ("timeout", True, True)
    assert len(result["stdout"]) == len(result["stderr"]) == 10 << 20
    assert most - before < 300 << 10  # the answer is made of several copies of 20 MiB


@pytest.mark.usefixtures("privilege")
def test_each_layer_of_what_bounds_processes_and_memory_is_there(
    attacked: ServerProcess, attacked_api: Api, undisturbed: Neighbour
) -> None:
    code = "import resource, time\nprint(*resource.getrlimit(resource.RLIMIT_NPROC), flush=True)\ntime.sleep(20)"
    image = "python:" + ".".join(attacked_api.eval("1")["python"].split(".")[:2])
    execution = attacked_api.submit(code, docker_image=image, config={"memory_mb": 77})
    assert attacked_api.until(execution, "stdout", "\n")["stdout"] == "256 256\n"
    sandboxes = [group for group in cgroups(attacked) if group.name.isdigit()]
    assert {int(file.read_text()) for group in sandboxes for file in group.glob("pids.max")} == {256}
    memory = [int(file.read_text()) for name in MEMORY_FILES for group in sandboxes for file in group.glob(name)]
    assert memory and memory.count(77 << 20) == len(
        {name for name in MEMORY_FILES for group in sandboxes if (group / name).exists()}
    )
    assert attacked_api.kill(execution) == "killed"


PROBES = {  # code, what it says; each with the reason why there is no twin
    # The guards of the twins may not, either: root without CAP_SYS_RESOURCE, as here, and the same limit.
    "locks much memory": (
        "at = libc.mmap\nat.restype = ctypes.c_void_p\nlibc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]\n"
        "print(libc.mlock(at(None, ctypes.c_size_t(32 << 20), 3, 0x22, -1, 0), 32 << 20))",
        "-1\n",
    ),
    # A group of version 1 has no real-time budget unless it is given one.
    "becomes a real-time process": ("reach(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(50))", "EPERM\n"),
    # Nothing to hold: what it makes takes no room.
    "makes files that are larger than all disks": (
        "free = os.statvfs('/tmp').f_bavail\n"
        "try: os.truncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 50)\nexcept OSError: pass\n"
        "print(free - os.statvfs('/tmp').f_bavail)",
        "0\n",
    ),
    "nests directories without end": (
        "os.chdir('/tmp')\nfor _ in range(5000): os.mkdir('x' * 255); os.chdir('x' * 255)\nprint('on')",
        "on\n",
    ),
    "asks for names that are not there": (
        "for number in range(100_000):\n  try: os.stat(f'/usr/lib/{number:0250}')\n  except OSError: pass\nprint('on')",
        "on\n",
    ),
    # Its own scheduling among its own is its own affair.
    "pins itself to one processor and yields to nobody": (
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nos.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\nprint('on')",
        "on\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBES)
def test_it_gets_nothing_by_that(name: str, attacked_api: Api, undisturbed: Neighbour) -> None:
    code, says = PROBES[name]
    result = attacked_api.eval(PRELUDE + code, config={"memory_mb": 128})
    assert (result["stdout"], result["exit_code"]) == (says, 0), result["stderr"]
