"""The life of a sandbox's network: that code can't change it, that it goes when it should, and what is where it is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from python_executor.sandboxes.native import network
from tests.sandbox.conftest import INTERPRETERS, Engine
from tests.support.api import assert_error
from tests.support.world import HOST, PUBLIC, World

from .conftest import PROBE, Server, children, command, served
from .test_reach import MEET_A_STRANGER, WAYS, attempts

SLEEP = "print(tcp('1.2.3.4'), flush=True); import time; time.sleep(60)"
# Reads a line that never comes: lets a test do something, then looks again.
LOOK_TWICE = """
import os, time
print(tcp("1.2.3.4"), flush=True)
for _ in range(60):
    if tcp("1.2.3.4") != "1.2.3.4": break
    time.sleep(0.05)
print(tcp("1.2.3.4"), tcp("127.0.0.1"), 6 * 7)
"""


@pytest.fixture(scope="module")
def unfiltered(world: World) -> Iterator[Engine]:
    """What a sandbox would reach if there were no filter: the native backend in our process, on the world's host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "ruleset", lambda policy, own: "")
        engine = world.host.call(Engine)
        yield engine
        engine.close()


def test_without_the_filter_the_hosts_loopback_and_neighbours_would_be_reached(
    world: World, unfiltered: Engine
) -> None:
    code = PROBE + f"print(tcp('10.0.0.5'), tcp('{HOST}'))"
    assert unfiltered.run(code, network=True).stdout == f"10.0.0.5 {HOST}\n"
    del world.datagrams[:]
    unfiltered.run(PROBE + "udp('127.0.0.1', device=b'tap0')", network=True)  # no answer comes back, but what was sent
    assert ("127.0.0.1", b"hello") in world.datagrams


def test_without_the_filter_strangers_would_be_heard(unfiltered: Engine) -> None:
    assert unfiltered.run(PROBE + MEET_A_STRANGER, network=True).stdout.split("\n")[1] == "a stranger"


@pytest.mark.parametrize("way", WAYS)
def test_the_filter_is_not_what_lets_the_internet_through(unfiltered: Engine, way: str) -> None:
    outcome = unfiltered.run(PROBE + attempts(PUBLIC, way), network=True)
    assert json.loads(outcome.stdout) == {address: address for address in PUBLIC}


CHANGES = """
import ctypes, fcntl, os, struct, subprocess
def ask(kind, flags, body):
    try: s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    except OSError as error: return errno.errorcode[error.errno]
    with s:
        s.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
        return errno.errorcode[-struct.unpack_from("=i", s.recv(4096), 16)[0]]
tap, lo = socket.if_nametoindex("tap0"), socket.if_nametoindex("lo")
address = struct.pack("=HH", 8, 2) + bytes([10, 9, 9, 9])
print("address", ask(20, 0x600, struct.pack("=BBBBi", 2, 24, 0, 0, tap) + address))
route = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 3, 0, 1, 0) + struct.pack("=HH", 8, 1) + bytes([10, 0, 0, 5])
print("route", ask(24, 0x600, route + struct.pack("=HHi", 8, 4, tap)))
print("link down", ask(16, 0, struct.pack("=BBHiII", 0, 0, 0, tap, 0, 1)))
print("rename", ask(16, 0, struct.pack("=BBHiII", 0, 0, 0, tap, 0, 0) + struct.pack("=HH", 8, 3) + b"lo1\\0"))
print("new link", ask(16, 0x600, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    print("ioctl", attempt(lambda: fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"tap0", 0))))
    print("mark", attempt(lambda: s.setsockopt(socket.SOL_SOCKET, 36, 1)))
    print("transparent", attempt(lambda: s.setsockopt(socket.IPPROTO_IP, 19, 1)))
print("netfilter", attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)))
print("raw", attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)))
print("raw ip", attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)))
print("packet", attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)))
print("tun", attempt(lambda: os.open("/dev/net/tun", os.O_RDWR)))
libc = ctypes.CDLL(None, use_errno=True)
print("namespace", libc.unshare(0x40000000), errno.errorcode[ctypes.get_errno()])
print("user namespace", libc.unshare(0x10000000 | 0x40000000), errno.errorcode[ctypes.get_errno()])
print("enter", [name for name in os.listdir("/proc/1/ns")] if os.access("/proc/1/ns", os.R_OK) else "hidden")
print("programs", [name for name in ("nft", "iptables", "slirp4netns") if os.access("/usr/sbin/" + name, os.X_OK)])
"""


