"""The way of build sandboxes to packages: a read-only view of the operator's package indexes, and nothing else.

    build sandbox                      server                                   the operator's network
    uv ──── 127.0.0.1, a socket ────►  IndexServer ──► Upstream ──────────────► indexes, and the hosts of their files
            of its own network           (one a build)   (one a server)           by proxy, with credentials

A build sandbox has no network. In its network namespace one TCP socket listens, which the server holds, and what
connects to it is answered here, in the server's process. So credentials, proxies and certificates never enter the
sandbox, and whatever runs there while packages are built reaches packages and nothing else. It is hostile all the same:
`server.py` bounds what it may ask for, `upstream.py` where that may lead, `pages.py` what it gets to see.

When the sandbox dies its requests are cancelled; when a visit ends, or the server does, connections are cut. Nothing is
retried here, as uv does that. What went wrong is in the visit, in words for the user: uv only sees a status.

aiohttp is imported by the first visit. It takes 0.3 s, which a server's start should not.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .settings import IndexSettings
from .visit import Rules, Visit

if TYPE_CHECKING:
    from aiohttp import web

    from .server import IndexServer
    from .upstream import Upstream


class PackageIndex:
    """The operator's package indexes. One for each server and event loop."""

    def __init__(self, settings: IndexSettings) -> None:
        self.settings = settings
        self._upstream: Upstream | None = None

    @asynccontextmanager
    async def serving(
        self,
        listener: socket.socket,
        *,
        wheels_only: bool,
        allows: Callable[[str], bool],
        download_max: int,
        tell: Callable[[str, int, int], None],
        torch: bool = False,
        routes: Sequence[web.RouteDef] = (),
    ) -> AsyncIterator[Visit]:
        """Serve one build on this listening socket, which is closed at the end, however that comes.

        `allows` gets normalized names. `tell` gets a file's name (`….whl.metadata`, too), the bytes so far of all files
        and those declared so far (0: not known), at most ten times a second. With `torch`, PyTorch's packages come from
        the index that the operator has for them, and from no other. `routes` are served beside the indexes.
        """
        with listener:
            listener.setblocking(False)
            server_class, upstream = await self._started()
            visit = Visit()
            server = server_class(
                upstream,
                Rules(wheels_only, allows, download_max, torch and self.settings.torch is not None, tell),
                visit,
            )
            async with server.listening(listener, routes):
                yield visit

    async def unpacked_bytes(self, index: int, page: str, url: str) -> int | None:
        """Return how much a wheel that a page of this index has named is when unpacked; None where nobody says."""
        await self._started()
        from .upstream import joined
        from .wheels import unpacked_bytes

        assert self._upstream is not None  # noqa: S101 - as it has started
        return await unpacked_bytes(self._upstream, index, joined(page, url))

    async def _started(self) -> tuple[type[IndexServer], Upstream]:
        server_class, upstream_class = await asyncio.to_thread(_imported)
        if self._upstream is None:
            self._upstream = upstream_class(self.settings)
        return server_class, self._upstream

    async def close(self) -> None:
        """Close the connections to the indexes. No visit may be left."""
        if self._upstream is not None:
            await self._upstream.close()
            self._upstream = None


def _imported() -> tuple[type[IndexServer], type[Upstream]]:
    from .server import IndexServer
    from .upstream import Upstream

    return IndexServer, Upstream
