"""50,000 mixed executions against a server of its own: is every answer right, does anything grow, is anything left?

    make soak

Clients play the mix of `soak_mix.py`: good code, code that must be ended, clients that misbehave, in the same order in
each tenth of the run. Beside them one more, a process of its own, evals something plain at a steady pace: its latency
is what is compared between the first and the last tenth. Every two seconds `soak_readings.py` reads what the server
takes of the machine. At the end the server gets SIGTERM, and nothing may be left of it.

Prints tables and writes `results/soak.md` and `results/soak.svg`. Exit status 1 where an answer was wrong, something
grew or was left, the server logged an error, or the last tenth was slower than the first by more than the bar. Needs
root, and a machine on which nobody else makes sandboxes meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soak_clients import CLIENTS, Client, Kind, Play, Steady, Times, Wrong, make_deck
from soak_mix import KINDS, MAX_OUTPUT_MB, NETWORK
from soak_readings import KEPT_SECONDS, STORE_MB, Reader, Reading, Values, generations, judge
from soak_report import Soak, Tenth, print_tables, write_results

from tests.support.prober import Prober
from tests.support.server import ServerProcess

TENTHS, WARM_UP = 10, 500
HELP = "of the mix (default: 50,000); below about 20,000 slopes and latency are shown and not judged"
READING_SECONDS = 2.0
REST_SECONDS = 30.0  # that the server gets to come to rest
MOST_AT_ONCE = 48  # more than the spares that are kept, and than the mix ever has
SETTINGS = {
    "cleanup_ttl": KEPT_SECONDS,
    "store_max_mb": STORE_MB,
    "max_output_mb": MAX_OUTPUT_MB,
    "default_memory_mb": 256,  # so that all clients run at once within a small machine's budget
    "pool_min": 8,
    "pool_max": 8,  # a pool that follows demand would look like something that grows
}


@contextmanager
def progress_of(executions: int, what: str) -> Iterator[Callable[[Play], None]]:
    """What people see while they wait; called with what is being played, now and then."""
    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f}/s"),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[wrong]} wrong"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=executions, rate=0.0, wrong=0)

        def show(play: Play) -> None:
            rate = play.executions / (time.monotonic() - play.turns[0]) if play.turns else 0
            progress.update(task, completed=play.executions, rate=rate, wrong=len(play.wrong))

        yield show


def show_until_over(play: Play, show: Callable[[Play], None], reader: Reader | None = None) -> list[Reading]:
    """Until all is played, with a reading every READING_SECONDS."""
    readings: list[Reading] = []
    began = time.monotonic()
    while not play.is_over:
        seconds = time.monotonic() - began
        if reader is not None and seconds >= len(readings) * READING_SECONDS:
            readings.append(Reading(seconds, play.executions, reader.read()))
        show(play)
        time.sleep(0.1)
    show(play)
    return readings


def at_rest(reader: Reader, wanted: Values | None = None) -> Values:
    """What is read once nothing that can be counted changes any more; if possible, as it was before."""
    names = ("processes below the server", "cgroup directories", "descriptors of the server")
    looks: list[Values] = []
    counts: list[list[float]] = []
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        looks.append(reader.read())
        counts.append([looks[-1][name] for name in names])
        is_steady = len(counts) >= 10 and all(count == counts[-1] for count in counts[-10:])
        if is_steady and (wanted is None or counts[-1] == [wanted[name] for name in names]):
            break
        time.sleep(0.5)
    return looks[-1]


def into_tenths(took: Times, turns: list[float]) -> list[Tenth]:
    """The plain evals of each tenth, given when each began and the last one ended."""
    return [
        Tenth(end - start, sorted(ms for when, ms in took if start <= when < end))
        for start, end in itertools.pairwise(turns)
    ]


def complaints(log: str) -> list[str]:
    """What the server logged as errors, which are its own failures: in this run there is no reason for any."""
    return [f"the server logged {line}" for line in log.splitlines() if '"level": "error"' in line]


def kinds_for(url: str) -> list[Kind]:
    """What is to be played: with the network only where the server can give it."""
    with closing(Client(url)) as client:
        try:
            NETWORK.play(client, 1, Random())
        except Wrong:  # refused before anything ran
            return [*KINDS]
    return [*KINDS, NETWORK]


def stop(server: ServerProcess, reader: Reader, temporary: Path, mounts_before: set[str]) -> list[str]:
    """SIGTERM; what is wrong then, in sentences."""
    assert server.process is not None
    family = [pid for level in generations(server.process.pid) for pid in level]
    faults = []
    try:
        server.stop()
    except AssertionError as error:  # it did not stop, or has printed a traceback
        faults.append(str(error))
    left: dict[str, list[object]] = {
        "processes": [pid for pid in family if Path(f"/proc/{pid}").exists()],
        "mounts": [*mounts() - mounts_before],
        "cgroup directories": [path for path in reader.cgroups if path.exists()],
        "temporary files": [*temporary.iterdir()],
    }
    if server.process.returncode:
        faults.append(f"the server ended with {server.process.returncode}")
    return faults + [f"{len(what)} {name} left: {str(what)[:300]}" for name, what in left.items() if what]


def mounts() -> set[str]:
    """The machine's, line by line."""
    return set(Path("/proc/1/mountinfo").read_text().splitlines())


