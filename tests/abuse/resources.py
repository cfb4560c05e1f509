"""Bombs: more processes, memory, files, descriptors, output or time than there is for one sandbox."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from python_executor.sandboxes.native.seccomp import syscall_numbers
from tests.abuse.attacks import Attack

MEMORY_END = ("memory", 137)
SMALL = {"memory_mb": 48, "timeout_seconds": 20}
LIMITS = (  # one guard for the twins of all: each attack is held by its own, as what it says shows
    "core-dumps", "disk", "inodes", "inotify", "memory", "message-queues", "open-files", "processes",
    "signal-queue", "socket-watch", "terminals",
)  # fmt: skip
ENDS = ("first-decision", "kill-at-the-end", "output-cap", "wall-clock")


def of_memory(name: str, code: str, config: Mapping[str, Any] = SMALL) -> Attack:
    """Takes about twice its memory."""
    return Attack(name, code, LIMITS, verdict=MEMORY_END, config=config, needs_privilege=True)


def of_descriptors(name: str, make: str) -> Attack:
    """Opens more than 1,024 of something."""
    code = f"""
import select, socket
held = []
try:
    while len(held) < 1500: held.append({make})
    print("REACHED")
except OSError as error: print(errno.errorcode[error.errno], len(held) < 1024)
os._exit(0)
"""
    return Attack(name, code, LIMITS, says="EMFILE True")


PROCESSES = [
    Attack(
        "forks children that stay",
        """
import time
born = 0
try:
    while born < 300:
        if os.fork() == 0: time.sleep(60)
        born += 1
    print("REACHED")
except BlockingIOError: print("refused", 200 < born < 256)
os._exit(0)
""",
        without=LIMITS,
        says="refused True",
    ),
    Attack(
        "forks in every child that it forks",
        """
