"""What each boundary costs: CPU per run of the whole box, of a bare fork of the zygote, and with one boundary less.

    make bench

CPU is what the kernel counts for the processes of the box (zygote, `pause`, user process), and for the server apart;
what kernel threads do later, such as freeing a network namespace, is in neither. The variants take turns in rounds and
the least of each is shown: noise only ever adds. Needs root.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from rich.console import Console
from rich.table import Table

from python_executor.environments.interpreters import find_interpreters
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter, Limits
from python_executor.sandboxes.native.backend import NativeBackend
from python_executor.sandboxes.native.cgroups import find_hierarchies
from python_executor.settings import PRELOAD

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RUNS, ROUNDS = 300, 3
CODE = b'print("Hello, World!")\n'
BAR_MS = 2.0  # of CPU that the whole box may add to a bare fork
VARIANTS = {
    "the whole box": (),
    "no network namespace": ("network-namespace",),
    "no nested user namespace": ("nested-user-namespace",),
    "no seccomp filter": ("seccomp",),
    "no capability sets dropped": ("capabilities", "bounding-set"),
    "no IPC and UTS namespace": ("ipc-namespace", "uts-namespace"),
    "no cgroup": ("cgroup",),
}
SPEC = {
    "entries": [["file", "main.py", 0o644, 0, len(CODE)]], "content_bytes": len(CODE), "stdin_bytes": 0,
    "entrypoint": "main.py", "args": [], "env": {}, "pre_commands": [], "eval_last_expr": False,
    "file_limit": 1 << 28, "data_limit": 0,
}  # fmt: skip
BARE_FORK = """
import sys
PLAIN = frozenset(sys.modules)
sys.path.insert(0, {guest!r})
import importlib, marshal, os, resource, socket, struct
import frames, intake, runner
for name in {preload!r}: importlib.import_module(name)
runner.warm_up()
runner.WORK = {work!r}
import gc; gc.collect(); gc.freeze()
def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
SPEC = marshal.dumps({spec!r}, frames.SPEC_FORMAT)
MESSAGE = frames.SPEC_LENGTH.pack(len(SPEC)) + SPEC + {code!r}
def run():
    (out, stdout), (told, report), (ours, theirs) = os.pipe(), os.pipe(), socket.socketpair()
    if os.fork() == 0:
        os.dup2(stdout, 1)
        intake.serve(theirs, report, PLAIN)
    os.close(stdout), os.close(report), theirs.close()
    ours.sendall(MESSAGE)
    assert os.read(out, 100) == b"Hello, World!\\n" and os.read(told, 100)
    os.wait()
    os.close(out), os.close(told), ours.close()
