"""The filter in the network namespace of a sandbox with network, as data and as nft's text."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path

from ...model.egress import NEVER, EgressPolicy

DENIED = {  # by default, beside the host's own addresses: whatever is not the public internet
    "private": "10.0.0.0/8",
    "carriers' NAT, and Alibaba's metadata": "100.64.0.0/10",
    "link-local, and the metadata of most clouds": "169.254.0.0/16",
    "private, often containers": "172.16.0.0/12",
    "protocol assignments, and Oracle's metadata": "192.0.0.0/24",
    "documentation": "192.0.2.0/24",
    "6to4 relays": "192.88.99.0/24",
    "private, often homes": "192.168.0.0/16",
    "benchmarks": "198.18.0.0/15",
    "documentation, second": "198.51.100.0/24",
    "documentation, third": "203.0.113.0/24",
    "Azure's metadata and control": "168.63.129.16/32",
    "multicast": "224.0.0.0/4",
    "reserved, and broadcast": "240.0.0.0/4",
}


def ruleset(policy: EgressPolicy, own_addresses: Iterable[IPv4Network]) -> str:
    """The filter, as nft reads it. There is no IPv6 beyond loopback, and nothing comes in that was not asked for."""
    denied = [*map(IPv4Network, DENIED.values()), *own_addresses]
    reject = "reject with icmpx type admin-prohibited"
    return f"""\
table inet egress {{
    set never {{ {_elements(NEVER.values())} }}
    set allowed {{ {_elements(policy.allowed)} }}
    set denied {{ {_elements(denied)} }}
    chain output {{
        type filter hook output priority 0; policy drop;
        oif lo accept
        meta nfproto ipv6 {reject}
        ip daddr {{ {", ".join(map(str, policy.nameservers))} }} meta l4proto {{ tcp, udp }} th dport 53 accept
        ip daddr @never {reject}
        ip daddr @allowed accept
        ip daddr @denied {reject}
        accept
    }}
    chain input {{
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
    }}
}}
"""


def _elements(networks: Iterable[IPv4Network]) -> str:
    merged = ", ".join(str(network) for network in collapse_addresses(networks))
    return "type ipv4_addr; flags interval;" + (f" elements = {{ {merged} }}" if merged else "")


def own_addresses(fib_trie: Path = Path("/proc/net/fib_trie")) -> list[IPv4Network]:
    """What the kernel takes for this host, on any interface and in any routing table."""
    found, address = set(), ""
    for line in fib_trie.read_text().splitlines():
        word, *rest = line.split()
        if word == "|--":
            address = rest[0]
        elif rest == ["host", "LOCAL"]:
            found.add(IPv4Network(address + word))
    return sorted(found)
