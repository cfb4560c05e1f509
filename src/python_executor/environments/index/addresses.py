"""Which addresses are the public internet's, for whatever a package index leads the server to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ...model.egress import NEVER

NOT_PUBLIC = {  # that `is_global` takes for public, at least in some version of Python
    "protocol assignments, and Oracle's metadata": IPv4Network("192.0.0.0/24"),
    "6to4 relays": IPv4Network("192.88.99.0/24"),
    "Azure's metadata and control": IPv4Network("168.63.129.16/32"),
    "multicast": IPv4Network("224.0.0.0/4"),
}
UNICAST = IPv6Network("2000::/3")  # all that has been given out of IPv6, but for the next
NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is public, and the IPv4 address that some gateway would make of it, too."""
    if isinstance(address, IPv4Address):
        closed = (*NEVER.values(), *NOT_PUBLIC.values())
        return address.is_global and not any(address in network for network in closed)
    if (inner := _carried(address)) is not None:
        return is_public(inner)
    return address.is_global and address in UNICAST


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one end at."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a URL's host is; None of a name. Raises ValueError for odd spellings of addresses, as 127.1."""
    try:
        return ip_address(host)
    except ValueError:
        if ":" in host or host.replace(".", "").isdigit():
            raise
        return None
