"""Code that makes the machine pay: kernel memory that its cgroup may not have charged, processors, its neighbours' time.

Each piece is bounded, since it may get through: left alone, it takes a few hundred MiB and ends by itself after SECONDS.
The same pieces run bare, in a memory cgroup and a network namespace of their own and with nothing else around them: so
the instrument is seen to see what they do (`tests/abuse/test_who_pays.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SECONDS = 1.5
MEMORY_MB = 64

PRELUDE = """
import ctypes, errno, fcntl, mmap, os, resource, select, signal, socket, struct, sys, time
END = time.monotonic() + SECONDS
libc = ctypes.CDLL(None, use_errno=True)
if resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1024: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
def stay(*held):
    'Hold on to it until the end.'
    sys.stdout.flush()
    time.sleep(max(0, END - time.monotonic()))
    os._exit(0)
def crowd(number, work):
    'So many processes that work, then stay.'
    for _ in range(number):
        if os.fork() == 0:
            held = []
            try: work(held)
            except (OSError, MemoryError): pass
            stay(held)
def going(): return time.monotonic() < END
def sockets(number, *kind):
    for _ in range(number):
        made = socket.socket(*kind)
        made.setblocking(False)
        yield made
def stuff(send, *arguments):
    'As often as it goes.'
    try:
        while going(): send(*arguments)
    except OSError: pass
"""


@dataclass(frozen=True, eq=False)
class Piece:
    """Code and its limits."""

    name: str  # what it does, as a sentence's end
    code: str
    row: str = ""  # of the list of known faults
    memory_mb: int = MEMORY_MB
    config: Mapping[str, Any] = field(default_factory=dict)
    bare_mb: int = 128  # that it takes at least where nothing but a generous cgroup bounds it; 0: not worth trying

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def program(self, seconds: float = SECONDS) -> str:
        """Return the whole of the code, which ends after so many seconds."""
        return f"SECONDS = {seconds}{PRELUDE}{self.code}"

    @property
    def limits(self) -> dict[str, Any]:
        """As a request has them."""
        return {"memory_mb": self.memory_mb, "timeout_seconds": 20, **self.config}


QUEUES = [
    Piece(
        "has netlink answer into queues that nobody reads",
        """
messages = struct.pack("IHHII", 16, 0x7fff, 5, 1, 0) * 300
def fill(held):
    for each in sockets(200, 16, 3, 0):
        held.append(each)
        each.setsockopt(1, 8, 1 << 23)
        for _ in range(4):
            if not going(): return
            each.send(messages)
crowd(4, fill)
stay()""",
        row="2",
    ),
    Piece(
        "collects send time stamps in error queues",
        """
def fill(held):
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    held.append(sink)
    for each in sockets(40, socket.AF_INET, socket.SOCK_DGRAM):
        held.append(each)
        each.setsockopt(1, 8, 1 << 23)
        each.setsockopt(1, 37, (1 << 1) | (1 << 4) | (1 << 7))
        each.connect(sink.getsockname())
        for _ in range(400):
            if not going(): return
            each.send(bytes(8000))
crowd(4, fill)
stay()""",
        row="2",
    ),
    Piece(
        "collects ICMP errors in error queues",
        """
def fill(held):
    for each in sockets(900, socket.AF_INET, socket.SOCK_DGRAM):
        held.append(each)
        each.setsockopt(1, 8, 1 << 23)
        each.setsockopt(0, 11, 1)
        for _ in range(400):
            if not going(): return
            try: each.sendto(bytes(1400), ("127.0.0.1", 9))
            except OSError: pass
crowd(4, fill)
stay()""",
        row="2",
        bare_mb=100,
    ),
    Piece(
        "fills the buffers of TCP connections to itself",
        """
def fill(held):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(500)
    for _ in range(440):
        if not going(): break
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        held += [one, other]
        for end in (one, other):
            end.setblocking(False)
            stuff(end.send, bytes(65536)) if len(held) < 700 else None
crowd(6, fill)
stay()""",
        row="3",
    ),
    Piece(
        "leaves connections unaccepted, and closes its own ends",
        """
def fill(held):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    held.append(listener)
    for _ in range(4000):
        if not going(): break
        with socket.create_connection(listener.getsockname()) as end: pass
