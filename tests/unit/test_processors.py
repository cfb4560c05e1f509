"""Who keeps to which processors."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from python_executor.sandboxes.processors import Processors


@pytest.mark.parametrize(
    ("cpus", "count"), [(None, 0), (0.1, 1), (1, 1), (1.5, 2), (3.0, 3), (3.1, 0), (4, 0), (64, 0)]
)
def test_a_limit_is_about_whole_processors_or_about_all_of_them(cpus: float | None, count: int) -> None:
    assert Processors(cpus, total=4).usual == count


def test_none_is_used_by_two_while_another_is_free() -> None:
    processors = Processors(None, total=4)
    with ExitStack() as running:
        taken = [running.enter_context(processors.some(1)) for _ in range(8)]
    assert sorted(taken) == [(place, 1) for place in (0, 0, 1, 1, 2, 2, 3, 3)]


def test_what_was_given_back_is_taken_again() -> None:
    processors = Processors(None, total=2)
    with processors.some(1) as first:
        for _ in range(3):
            with processors.some(1) as other:
                assert other != first


def test_one_after_the_other_take_turns() -> None:
    processors, taken = Processors(None, total=3), []
    for _ in range(3):
        with processors.some(1) as chosen:
            taken.append(chosen)
    assert sorted(taken) == [(0, 1), (1, 1), (2, 1)]


def test_several_are_in_a_row_that_may_go_over_the_end() -> None:
    processors = Processors(None, total=4)
    with processors.some(3) as first, processors.some(2) as second:
        assert (first, second) == ((0, 3), (3, 2))


def test_without_a_limit_none_is_chosen() -> None:
    with Processors(None, total=1).some(1) as chosen:
        assert chosen is None
