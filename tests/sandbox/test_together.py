"""All sandboxes together: bounded by one group, whose lack of memory is nobody's own verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from python_executor.model.events import Termination
from python_executor.model.spec import Limits
from python_executor.sandboxes.native.cgroups import Cgroup, CgroupTree
from tests.sandbox.conftest import Engine, Outcome, make_spec

TOGETHER_MB = 320
LIMITS = Limits(timeout_seconds=30, memory_mb=256, disk_mb=16, cpu_shares=1024)
SMALL = Limits(timeout_seconds=30, memory_mb=64, disk_mb=16, cpu_shares=1024)
HOLDS_200_MIB = "x = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('full', flush=True)\nimport time; time.sleep(%s)"
GROWS = "x = []\nwhile True: x.append(b'x' * (1 << 20))"

pytestmark = pytest.mark.usefixtures("needs_cgroups")


@pytest.fixture
def narrow() -> Iterator[Engine]:
    """A backend whose sandboxes have less memory together than two of them may have each."""
    engine = Engine(pool_min=1, pool_max=1)
    if engine.backend.has_cgroups:
        tree = engine.backend._cgroups
        assert isinstance(tree, CgroupTree)
        tree.bound(memory_bytes=TOGETHER_MB << 20, processes=1000)
    yield engine
    engine.close()


def beside(engine: Engine, neighbour: str, limits: Limits) -> tuple[Outcome, Outcome]:
    """How one that holds 200 MiB of its 256 ends, and the neighbour who comes once it does."""

    async def both() -> tuple[Outcome, Outcome]:
        is_full = asyncio.Event()
        spec = make_spec(HOLDS_200_MIB % 3, limits=LIMITS)
        victim = asyncio.create_task(engine.run_spec(spec, lambda sandbox: is_full.set()))
        await is_full.wait()
        other = await engine.run_spec(make_spec(neighbour, limits=limits))
        return await victim, other

    return engine.wait(both())


def test_a_neighbour_who_fills_the_memory_of_all_costs_nobody_a_verdict_on_his_own(narrow: Engine) -> None:
    victim, other = beside(narrow, HOLDS_200_MIB % 0, LIMITS)
    assert Termination.MEMORY not in (victim.termination, other.termination)
    assert Termination.EVICTED in (victim.termination, other.termination)
    assert victim.stdout == "full\n"


def test_its_twin_takes_any_kill_for_the_codes_own(narrow: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cgroup, "_has_reached_limit", lambda _self: True)
    victim, other = beside(narrow, HOLDS_200_MIB % 0, LIMITS)
    assert Termination.MEMORY in (victim.termination, other.termination)


def test_one_who_passes_his_own_limit_is_the_only_one_to_end(narrow: Engine) -> None:
    victim, other = beside(narrow, GROWS, SMALL)
    assert (victim.termination, victim.exit_code) == (Termination.EXITED, 0)
    assert other.termination is Termination.MEMORY