import time
log = os.open("/tmp/born", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
first, end = os.getpid(), time.monotonic() + 10
while time.monotonic() < end and os.fstat(log).st_size < 400:
    try: child = os.fork()
    except BlockingIOError: break
    if child == 0: os.write(log, b"x")
if os.getpid() != first: time.sleep(60)
born = os.fstat(log).st_size
print("REACHED" if born > 256 else "refused")
os._exit(0)
""",
        without=LIMITS,
        says="refused",
    ),
    Attack(
        "starts threads without end",
        """
import _thread, time
_thread.stack_size(65536)
started = 0
try:
    while started < 300:
        _thread.start_new_thread(time.sleep, (60,))
        started += 1
    print("REACHED")
except RuntimeError: print("refused", 200 < started < 256)
os._exit(0)
""",
        without=LIMITS,
        says="refused True",
    ),
    Attack(
        "leaves its dead children as zombies",
        """
dead = 0
try:
    while dead < 300:
        if os.fork() == 0: os._exit(0)
        dead += 1
    print("REACHED")
except BlockingIOError: print("refused", 200 < dead < 256)
os._exit(0)
""",
        without=LIMITS,
        says="refused True",
    ),
    Attack(
        "starts daemons in sessions of their own",
        """
import time
def daemon():
    os.setsid()
    if os.fork() != 0: os._exit(0)
    time.sleep(60)
for born in range(300):
    try: child = os.fork()
    except BlockingIOError: print("refused"); break
    if child == 0:
        try: daemon()
        finally: os._exit(1)
    if os.waitpid(child, 0)[1] != 0: print("refused"); break
else: print("REACHED")
os._exit(0)
""",
        without=LIMITS,
        says="refused",
    ),
]

MEMORY = [
    of_memory("fills its memory", "x = b'x' * (96 << 20)\nprint('REACHED')"),
    of_memory(
        "fills its memory with that of many processes",
        """
import time
ready, tell = os.pipe()
for _ in range(12):
    if os.fork() == 0:
        x = b"x" * (8 << 20)
        os.write(tell, b"x")
        time.sleep(60)
for _ in range(12): os.read(ready, 1)
print("REACHED")
os._exit(0)
""",
    ),
    of_memory(
        "fills memory that it shares with a child",
        """
import mmap, time
shared = mmap.mmap(-1, 96 << 20)
def fill(start):
    for at in range(start, start + (48 << 20), 4096): shared[at] = 1
if os.fork() == 0: fill(0); os._exit(0)
fill(48 << 20)
os.wait()
print("REACHED" if shared[0] else "killed")
""",
    ),
    of_memory(
        "fills files that have no name",
        "for _ in range(24): os.write(os.memfd_create('x'), bytes(4 << 20))\nprint('REACHED')",
    ),
    of_memory(
        "fills the disk that is memory, and then its own",
        """
with open("/dev/shm/x", "wb") as file: file.write(bytes(24 << 20))
with open("/work/x", "wb") as file: file.write(bytes(6 << 20))
x = b"x" * (32 << 20)
print("REACHED")
""",
    ),
    of_memory(
        "fills System V shared memory",
        """
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(libc.shmget(0, 96 << 20, 0o1600), None, 0)
ctypes.memset(at, 1, 96 << 20)
print("REACHED")
""",
    ),
    of_memory(
        "fills System V message queues",
        """
message = ctypes.create_string_buffer(b"\\1" + bytes(7 + 8192))
for _ in range(6000):
    queue = libc.msgget(0, 0o1600)
    libc.msgsnd(queue, message, 8192, 0)
    if libc.msgsnd(queue, message, 8192, 0) != 0: break
else: print("REACHED")
""",
    ),
    of_memory(
        "makes semaphores without end",
        "made = sum(libc.semget(0, 32000, 0o1600) >= 0 for _ in range(48))\nprint('REACHED' if made == 48 else made)",
    ),
    of_memory(
        "fills the buffers of pipes",
        """
import fcntl
held = 0
for _ in range(56):
    _, end = os.pipe()
    fcntl.fcntl(end, 1031, 1 << 20)
    os.set_blocking(end, False)
    held += os.write(end, bytes(1 << 20))
print("REACHED" if held >= 48 << 20 else held)
""",
        {"memory_mb": 32, "timeout_seconds": 20},
    ),
    of_memory(
        "fills the buffers of sockets",
        """
import socket
pairs, held = [], 0
for _ in range(450):
    pairs.append(socket.socketpair())
    for end in pairs[-1]:
        end.setblocking(False)
        try:
            while True: held += end.send(bytes(32768))
        except BlockingIOError: pass
print("REACHED" if held >= 64 << 20 else held)
""",
    ),
    of_memory(
        "opens sockets in many processes",
        """
import socket, time
ready, tell = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        held = [socket.socketpair() for _ in range(500)]
        os.write(tell, b"x")
        time.sleep(60)
for _ in range(8): os.read(ready, 1)
print("REACHED")
os._exit(0)
""",
        {"memory_mb": 24, "timeout_seconds": 20},
    ),
    of_memory(
        "has the kernel make page tables",
        """
import mmap
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
start = libc.mmap(None, 48 << 30, 1, 0x4022, -1, 0)
for at in range(start, start + (48 << 30), 2 << 20): ctypes.string_at(at, 1)
print("REACHED")
""",
    ),
    of_memory(
        "makes directories without end",
        "for number in range(70_000): os.mkdir(f'/tmp/{number}')\nprint('REACHED')",
    ),
    Attack(
        "runs out of memory while it reports its result",
        "'x' * (36 << 20)",
        without=LIMITS,
        verdict=MEMORY_END,
        config=SMALL,
        request={"eval_last_expr": True},
        twin_verdict=("exited", 0),
        needs_privilege=True,
    ),
    of_memory(
        "goes on where a child was killed for its memory",
        """
import time
if os.fork() == 0: x = b"x" * (96 << 20); os._exit(0)
os.wait()
time.sleep(0.6)
print("REACHED")
""",
    ),
]

DISK = [
    Attack(
        "fills the disk through all of its directories",
        """
print("before", flush=True)
written = 0
for path in ("/work/x", "/tmp/x", "/dev/shm/x"):
    try:
        with open(path, "wb", 0) as file:
            for _ in range(12): written += file.write(bytes(1 << 20))
    except OSError as error: print(errno.errorcode[error.errno], written <= 8 << 20)
if written > 8 << 20: print("REACHED")
""",
        without=LIMITS,
        says="before\nENOSPC True\nENOSPC True\nENOSPC True\n",
        config={"memory_mb": 128, "disk_mb": 8},
    ),
    Attack(
        "reserves more disk than there is",
        "fd = os.open('/tmp/x', os.O_CREAT | os.O_RDWR)\nreach(os.posix_fallocate, fd, 0, 32 << 20)",
        without=LIMITS,
        says="ENOSPC",
        config={"memory_mb": 128, "disk_mb": 8},
    ),
    Attack(
        "uses up the inodes",
        """
open("/tmp/x", "w").close()
try:
    for number in range(1 << 18): os.link("/tmp/x", f"/tmp/{number}")
    print("REACHED")
except OSError as error: print(errno.errorcode[error.errno], number <= 1 << 17)
""",
        without=LIMITS,
        says="ENOSPC True",
    ),
]

DESCRIPTORS = [
    of_descriptors("opens files without end", "os.open('/dev/null', os.O_RDONLY)"),
    of_descriptors("opens pipes without end", "os.pipe()"),
    of_descriptors("makes epoll instances without end", "select.epoll()"),
    of_descriptors("makes eventfds without end", "os.eventfd(0)"),
    of_descriptors("opens sockets without end", "socket.socket(socket.AF_UNIX)"),
    of_descriptors("makes files in memory without end", "os.memfd_create('x')"),
]

COUNTS = [
    Attack(
        "makes timers without end",
        """
made = 0
timer = ctypes.c_void_p()
while made < 1500 and libc.timer_create(1, None, ctypes.byref(timer)) == 0: made += 1
print("REACHED" if made == 1500 else f"bounded {made <= 1024}")
""",
        without=LIMITS,
        says="bounded True",
    ),
    Attack(
        "queues signals without end",
        """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
queued = 0
while queued < 1500 and libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0: queued += 1
print("REACHED" if queued == 1500 else f"bounded {queued <= 1024}")
""",
        without=LIMITS,
        says="bounded True",
    ),
    Attack(
        "makes message queues without end",
        """
made = 0
while made < 2 and libc.mq_open(b"/%d" % made, 0o102, 0o600, None) >= 0: made += 1
print("REACHED" if made == 2 else "bounded")
""",
        without=LIMITS,
        says="bounded",
    ),
    Attack(
        "opens terminals without end",
        """
opened = 0
try:
    while opened < 100: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY); opened += 1
    print("REACHED")
