"""The three worst bombs (fork, memory, output), many times each, two at a time, beside a neighbour that evals on.

`python scripts/bombs.py [--times N]`, with an interpreter that has the package and the tests' requirements. A server of
its own is started; the neighbour, a process of its own, is measured alone first. Exit status 1 where one of its answers
did not come or was wrong, where a bomb ended otherwise than it should, or where anything is left behind.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.api import Api
from tests.support.server import ServerProcess
from tests.support.traces import Traces, settled, traces

AT_ONCE = 2
ALONE_SECONDS = 5.0


@dataclass(frozen=True)
class Bomb:
    """Code, its limits, and how it must end."""

    code: str
    config: dict[str, int]
    termination: str


BOMBS = {
    "fork": Bomb("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", {"timeout_seconds": 1}, "timeout"),
    "memory": Bomb(
        "import os\nos.fork()\nx = []\nwhile True: x.append(b'x' * (16 << 20))",
        {"timeout_seconds": 30, "memory_mb": 512},
        "memory",
    ),
    "output": Bomb(
        "import os, threading\ndef flood(fd):\n  while True: os.write(fd, b'\\x00\\xff' * 32768)\n"
        "threading.Thread(target=flood, args=(2,)).start()\nflood(1)",
        {"timeout_seconds": 1},
        "timeout",
    ),
}


@dataclass(frozen=True)
class Lived:
    """What a neighbour got in some time."""

    answers: int
    wrong: list[str]
    seconds: list[float]

    def ms(self, part: int) -> float:
        """A percentile, in milliseconds."""
        return statistics.quantiles(self.seconds, n=100)[part - 1] * 1000


def live(url: str, ends: Connection, tells: Connection) -> None:
    """In the neighbour's process: evals, each with an answer that only it can have, until told to end."""
    wrong, seconds, number = [], [], 0
    with closing(Api(url)) as api:
        while not ends.poll():
            number += 1
            began = time.monotonic()
            try:
                answer = api.eval(f"{number} * 7919", eval_last_expr=True)
                if (answer["result"], answer["termination"]) != (str(number * 7919), "exited"):
                    wrong.append(repr(answer))
            except Exception as error:
                wrong.append(repr(error))
            seconds.append(time.monotonic() - began)
    tells.send(Lived(number, wrong, seconds))


def beside(url: str, work: Callable[[], None]) -> Lived:
    """A neighbour's life while the work is done."""
    spawn = multiprocessing.get_context("spawn")
    ends, end = spawn.Pipe(duplex=False)
    hears, tells = spawn.Pipe(duplex=False)
    neighbour = spawn.Process(target=live, args=(url, ends, tells))
    neighbour.start()
    try:
        work()
    finally:
        end.send(None)
    lived: Lived = hears.recv()
    neighbour.join()
    return lived


def explode(url: str, bomb: Bomb, times: int, results: list[dict[str, Any]]) -> None:
    """A bomb, so many times; what was answered, without what it printed, goes to `results`."""

    def once(_: int) -> dict[str, Any]:
        with closing(Api(url)) as api:
            answer = api.eval(bomb.code, config=bomb.config)
        return {name: answer[name] for name in ("termination", "exit_code", "error")}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results.extend(pool.map(once, range(times)))


def run(server: ServerProcess, times: int) -> int:
    """Everything, and the table of it; the exit status."""
    table = Table(
        "bomb", "verdicts", "right / all answers", "p50 ms", "p95 ms", "p95 / alone", title="beside a neighbour"
    )
    with closing(Api(server.url)) as api:
        api.eval("1")
    at_rest = settled(lambda: traces(server)).with_spares(4)
    failures: list[str] = []
    alone = beside(server.url, lambda: time.sleep(ALONE_SECONDS))

    def row(name: str, verdicts: str, lived: Lived) -> None:
        right = f"{lived.answers - len(lived.wrong)} / {lived.answers}"
        ratio = f"{lived.ms(95) / alone.ms(95):.1f}"
        table.add_row(name, verdicts, right, f"{lived.ms(50):.1f}", f"{lived.ms(95):.1f}", ratio)
        failures.extend(f"{name}: a neighbour's answer: {each[:300]}" for each in lived.wrong)

    row("none", "", alone)
    for name, bomb in BOMBS.items():
        results: list[dict[str, Any]] = []
        lived = beside(server.url, partial(explode, server.url, bomb, times, results))
        verdicts = Counter(f"{result['termination']} {result['exit_code']}" for result in results)
        row(name, ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()), lived)
        failures.extend(f"{name}: {result}" for result in results if result["termination"] != bomb.termination)
        left: Traces = settled(lambda: traces(server), at_rest)
        if not left <= at_rest:
            failures.append(f"{name} left something behind: {left} after {at_rest}")
    Console(width=120).print(table)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="of each bomb")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory), pool_min=1, pool_max=1)
        server.start()
        try:
            return run(server, times)
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
