"""Network namespaces: each sandbox has one of its own, with nothing but a loopback.

Making and freeing one costs the kernel more than anything else around a run, and most runs never touch theirs. So one
is used again, if all that the kernel counts and keeps in it is as in a new one: packets, errors of protocols, flow
labels, sockets. A tenant has no capability there, so nothing else can be changed. Else it goes; and one that was given
a way out goes in any case.

The kernel is told to keep little in each: what waits in sockets is memory that not every cgroup counts. That is written
once, when a namespace is made.
"""

from __future__ import annotations

import collections
import fcntl
import os
import socket
import struct

import kernel

SIOCSIFFLAGS = 0x8914
LOOPBACK_UP = struct.pack("16sh22x", b"lo", 0x41)  # struct ifreq: IFF_UP, IFF_RUNNING
OWN = "/proc/self/ns/net"
TRACES = ("dev", "snmp", "snmp6", "ip6_flowlabel")  # of which netstat's counters are a refinement
TRACES_MAX = 1 << 16
SPARES_MAX = 16
SETTINGS = {  # below /proc/sys/net, each namespace's own; which there are depends on the kernel
    "core/tstamp_allow_data": "0",  # or any message could ask for a copy of itself in the queue of errors
    "core/optmem_max": "20480",  # bytes of options of one socket
    "ipv4/tcp_rmem": "4096 32768 262144",  # bytes that wait in one connection: least, until it is read, most
    "ipv4/tcp_wmem": "4096 16384 262144",
    "ipv4/tcp_max_tw_buckets": "1024",  # connections that have ended
}


class Networks:
    """Those of one box."""

    def __init__(self, settings: int) -> None:
        self.settings = settings  # descriptor of /proc/sys/net
        self.own = os.open(OWN, os.O_RDONLY)
        self.spares: collections.deque[int] = collections.deque()
        self.untouched: list[bytes] = []  # the traces of a new one

    def enter(self) -> int:
        """Put this process into one that nobody has touched; its descriptor, which `release()` or `close` takes."""
        while self.spares:
            network = self.spares.popleft()
            try:
                kernel.setns(network, kernel.CLONE_NEWNET)
                is_untouched = traces() == self.untouched
            except OSError:
                os.close(network)
                raise
            if is_untouched:
                return network
            os.close(network)
        kernel.unshare(kernel.CLONE_NEWNET)
        raise_loopback()
        self.keep_little()
        if not self.untouched:
            self.untouched = traces()
        return os.open(OWN, os.O_RDONLY)

    def keep_little(self) -> None:
        """Bound what sockets hold in the network namespace that we are in."""
        for name, value in SETTINGS.items():
            try:
                file = os.open(name, os.O_WRONLY, dir_fd=self.settings)
            except OSError:
                continue  # this kernel has it for the whole machine
            try:
                os.write(file, value.encode())
            finally:
                os.close(file)

    def leave(self) -> None:
        """Back to the box's; a zygote that stayed elsewhere would have its sandboxes there."""
        try:
            kernel.setns(self.own, kernel.CLONE_NEWNET)
        except OSError:
            os._exit(1)

    def release(self, network: int) -> None:
        """Its sandbox is gone: keep it for another."""
        if len(self.spares) < SPARES_MAX and all(self.untouched[:2]):  # else this kernel shows no counters
            self.spares.append(network)
        else:
            os.close(network)

    def listen(self, network: int, port: int) -> int:
        """A socket that listens in there, on its loopback; its descriptor works anywhere."""
        kernel.setns(network, kernel.CLONE_NEWNET)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.bind(("127.0.0.1", port))
                listener.listen()
                return listener.detach()
        finally:
            self.leave()


def raise_loopback() -> None:
    """Bring up `lo` in the network namespace that we are in: `localhost` works inside, alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, LOOPBACK_UP)


def traces() -> list[bytes]:
    """What use leaves behind in the network namespace that we are in."""
    found = [read(name) for name in TRACES]
    found.append(read("sockstat").partition(b"\n")[0])  # "sockets: used N"; the other lines count all namespaces
    return found


def read(name: str) -> bytes:
    """A file of /proc/self/net; b"" where this kernel has none."""
    try:
        file = os.open("/proc/self/net/" + name, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.read(file, TRACES_MAX)
    finally:
        os.close(file)
