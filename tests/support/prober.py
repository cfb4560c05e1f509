"""A caller that shall not notice: asks for /health and evals print(1), on a connection each, from a process of its own.

`python prober.py HOST PORT KIND…` prints a line for each answer: what was asked, when (time.monotonic, which all processes
of a machine share), and how many seconds it took; until its stdin is closed. It imports nothing of ours, to start fast.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

PAUSE = {"health": 0.004, "eval": 0.02}
BODY = json.dumps({"code": "print(1)"})
PATIENCE = 60.0


@dataclass(frozen=True)
class Probe:
    """One question and its answer."""

    kind: str  # health, eval
    asked: float  # time.monotonic()
    seconds: float
    is_right: bool

    @property
    def answered(self) -> float:
        """When the answer was there, as time.monotonic() has it."""
        return self.asked + self.seconds


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one kind of question in some time."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> Latency:
        """Of these, of which there must be one."""
        ms = sorted(probe.seconds * 1000 for probe in probes)
        return cls(ms[len(ms) // 2], ms[min(len(ms) - 1, len(ms) * 99 // 100)], ms[-1])


class Prober:
    """The process, and what it has told."""

    def __init__(self, url: str, kinds: Sequence[str] = tuple(PAUSE)) -> None:
        place = urlsplit(url)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(place.hostname), str(place.port), *kinds],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._probes: list[Probe] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, asked, seconds, is_right = line.split()
            with self._more:
                self._probes.append(Probe(kind, float(asked), float(seconds), is_right == "True"))
                self._more.notify_all()

    def probes(self, kind: str, start: float, end: float) -> list[Probe]:
        """Those that were waiting for an answer at some moment between two, or the next one; waits until they have it."""

        def has_asked_later() -> bool:
            return any(probe.kind == kind and probe.asked >= end for probe in self._probes)

        with self._more:
            if not self._more.wait_for(has_asked_later, PATIENCE):
                raise AssertionError(f"no answer to the prober's {kind} within {PATIENCE} s")
            later = [each for each in self._probes if each.kind == kind and each.answered >= start]
            return [each for each in later if each.asked < end] or later[:1]

    def taken_since(self, number: int, kind: str) -> tuple[int, list[Probe]]:
        """The answers after the first `number`, and how many there are now."""
        with self._more:
            return len(self._probes), [each for each in self._probes[number:] if each.kind == kind]

    def close(self) -> None:
        """End it."""
        self._process.communicate()  # which closes its stdin
        self._reader.join()


def _ask(kind: str, host: str, port: int) -> None:
    """Ask one kind of question until the process ends."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    while True:
        asked = time.monotonic()
        try:
            if kind == "health":
                connection.request("GET", "/health")
                answer = connection.getresponse()
                is_right = answer.status == 200
                answer.read()
            else:
                connection.request("POST", "/api/v1/eval", BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                is_right = json.loads(answer.read()).get("stdout") == "1\n"
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            is_right = False
        line = f"{kind} {asked} {time.monotonic() - asked} {is_right}\n"
        os.write(1, line.encode())  # whole, whatever the other thread writes
        time.sleep(PAUSE[kind])


if __name__ == "__main__":
    for each in sys.argv[3:]:
        threading.Thread(target=_ask, args=(each, sys.argv[1], int(sys.argv[2])), daemon=True).start()
    sys.stdin.read()
