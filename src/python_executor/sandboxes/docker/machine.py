"""The memory of the machine that the server runs on, which is the engine's too, as a rule."""

from __future__ import annotations

from pathlib import Path

SPARE_PART = 10  # a tenth of it is to stay free


def is_memory_short(meminfo: Path = Path("/proc/meminfo")) -> bool:
    """Whether containers that wait should make room."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return available < total / SPARE_PART


def has_ipv6() -> bool:
    """Whether its kernel knows of IPv6: one that does not has no switch for it."""
    return Path("/proc/sys/net/ipv6").exists()
