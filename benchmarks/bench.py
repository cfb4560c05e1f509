"""What an execution costs: the same `print("Hello, World!")` in many ways, all in one run and taking turns.

    make bench

Prints tables and writes them, with plots, to benchmarks/results. The milliseconds are those of the machine; read the
ratios. Takes about five minutes on two cores that have nothing else to do, a minute less without Docker. Who does what:
ways.py and container.py are the contenders, load.py runs them and keeps the time, cpu.py counts processor time,
further.py has more than one line to run, density.py many sandboxes; tables.py and plots.py show it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

from container import docker
from density import dense, memory_of_sandboxes
from further import further, through_client
from load import Rate, Way, WrongAnswer, sequential, throughput
from machine import boundaries, busy, chosen, facts, start_hooks
from progress import Steps
from report import WIDTH, Table
from results import Results
from rich.console import Console
from server import Server, ServerFailed
from tables import all_tables
from ways import BWRAP, CODE, DOCKER, EVAL, NETWORK, bare, bwrap, network, requests

from python_executor.model.spec import Interpreter

RESULTS = Path(__file__).resolve().parent / "results"
CLIENTS = (1, 8, 64)
CPU_CLIENTS = 8
WARM_UP = 10
QUICK = 10  # what --quick divides by
HEAD = """# Benchmarks

Written by `make bench`. The milliseconds are those of the machine: read the ratios.
"""

Contenders = tuple[list[Way], dict[str, str]]  # and by name, why one is absent


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    turns: int = 1000
    further_turns: int = 100
    client_turns: int = 200
    rounds: int = 4  # in which the ways take turns for throughput
    seconds: float = 1.0  # of throughput, for each way in each round
    dense_turns: int = 200
    densities: tuple[int, ...] = (10, 100, 1000)

    @classmethod
    def quick(cls) -> Scale:
        whole = cls()
        return cls(
            turns=whole.turns // QUICK,
            further_turns=whole.further_turns // QUICK,
            client_turns=whole.client_turns // QUICK,
            rounds=1,
            seconds=whole.rounds * whole.seconds / QUICK,
            dense_turns=whole.dense_turns // QUICK,
            densities=tuple(number // QUICK for number in whole.densities),
        )


def contenders(warm: Server, cold: Server, interpreter: Interpreter, script: Path, container: Way | str) -> Contenders:
    optional = {BWRAP: bwrap(interpreter, script), DOCKER: container, NETWORK: network(warm)}
    ways = [bare(interpreter, script), *requests(warm, cold)]
    ways += [way for way in optional.values() if isinstance(way, Way)]
    return ways, {name: way for name, way in optional.items() if isinstance(way, str)}


def rates(ways: Sequence[Way], scale: Scale, advance: Callable[[], None]) -> dict[tuple[str, int], Rate]:
    """By the way's name and the number of clients. What is slow has all of its seconds in the first round."""
    found: dict[tuple[str, int], Rate] = {}
    for number in range(scale.rounds):
        for clients in CLIENTS:
            for way in ways:
                key = way.name, clients
                if number == 0:
                    found[key] = throughput(way, clients, scale.seconds * (scale.rounds if way.every > 1 else 1))
                elif way.every == 1:
                    found[key] += throughput(way, clients, scale.seconds)
                advance()
    return found


def on_one_core(interpreter: Interpreter, free: Way, scale: Scale) -> tuple[Rate, Rate] | str:
    """Throughput of a server that has one core, the load generator on another, and of `free`, whose server has all."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return "there is just one here"
    with bound_to(cores[0]):
        server = Server(interpreter)
    with server:
        bound = next(way for way in requests(server, server) if way.name == EVAL)
        on_one, on_all = [], []
        for _ in range(scale.rounds):
            with bound_to(cores[1]):
                on_one.append(throughput(bound, CPU_CLIENTS, scale.seconds))
            on_all.append(throughput(free, CPU_CLIENTS, scale.seconds))
    return reduce(add, on_one), reduce(add, on_all)


@contextmanager
def bound_to(core: int) -> Iterator[None]:
    """This thread, and what it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(scale: Scale, steps: Steps) -> Results:
    steps.stage("looking at the machine, starting two servers", 1)
    interpreter = chosen()
    results = Results(facts(interpreter), start_hooks(interpreter))
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "main.py")
        script.write_text(CODE)
        with (
            Server(interpreter) as warm,
            Server(interpreter, pool=0) as cold,
            docker(interpreter, script) as container,
        ):
            ways, results.absent = contenders(warm, cold, interpreter, script, container)
            evaluating = next(way for way in ways if way.name == EVAL)
            results.facts["Boundaries"] = boundaries(evaluating)
            steps.stage("one at a time, in turns", scale.turns)
            results.times = sequential(ways, scale.turns, warm_up=WARM_UP, advance=steps.advance)
            steps.stage("many at once", scale.rounds * len(CLIENTS) * len(ways))
            results.rates = rates(ways, scale, steps.advance)
            steps.stage("further work", scale.further_turns)
            results.further = further(interpreter, warm, Path(directory), scale.further_turns, steps.advance)
            steps.stage("sync and async through our client", scale.client_turns)
            results.client = through_client(warm, scale.client_turns, steps.advance)
            steps.stage("one core against all", 1)
            results.cores = on_one_core(interpreter, evaluating, scale)
    steps.stage("memory of a sandbox", 1)
    results.memory = memory_of_sandboxes(interpreter)
    for number in scale.densities:
        steps.stage(f"{number:,} sandboxes that wait", scale.dense_turns)
        results.densities[number] = dense(interpreter, number, scale.dense_turns, steps.advance)
    results.facts["Busy without us"] += f", {busy()} after the end"
    return results


def write(results: Results, tables: Sequence[Table], directory: Path) -> None:
    from plots import draw  # matplotlib, which has no place in a process that measures

    directory.mkdir(parents=True, exist_ok=True)
    draw(results, CLIENTS, directory)
    facts = "".join(f"* {name}: {value}\n" for name, value in results.facts.items())
    text = "\n".join([HEAD, facts, *(table.markdown() for table in tables)])
    (directory / "README.md").write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what an execution costs.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} times less of everything: to try the suite")
    parser.add_argument("--into", type=Path, default=RESULTS, help="directory to write to")
    arguments = parser.parse_args()
    console = Console(width=WIDTH)
    start = time.monotonic()
    try:
        with Steps(console) as steps:
            results = measure(Scale.quick() if arguments.quick else Scale(), steps)
    except KeyboardInterrupt:
        console.print("Stopped, nothing was written.")
        return 130
    except (WrongAnswer, ServerFailed, OSError) as failure:
        console.print(f"Stopped, nothing was written: {failure}", markup=False)
        return 1
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    results.facts["Took"] = f"{minutes} min {seconds} s" + ", QUICK: too short to quote" * arguments.quick
    tables = all_tables(results, CLIENTS, CPU_CLIENTS)
    for name, value in results.facts.items():
        console.print(f"{name}: {value}", highlight=False)
    for table in tables:
        table.show(console)
    write(results, tables, arguments.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