crowd(8, fill)
stay()""",
        bare_mb=100,
    ),
    Piece(
        "leaves data in connections that it never accepts",
        """
END += 1
def fill(held):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    held.append(listener)
    for _ in range(4000):
        if not going(): break
        with socket.socket() as end:
            end.connect(listener.getsockname())
            end.setblocking(False)
            stuff(end.send, bytes(65536))
crowd(8, fill)
stay()""",
    ),
    Piece(
        "corks datagrams that it never sends",
        """
def fill(held):
    for each in sockets(1000, socket.AF_INET, socket.SOCK_DGRAM):
        held.append(each)
        each.connect(("127.0.0.1", 9))
        each.send(bytes(60000), socket.MSG_MORE)
crowd(6, fill)
stay()""",
    ),
    Piece(
        "corks datagrams of many small pieces",
        """
def fill(held):
    for each in sockets(1000, socket.AF_INET6, socket.SOCK_DGRAM):
        held.append(each)
        each.connect(("::1", 9))
        for _ in range(40): each.send(bytes(1500), socket.MSG_MORE)
crowd(6, fill)
stay()""",
    ),
    Piece(
        "fills UDP queues with datagrams of a byte",
        """
def fill(held):
    for each in sockets(900, socket.AF_INET, socket.SOCK_DGRAM):
        if not going(): break
        held.append(each)
        each.setsockopt(1, 8, 1 << 23)
        each.bind(("127.0.0.1", 0))
        each.connect(each.getsockname())
        for _ in range(600): each.send(b"x")
crowd(4, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "fills UDP queues with large datagrams",
        """
def fill(held):
    for each in sockets(900, socket.AF_INET, socket.SOCK_DGRAM):
        if not going(): break
        held.append(each)
        each.setsockopt(1, 8, 1 << 23)
        each.setsockopt(1, 7, 1 << 23)
        each.bind(("127.0.0.1", 0))
        each.connect(each.getsockname())
        for _ in range(12): each.send(bytes(60000))
crowd(4, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "fills unix streams with messages of a byte",
        """
def fill(held):
    for _ in range(480):
        if not going(): break
        pair = socket.socketpair()
        held += pair
        for end in pair: end.setblocking(False); stuff(end.send, b"x")
crowd(4, fill)
stay()""",
    ),
    Piece(
        "sends descriptors over sockets and never takes them",
        """
def fill(held):
    null = os.open("/dev/null", 0)
    for _ in range(480):
        if not going(): break
        pair = socket.socketpair()
        held += pair
        for end in pair: end.setblocking(False); stuff(socket.send_fds, end, [b"x"], [null] * 2)
crowd(8, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "closes connections by the thousand, for what is kept of them",
        """
def fill(held):
    listener = socket.socket()
    listener.bind(("127.0.0.%d" % (os.getpid() % 200 + 1), 0))
    listener.listen(64)
    while going():
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        one.close(); other.close()
crowd(4, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "uses MPTCP, of which TCP's bounds know nothing",
        """
def fill(held):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    listener.bind(("127.0.0.1", 0))
    listener.listen(500)
    for _ in range(300):
        if not going(): break
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        held += [one, other]
        for end in (one, other): end.setblocking(False); stuff(end.send, bytes(65536))
crowd(6, fill)
stay()""",
        row="14",
        bare_mb=0,
    ),
    Piece(
        "joins multicast groups by the thousand",
        """
index = socket.if_nametoindex("lo") if False else 1
def fill(held):
    number = os.getpid() % 4096
    for each in sockets(1000, socket.AF_INET6, socket.SOCK_DGRAM):
        held.append(each)
        try:
            for at in range(3000):
                if not going(): return
                group = struct.pack(">8sIHH", b"\\xff\\x02" + bytes(6), at * 5000 + len(held), number, 1)
                each.setsockopt(41, 20, group + struct.pack("I", index))
        except OSError: pass
crowd(4, fill)
stay()""",
        bare_mb=0,
    ),
]  # fmt: skip

PROGRAMS = [
    Piece(
        "has socket filters compiled",
        """
filters = struct.pack("HBBI", 0, 0, 0, 0) * 4000 + struct.pack("HBBI", 6, 0, 0, 1)
buffer = ctypes.create_string_buffer(filters)
program = struct.pack("HxxxxxxP", 4001, ctypes.addressof(buffer))
def fill(held):
    for each in sockets(800, socket.AF_INET, socket.SOCK_DGRAM):
        held.append(each)
        each.setsockopt(1, 26, program)
crowd(4, fill)
stay()""",
        row="10",
        bare_mb=0,
    ),
    Piece(
        "has filters of its own system calls compiled",
        """
filters = struct.pack("HBBI", 0x20, 0, 0, 0) * 4000 + struct.pack("HBBI", 6, 0, 0, 0x7fff0000)
buffer = ctypes.create_string_buffer(filters)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4001, ctypes.addressof(buffer)))
libc.prctl(38, 1, 0, 0, 0)
def fill(held):
    for _ in range(8):
        if going(): libc.prctl(22, 2, program)