except OSError: print("bounded", opened <= 64)
""",
        without=LIMITS,
        says="bounded True",
    ),
    Attack(
        "makes inotify instances without end",
        """
made = 0
while made < 40 and libc.inotify_init() >= 0: made += 1
print("REACHED" if made == 40 else f"bounded {made <= 16}")
""",
        without=LIMITS,
        says="bounded True",
        needs_privilege=True,
    ),
    Attack(
        "watches more than it may",
        """
watcher, watched = libc.inotify_init(), 0
for number in range(5000):
    os.mkdir(f"/tmp/{number}")
    if libc.inotify_add_watch(watcher, b"/tmp/%d" % number, 2) < 0: print("bounded", number <= 4096); break
else: print("REACHED")
""",
        without=LIMITS,
        says="bounded True",
        needs_privilege=True,
    ),
    Attack(
        "leaves a core dump",
        """
if os.fork() == 0:
    import resource
    x = b"x" * (8 << 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    os.abort()
_, status = os.wait()
left = [os.path.getsize(name) for name in os.listdir() if name.startswith("core")]
print("REACHED" if os.WCOREDUMP(status) or any(left) else "none")
""",
        without=LIMITS,
        says="none",
    ),
    Attack(
        "raises its limits again",
        """
import resource
wanted = {"NOFILE": 4096, "NPROC": 400, "CORE": 1 << 30, "MEMLOCK": 1 << 30, "MSGQUEUE": 1 << 20, "SIGPENDING": 4096}
for name, value in wanted.items():
    number = getattr(resource, "RLIMIT_" + name)
    try: resource.setrlimit(number, (value, value))
    except ValueError: print("refused")
    else: print("REACHED", name)
""",
        without=LIMITS,
        says="refused\n" * 6,
    ),
]

PRIORITY = [
    Attack(
        "goes before others on the processors",
        """
reach(os.nice, -20)
reach(os.setpriority, os.PRIO_USER, 0, -20)
""",
        without=("user-namespaces",),
        says="PERM",
    ),
    Attack(
        "goes before others on the disks",
        "call(251, 1, 0, 1 << 13)",
        without=("user-namespaces",),
        says="EPERM",
    ),
]

OUTPUT = [
    Attack(
        "prints more than is kept",
        """
for _ in range(11): os.write(1, b"x" * (1 << 20))
os.write(1, b"REACHED")
""",
        without=ENDS,
    ),
    Attack(
        "prints on both streams at once, more than is kept",
        """
import threading
def print_much(fd):
    left = 12 << 20
    while left > 0: left -= os.write(fd, b"x" * min(left, 1 << 16))
other = threading.Thread(target=print_much, args=(2,))
other.start()
print_much(1)
other.join()
os.write(1, b"REACHED")
""",
        without=ENDS,
    ),
]

AFTER_THE_END = [
    Attack(
        "lives on in a daemon that keeps its output open",
        """
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.15)
        os.write(1, b"REACHED")
    os._exit(0)
os.wait()
print("ends")
""",
        without=ENDS,
        says="ends",
    ),
    Attack(
        "lives on in a child that is stopped, and later continued",
        """
import signal, time
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    os.write(1, b"REACHED")
    os._exit(0)
os.waitid(os.P_PID, child, os.WSTOPPED)
if os.fork() == 0:
    time.sleep(0.15)
    os.kill(child, signal.SIGCONT)
    os._exit(0)
