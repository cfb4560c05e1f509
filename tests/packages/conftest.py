"""A server whose packages come from an index on loopback: nothing here needs the world outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api import Api
from tests.support.index import FakeIndex
from tests.support.packages import PASSWORD, USER, Kept, url_with_login
from tests.support.server import ServerProcess


@pytest.fixture(scope="session")
def index() -> Iterator[FakeIndex]:
    """The index of all servers here, with credentials: it must never be asked without, and they must never be seen."""
    with FakeIndex(login=(USER, PASSWORD)) as index:
        yield index


@pytest.fixture(scope="session")
def torch_index() -> Iterator[FakeIndex]:
    """The index of PyTorch's packages."""
    with FakeIndex(as_html=True) as index:
        yield index


@pytest.fixture(scope="session")
def server(
    index: FakeIndex, torch_index: FakeIndex, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One for most of these tests, each of which has packages of its own; it installs wheels only."""
    process = ServerProcess(
        tmp_path_factory.mktemp("packages"), index_url=url_with_login(index), torch_index=torch_index.url
    )
    process.start()
    yield process
    process.stop()
    assert PASSWORD not in process.output


@pytest.fixture(scope="session")
def server_url(server: ServerProcess) -> str:
    """Where that server is reached."""
    return server.url


@pytest.fixture(scope="session")
def api(server_url: str) -> Iterator[Api]:
    """Its API."""
    api = Api(server_url)
    yield api
    api.close()


@pytest.fixture(scope="session")
def kept(server: ServerProcess) -> Kept:
    """What it has on disk."""
    return Kept(server)


@pytest.fixture(autouse=True)
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever happened: nothing half made stays on disk."""
    yield
    if "server" in request.fixturenames:
        Kept(request.getfixturevalue("server")).wait_for_leftovers_to_go()
