"""An execution and its image: what is refused, what is shown while it is fetched, and how it ends without one."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from python_executor.executions.service import Executions
from python_executor.model.environment import Stage
from python_executor.model.errors import BackendError, ImageFailed, NoBackendForImage, QueueFull
from python_executor.model.events import Preparing, Termination
from python_executor.model.execution import Status
from python_executor.model.spec import FileEntry, FileTree
from python_executor.sandboxes.fake import always, exited

from .support import make_spec, run, settle, world
from .test_packages import NEEDS, FakeEnvironments

IMAGE = {"image": "ghcr.io/me/tools:1", "python": ""}
HALFWAY = Preparing(Stage.PULLING, "ghcr.io/me/tools:1", 10, 20)
NO_PYTHON = ImageFailed("docker_image ghcr.io/me/tools:1 has no Python: use one that has 3.8 or later")


async def started(executions: Executions, **fields: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(executions.run(make_spec(**{**IMAGE, **fields})))
    await settle()
    return task


def uploaded() -> tuple[FileTree, io.BytesIO]:
    content = io.BytesIO(b"1")
    return FileTree((FileEntry("main.py", 0o644, 0, 1),), content), content


def test_what_the_backend_refuses_gets_no_id_and_its_upload_is_closed():
    async def check():
        async with world() as here:
            here.backend.refusal = NoBackendForImage("nothing here runs it")
            for take in (here.executions.run, here.executions.submit):
                tree, content = uploaded()
                with pytest.raises(NoBackendForImage, match="nothing here runs it"):
                    await take(make_spec(tree=tree, **IMAGE))
                assert content.closed
            assert (here.executions._lives, here.backend.sandboxes) == ({}, [])

    run(check())


def test_an_execution_is_pending_and_shows_progress_until_its_image_is_there():
    async def check():
        there = asyncio.Event()
        async with world() as here:
            here.backend.preparing = [HALFWAY, there]
            execution_id = await here.executions.submit(make_spec(timeout_seconds=1, **IMAGE))
            await asyncio.sleep(100)  # which is not the execution's time
            shown = await here.executions.get(execution_id)
            assert (shown.status, shown.preparing, here.backend.sandboxes) == (Status.PENDING, HALFWAY, [])
            there.set()
            done = await here.executions.wait(execution_id, 10)
            assert (done.status, done.duration_ms, done.preparing) == (Status.COMPLETED, 0, None)

    run(check())


def test_one_that_waits_for_its_image_takes_neither_slot_nor_queue_from_others():
    async def check():
        there, going = asyncio.Event(), asyncio.Event()
        async with world(always(going, exited(0)), max_concurrent=1, queue_max=1) as here:
            here.backend.preparing = [there]
            pulling = await started(here.executions)
            others = [await started(here.executions, image="", python="3.12") for _ in range(2)]  # runs, and waits
            with pytest.raises(QueueFull):
                await here.executions.run(make_spec())
            going.set()
            assert {(await task).status for task in others} == {Status.COMPLETED}
            there.set()
            assert (await pulling).status is Status.COMPLETED
            assert [spec.image for spec in here.specs_run] == ["", "", IMAGE["image"]]

    run(check())


def test_an_image_that_is_there_waits_for_nothing(monkeypatch: pytest.MonkeyPatch):
    async def check():
        async with world() as here:
            monkeypatch.setattr(here.backend, "is_prepared", lambda spec: True)
            here.backend.preparing = [RuntimeError("was not to be asked")]
            assert (await here.executions.run(make_spec(**IMAGE))).status is Status.COMPLETED

    run(check())


@pytest.mark.parametrize("step", ["preparing", "acquiring"])
def test_an_image_that_cannot_be_had_or_run_is_the_end_and_is_named(step: str, capfd: pytest.CaptureFixture[str]):
    async def check():
        async with world() as here:
            setattr(here.backend, step, [NO_PYTHON])
            tree, content = uploaded()
            done = await here.executions.run(make_spec(tree=tree, **IMAGE))
            assert (done.status, done.termination, done.exit_code) == (Status.FAILED, Termination.IMAGE, 125)
            assert done.error == str(NO_PYTHON)
            assert (done.started_at, done.preparing, here.backend.sandboxes) == (None, None, [])
            await settle()
            assert content.closed
        assert "error" not in "".join(capfd.readouterr())  # the caller's doing, not ours

    run(check())


@pytest.mark.parametrize("failure", [BackendError("the engine is gone"), RuntimeError("a bug")])
@pytest.mark.parametrize("step", ["preparing", "acquiring"])
def test_a_failure_of_the_engine_is_shown_as_ours(step: str, failure: Exception):
    async def check():
        async with world() as here:
            setattr(here.backend, step, [failure])
            done = await here.executions.run(make_spec(**IMAGE))
            assert (done.status, done.termination, done.exit_code) == (Status.FAILED, Termination.ERROR, 125)
            assert str(failure) not in (done.error or "")

    run(check())


def test_a_kill_ends_it_at_once_while_its_image_is_fetched():
    async def check():
        async with world() as here:
            here.backend.preparing = [HALFWAY, asyncio.Event()]
            tree, content = uploaded()
            execution_id = await here.executions.submit(make_spec(tree=tree, **IMAGE))
            await settle()
            assert await here.executions.kill(execution_id) is Status.KILLED
            shown = await here.executions.get(execution_id)
            assert (shown.termination, shown.exit_code, shown.preparing) == (Termination.KILLED, 137, None)
            await settle()
            assert (here.backend.sandboxes, content.closed) == ([], True)

    run(check())


def test_a_shutdown_ends_those_that_wait_for_their_image():
    async def check():
        async with world() as here:
            here.backend.preparing = [asyncio.Event()]
            task = await started(here.executions)
            await here.executions.close(grace=1)
            assert (await task).termination is Termination.LOST

    run(check())


def test_without_its_image_no_packages_are_asked_for():
    async def check():
        environments = FakeEnvironments()
        async with world(environments=environments) as here:
            here.backend.preparing = [NO_PYTHON]
            done = await here.executions.run(make_spec(**{**NEEDS, **IMAGE}))
            assert (done.termination, environments.asked) == (Termination.IMAGE, 0)

    run(check())