print("ends")
""",
        without=ENDS,
        says="ends",
    ),
]

# --- what no cgroup counts, or not all of it

QUEUES = (
    "quiet-sockets",
    "socket-families",
    "socket-options",
    "socket-watch",
    "own-filters",
    "lock-watch",
)  # one guard
ERRORS = """
import socket
def queued(*, before=lambda each: None, cmsg=()):
    'Whether something waits in the queue of errors of a socket that has sent to a port where nobody listens.'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        one.connect(other.getsockname())
        other.close()
        before(one)
        one.sendmsg([b"x" * 1400], cmsg)
        try: one.recvmsg(2000, 2000, socket.MSG_ERRQUEUE)
        except OSError as error: print(errno.errorcode[error.errno], flush=True)
        else: print("REACHED", flush=True)
"""
KERNEL_MEMORY = [
    Attack(
        "fills the receive queues of netlink sockets",
        """
import socket, struct
def fill():
    with socket.socket(16, 3, 0) as route:
        route.setblocking(False)
        for _ in range(16): route.send(struct.pack("IHHII", 16, 0x7fff, 5, 1, 0))
reach(fill)
""",
        without=QUEUES,
        says="EAFNOSUPPORT",
    ),
    Attack(
        "has the time stamps of what it sends queued",
        f"{ERRORS}\nreach(lambda: queued(before=lambda each: each.setsockopt(1, 37, 2 | 16)))",
        without=QUEUES,
        says="ENOPROTOOPT",
    ),
    Attack(
        "has the time stamp of a message queued, which no option asked for",
        f"{ERRORS}\nqueued(cmsg=[(1, 37, (2).to_bytes(4, sys.byteorder))])",
        without=QUEUES,
        says="EAGAIN",
    ),
    Attack(
        "has the errors of what it sends queued",
        f"{ERRORS}\nqueued(before=lambda each: each.setsockopt(0, 11, 1))",
        without=QUEUES,
        says="EAGAIN",
    ),
    Attack(
        "makes the buffers of a socket larger",
        """
import socket
for option in (7, 8):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
        size = each.getsockopt(1, option)
        each.setsockopt(1, option, 4 << 20)
        print("REACHED" if each.getsockopt(1, option) > size else "as before")
""",
        without=QUEUES,
        says="as before\nas before",
    ),
    Attack(
        "has a filter of a socket compiled",
        """
import socket, struct
program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
reach(socket.socket(2, 2).setsockopt, 1, 26, struct.pack("@HxxxxxxQ", 1, ctypes.addressof(program)))
""",
        without=QUEUES,
        says="ENOPROTOOPT",
    ),
    Attack(
        "has a filter of its own calls compiled",
        f"""
import struct
program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
call({syscall_numbers(platform.machine())["seccomp"]}, 1, 0, struct.pack("@HxxxxxxQ", 1, ctypes.addressof(program)))
""",
        without=QUEUES,
        says="EINVAL",
    ),
    Attack(
        "opens thousands of sockets in many processes",
        """
import socket, time
ready, tell = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        held = [socket.socket(socket.AF_UNIX) for _ in range(900)]
        os.write(tell, b"x")
        time.sleep(60)
for _ in range(4): os.read(ready, 1)
time.sleep(1)
print("REACHED")
os._exit(0)
""",
        without=QUEUES,
        verdict=MEMORY_END,
        config={"memory_mb": 256, "timeout_seconds": 20},
    ),
    Attack(
        "fills the buffers of connections",
        """
import socket, time
listener, held, filled = socket.create_server(("127.0.0.1", 0), backlog=1024), [], 0
for _ in range(480):
    held.append(socket.create_connection(listener.getsockname()))
    held.append(listener.accept()[0])
    for end in held[-2:]:
        end.setblocking(False)
        try:
            while True: filled += end.send(bytes(1 << 16))
        except BlockingIOError: pass
time.sleep(1)
print("REACHED" if filled > 32 << 20 else filled)
""",
        without=QUEUES,
        verdict=MEMORY_END,
        config={"memory_mb": 16, "timeout_seconds": 20},
        twin_config={"memory_mb": 256, "timeout_seconds": 20},
        needs_privilege=True,
    ),
    Attack(
        "locks parts of files without end",
        """
import fcntl, struct, time
files = [os.open(f"/tmp/{number}", os.O_CREAT | os.O_RDWR) for number in range(800)]
for at in range(200):
    for file in files: fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 2 * at, 1, 0))
time.sleep(5)
print("REACHED")
""",
        without=QUEUES,
        verdict=MEMORY_END,
        config={"memory_mb": 64, "timeout_seconds": 30},
        needs_privilege=True,
    ),
    Attack(
        "has others killed first where memory is short",
        "reach(os.open, '/proc/self/oom_score_adj', os.O_WRONLY)",
        without=("read-only-proc",),
        says="EROFS",
    ),
]

ATTACKS = [*KERNEL_MEMORY, *PROCESSES, *MEMORY, *DISK, *DESCRIPTORS, *COUNTS, *PRIORITY, *OUTPUT, *AFTER_THE_END]
