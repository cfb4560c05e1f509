"""Images by name: known, found on the engine, or pulled, once for all who ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ...model.environment import Stage
from ...model.errors import ImageFailed
from ...model.events import Preparing
from ...model.image import full_name
from ..base import Tell
from .engine import NOT_FOUND, Connection, EngineError
from .plan import Image

DOWNLOADING = "Downloading"
KNOWN = 30.0  # seconds: not every change of an image is told


class Pull:
    """A pull, and who waits for it."""

    def __init__(self, name: str) -> None:
        self.task: asyncio.Task[None] | None = None
        self.listeners: list[Tell] = []
        self.progress = Preparing(Stage.PULLING, name)
        self._layers: dict[str, tuple[int, int]] = {}  # bytes done and in all

    def take(self, item: dict[str, Any]) -> None:
        """One line of the engine's progress."""
        detail = item.get("progressDetail") or {}
        if item.get("status") != DOWNLOADING or not isinstance(detail.get("total"), int):
            return
        self._layers[str(item.get("id"))] = (int(detail.get("current", 0)), detail["total"])
        done, total = (sum(column) for column in zip(*self._layers.values(), strict=True))
        self.progress = Preparing(Stage.PULLING, self.progress.what, done, total)
        for tell in self.listeners:
            tell(self.progress)


class Images:
    """What is known of images; forgotten whenever the engine's images change."""

    def __init__(self, engine: Callable[[], Connection], pull_timeout: float) -> None:
        self._engine = engine
        self._pull_timeout = pull_timeout
        self._known: dict[str, tuple[Image, float]] = {}  # and until when
        self._changes = 0  # of the engine's images, so far
        self._pulls: dict[str, Pull] = {}

    def known(self, name: str) -> Image | None:
        """The image, if nothing needs to be asked."""
        image, until = self._known.get(name, (None, 0.0))
        return image if time.monotonic() < until else None

    def forget(self) -> None:
        """Something has changed there."""
        self._changes += 1
        self._known.clear()

    async def find(self, name: str, tell: Tell | None = None) -> Image:
        """The image, pulled where it is not there and somebody is to be told. Raises `ImageFailed`, `BackendError`."""
        if image := self.known(name):
            return image
        changes = self._changes
        try:
            found = await self._engine().inspect_image(_unmistakable(name))
        except EngineError as error:
            if error.status != NOT_FOUND:
                raise
            if tell is None:
                raise ImageFailed(f"docker_image {name} is not there any more: it was removed meanwhile") from error
            await self._pull(name, tell)
            changes = self._changes
            found = await self._engine().inspect_image(_unmistakable(name))
        config = found.get("Config") or {}
        image = Image(name, str(found["Id"]), str(config.get("User") or ""), tuple(config.get("Volumes") or ()))
        if changes == self._changes:  # else it may be another one's by now
            self._known[name] = image, time.monotonic() + KNOWN
        return image

    async def _pull(self, name: str, tell: Tell) -> None:
        pull = self._pulls.get(name)
        if pull is None:
            pull = self._pulls[name] = Pull(name)
            pull.task = asyncio.create_task(self._run(pull, name))
            pull.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        pull.listeners.append(tell)
        tell(pull.progress)
        assert pull.task is not None  # noqa: S101 - as above
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(tell)
            if not pull.listeners and not pull.task.done():
                self._pulls.pop(name, None)
                pull.task.cancel()

    async def _run(self, pull: Pull, name: str) -> None:
        try:
            async with asyncio.timeout(self._pull_timeout):
                async for item in self._engine().pull(_unmistakable(name)):
                    pull.take(item)
        except EngineError as error:
            if error.status == 0:  # the engine has gone
                raise
            raise ImageFailed(f"docker_image {name} can't be had: {error}") from error
        except TimeoutError as error:
            raise ImageFailed(f"docker_image {name} was not there after {self._pull_timeout:g} s of pulling") from error
        finally:
            if self._pulls.get(name) is pull:
                del self._pulls[name]


def _unmistakable(name: str) -> str:
    """The full name: a short one might also be the beginning of an image's id."""
    return full_name(name) or name
