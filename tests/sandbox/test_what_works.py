"""What ordinary programs do works in a sandbox: the filter and the limits forbid nothing that they need.

Each entry of `PROGRAMS` is a whole program that proves by `assert` that it got what plain Python gives; it ends with 0
and without a word. Some are given files that were made beforehand. Every program runs on every interpreter; numpy,
pandas and matplotlib on the one that the tests run on, brought along as files of the request.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from python_executor.model.spec import Entry, ExecutionSpec, FileEntry, FileTree, Interpreter, Limits
from tests.sandbox.conftest import INTERPRETERS, Engine, Outcome

Run = Callable[..., Outcome]

# Of "localhost", by itself, until 2120. The key protects nothing: it was made for this file.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBcjCCARegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOl/pISysokg4jJk
r4xzCqQiBbldyK1PjSpJbVqx1aPoKENJdqegrQJdT+4rSbakOExHqQQUERsk7j4D
6mACZryjWDBWMA8GA1UdEwEB/wQFMAMBAf8wFAYDVR0RBA0wC4IJbG9jYWxob3N0
MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUinbwjPFd6qCSgifFfvG2fKwDetww
CgYIKoZIzj0EAwIDSQAwRgIhAJ5dxaZIuvxOXve3U6T5nFME86V5Hfm+17mBNDnJ
bLdLAiEA7qL6c8SLvGzvdHEdB2pwtW6FUbXouELgd6mPrW9mQbM=
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTsTPoRRGbWz3/lw3
61m8ClgFDY0DUFGuRVfDlBOKlEOhRANCAATpf6SEsrKJIOIyZK+McwqkIgW5Xcit
T40qSW1asdWj6ChDSXanoK0CXU/uK0m2pDhMR6kEFBEbJO4+A+pgAma8
-----END PRIVATE KEY-----
"""
FILES = {
    "TLS over a socket": {"certificate.pem": CERTIFICATE, "key.pem": KEY},
    "TLS in memory": {"certificate.pem": CERTIFICATE, "key.pem": KEY},
}