crowd(60, fill)
stay()""",
        bare_mb=0,
    ),
]

OBJECTS = [
    Piece(
        "takes locks on single bytes",
        """
def fill(held):
    for number in range(1000):
        held.append(fd := os.open("%d-%d" % (os.getpid(), number), os.O_CREAT | os.O_RDWR))
        for at in range(0, 1000, 2):
            if not going(): return
            fcntl.lockf(fd, fcntl.LOCK_EX, 1, at)
crowd(4, fill)
stay()""",
        bare_mb=100,
    ),
    Piece(
        "maps memory in the smallest parts",
        """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
start = libc.mmap(None, 1 << 30, 0, 0x4022, -1, 0)
for at in range(start, start + 30000 * 8192, 8192):
    if libc.mprotect(ctypes.c_void_p(at), 4096, 1) != 0: break
crowd(40, lambda held: None)
stay()""",
        memory_mb=256,
        bare_mb=0,
    ),
    Piece(
        "names its mappings",
        """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
start = libc.mmap(None, 1 << 30, 0, 0x4022, -1, 0)
for at in range(start, start + 30000 * 4096, 4096):
    name = ctypes.create_string_buffer(b"%078d" % at)
    if libc.prctl(0x53564d41, 0, at, 4096, ctypes.addressof(name)) != 0: print(errno.errorcode[ctypes.get_errno()]); break
crowd(40, lambda held: None)
stay()""",
        memory_mb=256,
        bare_mb=0,
    ),
    Piece(
        "touches a page in every 2 MiB of terabytes",
        """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
start = libc.mmap(None, 1 << 41, 1, 0x4022, -1, 0)
for at in range(start, start + (1 << 41), 2 << 20):
    if not going(): break
    ctypes.string_at(at, 1)
stay()""",
    ),
    Piece(
        "makes timers, events and pollers with all descriptors",
        """
def fill(held):
    for number in range(330):
        held += [os.eventfd(0), libc.timerfd_create(1, 0)]
        held.append(select.epoll())
crowd(120, fill)
stay()""",
        memory_mb=256,
        bare_mb=0,
    ),
    Piece(
        "nests pollers in pollers",
        """
def fill(held):
    pairs = [socket.socketpair() for _ in range(200)]
    for _ in range(500):
        if not going(): return
        poller = select.epoll()
        held.append(poller)
        for pair in pairs: [poller.register(end, 1) for end in pair]
crowd(8, fill)
stay()""",
        memory_mb=64,
    ),
    Piece(
        "waits for all its descriptors in all its processes",
        """
def fill(held):
    for _ in range(500): held += os.pipe()
    poller = select.poll()
    for fd in held: poller.register(fd, 1)
    poller.poll(max(0, (END - time.monotonic()) * 1000))
crowd(200, fill)
stay()""",
        memory_mb=256,
        bare_mb=0,
    ),
    Piece(
        "fills pipes of a MiB with every descriptor",
        """
def fill(held):
    for _ in range(500):
        held += os.pipe()
        os.set_blocking(held[-1], False)
        fcntl.fcntl(held[-1], 1031, 1 << 20)
        stuff(os.write, held[-1], bytes(1 << 20))
crowd(4, fill)
stay()""",
    ),
    Piece(
        "writes one byte into each page of pipes",
        """
def fill(held):
    for _ in range(500):
        if not going(): return
        held += os.pipe2(os.O_NONBLOCK | os.O_DIRECT)
        stuff(os.write, held[-1], b"x")
