"""What the preloaded modules save a run that imports them, and what they cost each run that does not.

    .venv/bin/python benchmarks/preload.py [MODULE ...]

For each module of the default `PRELOAD` (or those named): how long its import takes in an interpreter that has all the
others, and the memory and mappings that it adds. A fork pays for each of these, but for one module less than can be
measured; so what forks pay is shown for all together: CPU time of a fork that ends at once, on both sides.
"""

from __future__ import annotations

import json
import subprocess
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from python_executor.environments.interpreters import find_interpreters
from python_executor.settings import PRELOAD

REPEATS = 3
TRIAL = """
import gc, importlib, json, os, resource, sys, time
before, names = json.loads(sys.argv[1])
for name in before:
    importlib.import_module(name)
def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
def fork():
    gc.collect(); gc.freeze()
    rounds = []
    for _ in range(8):
        start = cpu()
        for _ in range(60):
            if os.fork() == 0:
                os._exit(0)
            os.wait()
        rounds.append((cpu() - start) / 60 * 1e6)
    return min(rounds)
def size():
    fields = dict(line.split(':') for line in open('/proc/self/smaps_rollup').read().splitlines()[1:])
    return int(fields['Anonymous'].split()[0]), len(open('/proc/self/maps').read().splitlines())
size()
cost = fork() if not before else 0
memory, mappings = size()
start = time.perf_counter()
for name in names:
    importlib.import_module(name)
took = (time.perf_counter() - start) * 1000
more_memory, more_mappings = size()
cost = fork() - cost if not before else 0
print(json.dumps([took, more_memory - memory, more_mappings - mappings, cost]))
"""


def trial(executable: str, before: list[str], names: list[str]) -> list[float]:
    """Of importing the names: ms, KiB, mappings, and microseconds that a fork pays; least of some tries."""
    tries = []
    for _ in range(REPEATS):
        argv = [executable, "-ISB", "-c", TRIAL, json.dumps([before, names])]
        tries.append(json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout))
    return [min(values) for values in zip(*tries, strict=True)]


def main() -> None:
    interpreters = {interpreter.minor_version: interpreter for interpreter in find_interpreters()}
    interpreter = interpreters.get("3.12") or next(iter(interpreters.values()))
    table = Table("module", "import ms", "KiB", "mappings", "a fork pays µs", title=f"Python {interpreter.version}")
    names = sys.argv[1:] or list(PRELOAD)
    for name in track(names, "measuring", console=Console(stderr=True)):
        took, memory, mappings, _ = trial(interpreter.executable, [each for each in names if each != name], [name])
        if took > 0.05:  # else another of them has imported it already
            table.add_row(name, f"{took:.2f}", f"{memory:.0f}", f"{mappings:.0f}", "")
    took, memory, mappings, cost = trial(interpreter.executable, [], names)
    table.add_row("all of them", f"{took:.2f}", f"{memory:.0f}", f"{mappings:.0f}", f"{cost:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
