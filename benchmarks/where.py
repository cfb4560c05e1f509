"""Where the processor time of an eval goes: whose it is, and what the kernel does for it.

    .venv/bin/python benchmarks/where.py

Samples the whole machine with `perf` (Debian's linux-perf) while 8 clients eval `print("Hello, World!")`. Needs root.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from load import throughput
from rich.console import Console
from rich.table import Table
from server import Server, children_of
from ways import EVAL, EXPECTED, eval_body, evaluated, in_result

from python_executor.environments.interpreters import find_interpreters

CLIENTS, SECONDS, HERTZ = 8, 6.0, 4000
SAMPLE = re.compile(r"\s*(.+?)\s+(\d+)\s*$")
KINDS = {  # by a function on the way to the sample; the first that is there
    "end of a process": "do_exit",
    "page faults": "asm_exc_page_fault",
    "forks": "__do_sys_clone",
    "other system calls": "entry_SYSCALL_64_after_hwframe",
}
COLUMNS = ("its own code", *KINDS, "else")


def kind_of(stack: str) -> str:
    """What a sample was taken in."""
    if "[kernel" not in stack.splitlines()[0]:
        return "its own code"
    return next((kind for kind, function in KINDS.items() if f" {function}" in stack), "else")


def sampled(server: Server) -> tuple[int, str]:
    """Evals that were made meanwhile, and the samples as `perf script` prints them."""
    way = evaluated(server, eval_body('print("Hello, World!")'), in_result(EXPECTED), EVAL)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, "perf.data")
        record = ["perf", "record", "-q", "-a", "-g", "-F", str(HERTZ), "-e", "cpu-clock", "-o", str(data), "sleep"]
        with subprocess.Popen([*record, str(SECONDS + 1)], stderr=subprocess.DEVNULL):
            rate = throughput(way, CLIENTS, SECONDS)
        script = ["perf", "script", "-i", str(data), "-F", "comm,pid,ip,sym,dso", "--no-inline"]
        printed = subprocess.run(script, capture_output=True, text=True, errors="replace", check=True)
    return rate.runs, printed.stdout


def owner(name: str, pid: int, zygote: int, server: int) -> str:
    """Whose a sample is."""
    if pid in (zygote, server):
        return "the zygote" if pid == zygote else "the server"
    if name.startswith("python3."):
        return "the sandbox's process"
    if name == "pause":
        return "pause"
    return "the load generator" if name == "python" else "the kernel's threads"


def main() -> None:
    if shutil.which("perf") is None:
        sys.exit("perf is not here: apt-get install linux-perf")
    interpreters = {interpreter.minor_version: interpreter for interpreter in find_interpreters()}
    interpreter = interpreters.get("3.12") or next(iter(interpreters.values()))
    with Server(interpreter) as server:
        throughput(evaluated(server, eval_body('print("Hello, World!")'), in_result(EXPECTED), EVAL), CLIENTS, 1.0)
        (zygote,) = {pid for pid in server.zygotes() if children_of(pid)}
        runs, samples = sampled(server)
        found: dict[str, Counter[str]] = {}
        for block in samples.split("\n\n"):
            head, _, stack = block.strip("\n").partition("\n")
            match = SAMPLE.match(head)
            if match and stack and match[1] not in ("swapper", "perf"):
                who = owner(match[1], int(match[2]), zygote, server.pid)
                found.setdefault(who, Counter())[kind_of(stack)] += 1
    table = Table("CPU ms of a run", "all", *COLUMNS, title=f"{CLIENTS} clients, {runs / SECONDS:.0f} runs/s")
    ms = 1000 / HERTZ / runs
    for who, kinds in sorted(found.items(), key=lambda each: -each[1].total()):
        table.add_row(who, f"{kinds.total() * ms:.2f}", *(f"{kinds[column] * ms:.2f}" for column in COLUMNS))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
