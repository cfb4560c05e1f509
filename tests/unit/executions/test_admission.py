"""Who may start, and who comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.executions.admission import BACKLOG_BYTES, Admission, Ticket
from python_executor.model.errors import QueueFull

from .support import run


def is_admitted(ticket: Ticket) -> bool:
    return ticket in ticket._admission._running


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


def test_a_small_one_does_not_pass_by_a_large_one_that_waits():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        running, large, small = admission.join(60), admission.join(50), admission.join(10)
        assert [is_admitted(ticket) for ticket in (large, small)] == [False, False]
        running.give_back()
        assert [is_admitted(ticket) for ticket in (large, small)] == [True, True]

    run(check())


def test_one_that_asks_for_more_than_the_budget_runs_alone():
    async def check():
        admission = Admission(max_concurrent=10, memory_budget_mb=100, queue_max=10)
        small, huge, after = admission.join(1), admission.join(500), admission.join(1)
        assert not is_admitted(huge)
        small.give_back()
        assert [is_admitted(huge), is_admitted(after)] == [True, False]
        huge.give_back()
        assert is_admitted(after)

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
                    tickets.append(admission.join(number + 1))
                except QueueFull:
                    assert admission.waiting == 4
            elif tickets:
                getattr(tickets[number % len(tickets)], action)()
            running = [ticket for ticket in tickets if is_admitted(ticket)]
            assert len(running) == admission.running <= 3
            assert sum(ticket.memory_mb for ticket in running) <= 100 or len(running) == 1
            assert admission.waiting <= 4
            waiting = list(admission._queue)
            assert waiting == [ticket for ticket in tickets if ticket in waiting]
            if waiting:  # somebody waits only where there is no room for him
                assert not admission._has_room(waiting[0])
        for ticket in tickets:
            ticket.give_back()
        assert (admission.running, admission.waiting, admission._running_mb) == (0, 0, 0)

    run(check())
