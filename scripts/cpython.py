"""Runs CPython's own test suite in sandboxes and plainly, and compares: `make test-cpython`.

`python scripts/cpython.py [--python 3.12]... [--only PATTERN]... [--sample N] [--again | --kept] [--write]`, as root.

Each module of the suite is one run on either side, by the same program (`tests/cpython/outcomes.py`). What counts is
what passes plainly: one that does not pass in a sandbox is a difference, and has to be one of those that
`tests/cpython/differences.toml` lists with a reason. Tests that differ are tried again on both sides. Outcomes are kept
below `build/cpython`, so a run that was ended goes on where it was; `--again` begins anew.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from python_executor.environments.interpreters import find_interpreters
from python_executor.model.events import Event, Stdout
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter, Limits
from python_executor.sandboxes.native.backend import NativeBackend
from python_executor.settings import PRELOAD

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.plain import PlainPython, plain_interpreter  # noqa: E402
from tests.support.starting import start_as_usual  # noqa: E402

OUTCOMES = ROOT / "tests/cpython/outcomes.py"
DIFFERENCES = ROOT / "tests/cpython/differences.toml"
KEPT = ROOT / "build/cpython"
PAGE = ROOT / "docs/plain-python.md"
BEGIN, END = "<!-- figures of `make test-cpython` -->\n", "<!-- end -->\n"
MARK = b"@@outcome "
SECONDS = 600  # that a module has, on either side
LIMITS = Limits(timeout_seconds=SECONDS, memory_mb=2048, disk_mb=1024, cpu_shares=1024)
TRIES = 3  # of what differs
SPLIT = (  # packages whose modules are run one by one, as CPython's own runner does
    "test_asyncio", "test_concurrent_futures", "test_inspect", "test_multiprocessing_fork",
    "test_multiprocessing_forkserver", "test_multiprocessing_spawn",
)  # fmt: skip
LEFT_OUT = {"test_gdb", "test_winapi", "test_winreg", "test_winsound", "test_wmi", "test_launcher", "test_ttk"}

WORSE = ("begun", "passed", "skipped", "failed")  # the further, the worse
Outcome = tuple[str, str]  # one of these, or "missing"; and why
Outcomes = Mapping[str, Outcome]  # by the test's id


@dataclass(frozen=True)
class Known:
    """Tests that are known to differ."""

    tests: tuple[str, ...]  # patterns of ids: test.MODULE.CLASS.TEST, test.MODULE:OTHER.ID
    python: str
    reason: str
    says: str = ""  # what has to be in the words with which they fail

    def is_for(self, version: str) -> bool:
        """Return whether it is one of this version's."""
        return SpecifierSet(self.python).contains(version)

    def has(self, test: str, words: str) -> bool:
        """Return whether a test that failed with these words is one of them."""
        return self.says in words and any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests)


@dataclass
class Compared:
    """What came of one version."""

    version: str
    modules: Sequence[str]
    passed: int  # plainly
    differ: dict[str, Outcome]  # inside
    seconds: float


def known_differences() -> list[Known]:
    """What is listed."""
    listed = tomllib.loads(DIFFERENCES.read_text())["difference"]
    return [
        Known(tuple(each["tests"]), each.get("python", ""), each["reason"], each.get("says", "")) for each in listed
    ]


class Sides:
    """One interpreter, in sandboxes and plainly."""

    def __init__(self, backend: NativeBackend, plain: PlainPython, version: str) -> None:
        self._backend = backend
        self._plain = plain
        self._version = version

    async def run(self, module: str) -> tuple[Outcomes, Outcomes]:
        """The outcomes of a module's tests, plainly and in a sandbox."""
        plainly, inside = await asyncio.gather(asyncio.to_thread(self._run_plainly, module), self._run_inside(module))
        return parse(plainly), parse(inside)

    def _run_plainly(self, module: str) -> bytes:
        with tempfile.TemporaryDirectory() as directory:
            work = Path(directory)
            shutil.copy(OUTCOMES, work / "main.py")
            work.chmod(0o755)
            for path in (work, work / "main.py"):
                shutil.chown(path, 1000, 1000)
            return self._plain.run(work, ["main.py", module], seconds=SECONDS).stdout

    async def _run_inside(self, module: str) -> bytes:
        code = OUTCOMES.read_bytes()
        tree = FileTree((FileEntry("main.py", 0o644, 0, len(code)),), code)
        spec = ExecutionSpec(tree=tree, entrypoint="main.py", args=(module,), python=self._version, limits=LIMITS)
        output = bytearray()

        def take(event: Event) -> None:
            if isinstance(event, Stdout):
                output.extend(event.data)

        sandbox = await self._backend.acquire(spec, None)
        try:
            async with asyncio.timeout(SECONDS + 20):
                await sandbox.run(spec, take)
        except TimeoutError:
            pass
        finally:
            await sandbox.destroy()
        return bytes(output)


