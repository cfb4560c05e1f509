"""A server, a caller that shall not notice, and what is read of both while an attack runs: of tests and of the table."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from python_executor.sandboxes.native.cgroups import find_hierarchies
from tests.abuse.payers import SECONDS, Piece
from tests.abuse.strangers import Stranger
from tests.support.api import Api
from tests.support.bill import MEBIBYTE, Bill, Family, Group, Meter, Values
from tests.support.guarded import guard
from tests.support.naive import naive_server
from tests.support.prober import Latency, Probe, Prober
from tests.support.server import ServerProcess
from tests.support.traces import cgroups

SLACK_MB, SERVER_MB, CALLER_MS, LOOP_MS = 64, 100, 100, 20  # the promises
TRIES = 3
ONCE_MS = 1000  # that a single answer may come later where others use the machine, too
MEMORY_BUDGET_MB, DESCRIPTORS = 1024, 2048
SETTINGS = {
    "pool_min": 8,
    "pool_max": 8,  # a pool that follows demand would look like something that somebody takes
    "memory_budget": MEMORY_BUDGET_MB,  # small, so that what is beyond it costs this machine little
    "default_memory_mb": 64,
}
ALONE_SECONDS, PATIENCE, SETTLE_SECONDS = 0.5, 30.0, 5.0


@dataclass(frozen=True)
class Outcome:
    """What an attack has cost whom."""

    bill: Bill
    allowed_mb: int  # that may be taken of the machine, without the slack
    left: int  # bytes still taken, or charged to its groups, a moment after its end
    loop: tuple[Latency, Latency]  # of /health: before it, and while it ran
    caller: tuple[Latency, Latency]  # of print(1), likewise
    wrong: int  # answers that the caller did not get

    @property
    def caller_longer(self) -> float:
        """By how many milliseconds the caller's usual answer came later."""
        return self.caller[1].p50 - self.caller[0].p50

    @property
    def caller_longest(self) -> float:
        """By how many milliseconds the caller's latest answer came later than its latest before."""
        return max(0.0, self.caller[1].most - self.caller[0].most)

    @property
    def loop_longer(self) -> float:
        """By how many milliseconds the loop was held longer than it usually is at most."""
        return self.loop[1].most - self.loop[0].p99

    def complaints(self) -> list[str]:
        """Which promises were broken, in words; patient with a machine that does other things, too."""
        found = {
            f"takes {self.bill.mib('taken')} MiB": self.bill.mib("taken") > self.allowed_mb + SLACK_MB,
            f"leaves {self.left // MEBIBYTE} MiB": self.left > SLACK_MB * MEBIBYTE,
            f"server +{self.bill.mib('server')} MiB": self.bill.mib("server") > SERVER_MB,
            f"print(1) +{self.caller_longer:.0f} ms": self.caller_longer > CALLER_MS,
            f"once +{self.caller_longest:.0f} ms": self.caller_longest > ONCE_MS,
            f"{self.wrong} answers wrong": self.wrong > 0,
        }
        return [words for words, is_so in found.items() if is_so]


class Scene:
    """All of it. Needs cgroups that the server can use."""

    def __init__(self, url: str, meter: Meter) -> None:
        self._url = url
        self._meter = meter
        self._prober = Prober(url)

    def close(self) -> None:
        """End what is ours."""
        self._prober.close()

    def play(self, attack: Piece | Stranger) -> Outcome:
        """Run one attack to its end."""
        if isinstance(attack, Piece):
            with closing(Api(self._url)) as api:
                body = {"code": attack.program(), "config": attack.limits}
                return self._watch(lambda: api.post_eval(body), attack.memory_mb)
        return self._watch(lambda: self._let(attack), MEMORY_BUDGET_MB)

    def best(
        self, attack: Piece | Stranger, complaints: Callable[[Outcome], list[str]] = Outcome.complaints
    ) -> Outcome:
        """The first outcome that nobody complains of, or the last, since the machine may be busy with something else.

        The server's growth is no accident, and what it has kept once it need not take again: that is not tried again.
        """
        for _ in range(TRIES):
            outcome = self.play(attack)
            if not complaints(outcome) or outcome.bill.mib("server") > SERVER_MB:
                break
        return outcome

    def _let(self, stranger: Stranger) -> None:
        with stranger.at_work(self._url) as process:
            process.join(PATIENCE)

    def _watch(self, work: Callable[[], object], allowed_mb: int) -> Outcome:
        alone = time.monotonic()
        time.sleep(ALONE_SECONDS)
        with self._meter.watching() as bill:
            began = time.monotonic()
            work()
            ended = time.monotonic()
        left = self._left(bill.start)
        seen = {kind: self._seen(kind, alone, began, ended) for kind in ("health", "eval")}
        wrong = sum(not probe.is_right for _, during in seen.values() for probe in during)
        return Outcome(bill, allowed_mb, left, _compared(*seen["health"]), _compared(*seen["eval"]), wrong)

    def _left(self, start: Values) -> int:
        """Return what is still taken, or charged to groups that may have gone, once it has had time to go."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            values = self._meter.read()
            left = max(values[name] - start[name] for name in ("taken", "charged"))
            if left <= SLACK_MB * MEBIBYTE or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def _seen(self, kind: str, alone: float, began: float, ended: float) -> tuple[list[Probe], list[Probe]]:
        during = self._prober.probes(kind, began, ended)
        before = self._prober.probes(kind, alone, began)
        return [each for each in before if each.answered < began] or before, during


def _compared(before: list[Probe], during: list[Probe]) -> tuple[Latency, Latency]:
    return Latency.of(before), Latency.of(during)


@contextmanager
def server_scene() -> Iterator[tuple[Scene, Meter]]:
    """A server of ours with few descriptors and little memory to give away; it has answered once."""
    limited = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory), prefix=limited, **SETTINGS)
        server.start()
        assert server.process is not None
        try:
            with closing(Api(server.url)) as api:
                api.eval("1")
                api.run("1")  # where that is another interpreter, its box is started now
            group = next(group for group in cgroups(server) if _is_servers(group))
            meter = Meter(Group(group), Family.of(server.process.pid))
            with closing(Scene(server.url, meter)) as scene:
                time.sleep(1)  # until the pools are full
                yield scene, meter
        finally:
            server.stop()


def _is_servers(group: Path) -> bool:
    return group.name.startswith("python-executor-") and (group / "memory.stat").exists()


@contextmanager
def naive_scene() -> Iterator[Scene]:
    """The same with a server that has no bounds."""
    with naive_server() as (url, pid):
        meter = Meter(Group(_memory_group(pid)), Family(pid))
        with closing(Scene(url, meter)) as scene:
            yield scene


def bare_bill(piece: Piece, most: int | None = None) -> Bill:
    """The bill of a piece that runs in a guard with nothing else around it; to its end, or until it has taken that."""
    enter = 'mount -t tmpfs none /mnt && cd /mnt && exec "$@"'
    program = piece.program(SECONDS if most is None else PATIENCE)
    with (
        guard("sh", "-c", enter, "sh", sys.executable, "-c", program, environment={}) as process,
        Meter(Group(_memory_group(process.pid))).watching() as bill,
    ):
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if most is not None and bill.grew("taken") > most:
                break
            time.sleep(0.02)
    return bill


def _memory_group(pid: int) -> Path:
    """The directory of the memory cgroup that a process is in."""
    trees = find_hierarchies(groups_of=Path(f"/proc/{pid}"))
    return next(tree.directory for tree in trees if "memory" in tree.controllers)
