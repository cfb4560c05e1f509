"""What one who asks for packages means for the others: what is remembered, and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from python_executor.environments.base import PackagesTooLarge, PackagesUnavailable
from python_executor.environments.build import BuildPolicy
from python_executor.environments.cache import Cache, Lease
from python_executor.environments.imports import Imports
from python_executor.environments.index import PackageIndex
from python_executor.environments.index.settings import IndexSettings
from python_executor.environments.making import Makings
from python_executor.environments.named import Definition, Definitions
from python_executor.environments.requirements import PackageFilter, Requirements
from python_executor.environments.service import ABSENCE_KEPT, FAILURE_KEPT, PackageEnvironments
from python_executor.executions.admission import Admission
from python_executor.model.errors import EnvironmentFailed
from python_executor.model.spec import ExecutionSpec, FileEntry, FileTree, Interpreter, Limits

from .test_cache import INTERPRETER, KEYS, LOCK, publish

OLD = Interpreter("3.9.1", "/opt/python3.9/bin/python3.9", "/opt/python3.9")
TEXT = "No solution found: Because all versions of pandas depend on numpy and evil depends on numpy==1.0, no"


def importing(*names: str, python: str = "3.12", pip: tuple[str, ...] = ()) -> ExecutionSpec:
    code = "".join([*(f"import {name}\n" for name in names), *(f"pip {name}\n" for name in pip)]).encode()
    tree = FileTree((FileEntry("main.py", 0o644, 0, len(code)),), code)
    return ExecutionSpec(tree, "main.py", python, Limits(1, 64, 16, 1024), detects_imports=True)


class Desk:
    """The service, with a builder that a test writes: it fails for names in `failures`, and notes what it was asked."""

    def __init__(self, directory: Path, deny: tuple[str, ...] = ()) -> None:
        self.time = 0.0
        self.signs: tuple[str, ...] = ()  # that all code has
        self.asked: list[tuple[str, ...]] = []
        self.failures: dict[str, Exception] = {}
        self.cache = Cache(directory / "environments")
        self.cache.open()
        policy = BuildPolicy(wheels_only=True, filter=PackageFilter((), deny), max_mb=64, timeout_seconds=9)
        self.service = PackageEnvironments(
            self,  # type: ignore[arg-type]
            [INTERPRETER, OLD],
            self.cache,
            Definitions(directory / "named"),
            PackageIndex(IndexSettings(("https://index.invalid/simple",))),
            policy,
            places=Admission(max_concurrent=1, memory_budget_mb=1000, queue_max=1),
            max_bytes=1 << 30,
            now=lambda: self.time,
        )
        self.service._builder = self  # type: ignore[assignment]
        self.service._reader = self  # type: ignore[assignment]

    async def read(self, tree: FileTree, _interpreter: Interpreter, _module: str) -> Imports:
        assert isinstance(tree.content, bytes)
        lines = [line.split() for line in tree.content.decode().splitlines()]
        imported, installed = (tuple(name for verb, name in lines if verb == word) for word in ("import", "pip"))
        return Imports(imported, installs=installed, signs=self.signs)

    def origin(self, interpreter: Interpreter) -> dict[str, str]:
        return {"python": interpreter.version}

    def fallback(self, _key: str) -> None:
        return None

    async def build(self, requirements: Requirements, _interpreter: Interpreter, _tell: Any) -> Lease:
        self.asked.append(requirements.names)
        for name in (*requirements.names, *requirements.lines):
            if name in self.failures:
                raise self.failures[name]
        publish(self.cache, KEYS[0])
        lease = await self.cache.lease(KEYS[0])
        assert lease is not None
        return lease

    async def prepare(self, spec: ExecutionSpec) -> tuple[bool, tuple[str, ...]]:
        prepared = await self.service.prepare(spec, lambda progress: None)
        prepared.release()
        return prepared.environment is not None, prepared.hints


def failure(*names: str, text: str = "no index has it", no_index: bool = False) -> PackagesUnavailable:
    return PackagesUnavailable(text, frozenset(names), no_index=no_index)


def test_a_conflict_of_one_request_is_nobody_elses(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["evil"] = failure(text=TEXT)
        had, hints = await desk.prepare(importing("pandas", "evil"))
        assert not had and len(hints) == 2
        assert await desk.prepare(importing("pandas")) == (True, ())

    asyncio.run(check())


def test_a_name_that_no_index_has_is_not_asked_for_again_for_a_while_and_the_others_are_had(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["nowhere"] = failure("nowhere")
        for _ in range(2):
            had, hints = await desk.prepare(importing("six", "nowhere"))
            assert had and hints == ("nowhere could not be had from the package nowhere: no index has it",)
        assert desk.asked == [("nowhere", "six"), ("six",)]
        desk.time = ABSENCE_KEPT + 1
        await desk.prepare(importing("nowhere"))
        assert desk.asked[-1] == ("nowhere",)

    asyncio.run(check())


def test_a_name_that_appears_is_there_for_everybody_after_half_a_minute(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["young"] = failure("young")
        assert not (await desk.prepare(importing("young")))[0]
        del desk.failures["young"]
        desk.time = 31.0
        assert (await desk.prepare(importing("young")))[0]

    asyncio.run(check())


def test_what_one_interpreter_cannot_have_another_may(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["modern"] = failure("modern")
        assert not (await desk.prepare(importing("modern", python="3.9")))[0]
        del desk.failures["modern"]
        assert (await desk.prepare(importing("modern")))[0]

    asyncio.run(check())


def test_imports_wait_for_no_index_that_could_not_be_reached_but_are_told(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["first"] = failure(text="the index can't be reached", no_index=True)
        await desk.prepare(importing("first"))
        had, (hint,) = await desk.prepare(importing("second"))
        assert not had and "no package index could be reached a moment ago" in hint
        assert desk.asked == [("first",)]
        desk.time = FAILURE_KEPT + 1
        assert await desk.prepare(importing("second")) == (True, ())

    asyncio.run(check())


def test_any_other_failure_of_one_leaves_imports_to_the_others(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["huge"] = failure(text="the packages are larger than 64 MiB")
        await desk.prepare(importing("huge"))
        assert await desk.prepare(importing("six")) == (True, ())

    asyncio.run(check())


def test_what_is_denied_is_not_had_from_the_cache_in_any_case(tmp_path: Path) -> None:
    async def check() -> None:
        assert (await Desk(tmp_path).prepare(importing("six")))[0]
        desk = Desk(tmp_path, deny=("six",))
        desk.failures["first"] = failure(no_index=True)
        await desk.prepare(importing("first"))
        had, hints = await desk.prepare(importing("six"))
        assert not had and "PACKAGES_DENY" in hints[0]

    asyncio.run(check())


def test_a_failure_is_remembered_for_a_while_with_its_words(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["broken"] = failure(text="conflict")
        asking = ExecutionSpec(importing().tree, "main.py", "3.12", Limits(1, 64, 16, 1024), requirements="broken")
        for _ in range(3):
            with pytest.raises(EnvironmentFailed, match="conflict"):
                await desk.prepare(asking)
        desk.time = FAILURE_KEPT + 1
        del desk.failures["broken"]
        assert (await desk.prepare(asking))[0] and len(desk.asked) == 2

    asyncio.run(check())


def test_a_name_stays_when_another_release_of_its_interpreter_comes(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        publish(desk.cache, KEYS[1])
        definition = Definition("science", "3.12", "six", (), KEYS[1], LOCK.text)
        Definitions(tmp_path / "named").put(definition)
        asking = ExecutionSpec(importing().tree, "main.py", "3.12", Limits(1, 64, 16, 1024), environment="science")
        assert (await desk.prepare(asking))[0] and desk.asked == []
        newer = Interpreter("3.12.9", "/usr/bin/python3.12", "/usr")
        desk.service._interpreters["3.12"] = newer
        assert (await desk.prepare(asking))[0] and desk.asked == [("six",)]

    asyncio.run(check())


def test_what_is_made_goes_on_as_long_as_anybody_waits_for_it() -> None:
    async def check() -> None:
        makings, ends = Makings(), asyncio.Event()
        given_up: list[str] = []

        async def make(tell: Any) -> str:
            try:
                await ends.wait()
            except asyncio.CancelledError:
                given_up.append("given up")
                raise
            return "key"

        first, second = (asyncio.create_task(makings.made("r", make, lambda progress: None)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0.01)
        assert given_up == []
        second.cancel()
        await asyncio.sleep(0.01)
        assert given_up == ["given up"]
        third = asyncio.create_task(makings.made("r", make, lambda progress: None))
        ends.set()
        assert await third == "key"

    asyncio.run(check())


def test_what_is_too_large_is_not_tried_again_for_an_hour_and_the_others_are_had(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["torch"] = PackagesTooLarge("they take more than 64 MiB", frozenset({"torch"}))
        had, hints = await desk.prepare(importing("six", "torch"))
        assert had and "they take more than 64 MiB" in hints[0]
        desk.time = 3000.0
        assert await desk.prepare(importing("six", "torch")) == (had, hints)
        assert desk.asked == [("six", "torch"), ("six",)]

    asyncio.run(check())


def test_what_no_import_asks_for_never_keeps_an_import_from_what_it_needs(tmp_path: Path) -> None:
    async def check() -> None:
        desk = Desk(tmp_path)
        desk.failures["numpy==1.20"] = failure(text="there is no version of numpy==1.20")
        assert await desk.prepare(importing("numpy", "six", pip=("numpy==1.20", "humanize"))) == (True, ())
        assert desk.asked == [("humanize", "numpy", "six"), ("humanize", "numpy", "six")]
        desk.failures["nowhere"] = failure("nowhere")
        assert (await desk.prepare(importing("six", pip=("nowhere", "humanize"))))[0]
        assert desk.asked[2:] == [("humanize", "nowhere", "six"), ("humanize", "six")]
        desk.failures["pandas==0.1"] = failure("pandas")
        assert await desk.prepare(importing("pandas", pip=("pandas==0.1", "humanize"))) == (True, ())
        assert desk.asked[4:] == [("humanize", "pandas"), ("humanize", "pandas")]
        desk.failures["numba"] = failure(text="there is no solution")
        desk.signs = ('"numba"',)
        assert await desk.prepare(importing("pandas")) == (True, ())
        assert desk.asked[6:] == [("numba", "pandas"), ("pandas",)]

    asyncio.run(check())
