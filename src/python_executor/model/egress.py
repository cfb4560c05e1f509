"""What sandboxes with network may reach beyond the public internet, and who resolves names for them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

# Whatever the operator allows: on their way out of a sandbox, these would lead to the host's loopback.
NEVER = {
    "this host": IPv4Network("0.0.0.0/8"),
    "loopback": IPv4Network("127.0.0.0/8"),
    "slirp4netns's own": IPv4Network("10.0.2.0/24"),  # .2 is the host's loopback, .3 its resolver
}
OWN_RESOLVER = IPv4Address("10.0.2.3")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The operator's part of the filter. There is no IPv6."""

    allowed: tuple[IPv4Network, ...] = ()
    dns_servers: tuple[IPv4Address, ...] = ()  # none: the host's resolver

    @property
    def nameservers(self) -> tuple[IPv4Address, ...]:
        """As a sandbox sees them."""
        return self.dns_servers or (OWN_RESOLVER,)


def is_never_reached(network: IPv4Network) -> bool:
    """Whether to allow it would allow nothing."""
    return any(network.subnet_of(never) for never in NEVER.values())
