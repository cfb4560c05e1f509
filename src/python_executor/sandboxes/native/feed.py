"""Standard input on its way in: a pipe, whatever its size, that the server fills as the code reads.

The code has the read end and learns nothing else. What it does not read stays here, where all of a request's input is
held until its end anyway. Nobody waits: not the code for us to have written all, not its end for it to be read.
"""

from __future__ import annotations

import asyncio
import os

WRITE_SIZE = 1 << 16  # bytes in one turn of the event loop; what a pipe holds
WORTHWHILE = 1 << 14  # bytes; code that reads less at a time is not worth a turn for each page
NAP = 0.001  # seconds in which it may read more


class Feed:
    """The pipe of one run."""

    def __init__(self, data: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = memoryview(data)
        self._nap: asyncio.TimerHandle | None = None
        self.read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        os.fchmod(self.read_end, 0o666)  # so that code may open /dev/stdin, whatever its uid
        os.set_blocking(self._write_end, False)
        self._write()

    def _write(self) -> None:
        written = 0
        try:
            written = os.write(self._write_end, self._left[:WRITE_SIZE])
            self._left = self._left[written:]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._left = self._left[:0]  # nobody will read it
        if not self._left:
            self.close()
        elif 0 < written < WORTHWHILE:
            self._loop.remove_writer(self._write_end)
            self._nap = self._loop.call_later(NAP, self._write)
        else:
            self._loop.add_writer(self._write_end, self._write)

    def close_read_end(self) -> None:
        """The sandbox has its own now."""
        os.close(self.read_end)

    def close(self) -> None:
        """Let go of what has not been read; idempotent."""
        if self._write_end >= 0:
            self._loop.remove_writer(self._write_end)
            os.close(self._write_end)
            self._write_end = -1
        if self._nap is not None:
            self._nap.cancel()
