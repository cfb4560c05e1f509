"""The load generator: runs ways of doing the same work in turns or from many threads, and checks every answer.

It runs on the machine that it measures, so whatever it uses is missing there. A client is a thread with a prepared
request and one kept connection, or with a command line and `posix_spawn`, which takes half of what `subprocess` does;
the answer is compared as bytes. While a clock runs, nothing else happens in this process: progress is drawn between
runs, by the thread that measures.
"""

from __future__ import annotations

import gc
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

from cpu import CpuCount, machine_ms, own_ms

SETTLE_SECONDS = 0.3  # after the last answer: what the kernel frees late is part of the price

PATH = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*")

Run = Callable[[], bytes]  # one execution, from the request to the whole answer


@dataclass(frozen=True, slots=True)
class Way:
    """A way of doing the work."""

    name: str
    client: Callable[[], Run]  # makes a client of its own
    expected: bytes  # what has to be in each answer
    every: int = 1  # takes part in each n-th turn only: for what is slow
    counting: Callable[[], AbstractContextManager[CpuCount | None]] = nullcontext  # of its own processes, by the kernel


@dataclass(frozen=True, slots=True)
class Rate:
    """What a number of clients got done."""

    runs: int
    seconds: float
    machine_ms: float  # of CPU that the whole machine was busy meanwhile
    generator_ms: float  # of which this process took
    counted_ms: float | None  # of CPU that the kernel counted for the way's own processes; None if no cgroup has them

    @property
    def per_second(self) -> float:
        return self.runs / self.seconds

    def __add__(self, other: Rate) -> Rate:
        counted = None
        if self.counted_ms is not None and other.counted_ms is not None:
            counted = self.counted_ms + other.counted_ms
        return Rate(
            self.runs + other.runs,
            self.seconds + other.seconds,
            self.machine_ms + other.machine_ms,
            self.generator_ms + other.generator_ms,
            counted,
        )


class WrongAnswer(Exception):
    """A run did not print what it should have: whatever was measured is worth nothing."""


def check(way: Way, answer: bytes) -> None:
    """Raises `WrongAnswer` with what came instead."""
    if way.expected not in answer:
        raise WrongAnswer(f"{way.name}: expected {way.expected[:200]!r} in the answer, which was {answer[:2000]!r}")


def why_not(way: Way) -> str | None:
    """Run it once: None if it works here, else why not."""
    try:
        check(way, way.client()())
    except (OSError, WrongAnswer) as error:
        return sentence(error)
    return None


def sentence(failure: object) -> str:
    """What somebody else said, for a table: on one line, without the paths of this machine."""
    return PATH.sub("…", " ".join(str(failure).split()).replace("|", "/"))


def sequential(
    ways: Sequence[Way], turns: int, *, warm_up: int, advance: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Milliseconds of each run, one at a time; `advance` is called after each turn.

    The ways take turns, in an order that is drawn anew each time, so that a slow moment of the machine and what a run
    leaves to be done after its answer hit all alike.
    """
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    runs = {way.name: way.client() for way in ways}
    order, draw = list(ways), random.Random(0)
    for way in ways:
        for _ in range(1 if way.every > 1 else warm_up):
            check(way, runs[way.name]())
    gc.collect()
    gc.freeze()  # no collector's pause in a measured run
    for turn in range(turns):
        draw.shuffle(order)
        for way in order:
            if turn % way.every == 0:
                start = time.perf_counter()
                answer = runs[way.name]()
                times[way.name].append((time.perf_counter() - start) * 1000)
                check(way, answer)
        advance()
    return times


def throughput(way: Way, clients: int, seconds: float) -> Rate:
    """What so many clients at once get done, and what it costs."""
    with way.counting() as count:
        machine_before, generator_before, counted_before = machine_ms(), own_ms(), count() if count else 0.0
        runs, took = clients_at_work(way, clients, seconds)
        time.sleep(SETTLE_SECONDS)
        counted = count() - counted_before if count else None
        return Rate(runs, took, machine_ms() - machine_before, own_ms() - generator_before, counted)


def clients_at_work(way: Way, clients: int, seconds: float) -> tuple[int, float]:
    """How many runs they got done, and the seconds until the last was answered; each begins none after `seconds`."""
    counts = [0] * clients
    failures: list[BaseException] = []
    ready = threading.Barrier(clients + 1)

    def client(number: int) -> None:
        try:
            run = way.client()
            ready.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end and not failures:
                check(way, run())
                counts[number] += 1
        except BaseException as failure:
            failures.append(failure)
            ready.abort()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):  # a client failed: the first failure says how
        ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts), time.perf_counter() - start
