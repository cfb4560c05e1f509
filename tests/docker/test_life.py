"""A container's life: made ahead, bounded while it runs, gone within a second when it is to end, and then without trace."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.engine import Engine

from .serving import (
    WELL,
    Served,
    container_of,
    ending,
    eventually,
    inspect,
    long,
    our_containers,
    processes_of,
    serving,
)

IMAGE = "python:3.11-slim"
END_SECONDS = 1.0  # within which a container has ended that is killed, or whose time is up
NOISE = 0.3  # seconds; of a machine with other work
SMALL = {"memory_mb": 64, "disk_mb": 32, "timeout_seconds": 30}

STUBBORN = {
    "ignores signals": "for number in range(1, 32):\n  if number not in (9, 19): signal.signal(number, signal.SIG_IGN)",
    "daemonizes": "for _ in range(3):\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n"
    "    os._exit(0)",
    "forks on and on": "def bomb():\n  while True:\n    try: os.fork()\n    except OSError: pass\n"
    "if os.fork() == 0: bomb()\ntime.sleep(0.5)",
    "writes on and on": "if os.fork() == 0:\n  while True: os.write(1, b'up' * 30000)",
}


# --- the end ---


@pytest.mark.parametrize("way", STUBBORN)
def test_a_kill_ends_all_of_it_within_a_second(containers: Served, way: str) -> None:
    code = f"import os, signal, time\n{STUBBORN[way]}\n"
    assert best_of_three(lambda: seconds_of_a_kill(containers, code)) < END_SECONDS + NOISE


def best_of_three(measure: Callable[[], float]) -> float:
    """The least of them: others use the machine, too."""
    least = measure()
    for _ in range(2):
        if least > END_SECONDS / 2:
            least = min(least, measure())
    return least


def seconds_of_a_kill(served: Served, code: str) -> float:
    """From the request to where no process of the container's is left."""
    execution_id, container = container_of(served, before_sleep=code)
    assert processes_of(container)
    start = time.monotonic()
    assert served.api.kill(execution_id) == "killed"
    assert eventually(lambda: not processes_of(container), 5)
    seconds = time.monotonic() - start
    assert "up\n" in served.api.look(execution_id)["stdout"]
    return seconds


def test_the_end_of_its_time_ends_all_of_it_within_a_second(containers: Served) -> None:
    code = "import os, signal, time\n" + "\n".join(STUBBORN[way] for way in ("ignores signals", "daemonizes"))

    def late() -> float:
        execution_id, container = container_of(containers, before_sleep=code, config={"timeout_seconds": 1})
        result = containers.api.finished(execution_id)
        assert ending(result) == ("failed", "timeout", 124)
        assert result["stdout"].endswith("up\n")
        assert eventually(lambda: not processes_of(container), 5)
        return result["duration_ms"] / 1000 - 1

    assert best_of_three(late) < END_SECONDS + NOISE


def test_a_process_that_outlives_the_code_ends_with_it(containers: Served) -> None:
    code = f"import os, time\n{STUBBORN['daemonizes']}\nprint('done')"
    start = time.monotonic()
    result = containers.api.run(code, docker_image=IMAGE)
    assert time.monotonic() - start < 20
    assert (result["stdout"], ending(result)) == ("done\n", WELL)


# --- what is left ---


@pytest.mark.parametrize("many", [20, pytest.param(100, marks=long)])
def test_many_executions_leave_nothing(engine: Engine, tmp_path: Path, many: int) -> None:
    def traces() -> set[str]:
        lists = (("volume", "ls"), ("network", "ls", "--no-trunc"))
        return {f"{words[0]} {each}" for words in lists for each in engine.run_cli(*words, "--quiet").split()}

    before = traces()
    with serving(engine, tmp_path) as served, ThreadPoolExecutor(4) as pool:

        def run(number: int) -> str:
            api = Api(served.process.url)
            image = "with-volume:latest" if number % 4 == 0 else IMAGE
            try:
                return api.run(f"print({number})", docker_image=image)["stdout"]
            finally:
                api.close()

        assert list(pool.map(run, range(many))) == [f"{number}\n" for number in range(many)]
        assert len(served.containers()) < 20  # what waits for more
    assert not served.containers()
    assert traces() <= before


def test_a_volume_that_an_image_declares_is_empty_and_read_only(containers: Served) -> None:
    code = "import os\nprint(os.listdir('/data'))\ntry: open('/data/new', 'w')\nexcept OSError as e: print(e.errno)"
    result = containers.api.run(code, docker_image="with-volume:latest")
    assert result["stdout"] == "[]\n30\n", result


# --- limits ---


