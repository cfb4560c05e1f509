"""From what was measured to tables: each cell is a figure or says why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from density import Density
from further import ASYNC, SYNC
from report import Table
from results import Results, percentile
from ways import BARE, DOCKER, EVAL, EXPRESSION, NAMES

MEBIBYTE = 1 << 20
NONE = "–"
OTHERS_FREED = "not told: others freed more"


def all_tables(results: Results, clients: Sequence[int], cpu_clients: int) -> list[Table]:
    """In the order of a reader's questions; `cpu_clients` is the number at which ways are compared in one figure."""
    return [
        bars(results, cpu_clients),
        latency(results),
        throughput(results, clients),
        cpu(results, cpu_clients),
        further(results),
        memory(results),
        density(results),
        cores(results, cpu_clients),
    ]


# --- the bars ---------------------------------------------------------------------------------------------------------


def bars(results: Results, clients: int) -> Table:
    """What we have promised ourselves, with what came out."""
    p50, p99 = median(results.times[EXPRESSION]), percentile(results.times[EXPRESSION], 99)
    ratio = results.to_bare(EVAL, clients)
    asynchronous = median(results.client[ASYNC]) / median(results.client[SYNC])
    rows = [
        _bar(
            "eval of `2+2`, warm, one at a time, p50",
            "at most 0.25 of bare's p50 (aim 0.15)",
            p50 / results.bare_p50,
            at_most=0.25,
        ),
        _bar("the same, p99", "at most 1.0 of bare's p50 (aim 0.5)", p99 / results.bare_p50, at_most=1.0),
        _bar(f"throughput of eval, {clients} clients", "at least 2.5 times bare's (aim 3)", ratio, at_least=2.5),
        _against_docker(results),
        _bar("async submit-to-result, our client", "at most 1.5 times sync", asynchronous, at_most=1.5),
        _waiting_sandbox(results),
        _beside_many(results),
    ]
    notes = "Bare is `python main.py`, from as many threads."
    return Table("The bars", ("what", "bar", "measured", ""), rows, notes, prose=2)


def _bar(
    what: str, bar: str, measured: float, *, at_most: float = float("inf"), at_least: float = 0.0, unit: str = ""
) -> tuple[str, ...]:
    held = at_least <= measured <= at_most
    return what, bar, f"{measured:.2f}{unit}", "held" if held else "MISSED"


def _against_docker(results: Results) -> tuple[str, ...]:
    what, bar = f"eval against {DOCKER}, p50", "at least 50 times sooner"
    if DOCKER not in results.times:
        return what, bar, results.absent[DOCKER], "not measured"
    return _bar(what, bar, median(results.times[DOCKER]) / median(results.times[EVAL]), at_least=50)


def _waiting_sandbox(results: Results) -> tuple[str, ...]:
    what, bar = "a sandbox that waits", "at most 4 MiB of private memory"
    if isinstance(results.memory, str):
        return what, bar, results.memory, "not measured"
    return _bar(what, bar, results.memory.waiting / MEBIBYTE, at_most=4, unit=" MiB")


def _beside_many(results: Results) -> tuple[str, ...]:
    few, many = min(results.densities), max(results.densities)
    what, bar = f"eval beside {many:,} sandboxes that wait, p50", f"at most 2 times that beside {few}"
    if sentence := next((found for found in results.densities.values() if isinstance(found, str)), None):
        return what, bar, sentence, "not measured"
    p50 = {number: median(found.evals_ms) for number, found in results.densities.items() if isinstance(found, Density)}
    return _bar(what, bar, p50[many] / p50[few], at_most=2)


# --- what was measured ------------------------------------------------------------------------------------------------


def latency(results: Results) -> Table:
    header = ("one at a time, ms", "runs", "min", "p50", "p95", "p99", "p50 / bare p50", "p99 / bare p50")
    rows = []
    for name in NAMES:
        if name not in results.times:
            rows.append(_absent(results, name, len(header)))
            continue
        values = results.times[name]
        figures = [min(values), *(percentile(values, number) for number in (50, 95, 99))]
        ratios = [figures[1] / results.bare_p50, figures[3] / results.bare_p50]
        rows.append((name, str(len(values)), *(f"{figure:.2f}" for figure in figures + ratios)))
    notes = (
        "From the request, or the start of the process, to the whole answer; each answer is checked. Processes are "
        "started with `posix_spawn`, requests sent on a kept connection. Docker takes part in each tenth turn, network "
        "in each fifth: their p99 says less."
    )
    if results.start_hooks:
        notes += (
            " Files in this interpreter's site-packages that run code whenever it starts (`.pth`): "
            f"{results.start_hooks}. Bare and bwrap have that in each run, the container has none of it."
        )
    return Table("Latency", header, rows, notes, "latency.svg")


def throughput(results: Results, clients: Sequence[int]) -> Table:
    header = ("runs/s", *(f"{number} client{'s' * (number > 1)} | / bare" for number in clients))
    header = tuple(part for column in header for part in column.split(" | "))
    rows = []
    for name in _measured(results):
        cells = [name]
        for number in clients:
            cells += [f"{results.rates[name, number].per_second:.1f}", f"{results.to_bare(name, number):.2f}"]
        rows.append(tuple(cells))
    rows += [_absent(results, name, len(header)) for name in results.absent]
    notes = "As many threads start processes, or post on a connection of their own, as there are clients."
    return Table("Throughput", header, rows, notes, "throughput.svg")


