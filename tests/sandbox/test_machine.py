"""What code finds of the machine: processors as its limit has them, fonts, headers, Tcl, as plain Python does."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from python_executor.model.spec import Interpreter
from tests.sandbox.conftest import INTERPRETERS, LIMITS, Engine, Outcome, make_spec

Run = Callable[..., Outcome]
PROCESSORS = len(os.sched_getaffinity(0))
COUNTS = """
import multiprocessing, os
counts = [os.cpu_count(), len(os.sched_getaffinity(0)), multiprocessing.cpu_count()]
counts += [os.sysconf("SC_NPROCESSORS_ONLN"), os.sysconf("SC_NPROCESSORS_CONF")]
if hasattr(os, "process_cpu_count"): counts.append(os.process_cpu_count())
print(*sorted(set(counts)))
"""
PLACES = """
import os, sysconfig
for path in (sysconfig.get_config_h_filename(), sysconfig.get_makefile_filename(), sysconfig.get_path("include")):
    print(os.path.exists(path))
"""
TCL = """
try:
    import tkinter
except ImportError:
    raise SystemExit("no Tcl")
tcl = tkinter.Tcl()
print(tcl.eval("info patchlevel"), tcl.eval("clock format 0 -gmt 1"))
try:
    tkinter.Tk()
except tkinter.TclError as error:
    print(error)
"""
COMPILES = """
import subprocess, sysconfig
open("one.c", "w").write('#include <Python.h>\\n#include <math.h>\\nint one(void) { return (int) cos(0.0); }\\n')
include = sysconfig.get_path("include")
raise SystemExit(subprocess.run(["gcc", "-shared", "-fPIC", "-I", include, "-o", "one.so", "one.c"]).returncode)
"""
each_version = pytest.mark.parametrize("interpreter", INTERPRETERS, ids=lambda each: each.minor_version)


def plainly(interpreter: Interpreter, code: str) -> str:
    """What the program prints without a sandbox, its last word included."""
    argv = [interpreter.executable, "-c", code]
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={}, text=True, check=False).stdout


@each_version
@pytest.mark.parametrize(("cpus", "count"), [(0.5, 1), (1, 1), (None, PROCESSORS)])
def test_code_counts_as_many_processors_as_its_limit(
    run: Run, interpreter: Interpreter, cpus: float | None, count: int
) -> None:
    limits = replace(LIMITS, cpus=cpus)
    assert run(COUNTS, python=interpreter.minor_version, limits=limits).stdout == f"{count}\n"
    fresh = (("LANG", "C.UTF-8"),)
    assert run(COUNTS, python=interpreter.minor_version, limits=limits, env=fresh).stdout == f"{count}\n"


@pytest.mark.skipif(PROCESSORS == 1, reason="this machine has one processor")
def test_sandboxes_side_by_side_keep_to_different_processors(engine: Engine) -> None:
    code = "import os, sys, time\nprint(os.sched_getaffinity(0)); sys.stdout.flush(); time.sleep(0.2)"
    spec = make_spec(code, limits=replace(LIMITS, cpus=1))

    async def both() -> list[Outcome]:
        return await asyncio.gather(engine.run_spec(spec), engine.run_spec(spec))

    first, second = engine.wait(both())
    assert first.stdout != second.stdout


@each_version
def test_the_places_that_an_interpreter_names_are_there(run: Run, interpreter: Interpreter) -> None:
    assert run(PLACES, python=interpreter.minor_version).stdout == plainly(interpreter, PLACES)


@each_version
def test_tcl_works_and_tk_says_that_there_is_no_display(run: Run, interpreter: Interpreter) -> None:
    outcome = run(TCL, python=interpreter.minor_version)
    assert outcome.stdout + outcome.stderr == plainly(interpreter, TCL)


@pytest.mark.skipif(not Path("/usr/bin/gcc").exists(), reason="this machine has no compiler")
def test_a_compiler_finds_its_headers(run: Run) -> None:
    interpreter = next((each for each in INTERPRETERS if plainly(each, PLACES) == "True\n" * 3), None)
    if interpreter is None:
        pytest.skip("no interpreter of this machine has headers")
    outcome = run(COMPILES, python=interpreter.minor_version)
    assert (outcome.exit_code, outcome.stderr) == (0, "")


@pytest.mark.skipif(not Path("/usr/share/fonts").is_dir(), reason="this machine has no fonts")
def test_fonts_are_there_as_the_machine_has_them(run: Run) -> None:
    code = (
        "import os\nprint(sorted(n for _, _, names in os.walk('/usr/share/fonts') for n in names if n[-4:] == '.ttf'))"
    )
    assert run(code).stdout == plainly(INTERPRETERS[0], code)


@pytest.mark.skipif(
    not (Path("/usr/bin/fc-match").exists() and [*Path("/usr/share/fonts").rglob("DejaVuSans.ttf")]),
    reason="this machine has no DejaVu, or nothing that asks for it",
)
@pytest.mark.parametrize(
    ("family", "font"), [("", "Sans"), ("sans-serif", "Sans"), ("serif", "Serif"), ("monospace", "Sans Mono")]
)
def test_a_font_of_a_family_is_a_plain_one(run: Run, family: str, font: str) -> None:
    code = f"import subprocess\nsubprocess.run(['fc-match', '-f', '%{{family}}', {family!r}])"
    assert run(code).stdout == f"DejaVu {font}"
