"""A sandbox from a pool that others have used starts as clean as the first one of a new box.

Each kind of leftover has a program that leaves it, or tries to, and one that shows what is there. What the second one
shows in a box where nothing has run yet is what it must show after a dozen runs of the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from python_executor.model.events import Event, Termination
from tests.sandbox.conftest import Engine, Outcome, make_spec

TIMES = 12  # more than wait in the pool, so that cgroups and network namespaces come round


@dataclass(frozen=True)
class Leftover:
    """What leaves it, and what would show it."""

    leave: str
    show: str


LEFTOVERS = {
    "files": Leftover(
        """
import os
for place in ('/work', '/tmp', '/dev/shm'):
    os.makedirs(place + '/deep/.hidden', exist_ok=True)
    open(place + '/deep/.hidden/file', 'w').write('x' * 100_000)
    os.symlink('/etc/passwd', place + '/link')
os.chmod('/work', 0o777)
""",
        """
import os, stat
for place in ('/work', '/tmp', '/dev/shm', '/var/tmp', '/run', '/root'):
    status = os.stat(place)
    print(place, oct(status.st_mode), status.st_uid, sorted(os.listdir(place)))
space = os.statvfs('/tmp')
print(space.f_blocks, space.f_bfree, space.f_files, space.f_ffree)
""",
    ),
    "environment": Leftover(
        """
import locale, os, resource, signal, sys, time
os.environ.update(SECRET='of the first', PATH='/nowhere', TZ='Asia/Tokyo', LANG='C')
time.tzset()
os.umask(0)
os.chdir('/tmp')
os.nice(5)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
sys.setrecursionlimit(50)
""",
        """
import locale, os, resource, signal, sys, time
print(sorted(os.environ.items()), os.getcwd(), os.umask(0), os.nice(0), time.tzname, locale.setlocale(locale.LC_ALL))
print([signal.getsignal(number) for number in sorted(signal.valid_signals())])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print([resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if name.startswith('RLIMIT')])
print(sys.getrecursionlimit(), sys.argv, sys.flags, os.getpriority(os.PRIO_PROCESS, 0))
""",
    ),
    "imports": Leftover(
        """
import builtins, json, re, sys
import email.mime.text, xml.dom.minidom, decimal, logging, warnings, threading
builtins.stolen = 'by the first'
json.dumps = print
decimal.getcontext().prec = 3
sys.path.insert(0, '/tmp')
sys.excepthook = print
logging.basicConfig(level=1)
warnings.simplefilter('ignore')
re.compile('of the first')
sys.modules['subprocess'] = None
threading.Thread(target=print).start()
""",
        """
import sys
print(sorted(name for name, module in sys.modules.items() if module), sys.path, sys.path_hooks.__len__(), sys.meta_path)
import builtins, decimal, gc, json, logging, threading, warnings
print(sorted(vars(builtins)), json.dumps.__module__, decimal.getcontext(), sys.excepthook is sys.__excepthook__)
print(logging.root.handlers, logging.root.level, warnings.filters, threading.enumerate().__len__())
print(gc.isenabled(), gc.get_threshold(), gc.get_freeze_count())
""",
    ),
    "descriptors": Leftover(
        """
import os, socket
kept = [os.open('/etc/passwd', os.O_RDONLY) for _ in range(50)] + [os.memfd_create('kept'), *os.pipe()]
kept += [each.detach() for each in socket.socketpair()]
for fd in kept: os.set_inheritable(fd, True)
""",
        """
import os, re, stat
for name in sorted(os.listdir('/proc/self/fd'), key=int):
    try:
        target = os.readlink('/proc/self/fd/' + name)
        print(name, re.sub('[0-9]+', 'N', target), oct(os.fstat(int(name)).st_mode), os.get_inheritable(int(name)))
    except OSError:
        pass  # that of the directory itself
""",
    ),
    "processes": Leftover(
        """
import os, subprocess
subprocess.Popen(['sleep', '1000'], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(1000)
    os._exit(0)
""",
        """
import os
print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()), os.getpid(), os.getppid(), os.getsid(0))
print(os.times().children_user, os.sched_getaffinity(0), sorted(os.listdir('/dev/pts')))
""",
    ),
    "traffic": Leftover(
        """
import socket
server = socket.create_server(('127.0.0.1', 4242))
client = socket.create_connection(('127.0.0.1', 4242))
client.sendall(b'x' * 1000)
server.accept()
""",
        """
import socket
for name in ('dev', 'snmp', 'snmp6', 'netstat', 'igmp', 'igmp6', 'ip6_flowlabel', 'unix', 'route', 'ipv6_route'):
    print(open('/proc/self/net/' + name).read())
print(open('/proc/self/net/sockstat').readline())
socket.create_server(('127.0.0.1', 4242))
""",
    ),
    "failed traffic": Leftover(
        """
import socket
for family, address in ((socket.AF_INET, '1.2.3.4'), (socket.AF_INET6, '2001:db8::1')):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as each:
                each.connect((address, 53))
                each.send(b'x')
        except OSError:
            pass
""",
        """
for name in ('dev', 'snmp', 'snmp6', 'netstat'):
    print(open('/proc/self/net/' + name).read())
""",
    ),
    "abstract sockets": Leftover(
        """
import socket
listener = socket.socket(socket.AF_UNIX)
listener.bind('\\0of the first')
listener.listen()
ours, theirs = socket.socketpair()
socket.send_fds(ours, [b'x'], [listener.fileno(), ours.fileno(), theirs.fileno()])  # a ring that only the kernel holds
""",
        """
