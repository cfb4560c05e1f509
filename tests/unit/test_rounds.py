"""Endless work goes on, whatever one round of it comes to."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from python_executor.rounds import do_all, repeat


def rounds(outcomes: list[Exception | None]) -> tuple[int, list[str]]:
    """How many rounds were begun, and what was logged."""
    begun = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun > len(outcomes):
            done.set()
            return
        if (failure := outcomes[begun - 1]) is not None:
            raise failure

    async def main() -> None:
        repeating = asyncio.create_task(repeat("it failed", 0.001, work))
        await asyncio.wait_for(done.wait(), 10)
        repeating.cancel()

    with capture_logs() as logs:
        asyncio.run(main())
    return begun, [entry["failure"] for entry in logs]


def test_a_round_that_fails_is_logged_and_the_next_one_comes() -> None:
    begun, logged = rounds([None, RuntimeError("code printed this"), None, OSError()])
    assert begun >= 5
    assert logged == ["RuntimeError", "OSError"]


def test_what_fails_in_every_round_is_said_once_until_it_has_worked_again() -> None:
    assert rounds([RuntimeError() for _ in range(20)])[1] == ["RuntimeError"]
    assert rounds([RuntimeError(), RuntimeError(), None, RuntimeError()])[1] == ["RuntimeError"] * 2


def test_each_has_its_turn_whatever_the_others_come_to() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number % 2:
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ExceptionGroup) as raised:
        do_all(lambda number=number: work(number) for number in range(5))  # type: ignore[misc]
    assert done == [0, 2, 4]
    assert [str(each) for each in raised.value.exceptions] == ["1", "3"]
