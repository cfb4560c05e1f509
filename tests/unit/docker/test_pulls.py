"""Images are asked for once, however many wait, and forgotten when the engine's change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest

from python_executor.model.errors import BackendError, ImageFailed
from python_executor.model.events import Preparing
from python_executor.sandboxes.docker.engine import NOT_FOUND, Connection, EngineError
from python_executor.sandboxes.docker.images import Images

FOUND = {"Id": "sha256:1", "Config": {"User": "app", "Volumes": {"/data": {}}}}


class Engine:
    """Has no image until one was pulled."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pulls = self.cancelled = 0
        self.there = False
        self.go = asyncio.Event()
        self.failure: EngineError | None = None

    async def inspect_image(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        if not self.there:
            raise EngineError("no such image", NOT_FOUND)
        return FOUND

    async def pull(self, _name: str) -> AsyncIterator[dict[str, Any]]:
        self.pulls += 1
        yield {"status": "Pulling from x"}
        yield {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 10}}
        yield {"status": "Downloading", "id": "b", "progressDetail": {"current": 5, "total": 20}}
        yield {"status": "Downloading", "id": "b", "progressDetail": {}}
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        self.there = True


def images(engine: Engine, patience: float = 10) -> Images:
    return Images(lambda: cast(Connection, engine), patience)


def run(test: Callable[[Engine], Coroutine[Any, Any, None]]) -> None:
    async def begin() -> None:
        await test(Engine())

    asyncio.run(begin())


def test_many_who_ask_wait_for_one_pull_and_see_how_far_it_is() -> None:
    async def check(engine: Engine) -> None:
        known, told = images(engine), list[list[Preparing]]([[], [], []])
        waiting = [asyncio.create_task(known.find("x", tell.append)) for tell in told]
        await asyncio.sleep(0.01)
        engine.go.set()
        found = await asyncio.gather(*waiting)
        assert engine.pulls == 1
        assert {(image.key, image.user, image.volumes) for image in found} == {("sha256:1", "app", ("/data",))}
        assert {(each[-1].what, each[-1].done, each[-1].total) for each in told} == {("x", 6, 30)}

    run(check)


def test_a_known_image_is_not_asked_for_again_until_something_changes() -> None:
    async def check(engine: Engine) -> None:
        engine.there, known = True, images(engine)
        assert known.known("x") is None
        await known.find("x")
        await known.find("x")
        assert len(engine.asked) == 1
        known.forget()
        await known.find("x")
        assert len(engine.asked) == 2

    run(check)


def test_the_engine_is_asked_for_a_name_that_is_no_beginning_of_an_id() -> None:
    async def check(engine: Engine) -> None:
        engine.there = True
        await images(engine).find("80c32f903e66")
        assert engine.asked == ["docker.io/library/80c32f903e66:latest"]

    run(check)


def test_a_pull_that_fails_or_takes_too_long_is_told_with_the_images_name() -> None:
    async def check(engine: Engine) -> None:
        with pytest.raises(ImageFailed, match=r"docker_image x .* 0\.01 s"):
            await images(engine, 0.01).find("x", lambda _: None)
        engine.go.set()
        engine.failure = EngineError("registry is down", 500)
        with pytest.raises(ImageFailed, match="docker_image x can't be had: registry is down"):
            await images(engine).find("x", lambda _: None)

    run(check)


def test_a_pull_goes_on_for_others_and_ends_with_the_last_who_waits() -> None:
    async def check(engine: Engine) -> None:
        known = images(engine)
        first, second = (asyncio.create_task(known.find("x", lambda _: None)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        assert engine.cancelled == 0
        second.cancel()
        await asyncio.sleep(0.01)
        assert engine.cancelled == 1

    run(check)


def test_an_image_that_goes_between_is_the_images_failure_and_an_engine_that_goes_is_ours() -> None:
    async def check(engine: Engine) -> None:
        with pytest.raises(ImageFailed, match="removed meanwhile"):
            await images(engine).find("x")

        async def away(_name: str) -> dict[str, Any]:
            raise EngineError("the engine is away")

        engine.inspect_image = away  # type: ignore[method-assign]
        with pytest.raises(BackendError):
            await images(engine).find("x", lambda _: None)

    run(check)


def test_what_changes_while_it_is_asked_for_is_asked_for_again() -> None:
    async def check(engine: Engine) -> None:
        engine.there, known = True, images(engine)
        ask = engine.inspect_image

        async def asked_meanwhile(name: str) -> dict[str, Any]:
            known.forget()
            return await ask(name)

        engine.inspect_image = asked_meanwhile  # type: ignore[method-assign]
        await known.find("x")
        assert known.known("x") is None

    run(check)


def test_an_engine_that_goes_in_a_pull_is_our_failure() -> None:
    async def check(engine: Engine) -> None:
        engine.go.set()
        engine.failure = EngineError("the engine has gone")
        with pytest.raises(EngineError, match="gone"):
            await images(engine).find("x", lambda _: None)

    run(check)
