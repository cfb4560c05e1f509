"""What packages cost a run, once they are there: against the same script without any, and against bare Python.

    .venv/bin/python benchmarks/packages.py

Installs numpy and pandas from the package index, once, then compares: a script that imports nothing, with and without
`requirements_txt`; and one that uses pandas, in a named environment, with requirements, with detected imports, and as
`python main.py` of the same interpreter in a virtual environment with the very same files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import requests
from load import Way, WrongAnswer, sequential
from machine import chosen, facts
from report import WIDTH, Table
from results import percentile
from rich.console import Console
from server import Server, ServerFailed
from ways import CODE, EXPECTED, eval_body, evaluated, in_result, process

from python_executor.environments.named import Definition, Definitions
from python_executor.model.spec import Interpreter

RESULTS = Path(__file__).resolve().parent / "results" / "packages.md"
TURNS = 100
WARM_UP = 10
REQUIREMENTS = "numpy\npandas\n"
PANDAS = 'import numpy, pandas as pd\nprint(pd.DataFrame({"a": numpy.arange(4)}).sum()["a"])\n'
SIX = b"6\n"
BARE, NAMED = "bare `python main.py`, pandas", "named environment, pandas"
LISTED, DETECTED = "`requirements_txt`, pandas", "detected imports, pandas"
NOTHING, UNUSED = "without packages, imports nothing", "`requirements_txt`, imports nothing"
OVERHEAD_MS, NAMED_RATIO = 5.0, 0.1
HEAD = "# Packages\n\nWritten by `make bench`. The milliseconds are those of the machine: read the ratios.\n"


def install(server: Server) -> str:
    """Have the packages; the key of their environment."""
    body = json.loads(eval_body(CODE, requirements_txt=REQUIREMENTS))
    answer = requests.post(f"{server.url}/api/v1/eval", json=body, timeout=900).json()
    if answer["environment"] is None:
        raise ServerFailed(f"numpy and pandas can't be had here: {answer['error']}")
    key: str = answer["environment"]["key"]
    return key


def name_it(server: Server, interpreter: Interpreter, key: str) -> None:
    lock = requests.get(f"{server.url}/api/v1/environments/{key}/lock", timeout=30).text
    definition = Definition("science", interpreter.minor_version, REQUIREMENTS, ("numpy", "pandas"), key, lock)
    Definitions(server.data / "named").put(definition)


def same_outside(server: Server, interpreter: Interpreter, key: str, directory: Path) -> Way:
    """`python main.py` in a virtual environment whose packages are the cached ones."""
    (directory / "bin").mkdir()
    (directory / "bin/python").symlink_to(interpreter.executable)
    (directory / "lib").symlink_to(server.data / "environments" / key / "venv/lib")
    (directory / "pyvenv.cfg").write_text(f"home = {Path(interpreter.executable).parent}\n")
    script = directory / "main.py"
    script.write_text(PANDAS)
    return Way(BARE, lambda: process([str(directory / "bin/python"), str(script)]), SIX)


def ways(server: Server, bare: Way) -> list[Way]:
    hello, six = in_result(EXPECTED), in_result(SIX)
    return [
        evaluated(server, eval_body(CODE), hello, NOTHING),
        evaluated(server, eval_body(CODE, requirements_txt=REQUIREMENTS), hello, UNUSED),
        bare,
        evaluated(server, eval_body(PANDAS, environment="science"), six, NAMED),
        evaluated(server, eval_body(PANDAS, requirements_txt=REQUIREMENTS), six, LISTED),
        evaluated(server, eval_body(PANDAS), six, DETECTED),
    ]


def tables(times: dict[str, list[float]]) -> list[Table]:
    p50 = {name: median(values) for name, values in times.items()}
    added, ratio = p50[UNUSED] - p50[NOTHING], p50[NAMED] / p50[BARE]
    bars = [
        ("second run with requirements, over the same script without", f"at most {OVERHEAD_MS:g} ms",
         f"{added:+.2f} ms", _held(added, OVERHEAD_MS)),
        ("`import numpy, pandas` and a sum, named environment, over bare", f"at most {NAMED_RATIO:g}",
         f"{ratio:.3f}", _held(ratio, NAMED_RATIO)),
    ]  # fmt: skip
    rows = [
        (name, f"{p50[name]:.2f}", f"{percentile(values, 90):.2f}", f"{p50[name] / p50[BARE]:.3f}")
        for name, values in times.items()
    ]
    return [
        Table("The bars", ("what", "bar", "measured", ""), bars, prose=2),
        Table("Milliseconds of one run", ("way", "p50", "p90", "p50 over bare"), rows),
    ]


def _held(measured: float, bar: float) -> str:
    return "held" if measured <= bar else "MISSED"


def main() -> int:
    interpreter, console = chosen(), Console(width=WIDTH)
    told = {name: value for name, value in facts(interpreter).items() if name not in ("bwrap", "Docker")}
    try:
        with tempfile.TemporaryDirectory() as directory, Server(interpreter) as server:
            began = time.monotonic()
            key = install(server)
            told["numpy and pandas"] = f"resolved, installed and compiled in {time.monotonic() - began:.1f} s, once"
            name_it(server, interpreter, key)
            bare = same_outside(server, interpreter, key, Path(directory))
            times = sequential(ways(server, bare), TURNS, warm_up=WARM_UP)
    except (WrongAnswer, ServerFailed, OSError) as failure:
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
