"""A real server as a process of its own, as users start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ANNOUNCEMENT = re.compile(r"python-executor is listening on (http://[^\s\"]+)")
NOWHERE = "http://127.0.0.1:9/simple"  # a package index that refuses connections
START_SECONDS = 60.0
STOP_SECONDS = 30.0
TOLERATED = os.environ.get("TEST_INSECURE_ALLOW", "")  # the mutation check's, see scripts/check-mutations


class ServerProcess:
    """`python -m python_executor serve` on a free port, with its own data and no setting but the given ones."""

    def __init__(self, directory: Path, *, prefix: Sequence[str] = (), **settings: object) -> None:
        self._prefix = prefix  # what starts it: `env`, `unshare` and their like
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / "server.log"
        tolerated = {"insecure_allow": TOLERATED} if TOLERATED else {}
        usual = {"data_dir": directory / "data", "shutdown_grace": 2, "index_url": NOWHERE}
        self._settings = {**usual, **tolerated, **settings}
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """Start it and wait until it answers; its URL."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
        own = {f"PYEXEC_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "python_executor", "serve", "--port", "0"],
                env={**inherited, **own, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = self._announced_url()
        return self.url

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Ask it to end, make it end, and fail if anything went wrong in it that nobody was told of."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop on SIGTERM:\n{self.output}") from None
        assert "Traceback" not in self.output, f"the server printed a traceback:\n{self.output}"

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self._log.read_text(errors="replace")

    def _announced_url(self) -> str:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if match := ANNOUNCEMENT.search(self.output):
                return match[1]
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.output}")
            time.sleep(0.02)
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the server did not start within {START_SECONDS} s:\n{self.output}")
