"""The host's uids behind a box: a range that nobody has, where we may map one, else just our own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PREFERRED_BASE = 0x70000000  # unused by distributions, by /etc/subuid's habits and by systemd's ranges
WANTED = 1 << 16
NEEDED = "root needs CAP_SETUID and CAP_SETGID: grant both, or run the server as another user"


@dataclass(frozen=True, slots=True)
class Identities:
    """`count` uids (and gids) from `base` on; the box calls them 0 and up."""

    base: int
    count: int

    @property
    def has_own_uids(self) -> bool:
        """Whether each sandbox can have a host uid that nobody else has."""
        return self.count > 1

    def map(self, pid: int) -> None:
        """Give them to the new user namespace of a process."""
        proc = Path(f"/proc/{pid}")
        if not self.has_own_uids:
            proc.joinpath("setgroups").write_text("deny")
        gid_base = self.base if self.has_own_uids else os.getegid()
        for name, base in (("uid_map", self.base), ("gid_map", gid_base)):
            try:
                proc.joinpath(name).write_text(f"0 {base} {self.count}")
            except PermissionError as error:
                raise PermissionError(error.errno, f"{name}: {error.strerror}; {NEEDED}") from error


def choose_identities(uid_map: Path = Path("/proc/self/uid_map")) -> Identities:
    """A range of unprivileged uids for root (the end of what a container has been given), our own uid otherwise."""
    if os.geteuid() != 0:
        return Identities(os.geteuid(), 1)
    extents = [tuple(int(field) for field in line.split()) for line in uid_map.read_text().splitlines()]
    for first, _, count in extents:
        if first <= PREFERRED_BASE and first + count >= PREFERRED_BASE + WANTED:
            return Identities(PREFERRED_BASE, WANTED)
    first, _, count = max(extents, key=lambda extent: extent[2])
    taken = min(WANTED, count // 2)
    return Identities(first + count - taken, taken) if taken > 1 else Identities(0, 1)