PROGRAMS = {
    "threads": """
import queue, threading
count, lock, barrier, work = 0, threading.Lock(), threading.Barrier(16), queue.Queue()
ready, local = threading.Condition(), threading.local()
def add():
    global count
    local.mine = threading.get_native_id()
    barrier.wait()
    for _ in range(20):
        with lock: count += 1
    work.put(local.mine)
threads = [threading.Thread(target=add) for _ in range(16)]
for t in threads: t.start()
for t in threads: t.join()
assert count == 320 and len({work.get() for _ in threads}) == 16
fired = threading.Event()
threading.Timer(0.01, fired.set).start()
assert fired.wait(10)
with ready: assert not ready.wait(timeout=0.01)
""",
    "a hundred threads at once": """
import threading
barrier = threading.Barrier(101)
threads = [threading.Thread(target=barrier.wait) for _ in range(100)]
for t in threads: t.start()
assert threading.active_count() == 101
barrier.wait()
for t in threads: t.join()
""",
    "a pool of threads": """
from concurrent.futures import ThreadPoolExecutor, as_completed
import hashlib
with ThreadPoolExecutor() as pool:
    futures = [pool.submit(hashlib.sha256, bytes(100_000)) for _ in range(50)]
    assert len({f.result().hexdigest() for f in as_completed(futures)}) == 1
    assert list(pool.map(pow, range(20), [2] * 20)) == [n * n for n in range(20)]
""",
    "a pool of processes": """
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]
""",
    "subprocesses": """
import os, signal, subprocess, sys
def run(*argv, **how): return subprocess.run(argv, capture_output=True, text=True, **how)
assert run("cat", input="x" * 200_000).stdout == "x" * 200_000
assert run("echo $((6 * 7)) | cat; exit 3", shell=True).returncode == 3
assert run(sys.executable, "-c", "print(6 * 7)").stdout == "42\\n"
assert run("kill -9 $$", shell=True).returncode == -signal.SIGKILL
first = subprocess.Popen(["printf", "b\\na\\n"], stdout=subprocess.PIPE)
second = subprocess.Popen(["sort"], stdin=first.stdout, stdout=subprocess.PIPE)
first.stdout.close()
assert second.communicate()[0] == b"a\\nb\\n" and first.wait() == 0
both = subprocess.run("echo out; echo err >&2", shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
assert both.stdout == b"out\\nerr\\n"
""",
    "a subprocess that takes too long": """
import subprocess, time
start = time.monotonic()
try: subprocess.run(["sleep", "60"], timeout=0.05)
except subprocess.TimeoutExpired: pass
else: raise AssertionError
with subprocess.Popen(["sleep", "60"]) as slow:
    try: slow.wait(timeout=0.01)
    except subprocess.TimeoutExpired: slow.terminate()
    assert slow.wait() == -15
assert time.monotonic() - start < 20
""",
    "a subprocess set up in every way": """
import os, signal, subprocess, sys
def out(*argv, **how): return subprocess.check_output(argv, text=True, **how).strip()
python = sys.executable
assert out(python, "-c", "import os; print(os.getsid(0) == os.getpid())", start_new_session=True) == "True"
assert out("sh", "-c", "umask", preexec_fn=lambda: os.umask(0o077)) in ("0077", "077")
read_end, write_end = os.pipe()
subprocess.run(["sh", "-c", f"echo hi >&{write_end}"], pass_fds=[write_end], check=True)
assert os.read(read_end, 100) == b"hi\\n"
os.set_inheritable(read_end, True)
is_open = ["sh", "-c", f"test -e /proc/self/fd/{read_end}"]
assert subprocess.call(is_open, close_fds=False) == 0 and subprocess.call(is_open) == 1
assert out("pwd", cwd="/tmp") == "/tmp" and out("printenv", "A", env={"A": "b"}) == "b"
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
os.killpg(child.pid, signal.SIGKILL)
assert child.wait() == -signal.SIGKILL
assert out("id", "-u", user=os.getuid()) == str(os.getuid())
if sys.version_info >= (3, 11): assert out(python, "-c", "import os; print(os.getpgrp() == os.getpid())", process_group=0) == "True"
""",
    "system, popen and spawn": """
import ctypes, os, sys
assert os.waitstatus_to_exitcode(ctypes.CDLL(None).system(b"exit 3")) == 3
assert os.waitstatus_to_exitcode(os.system("exit 4")) == 4
with os.popen("echo from sh") as pipe: assert pipe.read() == "from sh\\n"
assert os.spawnvp(os.P_WAIT, "sh", ["sh", "-c", "exit 5"]) == 5
pid = os.posix_spawnp("sh", ["sh", "-c", "exit 6"], os.environ, setsigmask=[], resetids=True, setpgroup=0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
""",
    "fork, wait and exec": """
import os, signal
def fork(act):
    pid = os.fork()
    if pid == 0:
        try: act()
        finally: os._exit(99)
    return pid
assert os.waitpid(fork(lambda: os._exit(7)), 0)[1] == 7 << 8
pid = fork(lambda: os.execv("/bin/sh", ["sh", "-c", "exit 8"]))
assert os.waitid(os.P_PID, pid, os.WEXITED).si_status == 8
pid = fork(lambda: os.execve(os.open("/bin/sh", os.O_RDONLY), ["sh", "-c", "exit $A"], {"A": "9"}))
_, status, usage = os.wait4(pid, 0)
assert os.WEXITSTATUS(status) == 9 and usage.ru_maxrss > 0
pid = fork(lambda: os.kill(os.getpid(), signal.SIGSTOP))
assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
os.kill(pid, signal.SIGKILL)
assert os.WTERMSIG(os.wait()[1]) == signal.SIGKILL
def daemonize():
    os.setsid()
    if os.fork(): os._exit(0)
    os.write(write_end, b"%d" % os.getppid()); os._exit(0)
read_end, write_end = os.pipe()
assert os.waitpid(fork(daemonize), 0)[1] == 0 and os.read(read_end, 9)
pid = fork(lambda: os._exit(3))
pidfd = os.pidfd_open(pid)
assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status == 3
assert os.nice(1) == os.getpriority(os.PRIO_PROCESS, 0)
""",
    "signals and timers": """
import os, select, signal, threading, time
seen = []
for s in (signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD): signal.signal(s, lambda n, frame: seen.append(n))
signal.alarm(1); assert signal.alarm(0) == 1
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1)
signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
if os.fork() == 0: os._exit(0)
os.wait()
assert seen == [signal.SIGALRM, *[signal.SIGUSR1] * 3, signal.SIGCHLD], seen
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.pidfd_send_signal(os.pidfd_open(os.getpid()), signal.SIGUSR2)
assert signal.sigpending() == {signal.SIGUSR2} and signal.sigwaitinfo({signal.SIGUSR2}).si_pid == os.getpid()
assert signal.sigtimedwait({signal.SIGUSR2}, 0.01) is None
for which, number in ((signal.ITIMER_PROF, signal.SIGPROF), (signal.ITIMER_VIRTUAL, signal.SIGVTALRM)):
    signal.signal(number, lambda n, frame: seen.append(n)); signal.setitimer(which, 0.01)
    while seen[-1] != number: sum(range(1000))
read_end, write_end = os.pipe(); os.set_blocking(write_end, False)
signal.set_wakeup_fd(write_end); os.kill(os.getpid(), signal.SIGUSR1)
assert select.select([read_end], [], [], 5)[0] and os.read(read_end, 9) == bytes([signal.SIGUSR1])
signal.siginterrupt(signal.SIGUSR1, False)
""",
    "clocks": """
import time
for name in ("REALTIME", "MONOTONIC", "PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID", "BOOTTIME", "MONOTONIC_RAW"):
    clock = getattr(time, "CLOCK_" + name)
    assert time.clock_gettime(clock) > 0 and time.clock_getres(clock) > 0
assert time.pthread_getcpuclockid(__import__("threading").get_ident())
before = time.perf_counter_ns(); time.sleep(0.005)
assert time.perf_counter_ns() - before >= 5_000_000
assert time.strftime("%Z", time.localtime()) and time.process_time() > 0 and time.thread_time() > 0
""",
    "asyncio over sockets": """
import asyncio, os, socket
async def echo(reader, writer):
    while data := await reader.read(1000): writer.write(data.upper())
    writer.close()
async def ask(how, *where):
    reader, writer = await how(*where)
    writer.write(b"hello"); writer.write_eof(); await writer.drain()
    answer = await reader.read(); writer.close()
    return answer
class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, where): self.transport.sendto(data[::-1], where)
async def main():
    server = await asyncio.start_server(echo, "localhost")
    for each in server.sockets:
        assert await asyncio.gather(*(ask(asyncio.open_connection, *each.getsockname()[:2]) for _ in range(20))) == [b"HELLO"] * 20
    server.close()
    server = await asyncio.start_unix_server(echo, "echo.sock")
    assert await ask(asyncio.open_unix_connection, "echo.sock") == b"HELLO"
    server.close()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(transport.get_extra_info("sockname")); client.setblocking(False)
        client.send(b"abc"); assert await asyncio.wait_for(loop.sock_recv(client, 9), 5) == b"cba"
    transport.close()
    assert await loop.getaddrinfo("localhost", 80)
    with open("big", "wb") as file: file.truncate(100_000)
    sender, receiver = socket.socketpair(); sender.setblocking(False); receiver.setblocking(False)
    with open("big", "rb") as file:
        total, sending = 0, asyncio.create_task(loop.sock_sendfile(sender, file))
        while total < 100_000: total += len(await loop.sock_recv(receiver, 70_000))
        assert await sending == 100_000
    sender.close(); receiver.close()
asyncio.run(main())
""",
    "asyncio with processes, signals and threads": """
import asyncio, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
async def main():
    child = await asyncio.create_subprocess_exec("tr", "a-z", "A-Z", stdin=-1, stdout=-1)
    assert (await child.communicate(b"hello"))[0] == b"HELLO" and child.returncode == 0
    shells = [await asyncio.create_subprocess_shell(f"exit {n}") for n in range(5)]
    assert await asyncio.gather(*(s.wait() for s in shells)) == [0, 1, 2, 3, 4]
    slow = await asyncio.create_subprocess_exec("sleep", "60")
    try: await asyncio.wait_for(slow.wait(), 0.01)
    except asyncio.TimeoutError: slow.kill()
    assert await slow.wait() == -9
    loop, seen = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(seen.wait(), 5)
    await asyncio.gather(*(loop.run_in_executor(None, time.sleep, 0.01) for _ in range(20)))
    assert await asyncio.to_thread(lambda: 5) == 5
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(read_end, "rb", 0))
    os.write(write_end, b"line\\n"); os.close(write_end)
    assert await reader.readline() == b"line\\n"
    transport.close()
asyncio.run(main())
""",
    "sqlite3 in memory": """
import sqlite3
db = sqlite3.connect(":memory:")
db.execute("create table t (n integer primary key, word text)")
db.executemany("insert into t (word) values (?)", [(str(n),) for n in range(2000)])
assert db.execute("select count(*), sum(n), max(length(word)) from t where word like '1%'").fetchone()[0] == 1111
db.create_function("double", 1, lambda n: 2 * n)
assert db.execute("select double(21)").fetchone() == (42,)
copy = sqlite3.connect("copy.db"); db.commit(); db.backup(copy)
assert copy.execute("select count(*) from t").fetchone() == (2000,) and sum(1 for _ in db.iterdump()) > 2000
copy.execute("vacuum"); copy.close(); db.close()
""",
    "sqlite3 with a log and locks": """
import os, sqlite3, subprocess, sys, threading
def connect(**how): return sqlite3.connect("file.db", isolation_level=None, **how)
for mode in ("wal", "delete"):
    one, other = connect(), connect(timeout=0.02)
    assert one.execute(f"pragma journal_mode = {mode}").fetchone() == (mode,)
    one.execute("pragma synchronous = full"); one.execute("pragma mmap_size = 1000000")
    one.execute("create table if not exists t (n)")
    one.execute("begin immediate"); one.execute("insert into t values (1)")
    if mode == "wal": assert {"file.db-wal", "file.db-shm"} <= set(os.listdir("."))
    try: other.execute("begin immediate")
    except sqlite3.OperationalError as e: assert "locked" in str(e)
    else: raise AssertionError("two writers")
    there = "import sqlite3\\ntry: sqlite3.connect('file.db', timeout=0).execute('delete from t')\\nexcept sqlite3.OperationalError as e: print(e)"
    assert "locked" in subprocess.check_output([sys.executable, "-c", there], text=True)
    seen = other.execute("select count(*) from t").fetchone()[0]
    one.execute("commit")
    assert other.execute("select count(*) from t").fetchone()[0] == seen + 1
    other.close(); one.close()
def insert():
    db = connect(timeout=20)
    for _ in range(10): db.execute("insert into t values (2)")
    db.close()
threads = [threading.Thread(target=insert) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
db = connect(); assert db.execute("select count(*) from t where n = 2").fetchone() == (40,); db.close()
""",
    "TLS over a socket": """
import socket, ssl, threading
def serve():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("certificate.pem", "key.pem")
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True) as tls: tls.sendall(tls.recv(100).upper()); tls.unwrap().close()
listener = socket.create_server(("localhost", 0)); server = threading.Thread(target=serve); server.start()
context = ssl.create_default_context(cafile="certificate.pem")
with socket.create_connection(listener.getsockname()) as connection:
    with context.wrap_socket(connection, server_hostname="localhost") as tls:
        tls.sendall(b"secret"); assert tls.recv(100) == b"SECRET"
        assert tls.version() == "TLSv1.3" and tls.getpeercert()["subject"] == ((("commonName", "localhost"),),)
        try: tls.unwrap().close()
        except ssl.SSLError: pass
server.join(); listener.close()
assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED and ssl.RAND_status()
""",
    "TLS in memory": """
import ssl
def end(context, **how):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return context.wrap_bio(incoming, outgoing, **how), incoming, outgoing
server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH); server_context.load_cert_chain("certificate.pem", "key.pem")
client, client_in, client_out = end(ssl.create_default_context(cafile="certificate.pem"), server_hostname="localhost")
server, server_in, server_out = end(server_context, server_side=True)
for _ in range(3):
    for side in (client, server):
        try: side.do_handshake()
        except ssl.SSLWantReadError: pass
        server_in.write(client_out.read()); client_in.write(server_out.read())
client.write(b"hello"); server_in.write(client_out.read())
assert server.read() == b"hello" and client.cipher()
try: end(ssl.create_default_context(), server_hostname="localhost")[0].do_handshake()
except ssl.SSLWantReadError: pass
""",
    "sockets of every kind": """
import os, select, socket, threading
for family, where in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "path.sock"), (socket.AF_UNIX, "\\0abstract")):
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); server.bind(where); server.listen()
        with socket.socket(family) as client:
            client.connect(server.getsockname()); peer, _ = server.accept()
            with peer: client.sendall(b"hi"); assert peer.recv(9, socket.MSG_PEEK) == peer.recv(9) == b"hi"
for family, where in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "datagrams.sock")):
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, socket.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.bind(where); sender.sendto(b"packet", receiver.getsockname()); assert receiver.recvfrom(99)[0] == b"packet"
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    one.settimeout(5); other.settimeout(5); one.send(b"pair"); assert other.recv(9) == b"pair"
    credentials = other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert int.from_bytes(credentials[:4], "little") == os.getpid()
    with open("sent", "w+") as file:
        file.write("over there"); file.flush()
        socket.send_fds(one, [b"x"], [file.fileno()])
    data, (fd,), flags, _ = socket.recv_fds(other, 9, 4)
    assert data == b"x" and os.pread(fd, 99, 0) == b"over there"
    os.close(fd); one.close(); other.close()
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with server.accept()[0] as peer:
        with open("sent", "rb") as file: assert client.sendfile(file) == 10
        assert peer.recv(99) == b"over there" and peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 100)
        client.shutdown(socket.SHUT_WR); assert peer.recv(9) == b""
try: socket.create_connection(("127.0.0.1", 1))
except ConnectionRefusedError: pass
""",
    "names of hosts": """
import socket
assert socket.gethostname() and socket.gethostbyname("localhost") == "127.0.0.1"
assert socket.gethostbyname(socket.gethostname()).startswith("127.") and socket.getfqdn()
assert ("127.0.0.1", 80) in [found[4] for found in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)]
assert socket.if_nametoindex("lo") == 1 and socket.if_indextoname(1) == "lo" and socket.getnameinfo(("127.0.0.1", 0), 0)[0] == "localhost"
try: socket.getaddrinfo("example.invalid", 80)
except socket.gaierror: pass
""",
    "names of services": """
import socket
assert socket.getservbyname("https") == 443 and socket.getservbyport(22) == "ssh" and socket.getprotobyname("tcp") == 6
assert ("127.0.0.1", 80) in [found[4] for found in socket.getaddrinfo("localhost", "http", type=socket.SOCK_STREAM)]
""",
    "IPv6": """
import socket
with socket.create_server(("::1", 0), family=socket.AF_INET6) as server, socket.socket(socket.AF_INET6) as client:
    client.connect(server.getsockname()); client.sendall(b"six")
    with server.accept()[0] as peer: assert peer.recv(9) == b"six"
if socket.has_dualstack_ipv6():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        socket.create_connection(("127.0.0.1", server.getsockname()[1])).close()
""",
    "a web server": """
import threading, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(self.rfile.read(int(self.headers["content-length"]))[::-1])
    def log_message(self, *args): pass
server = ThreadingHTTPServer(("localhost", 0), Handler)
threading.Thread(target=server.serve_forever, args=(0.01,)).start()
with urllib.request.urlopen(f"http://localhost:{server.server_port}", data=b"abc") as answer: assert answer.read() == b"cba"
server.shutdown(); server.server_close()
""",
    "select, poll and epoll": """
import os, select, socket, selectors
one, other = socket.socketpair()
epoll = select.epoll(); epoll.register(other, select.EPOLLIN | select.EPOLLET)
poll = select.poll(); poll.register(other, select.POLLIN)
assert not select.select([other], [], [], 0)[0] and not poll.poll(1) and not epoll.poll(0.001)
one.send(b"x")
assert select.select([other], [one], [], 5)[:2] == ([other], [one])
assert poll.poll(5000) == [(other.fileno(), select.POLLIN)] and epoll.poll(5) == [(other.fileno(), select.EPOLLIN)]
for kind in (selectors.DefaultSelector, selectors.SelectSelector, selectors.PollSelector):
    with kind() as selector:
        selector.register(other, selectors.EVENT_READ); assert len(selector.select(5)) == 1
epoll.close()
if hasattr(os, "eventfd"):
    fd = os.eventfd(3); assert os.eventfd_read(fd) == 3
""",
    "memory maps": """
import mmap, os
shared = mmap.mmap(-1, 8192)
if os.fork() == 0: shared[:5] = b"child"; os._exit(0)
os.wait(); assert shared[:5] == b"child"
with open("mapped", "w+b") as file:
    file.truncate(10_000)
    with mmap.mmap(file.fileno(), 0) as m:
        m[9000:9003] = b"end"; m.flush(); m.resize(20_000); m.madvise(mmap.MADV_WILLNEED); assert m.find(b"end") == 9000
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as m: m[0] = 1
    assert file.read(1) == b"\\0" and os.path.getsize("mapped") == 20_000
anonymous = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); anonymous[-1] = 1
anonymous.madvise(mmap.MADV_DONTNEED); assert anonymous[-1] == 0
memory = os.memfd_create("m"); os.write(memory, b"in memory"); assert mmap.mmap(memory, 9)[:] == b"in memory"
""",
    "code made at run time": """
import ctypes, mmap, platform
code = {"x86_64": "b82a000000c3", "aarch64": "40058052c0035fd6"}[platform.machine()]
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE); memory.write(bytes.fromhex(code))
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_EXEC) == 0
assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 42
""",
    "foreign functions and callbacks": """
import ctypes, ctypes.util
libc = ctypes.CDLL(None, use_errno=True)
Compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
libc.qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), Compare(lambda a, b: a[0] - b[0]))
assert list(numbers) == [1, 2, 3, 4, 5] and libc.close(999) == -1 and ctypes.get_errno() == 9
libm = ctypes.CDLL("libm.so.6"); libm.cos.restype = ctypes.c_double; assert libm.cos(ctypes.c_double(0)) == 1.0
assert ctypes.util.find_library("c")
""",
    "locks on files": """
import fcntl, os
file = open("lock", "w+b")
def elsewhere(take):
    pid = os.fork()
    if pid == 0:
        with open("lock", "r+b") as mine:
            try: take(mine, fcntl.LOCK_EX | fcntl.LOCK_NB); os._exit(0)
            except BlockingIOError: os._exit(1)
            finally: os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
for take in (fcntl.flock, fcntl.lockf):
    take(file, fcntl.LOCK_EX); assert elsewhere(take) == 1
    take(file, fcntl.LOCK_UN); assert elsewhere(take) == 0
    take(file, fcntl.LOCK_SH); take(file, fcntl.LOCK_UN)
assert fcntl.fcntl(file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
read_end, write_end = os.pipe()
if hasattr(fcntl, "F_SETPIPE_SZ"): assert fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096) == 4096
assert os.lockf(file.fileno(), os.F_LOCK, 0) is None
""",
    "files in every way": """
import os, shutil, stat, sys, tempfile
with tempfile.TemporaryFile() as t, tempfile.NamedTemporaryFile("w+", suffix=".x") as named, tempfile.SpooledTemporaryFile(10) as s:
    t.write(bytes(100_000)); s.write(bytes(100)); named.write("x"); assert os.path.exists(named.name) and t.tell() == 100_000
with tempfile.TemporaryDirectory() as directory: assert directory.startswith("/tmp/")
with open("a", "wb") as file: file.write(b"0123456789" * 1000); file.flush(); os.fsync(file.fileno()); os.fdatasync(file.fileno())
a, b = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR | os.O_CREAT, 0o644)
assert os.copy_file_range(a, b, 4000) == 4000 and os.sendfile(b, a, 4000, 6000) == 6000 and os.fstat(b).st_size == 10_000
os.posix_fallocate(b, 0, 20_000); os.posix_fadvise(b, 0, 0, os.POSIX_FADV_WILLNEED); os.ftruncate(b, 50)
assert os.preadv(b, [bytearray(4), bytearray(6)], 0) == 10 and os.pwritev(b, [b"x", b"y"], 0) == 2
os.link("a", "hard"); os.symlink("a", "soft"); os.mkfifo("fifo"); os.rename("hard", "moved"); os.replace("moved", "a2")
assert os.readlink("soft") == "a" and stat.S_ISFIFO(os.stat("fifo").st_mode) and os.stat("a").st_nlink == 2
os.chmod("a", 0o600); os.chown("a", os.getuid(), os.getgid()); os.truncate("a", 3); os.utime("a", (1, 2)); os.sync()
assert os.stat("a").st_mtime == 2 and os.access("a", os.R_OK) and not os.access("a", os.X_OK)
os.makedirs("deep/er/est"); shutil.copytree("deep", "copy"); shutil.copy2("a", "copy/a"); shutil.rmtree("deep"); shutil.move("copy", "there")
directory = os.open("there", os.O_RDONLY); assert os.listdir(directory) == os.listdir("there") and os.stat("a", dir_fd=directory)
assert sorted(entry.name for entry in os.scandir("there")) == ["a", "er"] and list(os.walk("."))[0][0] == "."
assert shutil.disk_usage("/work").total > 0 and os.statvfs("/tmp").f_bavail > 0 and os.path.getsize("there/a") == 3
assert shutil.which("sh") and os.path.realpath("soft") == "/work/a" and os.pathconf(".", "PC_NAME_MAX") == 255
if hasattr(os, "splice"):
    read_end, write_end = os.pipe(); assert os.splice(a, write_end, 3, offset_src=0) == 3 and os.read(read_end, 9) == b"012"
""",
    "a script that is executed by its name": """
import os, subprocess
with open("tool", "w") as file: file.write("#!/usr/bin/env python3\\nimport sys; print(sys.argv[1])")
os.chmod("tool", 0o755)
assert subprocess.check_output(["./tool", "works"]) == b"works\\n"
""",
    "archives and compression": """
import bz2, gzip, io, lzma, os, tarfile, zipfile, zlib
data = os.urandom(1000) * 100
for module in (bz2, gzip, lzma, zlib): assert module.decompress(module.compress(data)) == data
for module in (bz2, gzip, lzma):
    with module.open("c", "wb") as file: file.write(data)
    with module.open("c") as file: assert file.read() == data
with open("in.bin", "wb") as file: file.write(data)
for kind in ("gz", "bz2", "xz"):
    with tarfile.open("t", "w:" + kind) as tar: tar.add("in.bin")
    os.makedirs(kind)
    with tarfile.open("t") as tar: tar.extractall(kind, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    assert os.path.getsize(kind + "/in.bin") == len(data)
with zipfile.ZipFile("z.zip", "w", zipfile.ZIP_LZMA) as archive: archive.write("in.bin")
with zipfile.ZipFile("z.zip") as archive: assert archive.testzip() is None and archive.read("in.bin") == data
""",
    "terminals": """
import fcntl, os, pty, select, struct, sys, termios, tty
master, slave = pty.openpty()
assert os.isatty(slave) and os.ttyname(slave).startswith("/dev/pts/")
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 30, 90, 0, 0))
assert os.get_terminal_size(slave) == (90, 30)
os.write(master, b"line\\n"); assert os.read(slave, 99) == b"line\\n"
tty.setraw(slave); assert not termios.tcgetattr(slave)[3] & termios.ECHO; termios.tcflush(slave, termios.TCIOFLUSH)
def everything(fd):
    data = b""
    try:
        while chunk := os.read(fd, 999): data += chunk
    except OSError: pass  # EIO: the other side is gone
    return data
pid, fd = pty.fork()
if pid == 0: os.execvp("sh", ["sh", "-c", "tty; stty size; echo hi >/dev/pts/ptmx 2>/dev/null; test -t 0 && exit 5"])
assert b"/dev/pts/" in everything(fd) and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
pid, fd = pty.fork()
if pid == 0: print(input("name? "), flush=True); os._exit(0)
os.write(fd, b"me\\n"); assert b"name? " in everything(fd) and os.wait()
""",
    "descriptions of terminals": """
import curses, readline
curses.setupterm("xterm", 1)
assert curses.tigetnum("colors") >= 8 and curses.tigetstr("clear")
""",
    "curses on a terminal": """
import os, pty
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    import curses
    curses.wrapper(lambda screen: (screen.addstr(0, 0, "on screen"), screen.refresh()))
    os._exit(0)
data = b""
try:
    while chunk := os.read(fd, 999): data += chunk
except OSError: pass
assert b"on screen" in data and os.wait()[1] == 0, data
""",
    "limits and usage": """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
assert soft >= 256
resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
assert resource.prlimit(0, resource.RLIMIT_NOFILE) == (soft - 1, hard)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0 and resource.getrusage(resource.RUSAGE_CHILDREN) is not None
""",
    "who and where we are": """
import getpass, os, platform, pwd, secrets, sysconfig, uuid
assert getpass.getuser() == pwd.getpwuid(os.getuid()).pw_name and os.path.expanduser("~") == "/work"
assert platform.platform().startswith("Linux") and platform.node() and platform.libc_ver()[0] == "glibc" and os.uname()
assert uuid.uuid1() != uuid.uuid1() and uuid.getnode() and uuid.uuid4() != uuid.uuid4()
assert os.cpu_count() >= 1 and os.sched_getaffinity(0) and os.sysconf("SC_PAGE_SIZE") == 4096 and os.sysconf("SC_PHYS_PAGES") > 0
os.sched_setaffinity(0, os.sched_getaffinity(0)); os.sched_yield(); assert os.sched_getscheduler(0) == os.SCHED_OTHER
assert os.getrandom(8) and secrets.token_hex() and os.getpgid(0) and os.getgroups() is not None and os.times().user >= 0
assert len(os.getloadavg()) == 3
""",
    "places and times": """
import datetime, decimal, locale, time, zoneinfo
paris = zoneinfo.ZoneInfo("Europe/Paris")
assert datetime.datetime(2024, 7, 1, 12, tzinfo=paris).utcoffset() == datetime.timedelta(hours=2)
assert len(zoneinfo.available_timezones()) > 300
locale.setlocale(locale.LC_ALL, ""); assert locale.setlocale(locale.LC_ALL, "C.UTF-8") and locale.localeconv()["decimal_point"] == "."
assert locale.strxfrm("a") < locale.strxfrm("b") and locale.getpreferredencoding().upper().replace("-", "") == "UTF8"
decimal.getcontext().prec = 50
assert str(decimal.Decimal(2).sqrt()).startswith("1.41421356237309504880168872420969807")
""",
    "digests": """
import hashlib, hmac, os
assert hashlib.scrypt(b"password", salt=b"salt", n=1024, r=8, p=1, dklen=16).hex() == hashlib.scrypt(b"password", salt=b"salt", n=1024, r=8, p=1).hex()[:32]
assert hashlib.blake2b(b"x", key=b"k").digest_size == 64 and hashlib.blake2s(b"x").hexdigest() and hashlib.sha3_256(b"x")
assert hashlib.pbkdf2_hmac("sha256", b"p", b"s", 1000) and hmac.new(b"k", b"m", "sha512").digest()
for name in ("md5", "sha1", "sha256", "sha512"): hashlib.new(name, bytes(1_000_000)).hexdigest()
""",
    "databases of keys": """
import dbm, dbm.dumb, shelve
for module in (dbm, dbm.dumb):
    with module.open("keys-" + module.__name__, "c") as db: db[b"key"] = b"value"
    with module.open("keys-" + module.__name__, "r") as db: assert db[b"key"] == b"value"
with shelve.open("shelf") as shelf: shelf["list"] = [1, 2]
with shelve.open("shelf") as shelf: assert shelf["list"] == [1, 2]
""",
    "watching itself": """
import cProfile, faulthandler, gc, io, pstats, resource, sys, trace, tracemalloc
tracemalloc.start(); kept = [bytes(1000) for _ in range(100)]
assert tracemalloc.get_traced_memory()[0] > 100_000 and tracemalloc.take_snapshot().statistics("lineno"); tracemalloc.stop()
profile = cProfile.Profile(); profile.runcall(sorted, range(1000))
out = io.StringIO(); pstats.Stats(profile, stream=out).print_stats(); assert "sorted" in out.getvalue()
with open("trace.txt", "w+") as file:
    faulthandler.dump_traceback(file, all_threads=True); faulthandler.dump_traceback_later(100, file=file)
    faulthandler.cancel_dump_traceback_later(); file.seek(0); assert "main.py" in file.read()
faulthandler.enable()
sys.settrace(lambda *args: None); sum([1]); sys.settrace(None); gc.collect()
""",
    "a crash that is told": """
import signal, subprocess, sys
crash = subprocess.run([sys.executable, "-X", "faulthandler", "-c", "import ctypes; ctypes.string_at(0)"], stderr=subprocess.PIPE)
assert crash.returncode == -signal.SIGSEGV and b"Segmentation fault" in crash.stderr
""",
    "what the process file system says": """
import os
assert os.readlink("/proc/self/exe") and os.readlink("/proc/self/cwd") == "/work" and "0" in os.listdir("/proc/self/fd")
for name in ("status", "stat", "statm", "maps", "cmdline", "limits", "mountinfo", "task"): assert os.path.exists("/proc/self/" + name)
assert open("/proc/self/statm").read().split()[0].isdigit() and os.getpid() in map(int, filter(str.isdigit, os.listdir("/proc")))
assert os.path.samefile("/dev/fd/0", "/proc/self/fd/0") and open("/dev/zero", "rb").read(3) == bytes(3) and open("/dev/urandom", "rb").read(3)
""",
    "environments and modules made here": """
import subprocess, sys
subprocess.run([sys.executable, "-m", "venv", "--without-pip", "env"], check=True)
assert subprocess.check_output(["env/bin/python", "-c", "import sys; print(sys.prefix)"]) == b"/work/env\\n"
assert subprocess.run([sys.executable, "-m", "compileall", "-q", "main.py"]).returncode == 0
assert subprocess.check_output([sys.executable, "-m", "json.tool", "--compact"], input=b"[1, 2]") == b"[1,2]\\n"
""",
    "an interactive interpreter": """
import subprocess, sys
done = subprocess.run([sys.executable, "-i", "-q"], input="x = 6\\nprint(x * 7)\\n", capture_output=True, text=True)
assert done.stdout == "42\\n" and done.returncode == 0
""",
    "queues and semaphores of the system": """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
segment = libc.shmget(0, 4096, 0o1600); assert segment >= 0, ctypes.get_errno()
libc.shmat.restype = ctypes.c_void_p; address = libc.shmat(segment, None, 0); assert address not in (None, 2**64 - 1)
ctypes.memmove(address, b"shared", 6); assert ctypes.string_at(address, 6) == b"shared" and libc.shmctl(segment, 0, None) == 0
queue = libc.msgget(0, 0o1600); semaphores = libc.semget(0, 2, 0o1600); assert queue >= 0 and semaphores >= 0
assert libc.msgctl(queue, 0, None) == 0 and libc.semctl(semaphores, 0, 0) == 0
rt = ctypes.CDLL("librt.so.1", use_errno=True)
for _ in range(300):  # queues of sandboxes that have just gone count for the account until the kernel has freed them
    opened = rt.mq_open(b"/queue", os.O_CREAT | os.O_RDWR, 0o600, None)
    if opened >= 0: break
    time.sleep(0.01)
assert opened >= 0, os.strerror(ctypes.get_errno())
assert rt.mq_send(opened, b"message", 7, 1) == 0 and rt.mq_unlink(b"/queue") == 0
""",
    "commands": """
import os, subprocess
def sh(command): return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
os.makedirs("d/e")
open("d/words.txt", "w").write("pear 3\\napple 1\\nfig 2\\n"); open("d/e/more.txt", "w").write("kiwi 4\\n")
assert "words.txt" in sh("ls -l d") and sh("id -un") == "sandbox\\n"
assert sh("grep -n fig d/words.txt") == "3:fig 2\\n" and sh("grep -rl kiwi d") == "d/e/more.txt\\n"
assert sh("awk '{ s += $2 } END { print s }' d/words.txt") == "6\\n"
assert sh("sort -k2 -n d/words.txt | head -1 | cut -d' ' -f1") == "apple\\n" and sh("sort -u d/words.txt | uniq | wc -l").strip() == "3"
assert sh("find d -name '*.txt' -type f | sort") == "d/e/more.txt\\nd/words.txt\\n" and sh("find d -type f | xargs cat | tail -n +1 | wc -l").strip() == "4"
assert sh("sed -i s/fig/date/ d/words.txt && sed -n 3p d/words.txt") == "date 2\\n" and sh("tr a-z A-Z < d/e/more.txt") == "KIWI 4\\n"
assert sh("tar czf d.tgz d && mkdir out && tar xzf d.tgz -C out && diff -r d out/d && echo same") == "same\\n"
assert sh("gzip -k d/words.txt && gunzip -c d/words.txt.gz | md5sum") == sh("md5sum < d/words.txt")
assert sh("cp -a d c && mv c f && rm -r f && touch t && chmod +x t && ln -s t l && readlink -f l && stat -c %a t") == "/work/t\\n755\\n"
assert sh("echo 'a b' | tee x | wc -w && df -k . >y && du -s . >y && date +%Y >y && uname -s && basename $PWD && seq 3 | paste -sd+")
assert sh("mktemp").startswith("/tmp/") and sh("env python3 -c 'print(1)'") == "1\\n" and sh("nproc").strip().isdigit()
assert sh("sleep 60 & kill %1 2>/dev/null || kill $!; wait; echo done; timeout 0.05 sleep 60 || echo late") == "done\\nlate\\n"
assert sh("printf '%s ' a b | od -c | head -1") and sh("yes | head -2") == "y\\ny\\n" and sh("bash -c 'cat <(echo sub)'") == "sub\\n"
""",
}
for _method in ("fork", "spawn", "forkserver"):
    PROGRAMS[f"multiprocessing, {_method}"] = f"""
import multiprocessing, os, time
from multiprocessing import shared_memory
context = multiprocessing.get_context("{_method}")
def square(n): return n * n
def work(queue, pipe, lock, semaphore, event, value, name):
    with semaphore, lock, value.get_lock(): value.value += 1
    memory = shared_memory.SharedMemory(name); memory.buf[0] += 1; memory.close()
    queue.put(os.getpid()); pipe.send(b"x" * 100_000); pipe.close(); event.wait(20)
if __name__ == "__main__":
    with context.Pool(2) as pool:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]
        assert pool.apply_async(square, (9,)).get(20) == 81 and sorted(pool.imap_unordered(square, range(3))) == [0, 1, 4]
    memory = shared_memory.SharedMemory(create=True, size=1000)
    queue, lock, semaphore, event = context.Queue(), context.Lock(), context.BoundedSemaphore(2), context.Event()
    value, (mine, theirs) = context.Value("i", 0), context.Pipe()
    child = context.Process(target=work, args=(queue, theirs, lock, semaphore, event, value, memory.name))
    child.start()
    assert queue.get(timeout=20) == child.pid and mine.recv() == b"x" * 100_000 and child.is_alive()
    event.set(); child.join(); assert (child.exitcode, value.value, memory.buf[0]) == (0, 1, 1)
    memory.close(); memory.unlink()
    with context.Manager() as manager:
        shared = manager.dict(); child = context.Process(target=shared.update, args=([("key", 5)],)); child.start(); child.join()
        assert dict(shared) == {{"key": 5}}
    child = context.Process(target=os.abort); child.start(); child.join(); assert child.exitcode == -6
    child = context.Process(target=time.sleep, args=(60,)); child.start(); child.terminate(); child.join(); assert child.exitcode == -15
"""

