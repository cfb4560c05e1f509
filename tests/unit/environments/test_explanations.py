"""Why there are no packages, in one line for whoever asked for them."""

from __future__ import annotations

import pytest

from python_executor.environments.build import BuildPolicy, Run, explanation, one_line
from python_executor.environments.requirements import PackageFilter
from python_executor.model.events import Exited, Stderr, Termination, Usage

INDEX = "https://pypi.org/simple"
POLICY = BuildPolicy(wheels_only=True, filter=PackageFilter((), ("evil",)), max_mb=64, timeout_seconds=9)
FAILED = Exited(1, Termination.EXITED, Usage())


async def take(_request: object) -> None:
    """Never called."""


def run(*events: object) -> Run:
    made = Run(take)
    for event in events:
        made.feed(event)
    return made


def told(made: Run) -> str:
    text = explanation(made, POLICY, INDEX)
    assert "\n" not in text
    return text.removeprefix("the packages could not be installed: ")


def test_uv_is_quoted_without_its_drawing_and_with_the_operators_index() -> None:
    drawn = "  × No solution found:\n  ╰─▶ Because a was not found at http://127.0.0.1:3141/0/simple/, no.\n"
    assert one_line(drawn, INDEX) == f"No solution found: Because a was not found at {INDEX} , no."
    assert (
        one_line("error: No solution found\n  cause: Because b\x1b[1m\n", INDEX) == "No solution found: Because b [1m"
    )


def test_what_we_know_goes_before_what_uv_says() -> None:
    made = run(Stderr(b"uv's own words"), FAILED)
    made.visit.refused.add("evil")
    made.visit.only_sources.add("old")
    made.visit.failure = "the package index did not answer"
    parts = told(made).split("; ")
    assert parts[0].startswith("the package 'evil' is not allowed on this server (PACKAGES_DENY)")
    assert "old has no wheel, only source distributions" in parts[-3] and "(PACKAGE_BUILDS)" in parts[-3]
    assert parts[-2:] == ["the package index did not answer", "uv's own words"]


def test_a_limit_that_was_reached_is_named() -> None:
    assert told(run()) == "it took longer than 9 s (ENVIRONMENT_TIMEOUT)"
    too_large = "the packages take more than 64 MiB (ENVIRONMENT_MAX_MB)"
    assert told(run(Exited(137, Termination.MEMORY, Usage()))) == too_large
    assert told(run(Stderr(b"No space left on device (os error 28)"), FAILED)) == too_large


def test_what_could_not_be_taken_in_is_told() -> None:
    made = run(Stderr(b"a broken pipe"), FAILED)
    made.refusal = "a path does not lead below the environment"
    assert told(made) == "a path does not lead below the environment"


def test_silence_is_told_as_such() -> None:
    assert told(run(FAILED)) == "uv ended with exit code 1"


@pytest.mark.parametrize("length", [10, 100_000])
def test_it_has_a_bound(length: int) -> None:
    assert len(told(run(*[Stderr(b"word " * length)] * 20, FAILED))) <= 2000