def parse(output: bytes) -> Outcomes:
    """What the program inside told: the worst outcome of each test."""
    found: dict[str, Outcome] = {}
    for line in output.split(b"\n"):
        if not line.startswith(MARK):
            continue
        with suppress(ValueError):  # one that was cut short, as its process ended
            name, outcome, reason = json.loads(line.removeprefix(MARK))
            if outcome in WORSE and (name not in found or WORSE.index(outcome) >= WORSE.index(found[name][0])):
                found[name] = (outcome, reason)
    return found


def differing(plainly: Outcomes, inside: Outcomes) -> dict[str, Outcome]:
    """What passes plainly and not inside."""
    return {
        test: inside.get(test, ("missing", ""))
        for test, (outcome, _) in plainly.items()
        if outcome == "passed" and inside.get(test, ("missing",))[0] != "passed"
    }


def modules_of(interpreter: Interpreter, only: Sequence[str], sample: int) -> list[str]:
    """The names of the suite's modules."""
    directory = Path(interpreter.prefix) / "lib" / f"python{interpreter.minor_version}" / "test"
    names = {path.stem for path in directory.glob("test_*.py")}
    names |= {path.parent.name for path in directory.glob("test_*/__init__.py")}
    for package in names.intersection(SPLIT):
        names |= {f"{package}.{path.stem}" for path in directory.glob(f"{package}/test_*.py")}
    names -= {package for package in SPLIT if (directory / package / "__init__.py").exists()}
    wanted = sorted(name for name in names - LEFT_OUT if not only or any(fnmatch.fnmatchcase(name, p) for p in only))
    return wanted[:: max(1, len(wanted) // sample)] if sample else wanted


@asynccontextmanager
async def sides(interpreter: Interpreter, directory: Path) -> AsyncIterator[Sides]:
    """Both sides of an interpreter, for as long as they are needed."""
    backend = NativeBackend(
        [interpreter], default_python=interpreter.minor_version, default_limits=LIMITS, pool_min=0, pool_max=1,
        preload=PRELOAD, insecure_allow=frozenset(),
    )  # fmt: skip
    await backend.start()
    try:
        yield Sides(backend, plain_interpreter(interpreter, directory), interpreter.minor_version)
    finally:
        await backend.close()


async def compare_module(both: Sides, module: str) -> tuple[int, dict[str, Outcome]]:
    """How many of its tests pass plainly, and which of these differ, as often as they are tried."""
    plainly, inside = await both.run(module)
    passed = sum(outcome == "passed" for outcome, _ in plainly.values())
    differ = differing(plainly, inside)
    for _ in range(TRIES - 1):
        if not differ:
            break
        again = differing(*await both.run(module))
        differ = {test: again[test] for test in differ if test in again}
    return passed, differ


async def compare(interpreter: Interpreter, modules: Sequence[str], *, again: bool) -> Compared:
    """All modules on both sides; those that an earlier run has done are not run again."""
    version, start = interpreter.minor_version, time.monotonic()
    kept = KEPT / version
    if again:
        shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True, exist_ok=True)
    result = Compared(version, modules, 0, {}, 0)
    with tempfile.TemporaryDirectory() as directory:
        async with sides(interpreter, Path(directory)) as both:
            for number, module in enumerate(modules, 1):
                path = kept / f"{module}.json"
                if not path.exists():
                    began = time.monotonic()
                    passed, differ = await compare_module(both, module)
                    path.write_text(json.dumps([passed, differ, time.monotonic() - began]))
                passed, differ, seconds = json.loads(path.read_text())
                result.passed += passed
                result.differ.update({full_name(module, test): tuple(outcome) for test, outcome in differ.items()})
                result.seconds += seconds
                print(f"{version} {number}/{len(modules)} {module}: {passed} pass plainly, {len(differ)} differ"
                      f" ({seconds:.0f} s)", flush=True)  # fmt: skip
    print(f"{version}: {time.monotonic() - start:.0f} s in this run", flush=True)
    return result


def full_name(module: str, test: str) -> str:
    """Return the id of a test, with its module where that is elsewhere: IDLE's and Tk's bring tests of their own."""
    return test if test.startswith(f"test.{module}.") else f"test.{module}:{test}"


def judge(compared: Compared, known: Sequence[Known]) -> tuple[Counter[str], list[str]]:
    """How many tests differ for each reason, and which for none that is listed."""
    reasons: Counter[str] = Counter()
    unlisted = []
    listed = [each for each in known if each.is_for(compared.version)]
    for test, (_, words) in compared.differ.items():
        reason = next((each.reason for each in listed if each.has(test, words)), None)
        if reason is None:
            unlisted.append(test)
        else:
            reasons[reason] += 1
    return reasons, unlisted


def no_longer(all_compared: Sequence[Compared], known: Sequence[Known]) -> list[str]:
    """Return the listed patterns of modules that were run, by which no test differs any more on any version."""
    were_run = {module.partition(".")[0] for each in all_compared for module in each.modules}
    differ = {test for each in all_compared for test in each.differ}
    return [
        pattern
        for each in known
        if any(each.is_for(compared.version) for compared in all_compared)
        for pattern in each.tests
        if re.split("[.:]", pattern)[1] in were_run and not fnmatch.filter(differ, pattern)
    ]


def figures(all_compared: Sequence[Compared], known: Sequence[Known]) -> str:
    """Return two tables for the page: what passes on each version, and how many tests differ for which reason."""
    lines = ["| Python | modules | pass plainly | of these in a sandbox | minutes |", "| --- | --- | --- | --- | --- |"]
    for each in all_compared:
        numbers = (len(each.modules), each.passed, each.passed - len(each.differ), round(each.seconds / 60))
        lines.append(" | ".join((f"| {each.version}", *(f"{number:,}" for number in numbers))) + " |")
    reasons = [judge(each, known)[0] for each in all_compared]
    lines += ["", " | ".join(("| tests that differ, and why", *(each.version for each in all_compared))) + " |"]
    lines.append("| ---" * (len(reasons) + 1) + " |")
    for reason, _ in sum(reasons, Counter[str]()).most_common():
        lines.append(" | ".join((f"| {reason}", *(str(counts[reason]) for counts in reasons))) + " |")
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Put the figures on the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])


