"""What all sandboxes together may take is more than what was promised to them, so that nobody pays for the sum."""

from __future__ import annotations

import pytest

from python_executor.model.spec import Interpreter, Limits
from python_executor.sandboxes.native.backend import PROCESSES_MAX, NativeBackend, Promised

INTERPRETERS = [Interpreter(f"3.{minor}.1", f"/opt/{minor}/bin/python", f"/opt/{minor}") for minor in (12, 11)]
PROMISED = Promised(memory_mb=1000, sandboxes=50)


class FakeTree:
    def __init__(self, failure: OSError | None = None) -> None:
        self.bounds: list[tuple[int, int]] = []
        self._failure = failure

    def bound(self, *, memory_bytes: int, processes: int) -> None:
        if self._failure is not None:
            raise self._failure
        self.bounds.append((memory_bytes >> 20, processes))


def backend(tree: FakeTree, promised: Promised | None = PROMISED, pool_max: int = 10) -> NativeBackend:
    made = NativeBackend(
        INTERPRETERS,
        default_python="3.12",
        default_limits=Limits(9, 64, 16, 1024),
        pool_min=0,
        pool_max=pool_max,
        promised=promised,
    )
    made._cgroups = tree  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(("pool_max", "waiting"), [(0, 0), (10, 20), (10_000, 2 * 1024)])
def test_the_limit_has_room_for_all_that_was_promised_and_for_those_that_wait(pool_max: int, waiting: int) -> None:
    tree = FakeTree()
    backend(tree, pool_max=pool_max)._bound_pools(open_files=2 * 16 * 1024 * 2)
    ((memory_mb, processes),) = tree.bounds
    assert 1000 + waiting < memory_mb < 1000 * 5 // 4 + 4 * waiting + 1
    assert processes >= 50 * PROCESSES_MAX + 2 * waiting


def test_without_promises_nothing_is_bounded() -> None:
    tree = FakeTree()
    backend(tree, promised=None)._bound_pools(open_files=1 << 20)
    assert tree.bounds == []


def test_a_kernel_that_takes_no_such_limit_is_told_of_and_no_reason_not_to_start(capsys) -> None:
    backend(FakeTree(OSError(16, "Device or resource busy")))._bound_pools(open_files=1 << 20)
    assert "what all sandboxes take together is not bounded" in capsys.readouterr().out
