"""The engine of the tests, here with every image."""

from __future__ import annotations

import pytest

from tests.support.engine import IMAGES, Engine


@pytest.fixture(scope="session")
def engine(engine: Engine) -> Engine:
    """The same for the whole run."""
    engine.load(*IMAGES)
    return engine
