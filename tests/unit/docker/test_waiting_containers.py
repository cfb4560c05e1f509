"""Containers that wait are given up where memory is short, and when their image has not been used for a while."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from python_executor.model.egress import EgressPolicy
from python_executor.model.spec import Limits
from python_executor.sandboxes.docker import backend, machine
from python_executor.sandboxes.docker.backend import IMAGES_IN_USE, IN_USE, DockerBackend
from python_executor.sandboxes.docker.plan import Image, Kind

LIMITS = Limits(10, 512, 256, 1024)


class Waiting:
    """A container that waits."""

    is_usable = True

    def __init__(self) -> None:
        self.is_destroyed = False

    async def destroy(self) -> None:
        self.is_destroyed = True


def make_backend() -> DockerBackend:
    return DockerBackend(
        None, owner="test", is_only=True, default_limits=LIMITS, pool_max=4, pull_timeout=1,
        egress=EgressPolicy((), ()), root_commands=False, insecure_allow=frozenset(),
        profile=Path("seccomp.json"), is_required=False,
    )  # fmt: skip


def kind(number: int) -> Kind:
    return Kind(Image(f"image:{number}", f"sha256:{number}", ""), "", LIMITS)


def watched(monkeypatch: pytest.MonkeyPatch, ages: list[float], *, short: bool = False) -> list[bool]:
    """Which of the images, each used so many seconds ago, still have their container after the backend has looked."""
    monkeypatch.setattr(backend, "WATCH_INTERVAL", 0.01)
    monkeypatch.setattr(machine, "is_memory_short", lambda: short)

    async def look() -> list[bool]:
        made: dict[int, Waiting] = {}
        watcher = make_backend()

        async def make(wanted: Kind) -> Any:
            number = int(wanted.image.key.removeprefix("sha256:"))
            made.setdefault(number, Waiting())
            return made[number]

        monkeypatch.setattr(watcher, "_make", make)
        for number, age in enumerate(ages):
            watcher._pool(kind(number)).fill()
            watcher._used[kind(number)] = time.monotonic() - age
        watching = asyncio.create_task(watcher._watch())
        await asyncio.sleep(0.1)
        watching.cancel()
        for number in range(len(ages)):
            is_known = kind(number) in watcher._pools
            assert is_known or made[number].is_destroyed
        return [not made[number].is_destroyed for number in range(len(ages))]

    return asyncio.run(look())


def test_those_of_images_in_use_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [30, 20, 10]) == [True, True, True]


def test_an_image_that_was_not_used_for_a_while_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [IN_USE + 1, IN_USE - 5]) == [False, True]


def test_only_the_images_used_last_have_some(monkeypatch: pytest.MonkeyPatch) -> None:
    ages = [float(age) for age in range(IMAGES_IN_USE + 2, 0, -1)]
    assert watched(monkeypatch, ages) == [False, False, *[True] * IMAGES_IN_USE]


def test_none_waits_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [2, 1], short=True) == [False, False]


@pytest.mark.parametrize(("available", "is_short"), [(99, True), (101, False)])
def test_memory_is_short_below_a_tenth(tmp_path: Path, available: int, is_short: bool) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: {available} kB\nHugePages_Total: 0\n")
    assert machine.is_memory_short(meminfo) is is_short


def test_one_look_that_fails_does_not_end_the_watch_nor_the_removals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "WATCH_INTERVAL", 0.005)
    monkeypatch.setattr(machine, "is_memory_short", lambda: False)
    removals = 0

    async def main() -> bool:
        watcher = make_backend()
        watcher._pool(kind(1))
        watcher._used.clear()  # so that each look raises KeyError

        async def retry() -> None:
            nonlocal removals
            removals += 1

        monkeypatch.setattr(watcher._connection, "retry_removals", retry)
        watching = asyncio.create_task(watcher._watch())
        await asyncio.sleep(0.2)
        is_over = watching.done()
        watching.cancel()
        return is_over

    assert not asyncio.run(main())
    assert removals >= 3
