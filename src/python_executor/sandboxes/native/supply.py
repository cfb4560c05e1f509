"""Where sandboxes of one kind come from: a box, and what is made ahead in it.

There is one for each interpreter, and one for each environment that has a name. The box is started when it is first
asked for, and again when it has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..pool import Pool
from .box import Box
from .sandbox import NativeSandbox


class Supply:
    """A box and its pool."""

    def __init__(
        self,
        make_box: Callable[[], Box],
        examine: Callable[[Box], Awaitable[None]],
        make_in: Callable[[Box], Awaitable[NativeSandbox]],
        *,
        pool_min: int,
        pool_max: int,
    ) -> None:
        self._make_box = make_box
        self._examine = examine
        self._make_in = make_in
        self._box: Box | None = None
        self._starting = asyncio.Lock()
        self.pool = Pool(self._make, least=pool_min, most=pool_max)

    async def box(self) -> Box:
        """The box, alive, its boundaries tried. Raises BackendError."""
        async with self._starting:
            if self._box is None or not self._box.is_alive:
                box = self._make_box()
                await box.start()
                self._box = box  # to be closed with the others, whatever comes now
                await self._examine(box)
            return self._box

    @property
    def started(self) -> Box | None:
        """The box, if there is one yet."""
        return self._box

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing of it but the box."""
        is_starting = self._starting.locked() or self.pool.is_busy
        return not is_starting and (self._box is None or self._box.is_idle)

    def running(self) -> list[NativeSandbox]:
        """Sandboxes that run code now."""
        return self._box.running() if self._box is not None else []

    async def close(self) -> None:
        """Destroy all that it made."""
        await self.pool.close()
        if self._box is not None:
            await self._box.close()

    async def _make(self) -> NativeSandbox:
        return await self._make_in(await self.box())