import socket
print(open('/proc/self/net/unix').read(), open('/proc/self/net/sockstat').readline())
try:
    socket.socket(socket.AF_UNIX).connect('\\0of the first')
except OSError as error:
    print(error)
""",
    ),
}


@pytest.fixture(scope="module")
def fresh() -> Iterator[Engine]:
    """A box in which each program is among the first."""
    engine = Engine(pool_min=0, pool_max=0)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def used() -> Iterator[Engine]:
    engine = Engine(pool_min=2, pool_max=2)
    yield engine
    engine.close()


def shown(outcome: Outcome) -> str:
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    return outcome.stdout


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_a_pooled_sandbox_starts_as_clean_as_a_fresh_one(fresh: Engine, used: Engine, kind: str) -> None:
    leftover = LEFTOVERS[kind]
    clean = shown(fresh.run(leftover.show))
    shows = []
    for _ in range(TIMES):
        assert used.run(leftover.leave).termination is Termination.EXITED
        shows.append(shown(used.run(leftover.show)))
    assert set(shows) == {clean}


RANDOM = """
import os, random, secrets, tempfile, uuid
print(random.random(), random.SystemRandom().random(), random.Random().random(), uuid.uuid4(), secrets.token_hex(),
      os.urandom(8).hex(), tempfile.mktemp())
"""


def test_random_state_differs_in_each_sandbox_also_where_the_last_one_set_it(used: Engine) -> None:
    shows = []
    for _ in range(TIMES):
        shown(used.run("import random; random.seed(7); random.random()"))
        shows.append(shown(used.run(RANDOM)))
    told = [line.split() for line in shows]
    for words in zip(*told, strict=True):
        assert len(set(words)) == TIMES, words


def test_the_hash_seed_is_one_for_each_box_random_and_the_requests_own_where_it_names_one(
    fresh: Engine, used: Engine
) -> None:
    show = "import sys; print(hash('a text'), sys.flags.hash_randomization)"
    seen = {shown(used.run(show)) for _ in range(TIMES)}
    assert len(seen) == 1  # shared, as docs/security.md says
    assert seen.pop().endswith(" 1\n")
    assert shown(fresh.run(show)) != shown(used.run(show))
    named = {shown(engine.run(show, env=(("PYTHONHASHSEED", "42"),))) for engine in (fresh, used)}
    assert len(named) == 1


@pytest.mark.usefixtures("needs_cgroups")
def test_what_was_counted_and_limited_is_the_last_tenants_alone(used: Engine) -> None:
    greedy = "import time\nx = bytearray(100 << 20)\nopen('/tmp/x', 'wb').write(x[:50 << 20])\nwhile time.process_time() < 0.3: pass"
    for _ in range(TIMES // 2):
        usage = used.run(greedy).exited.usage
        assert usage.memory_peak_bytes > 150 << 20
        assert usage.cpu_ms >= 300
        frugal = used.run("print(1)").exited.usage
        assert frugal.memory_peak_bytes < 20 << 20
        assert frugal.cpu_ms < 200
        assert used.run("x = bytearray(500 << 20)").termination is Termination.MEMORY
        assert used.run("print(1)").termination is Termination.EXITED


NETWORK = "import socket; print(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8).hex())"  # SO_NETNS_COOKIE


def test_a_network_namespace_comes_round_until_somebody_touches_it(fresh: Engine) -> None:
    seen = [shown(fresh.run(NETWORK)) for _ in range(TIMES)]
    assert len(set(seen)) < TIMES
    touched = shown(fresh.run(NETWORK + LEFTOVERS["traffic"].leave))
    later = [shown(fresh.run(NETWORK)) for _ in range(TIMES)]
    assert touched not in later


def test_a_network_namespace_that_got_a_way_out_never_comes_round_whatever_it_shows(fresh: Engine) -> None:
    async def run_exposed() -> Outcome:
        spec, events = make_spec(NETWORK), list[Event]()
        sandbox = await fresh.backend.acquire(spec)
        try:
            await sandbox._box.expose(sandbox._number)
            await sandbox.run(spec, events.append)
        finally:
            await sandbox.destroy()
        return Outcome(events)

    exposed = shown(fresh.wait(run_exposed()))
    assert exposed not in [shown(fresh.run(NETWORK)) for _ in range(TIMES)]


def test_flow_labels_which_outlive_their_socket_cannot_be_leased(fresh: Engine) -> None:
    code = "import errno, socket\nwith socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as each:\n" \
        "  try: each.setsockopt(41, 32, bytes(32))\n  except OSError as error: print(errno.errorcode[error.errno])\n" \
        "  each.setsockopt(41, socket.IPV6_V6ONLY, 1); print('else they are as usual')"  # fmt: skip
    assert shown(fresh.run(code)) == "ENOPROTOOPT\nelse they are as usual\n"


@pytest.mark.usefixtures("needs_cgroups")
def test_cgroups_come_round(fresh: Engine) -> None:
    seen: list[object] = []
    for _ in range(TIMES):
        outcome = fresh.wait(fresh.run_spec(make_spec("print(1)"), during=lambda sandbox: seen.append(sandbox._cgroup)))
        assert outcome.exit_code == 0
    assert len({id(cgroup) for cgroup in seen}) < TIMES
