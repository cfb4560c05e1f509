"""Asks a server for /health every few milliseconds until SIGTERM, then writes the longest time, in seconds.

A process of its own, so that nothing that a test does meanwhile is measured.
"""

from __future__ import annotations

import http.client
import signal
import sys
import time


def watch(address: str) -> None:
    """Ask until SIGTERM."""
    times = [0.0]
    connection = http.client.HTTPConnection(address)
    is_over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: is_over.append(number))
    while not is_over:
        began = time.monotonic()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append(time.monotonic() - began)
        if len(times) == 2:
            sys.stdout.write("watching\n")
            sys.stdout.flush()
        time.sleep(0.004)
    sys.stdout.write(f"{max(times)}\n")


if __name__ == "__main__":
    watch(sys.argv[1])
