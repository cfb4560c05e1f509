"""What code with network reaches and what it does not. Each wall has a twin that shows that somebody stands behind it."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.world import (
    GATEWAY,
    HOST,
    HOST_PRIVATE,
    INWARD,
    METADATA,
    OWN_RESOLVER,
    PORT,
    PUBLIC,
    RESOLVER,
    World,
)

from .conftest import Server, served

REFUSED = {"EHOSTUNREACH", "EPERM", "EACCES"}
BY_DEVICE = "tcp({address!r}, device=b'tap0')"
MAPPED = "tcp('::ffff:' + {address!r}, family=socket.AF_INET6)"
MAPPED_UDP = "udp('::ffff:' + {address!r}, family=socket.AF_INET6)"
PKTINFO = """attempt(lambda: sent({address!r}))
def sent(address):
    import struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        index = socket.if_nametoindex('tap0')
        info = struct.pack('I4s4s', index, bytes(4), bytes(4))  # IP_PKTINFO is 8
        s.sendmsg([b'hello'], [(socket.IPPROTO_IP, 8, info)], 0, (address, 7007))
        return s.recv(100).decode().split()[0]"""
UNCONNECTED = """attempt(lambda: sent({address!r}))
def sent(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.sendto(b'hello', (address, 7007))
        return s.recv(100).decode().split()[0]"""
FROM_ELSEWHERE = """attempt(lambda: sent({address!r}))
def sent(address):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(3)
        s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
        s.bind(('10.0.2.100', 0))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
        s.connect((address, 7007))
        return s.recv(100).decode()"""
WAYS = {
    "tcp": "tcp({address!r})",
    "udp": "udp({address!r})",
    "bound-to-device": BY_DEVICE,
    "udp-bound-to-device": "udp({address!r}, device=b'tap0')",
    "ipv4-mapped": MAPPED,
    "udp-ipv4-mapped": MAPPED_UDP,
    "pktinfo": PKTINFO,
    "unconnected": UNCONNECTED,
    "freebind": FROM_ELSEWHERE,
}
LOOPBACK = ("127.0.0.1", "127.0.0.53", "10.0.2.2", "10.0.2.3", "10.0.2.1")


def attempts(addresses: tuple[str, ...], way: str) -> str:
    """Code that tries each address in that way, and prints what came of it as JSON."""
    expression, _, definition = WAYS[way].partition("\n")
    tries = "".join(f"found[{address!r}] = {expression.format(address=address)}\n" for address in addresses)
    return f"{definition}\nimport json\nfound = {{}}\n{tries}print(json.dumps(found))"


def reached_from_host(world: World, address: str) -> str:
    def connect() -> str:
        with socket.create_connection((address, PORT), 3) as connection:
            return connection.recv(100).decode()

    return world.host.call(connect)


@pytest.mark.parametrize("way", WAYS)
def test_the_public_internet_is_reached(server: Server, way: str) -> None:
    assert json.loads(server.run(attempts(PUBLIC, way))) == {address: address for address in PUBLIC}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_not_the_public_internet_is_not_reached(server: Server, open_server: Server, way: str) -> None:
    found = json.loads(server.run(attempts((*INWARD, RESOLVER), way)))
    assert set(found.values()) <= REFUSED, found
    twin = json.loads(open_server.run(attempts(INWARD, way)))
    assert twin == {address: address for address in INWARD}


@pytest.mark.parametrize("way", WAYS)
def test_the_hosts_own_addresses_are_not_reached_public_or_not(server: Server, open_server: Server, way: str) -> None:
    found = json.loads(server.run(attempts((HOST, HOST_PRIVATE), way)))
    assert set(found.values()) <= REFUSED, found
    twin = json.loads(open_server.run(attempts((HOST,), way)))
    assert twin == {HOST: HOST}


def test_the_servers_own_port_is_not_reached_on_any_address(server: Server, open_server: Server) -> None:
    code = "print([attempt(lambda: socket.create_connection((each, {port}), 3) and 'reached') for each in {addresses}])"
    for address in (HOST, HOST_PRIVATE, "127.0.0.1"):
        server.world.host.call(socket.create_connection, (address, server.port), 3).close()
    found = server.run(code.format(port=server.port, addresses=[HOST, HOST_PRIVATE, "10.0.2.2", "10.0.2.3"]))
    assert "reached" not in found
    assert server.run(code.format(port=server.port, addresses=["127.0.0.1"])) == "['ECONNREFUSED']"  # its own loopback
    assert open_server.run(code.format(port=open_server.port, addresses=[HOST])) == "['reached']"


@pytest.mark.parametrize("way", ["bound-to-device", "udp-bound-to-device", "pktinfo"])
def test_the_hosts_loopback_is_not_reached_whatever_is_allowed(server: Server, open_server: Server, way: str) -> None:
    assert reached_from_host(server.world, "127.0.0.1") == "127.0.0.1"
    del server.world.datagrams[:]
    for each in (server, open_server):
        found = json.loads(each.run(attempts(LOOPBACK, way)))
        assert set(found.values()) <= REFUSED, found
    assert not server.world.datagrams


def test_an_answer_of_http_that_leads_inward_leads_nowhere(server: Server, open_server: Server) -> None:
    code = (
        "import urllib.request\n"
        "try: print(urllib.request.urlopen('http://public.test/', timeout=5).read().decode())\n"
        "except OSError as error: print(error.reason.errno)"
    )
    assert server.run(code) == "113"
    assert open_server.run(code) == "credentials"


def test_a_name_that_means_an_inner_address_leads_nowhere(server: Server, open_server: Server) -> None:
    assert server.run("print(socket.gethostbyname('inward.test'), tcp('inward.test'))") == f"{METADATA} EHOSTUNREACH"
    assert open_server.run("print(tcp('inward.test'))") == METADATA


def test_names_are_resolved_by_the_hosts_resolver(server: Server) -> None:
    del server.world.queries[:]
    code = """
import struct
print(socket.gethostbyname("public.test"), tcp("public.test"))
try: socket.gethostbyname("nobody.test")
except socket.gaierror as error: print(error.errno == socket.EAI_NONAME)
query = struct.pack(">HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\6public\\4test\\0" + struct.pack(">HH", 1, 1)
with socket.create_connection(("10.0.2.3", 53), 3) as s:
    s.sendall(len(query).to_bytes(2, "big") + query)
    print(socket.inet_ntoa(s.recv(200)[-4:]))
"""
    assert server.run(code).split() == [PUBLIC[0], PUBLIC[0], "True", PUBLIC[0]]
    assert (RESOLVER, "public.test") in server.world.queries


def test_of_the_hosts_resolver_only_the_names_are_there(server: Server) -> None:
    assert reached_from_host(server.world, RESOLVER) == RESOLVER
    assert server.run("print(tcp('10.0.2.3'), udp('10.0.2.3'))") == "EHOSTUNREACH EPERM"


def test_a_resolver_on_the_hosts_loopback_resolves_and_nothing_else_there_is_reached(world: World) -> None:
    with served(world, resolver=OWN_RESOLVER, egress_allow="0.0.0.0/0") as server:
        del world.queries[:]
        assert server.run("print(tcp('public.test'), tcp('10.0.2.3'), udp('10.0.2.3'))") == (
            f"{PUBLIC[0]} EHOSTUNREACH EPERM"
        )
        assert {resolver for resolver, _ in world.queries} == {OWN_RESOLVER}


def test_there_is_no_ipv6_but_loopback(server: Server) -> None:
    code = """
listening = socket.create_server(("::1", 7007), family=socket.AF_INET6)
print(attempt(lambda: socket.create_connection(("::1", 7007), 3) and "reached"))
for address in ("fd00:ec2::254", "2001:db8::1", "fe80::2", "64:ff9b::a00:5", "::10.0.0.5", "2002:a00:5::1"):
    for device in (b"", b"tap0"):
        print(tcp(address, device=device, family=socket.AF_INET6), udp(address, device=device, family=socket.AF_INET6))
"""
    reached, *refused = server.run(code).split()
    assert reached == "reached"
    assert not [answer for answer in refused if ":" in answer or "." in answer], refused


def test_named_servers_resolve_even_from_inside_and_nothing_else_of_theirs_is_open(world: World) -> None:
    with served(world, dns_servers=f"{RESOLVER},8.8.8.8", resolver="192.168.1.99") as named:
        del world.queries[:]
        assert named.run("print(tcp('public.test'), open('/etc/resolv.conf').read().split())") == (
            f"{PUBLIC[0]} ['nameserver', '{RESOLVER}', 'nameserver', '8.8.8.8']"
        )
        assert world.queries and {resolver for resolver, _ in world.queries} == {RESOLVER}
        assert named.run(f"print(tcp('{RESOLVER}'), tcp('10.0.2.3', 53))") == "EHOSTUNREACH EHOSTUNREACH"


INTERFACES = "print(sum(':' in line for line in open('/proc/self/net/dev')))"


def test_an_allowed_network_is_open_and_no_other(world: World) -> None:
    with served(world, egress_allow="10.200.0.0/16,192.168.1.1", default_network="true") as allowing:
        found = json.loads(allowing.run(attempts((*INWARD, HOST), "tcp")))
        assert {address for address, answer in found.items() if answer == address} == {"10.200.0.1", "192.168.1.1"}
        assert set(found.values()) - {"10.200.0.1", "192.168.1.1"} == {"EHOSTUNREACH"}
        assert allowing.call("eval", INTERFACES)["stdout"] == "2\n"
        body = {"code": INTERFACES, "config": {"network_disabled": True}}
        assert allowing.call("post_eval", body).json()["stdout"] == "1\n"


def test_without_a_network_there_is_just_loopback_and_names_fail_at_once(server: Server) -> None:
    code = """
import time
start = time.monotonic()
try: socket.gethostbyname("public.test")
except OSError as error: print(error.errno == socket.EAI_AGAIN)
print(time.monotonic() - start < 0.5, [line.partition(":")[0].strip() for line in open("/proc/self/net/dev") if ":" in line], tcp("1.2.3.4"))
"""
    assert server.run(code, network_disabled=True).split("\n") == ["True", "True ['lo'] ENETUNREACH"]


def test_two_sandboxes_with_network_do_not_reach_each_other(server: Server) -> None:
    serving = server.submit(
        """
listening = socket.create_server(("0.0.0.0", 4444))
print(tcp("127.0.0.1", 4444) or "ready", flush=True)
import time; time.sleep(60)
""".replace("tcp(", "(lambda *_: '')(")
    )
    server.world.host.call(server.api.until, serving, "stdout", "ready")
    places = ("10.0.2.100", "10.0.2.15", "10.0.2.2", HOST, HOST_PRIVATE, GATEWAY, "127.0.0.1")
    found = server.run(f"print([tcp(each, 4444) for each in {places}])")
    assert found == str(
        ["ECONNREFUSED", "EHOSTUNREACH", "EHOSTUNREACH", "EHOSTUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "ECONNREFUSED"]
    )
    server.call("kill", serving)


MEET_A_STRANGER = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.sendto(b"introduce me", ("1.2.3.4", 7007))
heard = {attempt(lambda: s.recv(100).decode()), attempt(lambda: s.recv(100).decode())}
known, = [word.split() for word in heard if word.startswith("1.2.3.4")]
print(known[1], *heard - {" ".join(known)}, sep="\\n")
"""


def test_nothing_comes_in_that_was_not_asked_for(server: Server) -> None:
    """User-mode networking takes datagrams from anybody at the host's port of a socket; the filter does not."""
    port, other = server.run(MEET_A_STRANGER).splitlines()
    assert other == "timed out"
    for closed in (4444, int(port)):
        assert server.world.internet.call(attempt_to_connect, HOST, closed) == "refused"


def attempt_to_connect(address: str, port: int) -> str:
    try:
        socket.create_connection((address, port), 3).close()
    except ConnectionRefusedError:
        return "refused"
    return "connected"