PACKAGES = {
    "numpy": """
import os, threading
import numpy as np
rng = np.random.default_rng(0)
a = rng.random((700, 700))
product = a @ a
assert np.allclose(product[5, 7], sum(a[5] * a[:, 7])) and np.allclose(np.linalg.solve(product, product @ a[0]), a[0])
threads = len(os.listdir("/proc/self/task"))
assert threads == 1 or threads <= len(os.sched_getaffinity(0)) + 1, threads
def multiply(): products.append(a @ a)
products = []; workers = [threading.Thread(target=multiply) for _ in range(4)]
for w in workers: w.start()
for w in workers: w.join()
assert len(products) == 4 and all(np.array_equal(p, product) for p in products)
small = a[:80, :80]; u, s, v = np.linalg.svd(small)
assert np.allclose(u * s @ v, small) and np.allclose(np.linalg.inv(small) @ small, np.eye(80)) and len(np.linalg.eigvals(small)) == 80
assert np.allclose(np.fft.ifft(np.fft.fft(a[0])), a[0]) and np.allclose(np.fft.irfft2(np.fft.rfft2(a)), a)
mapped = np.memmap("mapped", dtype="float64", mode="w+", shape=(1000, 100)); mapped[:] = 3; mapped.flush(); del mapped
assert np.memmap("mapped", dtype="float64", mode="r").sum() == 300_000
np.save("a.npy", a); np.savez_compressed("z.npz", a=a); np.savetxt("a.txt", small)
assert np.array_equal(np.load("a.npy", mmap_mode="r"), a) and np.array_equal(np.load("z.npz")["a"], a) and np.allclose(np.loadtxt("a.txt"), small)
a.tofile("raw"); assert np.array_equal(np.fromfile("raw").reshape(a.shape), a)
assert np.random.randint(10) < 10 and rng.normal(size=10).shape == (10,) and np.random.SeedSequence().entropy
big = np.zeros(50_000_000, dtype="u1"); big[::4096] = 1; assert big.sum() == 12208
pid = os.fork()
if pid == 0: os._exit(0 if np.array_equal(a @ a, product) else 1)
assert os.waitpid(pid, 0)[1] == 0
""",
    "pandas": """
import io, sqlite3
import numpy as np, pandas as pd
frame = pd.DataFrame({"key": list("abc") * 1000, "n": range(3000), "x": np.linspace(0, 1, 3000)})
groups = frame.groupby("key").agg(total=("n", "sum"), mean=("x", "mean"))
assert groups.total.sum() == 2999 * 1500 and list(groups.index) == ["a", "b", "c"]
merged = frame.merge(pd.DataFrame({"key": ["a", "b"], "name": ["Ann", "Bob"]}), on="key", how="left")
assert len(merged) == 3000 and merged.name.isna().sum() == 1000
frame.to_csv("frame.csv", index=False); assert pd.read_csv("frame.csv").n.equals(frame.n)
frame.to_csv("frame.csv.gz"); assert len(pd.read_csv("frame.csv.gz", engine="python")) == 3000
frame.to_pickle("frame.pkl"); assert pd.read_pickle("frame.pkl").equals(frame)
assert pd.read_json(io.StringIO(frame.to_json())).shape == frame.shape
with sqlite3.connect(":memory:") as db:
    frame.to_sql("frame", db, index=False); assert pd.read_sql("select count(*) c from frame", db).c[0] == 3000
days = pd.date_range("2024-03-30", periods=4, freq="12h", tz="Europe/Paris")
assert str(days[2]) == "2024-03-31 00:00:00+01:00" and str(days[3].tz_convert("UTC")) == "2024-03-31 11:00:00+00:00"
assert pd.to_datetime(["2024-01-02 03:04"]).tz_localize("America/New_York").tz_convert("Asia/Tokyo")[0].hour == 17
series = pd.Series(range(96), index=pd.date_range("2024-01-01", periods=96, freq="h"))
assert list(series.resample("D").sum().rolling(2).mean().dropna()) == [564, 1140, 1716]
assert frame.pivot_table(index="key", values="x").shape == (3, 1) and frame.describe().loc["count", "n"] == 3000 and "3000" in repr(frame)
assert frame.x.rolling(10).std().notna().sum() == 2991 and frame.query("n > 2990 and key == 'a'").shape[0] == 3
""",
    "matplotlib": """
import glob
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
assert matplotlib.get_backend().lower() == "agg"
figure, axes = plt.subplots(2, 2)
axes[0, 0].plot(np.sin(np.linspace(0, 10, 200)), label="a sine, \\N{GREEK SMALL LETTER ALPHA}"); axes[0, 0].legend()
axes[0, 1].hist(np.random.default_rng(0).normal(size=1000), bins=30); axes[0, 1].set_title(r"$\\int_0^1 x^2 dx$")
axes[1, 0].imshow(np.eye(20)); axes[1, 1].scatter(range(10), range(10))
figure.tight_layout(); figure.savefig("figure.png", dpi=100)
image = plt.imread("figure.png")
assert open("figure.png", "rb").read(8) == b"\\x89PNG\\r\\n\\x1a\\n" and image.shape[:2] == (480, 640) and image.std() > 0.05
for kind in ("svg", "pdf", "jpg"): figure.savefig("figure." + kind)
assert glob.glob("/work/.cache/matplotlib/fontlist-*.json")
""",
}
BUILDING = r"Matplotlib is building the font cache; this may take a moment\.\n"  # said where that takes five seconds
UNUSED = re.compile(r"(^|/)(tests|__pycache__|include|sample_data)/|\.(pyi|pyx|pxd|h|a|c)$|^\.\./")
USUAL = Limits(timeout_seconds=30, memory_mb=1024, disk_mb=512, cpu_shares=1024)  # what the service gives unasked
LARGE = Limits(timeout_seconds=30, memory_mb=2048, disk_mb=512, cpu_shares=1024)


