"""Limits that hold, and say so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from python_executor.model.events import Termination
from python_executor.model.spec import Limits
from tests.sandbox.conftest import Engine, Outcome, make_spec

Run = Callable[..., Outcome]
QUARTER = Limits(timeout_seconds=30, memory_mb=64, disk_mb=16, cpu_shares=1024, cpus=0.25)
SMALL = Limits(timeout_seconds=30, memory_mb=64, disk_mb=16, cpu_shares=512)

FILLERS = {
    "itself": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "a child": "import os\nif os.fork() == 0:\n  x = []\n  while True: x.append(bytearray(1 << 20))\nos.wait(); print('on')\n"
    "import time; time.sleep(20)",
    "many children": "import os, time\nfor _ in range(20):\n  if os.fork() == 0: x = bytearray(8 << 20); time.sleep(20)\n"
    "time.sleep(20)",
    "memfd": "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))",
    "shared memory": "import mmap\nm = mmap.mmap(-1, 256 << 20)\nfor i in range(0, 256 << 20, 4096): m[i] = 1",
}


@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("filler", FILLERS)
def test_memory_is_one_limit_for_all_that_the_code_does(run: Run, filler: str) -> None:
    outcome = run("print('before')\n" + FILLERS[filler], limits=SMALL)
    assert (outcome.termination, outcome.exit_code) == (Termination.MEMORY, 137)
    assert outcome.stdout.startswith("before\n")


def test_memory_is_bounded_without_cgroups_too(run: Run) -> None:
    outcome = run("x = []\nwhile True: x.append(bytearray(1 << 20))", limits=SMALL)
    assert outcome.termination is Termination.MEMORY or outcome.raised == ("MemoryError", 2)


@pytest.mark.parametrize("directory", ["/work", "/tmp", "/dev/shm"])
def test_a_full_disk_is_enospc_and_nothing_else(run: Run, directory: str) -> None:
    code = f"""
try:
    with open({directory + "/big"!r}, "wb") as file:
        while True: file.write(b"x" * (1 << 16))
except OSError as error: print(error.errno)
print("on")
"""
    outcome = run(code, limits=SMALL)
    assert (outcome.stdout, outcome.exit_code) == ("28\non\n", 0)


def test_a_full_disk_is_no_lack_of_memory_where_files_may_take_all_of_it(run: Run) -> None:
    code = (
        "f = open('/tmp/x', 'wb', 0)\ntry:\n  while True: f.write(bytes(1 << 20))\nexcept OSError as e: print(e.errno)"
    )
    outcome = run(code, limits=Limits(30, 128, 128, 1024))
    assert (outcome.stdout, outcome.exit_code) == ("28\n", 0)


def test_a_larger_disk_is_there_when_asked_for(run: Run) -> None:
    code = "open('/work/x', 'wb').write(bytes(100 << 20)); print('fits')"
    assert run(code, limits=Limits(30, 512, 128, 1024)).stdout == "fits\n"


def test_processes_are_bounded(run: Run) -> None:
    code = "import os, time\ncount = 0\ntry:\n  while count < 2000:\n    if os.fork() == 0: time.sleep(30); os._exit(0)\n" \
        "    count += 1\nexcept BlockingIOError: print('refused', count < 300)"  # fmt: skip
    assert run(code).stdout == "refused True\n"


@pytest.mark.usefixtures("needs_cgroups")
def test_processes_are_counted_by_the_cgroup_as_well(engine: Engine) -> None:
    sandbox = engine.wait(engine.backend.acquire(make_spec("")))
    try:
        assert sandbox._cgroup is not None and sandbox._cgroup._read("pids", "pids.max").strip() == "256"
        assert "pids" in sandbox.controllers()
    finally:
        engine.wait(sandbox.destroy())


def test_open_files_are_bounded(run: Run) -> None:
    code = "import os\ntry:\n  while True: os.open('/dev/null', os.O_RDONLY)\nexcept OSError as e: print(e.errno)"
    assert run(code).stdout == "24\n"


@pytest.mark.usefixtures("needs_cgroups")
def test_usage_is_what_the_kernel_counted(run: Run) -> None:
    # Its own clock also has what the fork took before it was a sandbox, which the kernel does not count for this run.
    usage = run("x = bytearray(50 << 20)\nimport time\nwhile time.process_time() < 0.2: pass").exited.usage
    assert 190 <= usage.cpu_ms < 5000 and usage.memory_peak_bytes >= 50 << 20


def test_cpu_is_counted_without_cgroups_too(run: Run) -> None:
    assert run("import time\nwhile time.process_time() < 0.2: pass").exited.usage.cpu_ms >= 190


def test_a_result_is_cut_to_its_limit(run: Run) -> None:
    outcome = run("'x' * 5_000_000", eval_last_expr=True)
    assert outcome.result is not None and len(outcome.result) == 1 << 20


def test_output_without_end_does_not_hold_up_a_neighbour(engine: Engine) -> None:
    endless = "import os\nwhile True: os.write(1, b'x' * 65536)"

    async def beside() -> Outcome:
        import asyncio

        from tests.sandbox.conftest import make_spec

        flood = asyncio.create_task(engine.run_spec(make_spec(endless)))
        await asyncio.sleep(0.1)
        outcome = await engine.run_spec(make_spec("print('still here')"))
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
        return outcome

    assert engine.wait(beside()).stdout == "still here\n"


FLOODS = {
    "terminals": "import os\ntry:\n  while True: os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY); count += 1\nexcept OSError: pass",
    "signals": "import ctypes, os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])\n"
    "c = ctypes.CDLL(None)\nwhile c.sigqueue(os.getpid(), signal.SIGRTMIN, ctypes.c_void_p(0)) == 0: count += 1",
    "message queues": "import ctypes\nc = ctypes.CDLL(None)\nwhile c.mq_open(b'/q%d' % count, 0o102, 0o600, None) >= 0: count += 1",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_what_the_kernel_counts_for_a_user_is_bounded(run: Run, flood: str) -> None:
    outcome = run(f"count = 0\n{FLOODS[flood]}\nprint(count)")
    assert int(outcome.stdout) <= 1024, outcome.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's inotify instances are its own to use up")
def test_inotify_is_bounded(run: Run) -> None:
    code = "import ctypes\nc = ctypes.CDLL(None); count = 0\nwhile c.inotify_init() >= 0: count += 1\nprint(count)"
    assert run(code).stdout == "16\n"


@pytest.mark.usefixtures("needs_cgroups")
def test_socket_buffers_are_bounded(run: Run) -> None:
    code = """
