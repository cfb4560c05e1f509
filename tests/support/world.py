"""A made-up world for tests of the network: nothing that happens in it leaves it, whatever addresses it uses.

    host ── veth ── internet      two network namespaces of our own, joined by nothing else, to nothing else
     9.9.9.2   9.9.9.1            the internet has every address of `PUBLIC` and `INWARD`, and the resolver

Each namespace has a thread that lives in it. A socket stays in the namespace where it was made, so all services are
served by one thread of ours; a server that is started by the host's thread is a server on that host.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from python_executor.guest import kernel

T = TypeVar("T")
HOST, HOST_PRIVATE, GATEWAY = "9.9.9.2", "10.0.0.1", "9.9.9.1"
PUBLIC = ("1.2.3.4", "8.8.8.8")
METADATA = "169.254.169.254"
INWARD = ("10.0.0.5", "10.200.0.1", "100.64.0.1", METADATA, "169.254.7.7", "172.16.0.1", "192.0.0.192", "192.0.2.1",
          "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "168.63.129.16", "240.0.0.1")  # fmt: skip
RESOLVER, OTHER_RESOLVER, OWN_RESOLVER = "192.168.1.53", "8.8.8.8", "127.0.0.53"  # the last is systemd-resolved's
NAMES = {"public.test": PUBLIC[0], "inward.test": METADATA}  # what the resolvers know
PORT = 7007  # of the service that every host has; it answers with the address that it was reached at
INTRODUCE, STRANGERS_WORDS = b"introduce me", b"a stranger"  # who is sent the one has the other sent from elsewhere
PATIENCE = 120.0


class Namespace:
    """A network namespace and a thread in it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(kernel.unshare, kernel.CLONE_NEWNET).result()
        self.fd = self.call(os.open, "/proc/thread-self/ns/net", os.O_RDONLY)
        self.ip("link set lo up")

    def call(self, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Do something here."""
        return self._thread.submit(work, *arguments, **options).result(PATIENCE)

    def ip(self, *commands: str) -> None:
        """Configure it with lines of iproute2."""
        lines = "\n".join(commands).encode()
        self.call(subprocess.run, ["ip", "-batch", "-"], input=lines, check=True)

    def close(self) -> None:
        os.close(self.fd)
        self._thread.shutdown()


class World:
    """The host, the internet, and their services."""

    def __init__(self) -> None:
        self.host, self.internet = Namespace(), Namespace()
        self.queries: list[tuple[str, str]] = []  # that resolvers were asked: their address, the name
        self.datagrams: list[tuple[str, bytes]] = []  # that came, if nobody got an answer: to which address, what
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        link = f"link add name wan type veth peer name lan netns /proc/{os.getpid()}/fd/{self.internet.fd}"
        self.host.ip(
            link, "link set wan up", f"address add {HOST}/24 dev wan", f"address add {HOST_PRIVATE}/24 dev wan",
        )  # fmt: skip
        inner = [f"address add {address}/32 dev lo" for address in {*PUBLIC, *INWARD, RESOLVER}]
        self.internet.ip("link set lan up", f"address add {GATEWAY}/24 dev lan", *inner)
        self.internet.ip(f"route add {HOST_PRIVATE}/32 dev lan")
        self.host.ip(f"route add default via {GATEWAY}")
        self._serve()
        self._server = threading.Thread(target=self._run)
        self._server.start()

    def _serve(self) -> None:
        for place, addresses in (
            (self.host, ("127.0.0.1", HOST, HOST_PRIVATE)),
            (self.internet, (GATEWAY, *PUBLIC, *INWARD, RESOLVER)),
        ):
            self._add(place, "0.0.0.0", PORT, socket.SOCK_STREAM, self._tell_address)
            for address in addresses:
                self._add(place, address, PORT, socket.SOCK_DGRAM, self._echo)
        for place, address in ((self.internet, RESOLVER), (self.internet, OTHER_RESOLVER), (self.host, OWN_RESOLVER)):
            self._add(place, address, 53, socket.SOCK_DGRAM, self._resolve)
            self._add(place, address, 53, socket.SOCK_STREAM, self._resolve_stream)
        self._add(self.internet, PUBLIC[0], 80, socket.SOCK_STREAM, self._redirect)
        self._add(self.internet, METADATA, 80, socket.SOCK_STREAM, self._tell_secret)

    def _add(self, place: Namespace, address: str, port: int, kind: int, serve: Callable[..., None]) -> None:
        made = place.call(socket.socket, socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if (address, kind) == (PUBLIC[1], socket.SOCK_DGRAM):
            self._stranger = made
        if kind == socket.SOCK_STREAM:
            made.listen(100)
        self._selector.register(made, selectors.EVENT_READ, serve)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.1):
                service = key.fileobj
                assert isinstance(service, socket.socket)
                with suppress(OSError):
                    if service.type == socket.SOCK_STREAM:
                        connection, _ = service.accept()
                        with connection:
                            connection.settimeout(2)
                            key.data(connection)
                    else:
                        key.data(service)

    def _tell_address(self, connection: socket.socket) -> None:
        connection.sendall(connection.getsockname()[0].encode())

    def _echo(self, service: socket.socket) -> None:
        data, peer = service.recvfrom(1000)
        self.datagrams.append((service.getsockname()[0], data))
        if data == INTRODUCE:
            self._stranger.sendto(STRANGERS_WORDS, peer)
        service.sendto(f"{service.getsockname()[0]} {peer[1]}".encode(), peer)

    def _redirect(self, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.0 302 Found\r\nLocation: http://{METADATA}/\r\n\r\n".encode())

    def _tell_secret(self, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\ncredentials")

    def _resolve(self, service: socket.socket) -> None:
        query, peer = service.recvfrom(1000)
        service.sendto(self._answer(service.getsockname()[0], query), peer)

    def _resolve_stream(self, connection: socket.socket) -> None:
        size = int.from_bytes(connection.recv(2), "big")
        answer = self._answer(connection.getsockname()[0], connection.recv(size))
        connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, resolver: str, query: bytes) -> bytes:
        """An address for the names that we know; nothing of any other kind."""
        labels, position = [], 12
        while size := query[position]:
            labels.append(query[position + 1 : position + 1 + size].decode())
            position += 1 + size
        name, kind = ".".join(labels), query[position + 1 : position + 3]
        self.queries.append((resolver, name))
        known = name in NAMES and kind == b"\0\1"
        flags = 0x8180 if name in NAMES else 0x8183
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(NAMES.get(name, "0.0.0.0"))
        question = query[12 : position + 5]
        return query[:2] + struct.pack(">HHHHH", flags, 1, known, 0, 0) + question + record * known

    def close(self) -> None:
        self._stopping.set()
        self._server.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self.host.close()
        self.internet.close()
