"""An application in this process, around a fake service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.support.api import Api
from tests.unit.api.fakes import FakeExecutions, serving, settings


@pytest.fixture(autouse=True)
def log_by_descriptor() -> Iterator[None]:
    """What a server's thread logs is not written to the object that pytest reads and empties: that may crash Python."""
    with open(1, "w", buffering=1, closefd=False) as stdout:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(stdout))
        yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def service_and_url() -> Iterator[tuple[FakeExecutions, str]]:
    """One application for all tests: it keeps nothing from one request to the next."""
    executions = FakeExecutions()
    with serving(executions, settings()) as url:
        yield executions, url


@pytest.fixture
def service(service_and_url: tuple[FakeExecutions, str]) -> FakeExecutions:
    """The fake service, as new."""
    service_and_url[0].reset()
    return service_and_url[0]


@pytest.fixture
def api(service: FakeExecutions, service_and_url: tuple[FakeExecutions, str]) -> Iterator[Api]:
    """The API of an application around `service`."""
    api = Api(service_and_url[1])
    yield api
    api.close()
