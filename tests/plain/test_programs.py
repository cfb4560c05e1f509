"""Programs do in a sandbox what they do in plain Python: the same bytes on both streams, the same exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from python_executor.model.events import Stderr, Stdout
from tests.sandbox.conftest import INTERPRETERS, Engine, make_spec
from tests.support.plain import Ending, PlainPython

from .comparing import normalized, run_plainly
from .corpus import Program, differences, programs, reason_to_differ

pytestmark = pytest.mark.needs("root", "iproute2")
VERSIONS = [each.minor_version for each in INTERPRETERS]
FRESH = {"LANG": "C.UTF-8"}  # changes nothing, and is read at start
MEASURED = {"fork": {}, "fresh": FRESH}


def cases() -> Iterator[object]:
    """Every program on every version, in a fork and in a fresh interpreter."""
    for program in programs():
        for version in filter(program.runs_on, VERSIONS):
            for how in MEASURED:
                marks = [] if is_short(program, version, how) else [pytest.mark.long]
                if reason := reason_to_differ(program, version, how):
                    marks.append(pytest.mark.xfail(reason=reason, strict=True))
                yield pytest.param(program, version, how, marks=marks, id=f"{program.name}-{version}-{how}")


def is_short(program: Program, version: str, how: str) -> bool:
    """Whether it is part of every `make test`: the sample on two versions, and every kind of end on one."""
    if version == VERSIONS[0]:
        return program.sample or (how == "fork" and program.name.startswith("ends/"))
    return program.sample and how == "fork" and version == VERSIONS[-1]


@pytest.fixture(scope="session")
def plainly(
    plain_python: Callable[[str], PlainPython], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Program, str], Ending]:
    """How a program ends in plain Python, found once for each version."""
    known: dict[tuple[str, str], Ending] = {}

    def find(program: Program, version: str) -> Ending:
        if (program.name, version) not in known:
            work = tmp_path_factory.mktemp("work")
            known[program.name, version] = run_plainly(program, plain_python(version), work)
        return known[program.name, version]

    return find


@pytest.mark.parametrize(("program", "version", "how"), list(cases()))
def test_a_program_does_what_it_does_in_plain_python(
    native: Engine, plainly: Callable[[Program, str], Ending], program: Program, version: str, how: str
) -> None:
    variables = {**MEASURED[how], **program.env}
    spec = make_spec(
        "", dict(program.files), python=version, args=program.argv, stdin=program.stdin.encode(),
        env=tuple(variables.items()),
    )  # fmt: skip
    outcome = native.wait(native.run_spec(spec))
    stdout = b"".join(event.data for event in outcome.events if isinstance(event, Stdout))
    stderr = b"".join(event.data for event in outcome.events if isinstance(event, Stderr))
    assert normalized(program, Ending(stdout, stderr, outcome.exit_code)) == plainly(program, version)


def test_there_are_as_many_programs_as_promised() -> None:
    assert len(programs()) >= 200
    assert 20 <= sum(program.sample for program in programs()) <= 30


def test_every_known_difference_is_one_of_a_program() -> None:
    names = {program.name for program in programs()}
    assert not {name for each in differences() for name in each.programs} - names