def test_code_changes_neither_filter_nor_routes_nor_addresses(server: Server) -> None:
    seen = dict(line.rsplit(" ", 1) for line in server.run(CHANGES).splitlines())
    assert seen.pop("tun") == "ENOENT"
    assert seen.pop("enter") == "hidden"
    assert seen.pop("programs") == "[]"
    assert set(seen.values()) <= {"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ENOTTY", "ENOPROTOOPT"}, seen
    assert set(seen) >= {"address", "route", "link down", "rename", "new link", "ioctl", "netfilter", "packet"}


def test_slirp4netns_is_neither_root_nor_unbounded(server: Server) -> None:
    execution = server.submit(SLEEP)
    server.world.host.call(server.api.until, execution, "stdout", PUBLIC[0])
    (pid,) = server.programs()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) in (0, 1 << 10)  # CAP_NET_BIND_SERVICE, in a user namespace where it binds nothing
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max open files            1024" in limits
    assert sorted(os.listdir(f"/proc/{pid}/root")) == ["etc", "run"]
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    cgroups = Path(f"/proc/{pid}/cgroup").read_text()
    assert "python-executor-" in cgroups or server.process.output.count("no cgroups")
    server.call("kill", execution)


def test_where_slirp4netns_dies_only_its_own_sandbox_has_no_network_any_more(server: Server) -> None:
    first, second = server.submit(LOOK_TWICE), server.submit(LOOK_TWICE)
    for execution in (first, second):
        server.world.host.call(server.api.until, execution, "stdout", PUBLIC[0])
    one, other = server.programs()
    os.kill(one, signal.SIGTERM)
    results = [server.call("finished", execution) for execution in (first, second)]
    assert {result["exit_code"] for result in results} == {0}
    said = sorted(result["stdout"].split()[1:] for result in results)
    assert said[0] == [PUBLIC[0], "ECONNREFUSED", "42"]
    assert said[1][0] != PUBLIC[0] and said[1][1:] == ["ECONNREFUSED", "42"]
    assert server.run("print(tcp('1.2.3.4'))") == PUBLIC[0]
    assert "slirp4netns had ended before its sandbox" in server.process.output
    assert other not in server.programs()