def main() -> int:
    """Compare, and say what differs without a reason."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", default=[], help="a version; all that are installed")
    parser.add_argument("--only", action="append", default=[], help="a pattern of modules: test_io, test_z*")
    parser.add_argument("--sample", type=int, default=0, help="about so many modules, spread over all")
    parser.add_argument("--again", action="store_true", help="run also what an earlier run has done")
    parser.add_argument("--kept", action="store_true", help="only what earlier runs have done")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    start_as_usual()
    known = known_differences()
    all_compared = []
    for interpreter in find_interpreters():
        if not options.python or interpreter.minor_version in options.python:
            modules = modules_of(interpreter, options.only, options.sample)
            if options.kept:
                modules = [each for each in modules if (KEPT / interpreter.minor_version / f"{each}.json").exists()]
            all_compared.append(asyncio.run(compare(interpreter, modules, again=options.again)))
    is_good = True
    for each in all_compared:
        reasons, unlisted = judge(each, known)
        print(f"\nPython {each.version}: {each.passed - len(each.differ)} of {each.passed} pass inside as outside,"
              f" {each.seconds / 60:.0f} minutes")  # fmt: skip
        for reason, count in reasons.most_common():
            print(f"  {count:4} {reason}")
        for test in unlisted:
            print(f"  UNLISTED {test}: {' '.join(each.differ[test])}")
        is_good = is_good and not unlisted
    for pattern in no_longer(all_compared, known):
        print(f"LISTED, BUT NONE DIFFERS {pattern}: take it out of {DIFFERENCES.relative_to(ROOT)}")
    if options.write:
        write(figures(all_compared, known))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
