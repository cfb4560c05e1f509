"""The engine of the tests, here with every image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine import IMAGES, Engine
from tests.support.machine import need

from .serving import Served, serving


@pytest.fixture(scope="session", autouse=True)
def needs_docker() -> None:
    """Nothing here means anything without."""
    need("docker")


@pytest.fixture(scope="session")
def engine(engine: Engine) -> Engine:
    """The same for the whole run."""
    engine.load(*IMAGES)
    return engine


@pytest.fixture(scope="session")
def containers(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the defaults, all of whose code runs in containers; at its end none is left."""
    with serving(engine, tmp_path_factory.mktemp("containers")) as served:
        yield served
    assert not served.containers()