def test_limits_that_are_asked_for_are_the_containers(containers: Served) -> None:
    config = {"memory_mb": 200, "disk_mb": 100, "cpu_shares": 300, "cpus": 0.5}
    before_sleep = "import os\nprint(sum(os.statvfs(d).f_blocks * 4096 for d in ('/work', '/tmp', '/dev/shm')), 'B')\n"
    execution_id, container = container_of(containers, before_sleep=before_sleep, config=config)
    host = inspect(containers.engine, container)["HostConfig"]
    printed = containers.api.look(execution_id)["stdout"]
    containers.api.kill(execution_id)
    assert 200 << 20 <= host["Memory"] == host["MemorySwap"] <= 220 << 20
    assert (host["CpuShares"], host["NanoCpus"]) == (300, 500_000_000)
    (sizes,) = [int(line.split()[0]) for line in printed.splitlines() if line.endswith(" B")]
    assert 99 << 20 <= sizes <= 100 << 20


@pytest.mark.parametrize("directory", ["/work", "/tmp", "/dev/shm"])
def test_a_full_disk_is_enospc_and_nothing_else(containers: Served, directory: str) -> None:
    code = f"""
try:
    with open("{directory}/big", "wb") as file:
        while True: file.write(b"x" * (1 << 16))
except OSError as error: print(error.errno)
print("on")
"""
    result = containers.api.run(code, config=SMALL)
    assert (result["stdout"], ending(result)) == ("28\non\n", WELL)


@pytest.mark.parametrize("directory", ["/", "/etc", "/usr", "/var/tmp", "/run", "/dev", "/opt", "/root"])
def test_nothing_else_can_be_written_to(containers: Served, directory: str) -> None:
    code = f"try: open('{directory}/file', 'w')\nexcept OSError as error: print(error.errno in (13, 30))"
    assert containers.api.run(code)["stdout"] == "True\n"


FILLERS = {
    "itself": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "a child": "import os, time\nif os.fork() == 0:\n  x = []\n  while True: x.append(bytearray(1 << 20))\n"
    "os.wait(); print('on')\ntime.sleep(20)",
    "a child of a child": "import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', "
    '\'import subprocess, sys; subprocess.run([sys.executable, "-c", "x = []\\\\nwhile 1: x.append(bytearray(1<<20))"])\'])\n'
    "print('on')\ntime.sleep(20)",
    "many children": "import os, time\nfor _ in range(20):\n  if os.fork() == 0: x = bytearray(8 << 20); time.sleep(20)\n"
    "time.sleep(20)",
    "files": "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))",
}


@pytest.mark.parametrize("filler", FILLERS)
def test_memory_is_one_limit_for_all_that_the_code_does(containers: Served, filler: str) -> None:
    result = containers.api.run("print('before', flush=True)\n" + FILLERS[filler], config=SMALL)
    assert ending(result) == ("completed", "memory", 137), result
    assert result["stdout"].startswith("before\n")
    assert result["duration_ms"] < 15_000


def test_processes_are_bounded(containers: Served) -> None:
    code = "import os, time\nborn = 0\ntry:\n  while born < 300:\n    if os.fork() == 0: time.sleep(60)\n    born += 1\n" \
        "except BlockingIOError: print('refused', 200 < born < 256, flush=True)\nos._exit(0)"  # fmt: skip
    assert containers.api.run(code)["stdout"] == "refused True\n"


# --- what goes in and comes out ---


def test_large_files_and_input_arrive_whole(containers: Served) -> None:
    content = random.Random(7).randbytes(12 << 20)
    text = content.hex()[: 11 << 20]
    code = "import hashlib, sys\nfor data in (open('large', 'rb').read(), sys.stdin.buffer.read()):\n" \
        "  print(hashlib.sha256(data).hexdigest())"  # fmt: skip
    result = containers.api.run({"main.py": code, "large": content}, stdin=text)
    assert result["stdout"].split() == [hashlib.sha256(each).hexdigest() for each in (content, text.encode())]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_cut_to_the_cap(containers: Served, stream: str) -> None:
    result = containers.api.run(f"import sys\nfor _ in range(20): sys.{stream}.write('x' * (1 << 20))\nsys.exit(3)")
    assert len(result[stream]) == 10 << 20
    assert (result[f"{stream}_truncated"], result["exit_code"]) == (True, 3)


def test_usage_is_what_the_kernel_counted(containers: Served) -> None:
    code = "x = bytearray(50 << 20)\nimport time\nwhile time.process_time() < 0.2: pass"
    usage = containers.api.run(code)["usage"]
    assert 100 <= usage["cpu_ms"] < 5000
    assert 50 << 20 <= usage["memory_peak_bytes"] < 150 << 20


# --- made ahead ---


def test_the_second_run_of_an_image_finds_a_container_that_waits(containers: Served) -> None:
    containers.api.run("", docker_image="with-user:latest")
    time.sleep(1)
    waiting = our_containers(containers.engine, only_running=True)
    execution_id, container = container_of(containers, docker_image="with-user:latest")
    containers.api.kill(execution_id)
    assert container in waiting


def test_what_waits_is_for_one_execution_alone(containers: Served) -> None:
    code = "import os\nprint(os.path.exists('/tmp/trace'))\nopen('/tmp/trace', 'w').close()"
    assert {containers.api.run(code)["stdout"] for _ in range(6)} == {"False\n"}