crowd(8, fill)
stay()""",
    ),
    Piece(
        "hands its own pages to pipes and forgets them",
        """
import ctypes
class Part(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
def fill(held):
    for _ in range(400):
        if not going(): return
        held += os.pipe2(os.O_NONBLOCK)
        at = libc.mmap(None, 65536, 3, 0x8022, -1, 0)
        libc.vmsplice(held[-1], ctypes.byref(Part(at, 65536)), ctypes.c_ulong(1), 8)
        libc.munmap(ctypes.c_void_p(at), 65536)
crowd(8, fill)
stay()""",
    ),
    Piece(
        "watches names with notifiers of both kinds",
        """
for number in range(4000): os.mkdir("%d" % number)
held = []
for number in range(16):
    watcher = libc.inotify_init()
    for name in range(4000): libc.inotify_add_watch(watcher, b"%d" % name, 2)
for name in range(900):
    held.append(os.open("%d" % name, os.O_RDONLY))
    fcntl.fcntl(held[-1], 1026, 1 | (1 << 31) - (1 << 32))
stay(held)""",
        bare_mb=0,
    ),
    Piece(
        "makes rules of Landlock",
        """
def fill(held):
    for number in range(1000):
        if not going(): return
        fd = libc.syscall(444, ctypes.byref(ctypes.c_uint64(1)), ctypes.c_size_t(8), 0)
        if fd < 0: return
        held.append(fd)
crowd(16, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "names symbolic links and attributes as long as it may",
        """
def fill(held):
    os.mkdir("%d" % os.getpid())
    os.chdir("%d" % os.getpid())
    for number in range(30000):
        if not going(): return
        os.symlink("x" * 120, "%0200d" % number)
crowd(4, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "gives a file attributes without end",
        """
held = os.open("x", os.O_CREAT | os.O_RDWR)
try:
    for number in range(20000): os.setxattr(held, "user.%d" % number, bytes(60000))
except OSError: pass
stay(held)""",
        bare_mb=0,
    ),
    Piece(
        "keeps files open that it has deleted",
        """
def fill(held):
    for number in range(1000):
        held.append(fd := os.open("%d" % os.getpid(), os.O_CREAT | os.O_RDWR))
        os.unlink("%d" % os.getpid())
        os.write(fd, bytes(1 << 18))
crowd(2, fill)
stay()""",
    ),
    Piece(
        "has all processes that it may, with threads' stacks and zombies",
        """
import _thread
_thread.stack_size(65536)
def fill(held):
    for _ in range(20): _thread.start_new_thread(time.sleep, (9,))
    for _ in range(5):
        if os.fork() == 0: os._exit(0)
crowd(9, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "opens its own files of /proc",
        """
def fill(held):
    for _ in range(1000):
        held.append(open("/proc/self/maps", "rb", 0)); held[-1].read(1 << 16)
crowd(30, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "asks for names that are not there",
        """
END += 4
child = os.fork()
name = "/usr/lib/" + str(child).zfill(240)
for number in range(40_000):
    if not going(): break
    try: os.stat(name + str(number))
    except OSError: pass
if child: os.wait()""",
        row="12",
        memory_mb=512,
        bare_mb=0,
    ),
]

CPU = [
    Piece(
        "keeps all processors busy with all processes",
        """
def fill(held):
    while going(): pass
crowd(200, fill)
stay()""",
        bare_mb=0,
    ),
    Piece(
        "asks for every share of the processors",
        """
def fill(held):
    while going(): pass
crowd(4, fill)
fill([])""",
        row="9",
        config={"cpu_shares": 262144},
        bare_mb=0,
    ),
    Piece(
        "writes output a byte at a time to both streams",
        """
def fill(held):
    while going(): os.write(1, b"x"); os.write(2, b"x")
crowd(3, fill)
fill([])""",
        bare_mb=0,
    ),
    Piece(
        "forks and ends without end",
        """
while going():
    try:
        if os.fork() == 0: os._exit(0)
    except OSError: pass
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except OSError: pass
stay()""",
        bare_mb=0,
    ),
]

PIECES = [*QUEUES, *PROGRAMS, *OBJECTS, *CPU]
