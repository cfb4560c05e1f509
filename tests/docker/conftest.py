"""One Docker Engine for the whole run, with every image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine import IMAGES, INSTALL, Engine, missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker Engine of the tests' own. What it needs is needed: without it tests fail, they do not skip."""
    if lacking := missing():
        pytest.fail(f"the Docker suite lacks {', '.join(lacking)}: run it as root, after {INSTALL}", pytrace=False)
    with Engine() as made:
        made.load(*IMAGES)
        yield made