def test_afterwards_nothing_is_left(server: Server) -> None:
    assert server.process.process is not None
    pid = server.process.process.pid

    def traces() -> tuple[int, int]:
        return len(children(pid)), len(os.listdir(f"/proc/{pid}/fd"))

    def is_within(bound: tuple[int, int]) -> bool:
        return all(have <= most for have, most in zip(traces(), bound, strict=True))

    server.run("print(tcp('1.2.3.4'))")
    server.call("kill", server.submit(SLEEP))  # perhaps with another interpreter, whose box stays
    time.sleep(1)
    processes, descriptors = traces()
    bound = (processes, descriptors + 15 * 8)  # the pool, and what is kept to be used again, grow with demand
    for _ in range(10):
        assert server.run("print(tcp('1.2.3.4'))") == PUBLIC[0]
    executions = [server.submit(SLEEP) for _ in range(6)]
    for execution in executions[:3]:
        server.call("kill", execution)
    for execution in executions[3:]:
        server.world.host.call(server.api.until, execution, "status", "running")
        server.call("kill", execution)
    deadline = time.monotonic() + 20
    while not is_within(bound) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_within(bound), (traces(), bound)
    assert not server.programs()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_with_the_server_go_its_networks(world: World, how: signal.Signals) -> None:
    with served(world) as server:
        for _ in range(3):
            server.world.host.call(server.api.until, server.submit(SLEEP), "stdout", PUBLIC[0])
        programs = server.programs()
        assert len(programs) == 3
        server.process.signal(how)
        server.process.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in programs) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [command(pid) for pid in programs if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def programs() -> Iterator[Path]:
    """A directory for PATH, in reach of the box's root, who is an unprivileged user: pytest's own are closed to him."""
    with tempfile.TemporaryDirectory(prefix="python-executor-programs-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def with_programs(directory: Path, *names: str) -> str:
    """For PATH: the directory, with just these."""
    for name in names:
        (directory / name).symlink_to(str(shutil.which(name)))
    return str(directory)


def test_a_server_without_slirp4netns_says_so_and_runs_what_needs_no_network(world: World, programs: Path) -> None:
    path = with_programs(programs, "nsenter")
    with served(world, f"PATH={path}") as server:
        body = {"code": "print(1)", "config": {"network_disabled": False}}
        sentence = "its machine lacks slirp4netns: install the packages of that name."
        assert_error(server.call("post_eval", body), 400, "network_unavailable", sentence)
        answer = server.call("post_exec", {"main.py": "1"}, {"config": body["config"]}, "/api/v1/exec/async")
        assert_error(answer, 400, "network_unavailable", sentence)
        assert server.call("eval", "print(1)")["stdout"] == "1\n"


def break_program(directory: Path, name: str, text: str) -> None:
    """Let a program only say something and fail."""
    (directory / name).unlink()
    (directory / name).write_text(f"#!/bin/sh\necho {text}\nexit 3\n")
    (directory / name).chmod(0o755)


BROKEN = pytest.mark.parametrize(("program", "text"), [("slirp4netns", "out of tune"), ("nft", "no such table")])


@BROKEN
def test_a_server_that_finds_at_its_start_that_it_can_give_no_network_refuses_it_with_the_reason(
    world: World, programs: Path, program: str, text: str
) -> None:
    path = with_programs(programs, "nsenter", "nft", "slirp4netns")
    break_program(programs, program, text)
    with served(world, f"PATH={path}") as server:
        answer = server.call("post_eval", {"code": "print(1)", "config": {"network_disabled": False}})
        assert_error(answer, 400, "network_unavailable", f"{program} ended with 3: {text}")
        assert server.call("eval", "print(1)")["stdout"] == "1\n"
        assert not server.programs()


@BROKEN
def test_where_a_network_cannot_be_set_up_any_more_the_execution_fails_and_nothing_of_it_runs(
    world: World, programs: Path, program: str, text: str
) -> None:
    path = with_programs(programs, "nsenter", "nft", "slirp4netns")
    with served(world, f"PATH={path}") as server:
        break_program(programs, program, text)
        result = server.call("eval", "print(1)", config={"network_disabled": False})
        assert (result["status"], result["termination"], result["stdout"]) == ("failed", "error", "")
        assert text not in json.dumps(result)
        assert f"the sandbox could not be given its network: {program} ended with 3: {text}" in server.process.output
        assert server.call("eval", "print(1)")["stdout"] == "1\n"
        assert not server.programs()


def test_more_connections_than_it_may_have_end_nobody_elses(servers: Callable[[str], Server]) -> None:
    """slirp4netns's descriptors are bounded, and its memory is charged to the sandbox."""
    server = servers("root")
    code = """
many = []
for _ in range(3000):
    try:
        many.append(socket.socket())
        many[-1].setblocking(False)
        many[-1].connect(("1.2.3.4", 7007))
    except BlockingIOError: pass
    except OSError: break
print(len(many) > 500)
for s in many: s.close()
import time; time.sleep(1); print(tcp("1.2.3.4"))
"""
    assert server.run(code).split() == ["True", PUBLIC[0]]


def test_https_has_authorities_to_trust_and_their_keys_are_not_there(servers: Callable[[str], Server]) -> None:
    server = servers("root")
    trusted = "import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 20)"
    for interpreter in {INTERPRETERS[0], INTERPRETERS[-1]}:
        assert server.call("eval", trusted, python_version=interpreter.minor_version)["stdout"] == "True\n"
    code = "import os; print([os.path.exists(each) for each in ('/etc/ssl/private', '/etc/pki/tls/private')])"
    assert server.run(code) == "[False, False]"