import socket
pairs, sent = [], 0
for _ in range(200):
    a, b = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    b.bind(("127.0.0.1", 0)); a.connect(b.getsockname()); a.setblocking(False); pairs.append((a, b))
    for _ in range(2000):
        try: a.send(bytes(1400))
        except OSError: break
held = 0
for a, b in pairs:
    b.setblocking(False)
    try:
        while True: held += len(b.recv(2000))
    except OSError: pass
print(held)
"""
    assert int(run(code, limits=SMALL).stdout) <= 64 << 20


@pytest.mark.usefixtures("needs_cgroups")
def test_a_quota_of_processors_holds_though_others_are_idle(run: Run) -> None:
    code = """
import time
start = time.monotonic()
while time.monotonic() < start + 1: pass
print(time.process_time() / (time.monotonic() - start))
"""
    assert float(run(code, limits=QUARTER).stdout) < 0.5


def test_no_file_is_larger_than_all_memory_not_even_one_with_holes(run: Run) -> None:
    code = """
import os
fd = os.open("/tmp/x", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 64 << 20)
try: os.ftruncate(fd, (64 << 20) + 1)
except OSError as error: print(error.strerror)
"""
    assert run(code, limits=SMALL).stdout == "File too large\n"


SPINNERS = {
    "itself": "while True: pass",
    "a child": "import os\nif os.fork() == 0:\n  while True: pass\nos.wait()",
    "children that end": "import os, time\nwhile True:\n  if os.fork() == 0:\n    end = time.process_time() + 0.02\n"
    "    while time.process_time() < end: pass\n    os._exit(0)\n  os.wait()",
    "threads": "import hashlib, threading\ndef f():\n  while True: hashlib.sha256(bytes(1 << 20))\n"
    "for _ in range(3): threading.Thread(target=f).start()",
    "a command before it": "",
}


@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("spinner", SPINNERS)
def test_processor_time_is_one_limit_for_all_that_the_code_does(run: Run, spinner: str) -> None:
    before = ("while :; do :; done",) if spinner == "a command before it" else ("echo before",)
    outcome = run(SPINNERS[spinner], limits=replace(SMALL, cpu_seconds=0.5), pre_commands=before)
    assert (outcome.termination, outcome.exit_code) == (Termination.CPU, 152)
    assert outcome.stdout == ("" if spinner == "a command before it" else "before\n")
    assert 500 <= outcome.exited.usage.cpu_ms < 700


def test_processor_time_is_bounded_without_cgroups_too(run: Run) -> None:
    outcome = run("while True: pass", limits=replace(SMALL, cpu_seconds=0.25))
    assert outcome.termination is Termination.CPU and 250 <= outcome.exited.usage.cpu_ms < 600


def test_what_waits_uses_no_processor_time(run: Run) -> None:
    outcome = run("import time; time.sleep(1); print('woken')", limits=replace(SMALL, cpu_seconds=0.5))
    assert (outcome.stdout, outcome.termination) == ("woken\n", Termination.EXITED)


def test_whoever_ends_with_the_processor_time_used_up_is_told_so(run: Run) -> None:
    code = "import time\nwhile time.process_time() < 0.06: pass\nprint('done')"
    outcome = run(code, limits=replace(SMALL, cpu_seconds=0.02))
    assert (outcome.stdout in ("", "done\n"), outcome.termination) == (True, Termination.CPU)
