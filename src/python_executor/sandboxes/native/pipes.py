"""The descriptors between the server and one sandbox: who holds which end, and how ours are read."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable

READ_SIZE = 1 << 16
BUSY = 16  # reads after which a stream is read less often
NAP = 0.001  # seconds: how long then nothing is read, so that many writes are read at once


class Pipes:
    """The descriptors between us and one sandbox."""

    def __init__(self) -> None:
        made: list[int] = []
        try:
            for _ in range(3):
                made += os.pipe2(os.O_CLOEXEC)
            self.control, self._guest_control = socket.socketpair()
        except OSError:
            for fd in made:
                os.close(fd)
            raise
        self.stdout, self._guest_stdout, self.stderr, self._guest_stderr, self.report, self._guest_report = made
        self.control.setblocking(False)
        for fd in (self.stdout, self.stderr, self.report):
            os.set_blocking(fd, False)
        for fd in (self._guest_stdout, self._guest_stderr):
            os.fchmod(fd, 0o666)  # so that code may open /dev/stdout, whatever its uid

    def guest_ends(self) -> list[int]:
        """In the order in which guest/entry.py takes them."""
        return [self._guest_stdout, self._guest_stderr, self._guest_report, self._guest_control.fileno()]

    def close_guest_ends(self) -> None:
        """The sandbox has its own now."""
        for fd in (self._guest_stdout, self._guest_stderr, self._guest_report):
            os.close(fd)
        self._guest_control.close()

    def close(self) -> None:
        """Both ends, of a sandbox that was never made."""
        self.close_guest_ends()
        self.close_host_ends()

    def close_host_ends(self) -> None:
        """Ours, at the end."""
        for fd in (self.stdout, self.stderr, self.report):
            os.close(fd)
        self.control.close()


def read_now(fd: int) -> bytes | None:
    """Bytes, b"" at the end, None where there are none now."""
    try:
        return os.read(fd, READ_SIZE)
    except BlockingIOError:
        return None


class Output:
    """What is heard of one stream.

    At first it is read whenever something is there. A program that prints all the time would wake the server for each
    half of a line, which costs both of them more than the printing: from then on a read is followed by a nap.
    """

    def __init__(self, fd: int, hear: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._hear = hear
        self._reads = 0
        self._nap: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """From now on."""
        self._nap = None
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def stop(self) -> None:
        """What comes later is for `read_rest`."""
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._nap is not None:
            self._nap.cancel()

    def read_rest(self) -> None:
        """What was written before the end and not read yet: no more than the pipe holds, whoever still writes."""
        left = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        while left > 0 and (data := read_now(self._fd)):
            self._hear(data[:left])
            left -= len(data)

    def _read(self) -> None:
        data = read_now(self._fd)
        loop = asyncio.get_running_loop()
        if data:
            self._hear(data)
            self._reads += 1
            if self._reads > BUSY and len(data) < READ_SIZE // 2:
                loop.remove_reader(self._fd)
                self._nap = loop.call_later(NAP, self.listen)
        elif data == b"":
            loop.remove_reader(self._fd)