def cpu(results: Results, clients: int) -> Table:
    header = (f"CPU ms per execution, {clients} clients", "whole machine", "/ bare", "own processes", "load generator")
    bare = results.rates[BARE, clients]
    rows: list[tuple[str, ...]] = []
    for name in _measured(results):
        rate = results.rates[name, clients]
        whole = rate.machine_ms / rate.runs
        own = NONE if rate.counted_ms is None else f"{rate.counted_ms / rate.runs:.2f}"
        generator = f"{rate.generator_ms / rate.runs:.2f}"
        rows.append((name, f"{whole:.2f}", f"{whole / (bare.machine_ms / bare.runs):.2f}", own, generator))
    rows += [_absent(results, name, len(header)) for name in results.absent]
    notes = (
        "Whole machine: all that was not idle in `/proc/stat` while the clients were at work and shortly after, with "
        "the load generator, daemons, kernel threads and whatever else ran. Own processes: what the kernel counted in "
        "a cgroup for the started processes, or for the server and everything below it; – where no one cgroup has them "
        "all. Load generator: what its own process took."
    )
    return Table("CPU", header, rows, notes)


def further(results: Results) -> Table:
    pairs = dict(results.further)
    rows = [
        (name, f"{median(bare):.2f}", f"{median(ours):.2f}", f"{median(ours) / median(bare):.2f}", str(len(ours)))
        for name, (bare, ours) in pairs.items()
    ]
    sync, asynchronous = median(results.client[SYNC]), median(results.client[ASYNC])
    ratio = f"{asynchronous / sync:.2f} of sync"
    rows.append((SYNC, NONE, f"{sync:.2f}", NONE, str(len(results.client[SYNC]))))
    rows.append((ASYNC, NONE, f"{asynchronous:.2f}", ratio, str(len(results.client[ASYNC]))))
    notes = (
        "By eval where it doesn't say otherwise. Bare reads the same files from a directory, unpacked already, and "
        "keeps its compiled modules from one run to the next; a sandbox gets its files anew."
    )
    return Table("Further work", ("p50, ms", "bare", "over HTTP", "/ bare", "runs"), rows, notes)


def memory(results: Results) -> Table:
    header = ("memory of a sandbox", "MiB")
    if isinstance(results.memory, str):
        rows = [("private", results.memory)]
    else:
        rows = [
            ("private, waiting", f"{results.memory.waiting / MEBIBYTE:.2f}"),
            ("private, with a program that sleeps", f"{results.memory.sleeping / MEBIBYTE:.2f}"),
        ]
    rows.append(_further_sandbox(results))
    notes = (
        "Private: Private_Clean, Private_Dirty and Swap of `smaps_rollup`, of user process and `pause` together. "
        "Of the machine: what it has less to give for each further one that waits, the kernel's share included."
    )
    return Table("Memory", header, rows, notes)


def _further_sandbox(results: Results) -> tuple[str, str]:
    what = "of the machine, waiting"
    few, many = results.densities[min(results.densities)], results.densities[max(results.densities)]
    if isinstance(few, str) or isinstance(many, str):
        return what, "not told: the densities below were not all reached"
    each = (many.machine_bytes - few.machine_bytes) / (many.sandboxes - few.sandboxes)
    if each <= 0:
        return what, OTHERS_FREED
    return what, f"{each / MEBIBYTE:.2f}"


def density(results: Results) -> Table:
    header = (
        "sandboxes that wait",
        "made in s",
        "eval p50 ms",
        "p99 ms",
        "private MiB",
        "of the machine MiB",
        "server",
    )
    rows = []
    for number, found in results.densities.items():
        if isinstance(found, str):
            rows.append((f"{number:,}: {found}", *[NONE] * (len(header) - 1)))
            continue
        times = (f"{median(found.evals_ms):.2f}", f"{percentile(found.evals_ms, 99):.2f}")
        private, machine, server = (
            f"{size / MEBIBYTE:,.0f}" for size in (found.private_bytes, found.machine_bytes, found.server_bytes)
        )
        if found.machine_bytes <= 0:
            machine = OTHERS_FREED
        rows.append((f"{number:,}", f"{found.made_seconds:.1f}", *times, private, machine, server))
    notes = (
        "Seconds are from the server's start, its own tests of every boundary included. Private is that of all "
        "sandboxes together; of the machine is how much less it has to give (`MemAvailable`) than before the server, "
        "so with the kernel's share of each; server is what its own process has resident, in MiB."
    )
    return Table("Density", header, rows, notes, "density.svg")


def cores(results: Results, clients: int) -> Table:
    header = (f"eval, {clients} clients", "runs/s", "/ one core")
    if isinstance(results.cores, str):
        return Table("Cores", header, [("server bound to one core", results.cores, NONE)])
    one, free = (rate.per_second for rate in results.cores)
    rows = [
        ("server and sandboxes bound to one core, load generator to another", f"{one:.1f}", "1.00"),
        ("nothing bound, all cores shared with the load generator", f"{free:.1f}", f"{free / one:.2f}"),
    ]
    return Table("Cores", header, rows)


def _measured(results: Results) -> list[str]:
    return [name for name in NAMES if name in results.times]


def _absent(results: Results, name: str, columns: int) -> tuple[str, ...]:
    return f"{name}: {results.absent[name]}", *[NONE] * (columns - 1)
