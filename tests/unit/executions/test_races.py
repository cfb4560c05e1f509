"""Kills, exits, timeouts, failures, departures and a shutdown, at moments that hypothesis chooses.

Whatever comes when: every execution has exactly one end, every sandbox is destroyed once, and all slots come back.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from python_executor.executions.service import Executions
from python_executor.model.errors import BackendError, QueueFull, Unavailable
from python_executor.model.events import Stdout
from python_executor.model.execution import Execution
from python_executor.sandboxes.fake import exited
from python_executor.storage.memory import MemoryStore

from .support import World, make_spec, run

MOMENTS = st.sampled_from([0.0, 0.5, 1.0, 1.0 + 1e-9, 2.0])


class Plan(NamedTuple):
    """What happens to one execution, and when."""

    submitted_at: float
    memory_mb: int
    waits: bool  # run(), not submit()
    exits_after: float | None
    fails: bool
    timeout_seconds: int
    killed_after: float | None
    leaves_after: float | None


PLANS = st.builds(
    Plan,
    submitted_at=MOMENTS,
    memory_mb=st.sampled_from([10, 60, 100]),
    waits=st.booleans(),
    exits_after=st.none() | MOMENTS,
    fails=st.booleans(),
    timeout_seconds=st.sampled_from([1, 2]),
    killed_after=st.none() | MOMENTS,
    leaves_after=st.none() | MOMENTS,
)


class OnceStore(MemoryStore):
    """Notes where an end is put in place of another."""

    second_ends = 0

    async def put(self, *executions: Execution) -> None:
        for execution in executions:
            before = await self.get(execution.execution_id)
            self.second_ends += before is not None and before.status.is_final
        await super().put(*executions)


class Hammer:
    """Carries plans out and collects every end that anybody was told of."""

    def __init__(self, plans: list[Plan], unkillable: bool) -> None:
        self.plans = plans
        self.world = World(self.script, store=OnceStore(10**6), max_concurrent=2, memory_budget_mb=100, queue_max=3)
        self.world.backend.unkillable = unkillable
        self.ends: dict[str, set[Execution]] = {}

    def script(self, spec):
        plan = self.plans[int(spec.args[0])]
        gate = asyncio.Event()
        if plan.exits_after is not None:
            asyncio.get_running_loop().call_later(plan.exits_after, gate.set)
        return [Stdout(b"out"), gate, BackendError("lost") if plan.fails else exited(0)]

    async def carry_out(self, number: int, plan: Plan) -> None:
        await asyncio.sleep(plan.submitted_at)
        spec = make_spec(plan.memory_mb, plan.timeout_seconds, args=(str(number),))
        executions = self.world.executions
        try:
            if plan.waits:
                async with asyncio.timeout(plan.leaves_after):
                    self.note(await executions.run(spec))
            else:
                await self.follow(executions, plan, await executions.submit(spec))
        except (QueueFull, Unavailable, TimeoutError):
            pass

    async def follow(self, executions: Executions, plan: Plan, execution_id: str) -> None:
        if plan.killed_after is not None:
            await asyncio.sleep(plan.killed_after)
            status = await executions.kill(execution_id)
            assert status.is_final
        final = await executions.wait(execution_id, 1000)
        self.note(final)
        self.note(await executions.get(execution_id))

    def note(self, execution: Execution) -> None:
        assert execution.status.is_final
        self.ends.setdefault(execution.execution_id, set()).add(execution)


@settings(max_examples=150, deadline=None)
@given(plans=st.lists(PLANS, max_size=8), closed_at=MOMENTS, grace=MOMENTS, unkillable=st.booleans())
def test_every_execution_has_exactly_one_end_and_all_slots_come_back(plans, closed_at, grace, unkillable):
    async def check():
        hammer = Hammer(plans, unkillable)
        executions, backend = hammer.world.executions, hammer.world.backend
        await executions.start()
        clients = [asyncio.create_task(hammer.carry_out(*plan)) for plan in enumerate(plans)]
        await asyncio.sleep(closed_at)
        await executions.close(grace)
        await asyncio.gather(*clients)
        assert (executions._admission.running, executions._admission.waiting) == (0, 0)
        assert executions._admission.backlog == 0
        assert executions._lives == {} and not executions._tasks
        assert hammer.world.store.second_ends == 0
        assert all(count == 1 for count in hammer.world.destroyed)
        assert all(len(sandbox.specs) <= 1 for sandbox in backend.sandboxes)
        recorded = hammer.world.store._executions
        assert all(execution.status.is_final for execution in recorded.values())
        assert all(ends == {recorded[execution_id]} for execution_id, ends in hammer.ends.items())

    run(check())
