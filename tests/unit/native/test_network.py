"""The egress filter as text: what it lets out, and in which order. That the kernel does so, `tests/network` shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from python_executor.model.egress import EgressPolicy, is_never_reached
from python_executor.sandboxes.native import network
from python_executor.sandboxes.native.egress import own_addresses, ruleset
from python_executor.sandboxes.native.identities import Identities
from python_executor.sandboxes.native.network import Network

PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
          "172.32.0.0", "192.0.1.1", "192.167.1.1", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"]  # fmt: skip
INWARD = ["10.0.0.1", "10.255.255.255", "100.64.0.0", "100.100.100.200", "169.254.169.254", "169.254.0.1",
          "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
          "198.51.100.7", "203.0.113.7", "168.63.129.16", "224.0.0.1", "239.255.255.250", "240.0.0.1",
          "255.255.255.255"]  # fmt: skip
LOOPBACK = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.0.0.53", "127.255.255.255", "10.0.2.2", "10.0.2.3", "10.0.2.100"]
EVERYTHING = EgressPolicy(allowed=(IPv4Network("0.0.0.0/0"),))


def verdict(policy: EgressPolicy, address: str, port: int = 80, own: tuple[str, ...] = ()) -> str:
    """What the rules of the text, read in order, say to a packet that leaves by another interface than `lo`."""
    text = ruleset(policy, [IPv4Network(each) for each in own])
    sets = dict(re.findall(r"set (\w+) \{ type ipv4_addr; flags interval; elements = \{ ([^}]*) \} \}", text))
    chain = text[text.index("chain output") : text.index("chain input")]
    for line in (line.strip() for line in chain.splitlines()):
        if match := re.fullmatch(r"ip daddr @(\w+) (accept|reject).*", line):
            if any(IPv4Address(address) in IPv4Network(each) for each in sets.get(match[1], "").split(", ") if each):
                return match[2]
        elif match := re.fullmatch(r"ip daddr \{ (.*) \} meta l4proto \{ tcp, udp \} th dport 53 accept", line):
            if address in match[1].split(", ") and port == 53:
                return "accept"
        elif line == "accept":
            return line
        else:
            assert line in ("chain output {", "type filter hook output priority 0; policy drop;", "oif lo accept",
                            "meta nfproto ipv6 reject with icmpx type admin-prohibited", "}", ""), line  # fmt: skip
    return "drop"


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_open(address: str) -> None:
    assert verdict(EgressPolicy(), address) == "accept"


@pytest.mark.parametrize("address", INWARD)
def test_whatever_is_not_the_public_internet_is_closed_unless_it_is_allowed(address: str) -> None:
    assert verdict(EgressPolicy(), address) == "reject"
    assert verdict(EgressPolicy(), address, 53) == "reject"
    assert verdict(EgressPolicy(allowed=(IPv4Network(address),)), address) == "accept"
    assert verdict(EVERYTHING, address) == "accept"


@pytest.mark.parametrize("address", LOOPBACK)
def test_what_leads_to_the_hosts_loopback_is_closed_whatever_is_allowed(address: str) -> None:
    allowed = EgressPolicy(allowed=(IPv4Network(address), *EVERYTHING.allowed))
    assert verdict(EgressPolicy(), address) == verdict(EVERYTHING, address) == verdict(allowed, address) == "reject"
    assert is_never_reached(IPv4Network(address))
    assert not is_never_reached(IPv4Network("10.0.0.0/8"))


def test_the_hosts_own_addresses_are_closed_public_or_not() -> None:
    own = ("8.8.8.8", "127.0.0.1", "10.0.0.1", "10.0.0.0/24", "44.0.0.0/24")
    assert verdict(EgressPolicy(), "8.8.8.8", own=own) == verdict(EgressPolicy(), "44.0.0.9", own=own) == "reject"
    assert verdict(EgressPolicy(), "8.8.8.9", own=own) == "accept"
    assert verdict(EVERYTHING, "8.8.8.8", own=own) == "accept"


def test_names_are_resolved_by_the_hosts_resolver_or_by_the_named_servers_and_nothing_else_of_theirs_is_open() -> None:
    assert verdict(EgressPolicy(), "10.0.2.3", 53) == "accept"
    assert verdict(EgressPolicy(), "10.0.2.3", 80) == "reject"
    named = EgressPolicy(dns_servers=(IPv4Address("192.168.1.1"), IPv4Address("9.9.9.9")))
    assert verdict(named, "192.168.1.1", 53) == verdict(named, "9.9.9.9", 53) == "accept"
    assert verdict(named, "192.168.1.1", 80) == verdict(named, "10.0.2.3", 53) == "reject"


def test_nothing_comes_in_that_was_not_asked_for_and_there_is_no_ipv6() -> None:
    text = ruleset(EVERYTHING, [])
    assert text.count("policy drop;") == 3
    chain = text[text.index("chain input") : text.index("chain forward")]
    assert [line.strip() for line in chain.splitlines()[2:4]] == [
        "iif lo accept",
        "ct state established,related accept",
    ]
    output = text[text.index("chain output") :].splitlines()
    assert output[3].strip().startswith("meta nfproto ipv6 reject")


def test_own_addresses_are_what_the_kernel_has_as_local(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text("""Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     |-- 44.0.0.0
        /24 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
Id 77:
     |-- 5.6.7.8
        /32 host LOCAL
""")
    found = [str(each) for each in own_addresses(tmp_path / "fib_trie")]
    assert found == ["5.6.7.8/32", "44.0.0.0/24", "127.0.0.1/32", "192.0.2.2/32"]
    assert IPv4Network("127.0.0.1") in own_addresses()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Network]:
    """A machine that has these programs, and a /dev/net/tun of this mode, if any."""

    def make(*programs: str, tun: int | None = 0o666, own_uids: bool = True) -> Network:
        for name in programs:
            (tmp_path / name).touch(0o755)
        device = tmp_path / "tun"
        if tun is not None:
            device.touch()
            device.chmod(tun)
        monkeypatch.setattr(network, "TUN", str(device))
        monkeypatch.setattr(network, "SYSTEM_PATH", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        return Network(EgressPolicy(), Identities(1000, 65536 if own_uids else 1))

    return make


ALL = ("nft", "nsenter", "slirp4netns")


def test_with_all_it_needs_it_can_be_had(machine: Callable[..., Network]) -> None:
    assert machine(*ALL).unavailable is None


def test_without_its_programs_it_says_what_to_install(machine: Callable[..., Network]) -> None:
    assert machine().unavailable == (
        "its machine lacks util-linux and nftables and slirp4netns: install the packages of that name"
    )
    assert machine("nft", "nsenter").unavailable == ("its machine lacks slirp4netns: install the packages of that name")


def test_without_the_device_it_says_where_that_comes_from(machine: Callable[..., Network]) -> None:
    assert "/tun: load the kernel's module tun" in str(machine(*ALL, tun=None).unavailable)
    assert "closed to ordinary users" in str(machine(*ALL, tun=0o600).unavailable)


def test_as_an_ordinary_user_the_credentials_are_root_of_the_box_already(machine: Callable[..., Network]) -> None:
    assert "--preserve-credentials" not in machine(*ALL).argv("nft", "-f", "-", user=3, net=4)
    argv = machine(*ALL, own_uids=False).argv("nft", "-f", "-", user=3, net=4)
    assert argv[1:4] == ["--user=/proc/self/fd/3", "--net=/proc/self/fd/4", "--preserve-credentials"]
    assert argv[4].endswith("/nft") and argv[5:] == ["-f", "-"]
