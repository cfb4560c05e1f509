"""Makes a run of the tests independent of who started it: a terminal, cron, nohup, `&` in a script.

A shell without job control has what it puts into the background ignore SIGINT and SIGQUIT, and so do all children of
that: a command line that is to be interrupted would not be. Cron has a PATH without the directories of system programs.
"""

from __future__ import annotations

import os
import signal

SYSTEM_PATH = ("/usr/sbin", "/sbin")


def start_as_usual() -> None:
    """Give this process, and so its children, the signals and the PATH of one that a terminal starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*path, *(place for place in SYSTEM_PATH if place not in path)])
