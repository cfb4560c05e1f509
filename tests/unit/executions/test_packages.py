"""An execution and its packages: who waits for what, what is shown meanwhile, and what is let go of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from python_executor.environments.base import NoEnvironments, Prepared, Tell
from python_executor.executions.service import Executions
from python_executor.model.environment import Environment, Package, Stage
from python_executor.model.errors import BackendError, EnvironmentFailed, QueueFull
from python_executor.model.events import Preparing, Raised, Stdout, Termination
from python_executor.model.execution import Status
from python_executor.model.spec import ExecutionSpec
from python_executor.sandboxes.fake import always, exited

from .support import make_spec, run, settle, world

SIX = Environment("env_" + "0" * 32, (Package("six", "1.17.0"),))
NEEDS = {"requirements": "six"}


class FakeEnvironments(NoEnvironments):
    """Packages are there once `ready` is set; counts who holds them."""

    def __init__(self, outcome: Environment | Exception | None = SIX, hints: tuple[str, ...] = ()) -> None:
        self.ready = asyncio.Event()
        self.outcome, self.hints = outcome, hints
        self.asked = self.held = 0

    def concerns(self, spec: ExecutionSpec) -> bool:
        return bool(spec.requirements)

    async def prepare(self, spec: ExecutionSpec, tell: Tell) -> Prepared:
        self.asked += 1
        tell(Preparing(Stage.DOWNLOADING, "six.whl", 1, 2))
        await self.ready.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.held += 1
        return Prepared(self.outcome, self.hints, release=self.release)

    def release(self) -> None:
        self.held -= 1


async def started(executions: Executions, **fields: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(executions.run(make_spec(**{**NEEDS, **fields})))
    await settle()
    return task


def test_an_execution_is_pending_and_shows_progress_until_its_packages_are_there():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments) as here:
            execution_id = await here.executions.submit(make_spec(**NEEDS))
            await settle()
            shown = await here.executions.get(execution_id)
            assert (shown.status, shown.preparing) == (Status.PENDING, Preparing(Stage.DOWNLOADING, "six.whl", 1, 2))
            assert here.backend.sandboxes == []
            environments.ready.set()
            done = await here.executions.wait(execution_id, 10)
            assert (done.status, done.environment, done.preparing) == (Status.COMPLETED, SIX, None)
            assert here.backend.environments == [SIX]
        assert environments.held == 0

    run(check())


def test_what_needs_no_packages_asks_nobody():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments) as here:
            assert (await here.executions.run(make_spec())).environment is None
            assert (environments.asked, here.backend.environments) == (0, [None])

    run(check())


def test_the_time_that_packages_take_is_not_the_executions():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments) as here:
            task = await started(here.executions, timeout_seconds=1)
            await asyncio.sleep(100)
            environments.ready.set()
            done = await task
            assert (done.status, done.duration_ms) == (Status.COMPLETED, 0)

    run(check())


def test_packages_that_cannot_be_had_are_the_end_and_say_why():
    async def check():
        environments = FakeEnvironments(EnvironmentFailed("the packages could not be installed: no such thing"))
        async with world(environments=environments) as here:
            task = await started(here.executions)
            environments.ready.set()
            done = await task
            assert (done.status, done.termination, done.exit_code) == (Status.FAILED, Termination.ENVIRONMENT, 1)
            assert done.error == "the packages could not be installed: no such thing"
            assert (done.started_at, here.backend.sandboxes) == (None, [])

    run(check())


@pytest.mark.parametrize("failure", [BackendError("no sandbox to build in"), RuntimeError("a bug")])
def test_a_failure_of_ours_is_shown_as_ours(failure: Exception):
    async def check():
        environments = FakeEnvironments(failure)
        async with world(environments=environments) as here:
            task = await started(here.executions)
            environments.ready.set()
            done = await task
            assert (done.status, done.termination, done.exit_code) == (Status.FAILED, Termination.ERROR, 125)

    run(check())


def test_a_kill_ends_it_at_once_while_its_packages_are_made():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments) as here:
            execution_id = await here.executions.submit(make_spec(**NEEDS))
            await settle()
            assert await here.executions.kill(execution_id) is Status.KILLED
            environments.ready.set()
            await settle()
            assert (environments.held, here.backend.sandboxes) == (0, [])

    run(check())


def test_one_that_waits_for_packages_takes_no_slot_from_others():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments, max_concurrent=1) as here:
            waiting = await started(here.executions)
            assert (await here.executions.run(make_spec())).status is Status.COMPLETED
            environments.ready.set()
            assert (await waiting).status is Status.COMPLETED

    run(check())


def test_those_that_wait_for_packages_are_not_more_than_the_queue_and_the_slots():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments, max_concurrent=2, queue_max=1) as here:
            tasks = [await started(here.executions) for _ in range(3)]
            with pytest.raises(QueueFull):
                await here.executions.run(make_spec(**NEEDS))
            environments.ready.set()
            assert {(await task).status for task in tasks} == {Status.COMPLETED}

    run(check())


def test_packages_are_held_until_the_code_has_ended():
    async def check():
        environments = FakeEnvironments()
        environments.ready.set()
        going = asyncio.Event()
        async with world(always(going, exited(0)), environments=environments) as here:
            task = await started(here.executions)
            assert environments.held == 1
            going.set()
            await task
            await settle()
            assert environments.held == 0

    run(check())


@pytest.mark.parametrize(
    ("said", "warned"),
    [(Raised("ModuleNotFoundError", 1), True), (Raised("ValueError", 1), False), (Stdout(b""), False)],
)
def test_why_an_import_could_not_be_had_is_told_to_those_who_miss_it(said: Any, warned: bool):
    async def check():
        environments = FakeEnvironments(None, ("foo could not be had",))
        environments.ready.set()
        async with world(always(said, exited(1)), environments=environments) as here:
            done = await (await started(here.executions, warnings=("first",)))
            assert done.warnings == (("first", "foo could not be had") if warned else ("first",))

    run(check())


def test_a_shutdown_ends_those_that_wait_for_packages():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments) as here:
            task = await started(here.executions)
            await here.executions.close(grace=1)
            assert (await task).termination is Termination.LOST

    run(check())