class Installed:
    """Distributions of the environment that the tests run in, as a tree of files for requests."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self._entries: dict[str, list[Entry]] = {}

    def spec(self, code: str, distribution: str) -> ExecutionSpec:
        """A spec of this code with a distribution beside it, and all that this one needs."""
        entries = [self._add("main.py", code.encode())]
        for name in sorted(with_requirements(distribution)):
            entries += self._entries_of(name)
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return ExecutionSpec(FileTree(tuple(entries), self._content), "main.py", python, LARGE)

    def _entries_of(self, name: str) -> list[Entry]:
        if name not in self._entries:
            paths = importlib.metadata.files(name) or []
            assert paths, f"{name} is installed without a list of its files"
            self._entries[name] = [
                self._add(str(path), Path(str(path.locate())).read_bytes())
                for path in paths
                if not UNUSED.search(str(path))
            ]
        return self._entries[name]

    def _add(self, path: str, data: bytes) -> Entry:
        offset = self._content.seek(0, os.SEEK_END)
        self._content.write(data)
        self._content.flush()
        return FileEntry(path, 0o644, offset, len(data))


def with_requirements(distribution: str) -> set[str]:
    """The distribution and all that it needs here, without extras."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    with tempfile.TemporaryFile() as content:
        yield Installed(content)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_works_as_it_does_outside(engine: Engine, installed: Installed, package: str) -> None:
    outcome = engine.wait(engine.run_spec(installed.spec(PACKAGES[package], package)))
    assert (re.sub(BUILDING, "", outcome.stderr), outcome.stdout, outcome.exit_code) == ("", "", 0)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("interpreter", INTERPRETERS, ids=lambda each: each.minor_version)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_as_it_does_outside(run: Run, name: str, interpreter: Interpreter) -> None:
    if name == "IPv6" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    outcome = run(PROGRAMS[name], files=FILES.get(name), python=interpreter.minor_version, limits=USUAL)
    assert (outcome.stderr, outcome.stdout, outcome.exit_code) == ("", "", 0)
