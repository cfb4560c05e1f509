"""Who may start, and who comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.environments.base import Work
from python_executor.executions.admission import BACKLOG_BYTES, PATIENCE, Admission, Ticket
from python_executor.model.errors import InvalidRequest, QueueFull

from .support import run, settle


def is_admitted(ticket: Ticket) -> bool:
    return ticket in ticket.lane.running


def test_as_many_run_as_may_and_the_next_starts_when_one_is_given_back():
    async def check():
        admission = Admission(max_concurrent=2, memory_budget_mb=1000, queue_max=10)
        first, second, third = (admission.join(1) for _ in range(3))
        assert [is_admitted(ticket) for ticket in (first, second, third)] == [True, True, False]
        first.give_back()
        assert await third.admitted()
        assert (admission.running, admission.waiting) == (2, 0)

    run(check())


def test_what_runs_together_stays_within_the_memory_budget():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        large, small, waits = admission.join(60), admission.join(40), admission.join(1)
        assert [is_admitted(ticket) for ticket in (large, small, waits)] == [True, True, False]
        small.give_back()
        assert is_admitted(waits)

    run(check())


def test_one_that_does_not_fit_beside_those_that_run_for_long_never_stops_others():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        for_hours, large = admission.join(60), admission.join(50)
        for _ in range(600):
            small = admission.join(30)
            assert is_admitted(small)
            await asyncio.sleep(5)
            small.give_back()
        assert not is_admitted(large)
        for_hours.give_back()
        assert is_admitted(large)

    run(check())


@pytest.mark.parametrize("seconds", [1, 7, 60, 600])
def test_small_ones_pass_by_a_large_one_and_make_way_for_it_in_the_end(seconds):
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=1000)
        clock = asyncio.get_running_loop().time

        async def stream(begins: float) -> None:
            await asyncio.sleep(begins)
            while True:  # one after the other, each in the place of the one before
                small = admission.join(40)
                await small.admitted()
                await asyncio.sleep(seconds)
                small.give_back()

        streams = [asyncio.create_task(stream(number * seconds / 2)) for number in range(2)]
        await asyncio.sleep(seconds)
        large = admission.join(50)
        passed = admission.join(1)
        assert [is_admitted(large), is_admitted(passed)] == [False, True]
        before = clock()
        await large.admitted()
        assert clock() - before <= PATIENCE + 5 * seconds
        for task in streams:
            task.cancel()

    run(check())


def test_others_are_not_held_up_any_longer_once_those_that_run_turn_out_to_last():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        _, early, large = admission.join(20), admission.join(40), admission.join(70)
        await asyncio.sleep(6)
        assert is_admitted(admission.join(40))
        early.give_back()
        await asyncio.sleep(PATIENCE - 5)
        waits = admission.join(30)  # and nothing more happens, only time goes by
        assert not is_admitted(waits)
        before = asyncio.get_running_loop().time()
        await waits.admitted()
        assert asyncio.get_running_loop().time() - before <= 3
        assert not is_admitted(large)

    run(check())


def test_one_that_asks_for_more_than_the_budget_is_refused():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        with pytest.raises(InvalidRequest, match="memory_mb must be at most 100"):
            admission.join(101)
        assert (admission.running, admission.waiting) == (0, 0)

    run(check())


@asynccontextmanager
async def many(admission: Admission, work: Work, count: int) -> AsyncIterator[list[int]]:
    """As many that want a place at once and keep it; the memory that each of those has who got one."""
    had: list[int] = []

    async def one() -> None:
        async with admission.place(work, work.usual_mb) as memory_mb:
            had.append(memory_mb)
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await settle()
    yield had
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("budget", [600, 819, 3276, 20_000])
@pytest.mark.parametrize("work", Work)
def test_no_kind_of_work_takes_more_than_half_of_the_budget_or_keeps_a_lighter_one_waiting(work, budget):
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=budget, queue_max=10)
        async with many(admission, work, 30) as had:
            assert 1 <= len(had) <= work.places
            assert sum(had) == admission.running_mb <= budget // 2
            assert is_admitted(admission.join(budget // 4))
            if work.name.startswith("LARGE"):
                async with many(admission, Work.READER, 1) as lighter:
                    assert len(lighter) == 1
        assert admission.running_mb == budget // 4

    run(check())


def test_everything_together_stays_within_the_budget():
    async def check():
        admission = Admission(max_concurrent=100, memory_budget_mb=600, queue_max=1000)
        async with AsyncExitStack() as stack:
            for work in Work:
                await stack.enter_async_context(many(admission, work, 20))
            runs = [admission.join(50) for _ in range(20)]
            assert admission.running_mb <= 600
            assert not all(map(is_admitted, runs))

    run(check())


def test_who_gives_up_waiting_for_a_place_leaves_no_trace():
    async def check():
        admission = Admission(max_concurrent=1, memory_budget_mb=100, queue_max=10)
        async with many(admission, Work.LARGE_READER, 5) as had:
            assert len(had) == 1
        assert admission.running_mb == 0
        async with many(admission, Work.LARGE_READER, 1) as had:
            assert len(had) == 1

    run(check())


def test_a_full_queue_refuses_and_forgets_the_one_refused():
    async def check():
        admission = Admission(max_concurrent=1, memory_budget_mb=100, queue_max=1)
        running, waiting = admission.join(1), admission.join(1)
        with pytest.raises(QueueFull):
            admission.join(1)
        assert (admission.running, admission.waiting) == (1, 1)
        running.give_back()
        waiting.give_back()
        assert (admission.running, admission.waiting) == (0, 0)

    run(check())


def test_without_a_queue_one_that_may_start_at_once_is_still_taken():
    async def check():
        admission = Admission(max_concurrent=1, memory_budget_mb=100, queue_max=0)
        admission.join(1)
        with pytest.raises(QueueFull):
            admission.join(1)

    run(check())


def test_a_head_that_is_withdrawn_lets_those_behind_it_in():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        admission.join(60)
        head, behind = admission.join(90), admission.join(30)
        head.withdraw()
        assert not await head.admitted()
        assert await behind.admitted()

    run(check())


def test_a_slot_is_given_back_once_and_not_withdrawn():
    async def check():
        admission = Admission(max_concurrent=1, memory_budget_mb=100, queue_max=10)
        first, second, third = (admission.join(1) for _ in range(3))
        first.withdraw()
        assert is_admitted(first)
        first.give_back()
        first.give_back()
        assert [is_admitted(second), is_admitted(third)] == [True, False]

    run(check())


def test_nothing_starts_while_too_much_output_waits_for_the_store():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        admission.add_backlog(BACKLOG_BYTES)
        assert is_admitted(admission.join(1))
        admission.add_backlog(1)
        waits = admission.join(1)
        assert not is_admitted(waits)
        admission.add_backlog(-1)
        assert await waits.admitted()

    run(check())


STEPS = st.lists(st.tuples(st.sampled_from(["join", "withdraw", "give_back"]), st.integers(0, 120)), max_size=60)


@given(steps=STEPS)
def test_whatever_happens_the_bounds_hold_and_order_is_kept(steps):
    async def check():
        admission, tickets = Admission(max_concurrent=3, memory_budget_mb=100, queue_max=4), []
        for action, number in steps:
            if action == "join":
                try:
                    tickets.append(admission.join(min(number + 1, 100)))
                except QueueFull:
                    assert admission.waiting == 4
            elif tickets:
                getattr(tickets[number % len(tickets)], action)()
            running = [ticket for ticket in tickets if is_admitted(ticket)]
            assert len(running) == admission.running <= 3
            assert sum(ticket.memory_mb for ticket in running) == admission.running_mb <= 100
            assert admission.waiting <= 4
            waiting = list(admission._runs.queue)
            assert waiting == [ticket for ticket in tickets if ticket in waiting]
            for ticket in waiting:  # somebody waits only where there is no room for him
                assert len(running) == 3 or admission.running_mb + ticket.memory_mb > 100
        for ticket in tickets:
            ticket.give_back()
        assert (admission.running, admission.waiting, admission.running_mb) == (0, 0, 0)

    run(check())
