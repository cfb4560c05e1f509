"""What a process offers to everybody around it, by the names in `CONSTANTS`: a neighbour does, and a machine may."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CONSTANTS = """
ABSTRACT, PORT, KEY, QUEUE = "\\0python-executor-neighbour", 47113, 0x50594558, b"/python-executor-neighbour"
"""

MAKE_QUEUE = """
def make_queue(name):
    "A small one: all that an account has may hold no more than 800 KiB together."
    libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o666, (ctypes.c_long * 8)(0, 2, 64))
"""

OFFERS = f"""{MAKE_QUEUE}def wait(listener):
    try: disturbed(listener.accept())
    except OSError: pass  # shut down
listeners = [socket.socket(socket.AF_UNIX), socket.socket(), socket.socket(socket.AF_INET6)]
for listener, address in zip(listeners, (ABSTRACT, ("127.0.0.1", PORT), ("::1", PORT))):
    if listener.family != socket.AF_UNIX: listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen()
    threading.Thread(target=wait, args=(listener,), daemon=True).start()
libc.shmget(KEY, 4096, 0o1666)
libc.semget(KEY, 1, 0o1666)
messages = libc.msgget(KEY, 0o1666)
for _ in range(2): libc.msgsnd(messages, (ctypes.c_long * 2)(1, 2), 8, 0)
mask = os.umask(0)
make_queue(QUEUE)
os.umask(mask)
"""


@contextmanager
def offering() -> Iterator[None]:
    """Offer all of it here, and take it back."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = {
        "ctypes": ctypes,
        "os": os,
        "socket": socket,
        "threading": threading,
        "libc": libc,
        "disturbed": lambda _: None,
    }
    exec(CONSTANTS + OFFERS, names)
    try:
        yield
    finally:
        libc.mq_unlink(names["QUEUE"])
        libc.shmctl(libc.shmget(names["KEY"], 0, 0), 0, None)
        libc.semctl(libc.semget(names["KEY"], 0, 0), 0, 0)
        libc.msgctl(libc.msgget(names["KEY"], 0), 0, None)
        for listener in names["listeners"]:
            listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept()
            listener.close()
