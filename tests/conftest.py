"""Fixtures of the suites that speak to a real server: `api`, `client` and `end_to_end`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.api import Api
from tests.support.server import NOWHERE, ServerProcess


@pytest.fixture(scope="session")
def index_url() -> str:
    """Where that server gets packages from: nowhere, but in suites that say so. "" is the registry."""
    return NOWHERE


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, index_url: str) -> Iterator[ServerProcess]:
    """One server with the default settings for the whole run."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), index_url=index_url)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def server_url(server: ServerProcess) -> str:
    """Where that server is reached: `http://127.0.0.1:PORT`."""
    return server.url


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers of a test's own: `start_server(api_key="secret", queue_max=1).url`."""
    with ExitStack() as stack:

        def start(**settings: object) -> ServerProcess:
            process = ServerProcess(tmp_path_factory.mktemp("own-server"), **settings)
            stack.callback(process.stop)
            process.start()
            return process

        yield start


@pytest.fixture(scope="session")
def api(server_url: str) -> Iterator[Api]:
    """The API of the session's server."""
    api = Api(server_url)
    yield api
    api.close()
