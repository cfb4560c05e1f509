"""Fixtures of the suites that speak to a real server: `api`, `client` and `end_to_end`.

`--backend docker` has the same tests run in containers, on an engine of the tests' own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support import machine
from tests.support.api import Api
from tests.support.engine import Engine
from tests.support.server import NOWHERE, ServerProcess
from tests.support.starting import start_as_usual

DOCKER, NATIVE = "docker", "native"

start_as_usual()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--backend`."""
    parser.addoption("--backend", choices=(NATIVE, DOCKER), default=NATIVE, help="what the servers run code on")


def pytest_configure() -> None:
    """Refuse names in `CI_REQUIRES` that mean nothing: what was to be required would not be."""
    try:
        machine.required()
    except ValueError as problem:
        raise pytest.UsageError(str(problem)) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, what this machine lacks something for."""
    for marker in item.iter_markers("needs"):
        machine.need(*marker.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run and why, here and to `scripts/test.py`, which says all of it once more at its end."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    if not reasons:
        return
    terminalreporter.section("NOT RUN", sep="!", bold=True, yellow=True)
    for reason, tests in reasons.most_common():
        terminalreporter.line(f"!! {machine.not_run(tests, reason)}")
        if fd := os.environ.get(machine.NOT_RUN_FD):
            machine.record_not_run(int(fd), tests, reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a container has no answer to."""
    if config.getoption("backend") == DOCKER:
        left_out = [item for item in items if item.get_closest_marker("names_interpreter")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker Engine of the tests' own, where this machine lets one start."""
    with machine.engine_or_skip() as made:
        yield made


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> str:
    """What the servers run code on, as results name it."""
    return pytestconfig.getoption("backend")


@pytest.fixture(scope="session")
def backend_settings(backend: str, request: pytest.FixtureRequest) -> dict[str, object]:
    """The settings of a server that has it."""
    if backend == NATIVE:
        return {}
    engine: Engine = request.getfixturevalue("engine")
    engine.load("python:3.11-slim")  # the default
    return {"backend": DOCKER, "docker_socket": engine.socket}


@pytest.fixture(scope="session")
def index_url() -> str:
    """Where that server gets packages from: nowhere, but in suites that say so. "" is the registry."""
    return NOWHERE


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, index_url: str, backend_settings: dict[str, object]
) -> Iterator[ServerProcess]:
    """One server with the default settings for the whole run."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), index_url=index_url, **backend_settings)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def server_url(server: ServerProcess) -> str:
    """Where that server is reached: `http://127.0.0.1:PORT`."""
    return server.url


@pytest.fixture
def start_server(
    tmp_path_factory: pytest.TempPathFactory, backend_settings: dict[str, object]
) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers of a test's own: `start_server(api_key="secret", queue_max=1).url`."""
    with ExitStack() as stack:

        def start(**settings: object) -> ServerProcess:
            process = ServerProcess(tmp_path_factory.mktemp("own-server"), **{**backend_settings, **settings})
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
