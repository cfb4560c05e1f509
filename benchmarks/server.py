"""A server of our own, what is below it, and what its sandboxes take of the memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from cpu import CpuCount, group_for_children

from python_executor.model.spec import Interpreter

KIBIBYTES = ("Private_Clean:", "Private_Dirty:", "Swap:")  # of smaps_rollup: what would be free without the process
LOOK_SECONDS = 0.05


class ServerFailed(Exception):
    """It did not start, or has not made its sandboxes; the message is its own last line."""


class Server:
    """Listens on a free port of the loopback; on the cores of the thread that starts it."""

    def __init__(
        self, interpreter: Interpreter, *, pool: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`pool` is how many sandboxes wait, always; None leaves that to the server. `settings`: more of its own."""
        version = interpreter.minor_version
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
        env |= {"PYEXEC_DEFAULT_PYTHON": version, "PYEXEC_DEFAULT_IMAGE": f"python:{version}-slim"}
        if pool is not None:
            env |= dict.fromkeys(("PYEXEC_POOL_MIN", "PYEXEC_POOL_MAX"), str(pool))
        env |= {f"PYEXEC_{name}": value for name, value in (settings or {}).items()}
        self._directory = tempfile.TemporaryDirectory()
        self._log = Path(self._directory.name, "log")
        command = [sys.executable, "-m", "python_executor", "serve", "--port", "0", "--data-dir", self._directory.name]
        self.started = time.perf_counter()
        with self._log.open("wb") as log, group_for_children(f"server-{id(self)}") as self.group:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            failure = ServerFailed(self._last_line())
            self.stop()
            raise failure
        self.url = line.split()[-1]
        self.address = urlsplit(self.url).netloc

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()
        if self.group is not None:
            self.group.remove()
        self._directory.cleanup()

    def counting(self) -> AbstractContextManager[CpuCount | None]:
        """CPU of the server and of everything below it."""
        return nullcontext(self.group.milliseconds if self.group else None)

    def wait_for_sandboxes(self, number: int, seconds: float) -> float:
        """Until so many are there; how long that took since the server was started. Raises `ServerFailed`."""
        deadline = time.perf_counter() + seconds
        while (there := len(self.sandbox_processes()) // 2) != number:
            if time.perf_counter() > deadline or self._process.poll() is not None:
                raise ServerFailed(f"{there} of {number} sandboxes after {seconds:g} s. {self._last_line()}")
            time.sleep(LOOK_SECONDS)
        return time.perf_counter() - self.started

    @property
    def data(self) -> Path:
        """Its data directory."""
        return Path(self._directory.name)

    @property
    def pid(self) -> int:
        return self._process.pid

    def zygotes(self) -> list[int]:
        """One for each interpreter in use."""
        below, found = [self._process.pid], []
        while below:
            pid = below.pop()
            if b"guest/zygote.py" in _read(f"/proc/{pid}/cmdline"):
                found.append(pid)
            else:
                below += children_of(pid)
        return found

    def sandbox_processes(self) -> list[int]:
        """The zygotes' children: two for each sandbox, its `pause` and the user process."""
        return [child for zygote in self.zygotes() for child in children_of(zygote)]

    def resident_bytes(self) -> int:
        """Memory of the server's own process, as `ps` tells it."""
        pages = int(_read(f"/proc/{self._process.pid}/statm").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "It said nothing.")


def private_bytes(pid: int) -> int:
    """What a process shares with nobody, swapped out or not; 0 once it is gone. Raises `PermissionError`."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(KIBIBYTES)) * 1024


def available_bytes() -> int:
    """What the machine could still give to programs."""
    line = next(line for line in Path("/proc/meminfo").read_text().split("\n") if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def children_of(pid: int) -> list[int]:
    """Of all its threads."""
    return [int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in _read(tasks).split()]


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # it has just ended