for _ in range(20): run()
before = cpu()
for _ in range({runs}): run()
print((cpu() - before) / {runs} * 1000)
"""


def bare_fork(executable: str) -> float:
    """Milliseconds of CPU for a fork of the same warmed interpreter that does the same work without any boundary.

    It receives the spec, makes the file, runs it, reports and exits; the sender's part is in it, too.
    """
    guest = str(Path(sys.modules["python_executor"].__file__ or "").parent / "guest")
    with tempfile.TemporaryDirectory() as work:
        script = BARE_FORK.format(guest=guest, preload=PRELOAD, work=work, runs=RUNS, spec=SPEC, code=CODE)
        done = subprocess.run([executable, "-ISB", "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


async def engine(counter: Counter) -> dict[str, float]:
    """Milliseconds of CPU in the box and in this process for a run, one after the other."""
    interpreters = find_interpreters()
    limits = Limits(timeout_seconds=30, memory_mb=256, disk_mb=64, cpu_shares=1024)
    python = chosen().minor_version
    allow = frozenset(os.environ.get("INSECURE_ALLOW", "").split(","))
    backend = NativeBackend(
        interpreters,
        default_python=python,
        default_limits=limits,
        pool_min=0,
        pool_max=0,
        preload=PRELOAD,
        insecure_allow=allow,
    )
    await backend.start()
    tree = FileTree((FileEntry("main.py", 0o644, 0, len(CODE)),), CODE)
    spec = ExecutionSpec(tree=tree, entrypoint="main.py", python=python, limits=limits)

    async def run() -> None:
        sandbox = await backend.acquire(spec)
        await sandbox.run(spec, lambda event: None)
        await sandbox.destroy()

    try:
        for _ in range(20):
            await run()
        before_all, before_own = counter.milliseconds(), own_cpu()
        for _ in range(RUNS):
            await run()
        server = (own_cpu() - before_own) / RUNS
        return {"box": (counter.milliseconds() - before_all) / RUNS - server, "server": server}
    finally:
        await backend.close()


class Counter:
    """A cgroup of our own, in which the kernel counts nanoseconds; clock ticks would be too coarse."""

    def __enter__(self) -> Counter:
        counting = {
            tree.version: tree for tree in find_hierarchies() if tree.version == 2 or "cpuacct" in tree.controllers
        }
        tree = counting.get(1) or counting[2]
        self._group = tree.directory / f"benchmark-{os.getpid()}"
        self._outside = tree.directory
        self._group.mkdir()
        (self._group / "cgroup.procs").write_text("0")
        return self

    def __exit__(self, *_: object) -> None:
        (self._outside / "cgroup.procs").write_text("0")
        self._group.rmdir()

    def milliseconds(self) -> float:
        """Of all processes that were ever in the group, or in one below it."""
        usage = self._group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e6
        return int((self._group / "cpu.stat").read_text().split()[1]) / 1e3


def own_cpu() -> float:
    """Milliseconds that this process has used."""
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) * 1000


def chosen() -> Interpreter:
    """Python 3.12 where it is there, else the newest."""
    interpreters = find_interpreters()
    return next((each for each in interpreters if each.minor_version == "3.12"), interpreters[0])


def measured(mutant: Path) -> dict[str, float]:
    """The engine's figures from a process of its own that runs the package in that directory."""
    from tests.support.mutants import EVERYTHING

    environment = {**os.environ, "PYTHONPATH": str(mutant), "INSECURE_ALLOW": EVERYTHING}
    done = subprocess.run([sys.executable, __file__, "--engine"], env=environment, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])  # after what was logged
    return figures


def main() -> int:
    """Measure all variants and print the table; 1 where the bar was missed."""
    from tests.support.mutants import make_mutant

    executable = chosen().executable
    bare: list[float] = []
    box: dict[str, list[float]] = {name: [] for name in VARIANTS}
    server: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        mutants = {name: make_mutant(Path(directory, str(n)), less) for n, (name, less) in enumerate(VARIANTS.items())}
        for _ in range(ROUNDS):
            bare.append(bare_fork(executable))
            for name, mutant in mutants.items():
                figures = measured(mutant)
                box[name].append(figures["box"])
                if name == "the whole box":
                    server.append(figures["server"])
    whole, fork = min(box["the whole box"]), min(bare)
    table = Table(
        "CPU per run", "ms", "over a bare fork", "saves", title=f"Boundaries, least of {ROUNDS} x {RUNS} runs"
    )
    table.add_row("a bare fork of the zygote", f"{fork:.2f}", "", "")
    for name, values in box.items():
        saved = "" if name == "the whole box" else f"{whole - min(values):.2f}"
        table.add_row(name, f"{min(values):.2f}", f"{min(values) - fork:+.2f}", saved)
    table.add_row("the server's share", f"{min(server):.2f}", "", "")
    Console(width=100).print(table)
    verdict = "held" if whole - fork <= BAR_MS else "MISSED"
    print(textwrap.dedent(f"The whole box adds {whole - fork:.2f} ms of CPU; the bar of {BAR_MS:g} ms is {verdict}."))
    return whole - fork > BAR_MS


if __name__ == "__main__":
    if "--engine" in sys.argv:
        with Counter() as counter:
            print(json.dumps(asyncio.run(engine(counter))))
    else:
        sys.exit(main())
