"""Servers that run in a made-up world, and one short way of running code with network in a sandbox of theirs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.machine import need
from tests.support.server import ServerProcess
from tests.support.world import RESOLVER, World

ROOT = Path(__file__).resolve().parents[2]
ORDINARY_USER = "65534"  # nobody
SETTINGS = {"host": "0.0.0.0", "insecure_allow": "no-api-key", "max_concurrent": 20}  # the server is on every address
ENTER = 'mount --bind "$0" /etc/resolv.conf && mount --bind . /mnt && cd /mnt && exec "$@"'

# What user code starts with: `tcp` and `udp` give the answer of whoever is there, or the name of the error.
PROBE = f"""
import errno, socket
def attempt(act):
    try: return act()
    except OSError as error: return errno.errorcode.get(error.errno, "timed out")
def connected(make, address, port, device, family):
    with socket.socket(family, make) as s:
        s.settimeout(3)
        if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        s.connect((address, port))
        if make == socket.SOCK_DGRAM: s.send(b"hello")
        return s.recv(100).decode().split()[0]
def tcp(address, port={7007}, device=b"", family=socket.AF_INET):
    return attempt(lambda: connected(socket.SOCK_STREAM, address, port, device, family))
def udp(address, port={7007}, device=b"", family=socket.AF_INET):
    return attempt(lambda: connected(socket.SOCK_DGRAM, address, port, device, family))
"""


class Server:
    """A server on the world's host."""

    def __init__(self, world: World, process: ServerProcess) -> None:
        self.world = world
        self.process = process
        self.api = Api(process.url.replace("0.0.0.0", "127.0.0.1"))

    @property
    def port(self) -> int:
        return int(self.process.url.rpartition(":")[2])

    def call(self, method: str, *arguments: Any, **fields: Any) -> Any:
        """A method of `Api`, called on the world's host."""
        return self.world.host.call(getattr(self.api, method), *arguments, **fields)

    def run(self, code: str, **config: Any) -> str:
        """What code prints, which has the network."""
        config = {"network_disabled": False, "timeout_seconds": 60, **config}
        result = self.call("eval", PROBE + code, config=config)
        assert result["exit_code"] == 0, result
        return result["stdout"].strip()

    def submit(self, code: str) -> str:
        """Start code with network; its id."""
        return self.call("submit", PROBE + code, config={"network_disabled": False})

    def programs(self) -> list[int]:
        """The processes of slirp4netns that it has."""
        assert self.process.process is not None
        return [pid for pid in children(self.process.process.pid) if b"slirp4netns" in command(pid)]


def children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    need("root", "iproute2", "network")
    made = World()
    yield made
    made.close()


@contextmanager
def served(
    world: World, *prefix: str, user: str | None = None, resolver: str = RESOLVER, **settings: object
) -> Iterator[Server]:
    """A server on the world's host, in a mount namespace where /etc/resolv.conf is the world's."""
    directory = Path(tempfile.mkdtemp(prefix="python-executor-network-"))
    directory.chmod(0o777)
    (directory / "resolv.conf").write_text(f"nameserver {resolver}\n")
    as_user = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"] if user else []
    enter = ["unshare", "--mount", "sh", "-c", ENTER, f"{directory}/resolv.conf", "env", f"HOME={directory}", *prefix]
    process = ServerProcess(directory, prefix=[*enter, *as_user], **{**SETTINGS, **settings})
    try:
        world.host.call(process.start)
        yield Server(world, process)
        process.stop()
    finally:
        if process.process is not None and process.process.poll() is None:
            process.process.kill()
            process.process.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(world: World) -> Iterator[Callable[[str], Server]]:
    """Servers of the session by name, made when first asked for: `root`, `ordinary` and, egress all allowed, `open`."""
    kinds: dict[str, dict[str, Any]] = {
        "root": {},
        "ordinary": {"user": ORDINARY_USER},
        "open": {"egress_allow": "0.0.0.0/0"},
    }
    made: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Server:
            if kind not in made:
                made[kind] = stack.enter_context(served(world, **kinds[kind]))
            return made[kind]

        yield get


@pytest.fixture(params=["root", "ordinary"])
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    """A server with the default policy: root's, then an ordinary user's."""
    return servers(request.param)


@pytest.fixture
def open_server(servers: Callable[[str], Server]) -> Server:
    """Its twin, with EGRESS_ALLOW 0.0.0.0/0."""
    return servers("open")
