"""A container engine, as `doctor` and `/health/ready` show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of it now."""

    address: str  # "unix:///run/docker.sock"
    unavailable: str | None = None  # why no image can be run, with what to do; None where they can
    name: str = ""  # "Docker Engine 20.10.24", once it has answered
    runtimes: tuple[str, ...] = ()  # by name, its default one first
    is_rootless: bool = False
