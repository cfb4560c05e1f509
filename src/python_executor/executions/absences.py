"""What the end of a run's stderr complains of that is missing in sandboxes on purpose."""

from __future__ import annotations

import re

TAIL_BYTES = 4096  # of stderr that are looked at
_MISSING = (b"No such file", b"does not exist")
_OF_THE_MACHINE = re.compile(rb"/proc/(?!self\b|thread-self\b|[0-9])[a-z][a-z0-9_/]{0,60}")
_WITHOUT_ITS_NAME = {  # how procps says it
    b"/proc must be mounted": "/proc/meminfo",
    b"Unable to get total memory": "/proc/meminfo",
    b"Cannot get system uptime": "/proc/uptime",
    b"Unable to create vmstat structure": "/proc/vmstat",
}


_UNREACHED = (b"Temporary failure in name resolution", b"Network is unreachable", b"Could not resolve host")


def explain_network(stderr: bytes) -> str | None:
    """Return a warning where code without a network has looked for one."""
    if not any(words in stderr for words in _UNREACHED):
        return None
    return (
        "the network is off, so nothing beyond localhost can be reached: a request gets it with "
        "config.network_disabled false (--network), where the server allows that"
    )


def explain_absence(stderr: bytes) -> str | None:
    """Return a warning where code has looked for a file that tells of the whole machine."""
    path = next((found for line in stderr.splitlines() if (found := _looked_for(line))), None)
    if path is None:
        return None
    return (
        f"{path} is not there: of /proc, code sees its own processes, nothing of the machine's, which psutil, free and "
        "ps may need: os.cpu_count() has its processors, resource.getrusage() what it has used"
    )


def _looked_for(line: bytes) -> str | None:
    if any(words in line for words in _MISSING) and (found := _OF_THE_MACHINE.search(line)):
        return found[0].decode()
    return next((path for words, path in _WITHOUT_ITS_NAME.items() if words in line), None)
