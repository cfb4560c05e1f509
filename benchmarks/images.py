"""What an execution in an image takes, beside `docker run` of the same image on the same engine.

    sudo .venv/bin/python benchmarks/images.py

Starts an engine and images of the tests' own, so it needs root and what `make test` needs for its Docker part. The ways
take turns, and after each the machine gets a moment to itself: a container that waits is replaced off the path of the
answer, and whoever came next would pay for it.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from load import Way, WrongAnswer, check
from machine import chosen, facts
from report import WIDTH, Table
from results import percentile
from rich.console import Console
from server import Server, ServerFailed
from ways import CODE, EXPECTED, eval_body, evaluated, in_result, process

from tests.support.engine import Engine

RESULTS = Path(__file__).resolve().parent / "results" / "images.md"
TURNS = 25
SETTLE_SECONDS = 0.7
IMAGE, VERSION = "python:3.11-slim", "3.11"
DOCKER, WARM, COLD = "`docker run --rm --network none`", "a container that waits", "a container made on request"
GVISOR_DOCKER, GVISOR = "`docker run`, gVisor (runsc)", "a container that waits, gVisor (runsc)"
WARM_RATIO, COLD_RATIO = 0.2, 1.1
HEAD = "# Images\n\nWritten by `make bench`, as root. The milliseconds are those of the machine: read the ratios.\n"
NOTES = "One at a time, from the request to the whole answer, ours through HTTP. The image is there."


def docker_run(engine: Engine, name: str, *options: str) -> Way:
    command = [
        "docker",
        "--host",
        f"unix://{engine.socket}",
        "run",
        "--rm",
        "--network",
        "none",
        *options,
        IMAGE,
        "python",
        "-c",
        CODE,
    ]
    return Way(name, lambda: process(command), EXPECTED)


def ways(server: Server, engine: Engine) -> list[Way]:
    hello, unusual = in_result(EXPECTED), {"memory_mb": 1000}  # no container waits with other limits
    return [
        docker_run(engine, DOCKER),
        evaluated(server, eval_body(CODE), hello, WARM),
        evaluated(server, eval_body(CODE, config=unusual), hello, COLD),
        docker_run(engine, GVISOR_DOCKER, "--runtime", "runsc"),
        evaluated(server, eval_body(CODE, runtime="runsc"), hello, GVISOR),
    ]


def in_turns(contenders: list[Way], turns: int) -> dict[str, list[float]]:
    """Milliseconds of each run."""
    times: dict[str, list[float]] = {way.name: [] for way in contenders}
    runs, order, draw = {way.name: way.client() for way in contenders}, list(contenders), random.Random(0)
    for way in contenders:
        check(way, runs[way.name]())  # images and boundaries are looked at once
        time.sleep(2 * SETTLE_SECONDS)
    for _ in range(turns):
        draw.shuffle(order)
        for way in order:
            start = time.perf_counter()
            answer = runs[way.name]()
            times[way.name].append((time.perf_counter() - start) * 1000)
            check(way, answer)
            time.sleep(SETTLE_SECONDS)
    return times


def tables(times: dict[str, list[float]]) -> list[Table]:
    p50 = {name: median(values) for name, values in times.items()}
    bars = [
        (f"{name}, p50 over `docker run`", f"at most {bar:g}", f"{p50[name] / p50[DOCKER]:.3f}",
         "held" if p50[name] <= bar * p50[DOCKER] else "MISSED")
        for name, bar in ((WARM, WARM_RATIO), (COLD, COLD_RATIO))
    ]  # fmt: skip
    rows = [
        (name, f"{p50[name]:.1f}", f"{percentile(values, 90):.1f}", f"{p50[name] / p50[DOCKER]:.3f}")
        for name, values in times.items()
    ]
    return [
        Table("The bars", ("what", "bar", "measured", ""), bars, prose=2),
        Table("Milliseconds of one run", ("way", "p50", "p90", "p50 over `docker run`"), rows, NOTES),
    ]


def main() -> int:
    console, interpreter = Console(width=WIDTH), chosen()
    told = {name: value for name, value in facts(interpreter).items() if name not in ("bwrap", "Docker", "Python")}
    try:
        with Engine() as engine:
            engine.load(IMAGE)
            told["Engine"] = "Docker " + engine.run_cli("version", "--format", "{{.Server.Version}}").strip()
            settings = {
                "BACKEND": "docker",
                "DOCKER_SOCKET": str(engine.socket),
                "DEFAULT_PYTHON": VERSION,
                "RUNTIMES_ALLOW": "runsc",
            }
            with Server(interpreter, settings=settings) as server:
                times = in_turns(ways(server, engine), TURNS)
    except (WrongAnswer, ServerFailed, RuntimeError, OSError) as failure:
        console.print(f"Stopped, nothing was written: {failure}", markup=False)
        return 1
    made = tables(times)
    for table in made:
        table.show(console)
    lines = "".join(f"* {name}: {value}\n" for name, value in told.items())
    RESULTS.write_text("\n".join([HEAD, lines, *(table.markdown() for table in made)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
