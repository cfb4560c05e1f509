"""Programs do in a container what they do in the image's own Python, run plainly: see `tests/plain`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.plain.comparing import normalized, run_plainly
from tests.plain.corpus import Program, programs, reason_to_differ
from tests.support.engine import IMAGES, Unpacked
from tests.support.plain import Ending, PlainPython, plain_image

from .serving import Served

VERSIONS = ("3.9", "3.11", "3.13")
SAMPLE = [program.name for program in programs() if program.sample]


def cases() -> Iterator[object]:
    """Every program on one image, the sample on the others, too; a quarter of that does not take long."""
    for program in programs():
        for version in filter(program.runs_on, VERSIONS if program.sample else VERSIONS[1:2]):
            is_first = program.name in SAMPLE[::4] and version == VERSIONS[1]
            marks = [] if is_first else [pytest.mark.long]
            if reason := reason_to_differ(program, version, "container"):
                marks.append(pytest.mark.xfail(reason=reason, strict=True))
            yield pytest.param(program, version, marks=marks, id=f"{program.name}-{version}")


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PlainPython]:
    """The interpreter of an image."""

    @cache
    def find(version: str) -> PlainPython:
        image = IMAGES[f"python:{version}-slim"]
        assert isinstance(image, Unpacked)
        return plain_image(image, version, tmp_path_factory.mktemp("image"))

    return find


@pytest.mark.parametrize(("program", "version"), list(cases()))
def test_a_program_does_in_a_container_what_it_does_in_plain_python(
    containers: Served,
    plain_python: Callable[[str], PlainPython],
    tmp_path_factory: pytest.TempPathFactory,
    program: Program,
    version: str,
) -> None:
    plainly = run_plainly(program, plain_python(version), tmp_path_factory.mktemp("work"))
    result = containers.api.run(
        program.files,
        docker_image=f"python:{version}-slim",
        entrypoint="main.py",
        stdin=program.stdin,
        script_args=list(program.argv),
        env_vars=[f"{name}={value}" for name, value in program.env.items()],
    )
    expected = (plainly.stdout.decode(errors="replace"), plainly.stderr.decode(errors="replace"), plainly.exit_code)
    ending = Ending(result["stdout"].encode(), result["stderr"].encode(), result["exit_code"])
    found = normalized(program, ending)
    assert (found.stdout.decode(), found.stderr.decode(), found.exit_code) == expected
