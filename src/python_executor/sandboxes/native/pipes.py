"""The descriptors between the server and one sandbox: who holds which end, and how ours are read."""

from __future__ import annotations

import os
import socket

READ_SIZE = 1 << 16


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