def pythons(url: str) -> str:
    """The interpreters that the mix runs on; asking for each starts its box."""
    with closing(Client(url)) as client:
        return " and ".join(sorted({client.eval("1")["python"], client.execute("1")["python"]}))


def have_many_at_once(url: str) -> None:
    """Make the server keep all that it ever keeps to be used again: cgroups, and network namespaces of both boxes."""

    def one(number: int) -> None:
        code = "import time; time.sleep(1)"
        with closing(Client(url)) as client:
            _ = client.eval(code) if number % 2 else client.execute(code)

    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        list(threads.map(one, range(MOST_AT_ONCE)))


@contextmanager
def server_in(directory: Path, temporary: Path) -> Iterator[ServerProcess]:
    """A server with its data and temporary files there; killed at the end, should it still live."""
    server = ServerProcess(directory, prefix=["env", f"TMPDIR={temporary}"], **SETTINGS)
    server.start()
    assert server.process is not None
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def soak(directory: Path, tenth: int) -> Soak:
    """Start, warm up, read, play, read, stop, look; `tenth` executions ten times."""
    temporary = directory / "tmp"
    temporary.mkdir()
    mounts_before = mounts()
    with server_in(directory, temporary) as server, ExitStack() as stack:
        assert server.process is not None
        pid, kinds, python = server.process.pid, kinds_for(server.url), pythons(server.url)
        with progress_of(WARM_UP, "warming up") as show:
            show_until_over(Play(server.url, make_deck(kinds, WARM_UP), 1), show)
        have_many_at_once(server.url)
        prober = stack.enter_context(closing(Prober(server.url, ["health"])))
        reader = Reader(pid, prober, directory / "data", temporary)
        start, zygotes = at_rest(reader), generations(pid)[2]
        steady = Steady(server.url)
        mix = Play(server.url, make_deck(kinds, tenth), TENTHS)
        with progress_of(tenth * TENTHS, "soaking") as show:
            readings = show_until_over(mix, show, reader)
        seconds = time.monotonic() - mix.turns[0]
        took, wrong = steady.end()
        end = at_rest(reader, start)
        stack.close()  # the prober, before the server ends
        faults = [] if generations(pid)[2] == zygotes else ["a zygote died, and another took its place"]
        faults += stop(server, reader, temporary, mounts_before)
    return Soak(
        executions=mix.executions,
        seconds=seconds,
        clients=CLIENTS,
        python=python,
        kinds={kind: (played, mix.right[kind]) for kind, played in mix.played.most_common()},
        plain=(len(took), len(took) - len(wrong)),
        wrong=mix.wrong + wrong,
        tenths=into_tenths(took, mix.turns),
        readings=readings,
        judgements=judge(readings, start, end, mix.executions),
        faults=faults + complaints(server.output),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=50_000, help=HELP)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="directory to write to")
    given = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it looks into processes of other users: run it as root")
    with tempfile.TemporaryDirectory() as directory:
        result = soak(Path(directory), max(50, given.executions // TENTHS))
    print_tables(result)
    write_results(result, given.results)
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
