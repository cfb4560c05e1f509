"""Package indexes of a test's own, and a build that sees them through the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from python_executor.api.server import new_event_loop
from python_executor.environments.index import upstream
from python_executor.environments.index.settings import IndexSettings, Proxies
from python_executor.environments.index.visit import Visit
from tests.support.index import FakeIndex

from .support import NO_PROXIES, PATIENCE, Act, Serve, visiting


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves one build, in which `act` is what the sandbox does; the visit when it is over."""

    def run(
        act: Act,
        *indexes: FakeIndex | str,
        proxies: Proxies = NO_PROXIES,
        hosts: tuple[str, ...] = (),
        of_torch: FakeIndex | None = None,
        **rules: Any,
    ) -> Visit:
        urls = tuple(index if isinstance(index, str) else index.url for index in indexes)

        async def main() -> Visit:
            async with visiting(
                IndexSettings(urls, proxies=proxies, hosts=hosts, torch=of_torch.url if of_torch else None),
                tmp_path,
                **rules,
            ) as guest:
                await act(guest)
            return guest.visit

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(main())

    return run


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex() as index:
        yield index


@pytest.fixture
def other() -> Iterator[FakeIndex]:
    with FakeIndex() as index:
        yield index


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "READ_TIMEOUT", PATIENCE)
    monkeypatch.setattr(upstream, "CONNECT_TIMEOUT", PATIENCE)
