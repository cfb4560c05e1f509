"""How hard to try, and the guest's modules.

Every run tries the same examples, so that a failure is nobody's bad luck. `FUZZ_EXAMPLES=20` in the environment tries
twenty times as many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from tests.support.guest import guest_modules

FACTOR = int(os.environ.get("FUZZ_EXAMPLES", "1"))

settings.register_profile(
    "fuzz",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def bounded(examples: int) -> settings:
    """The profile of these tests, with so many examples in an ordinary run."""
    return settings(settings.get_profile("fuzz"), max_examples=examples * FACTOR)


class Bytes(bytes):
    """Bytes that a report of a failure shows the beginning of."""

    def __repr__(self) -> str:
        return f"{bytes(self[:2000])!r}" + (f" ... {len(self)} bytes in all" if len(self) > 2000 else "")


@pytest.fixture(scope="module")
def guest() -> Iterator[dict[str, ModuleType]]:
    """Modules of the guest by name."""
    with guest_modules() as found:
        yield found
