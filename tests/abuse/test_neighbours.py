"""Two sandboxes at once, and a sandbox beside what the machine offers: neither is within the other's reach.

The neighbour offers all that it can to everybody, with every right that it can give. It says so, then looks out for
whoever comes. Its one line of output is the proof that nobody did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.abuse.attacks import PRELUDE, Attack
from tests.abuse.conftest import Neighbour
from tests.abuse.escape import ASK, NUMBERS
from tests.abuse.information import MACHINE
from tests.abuse.test_attacks import shown
from tests.support.api import Api
from tests.support.guarded import Guarded
from tests.support.offers import CONSTANTS, MAKE_QUEUE, OFFERS, offering

# Each a boundary of its own and none behind another: one guard for all of them.
SHARED = DESCRIPTORS = RANDOM = (
    "descriptors", "ipc-namespace", "network-namespace", "own-file-systems", "read-only-root", "reseeding",
    "shared-terminals",
)  # fmt: skip
PROCESSES = ("own-uid", "pid-namespace", "proc-options", "session")
MEMORY = ("nested-user-namespace", *PROCESSES, "seccomp")

NEIGHBOUR = f"""
{PRELUDE}
{CONSTANTS}
import fcntl, signal, socket, threading, time
SECRET = "".join(reversed("ruobhgien eht fo terces"))
def disturbed(*_): print("DISTURBED", _, flush=True)
for number in (signal.SIGURG, signal.SIGCONT, signal.SIGUSR1, signal.SIGIO, signal.SIGHUP): signal.signal(number, disturbed)
{OFFERS}
for path in ("/tmp/neighbour", "/work/neighbour", "/dev/shm/neighbour", "/tmp/lock"):
    if os.path.exists(path): os.unlink(path)  # where all have the same, of one before
    with open(path, "w") as file: file.write(SECRET)
    os.chmod(path, 0o666)
os.chmod("/work", 0o777)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", PORT))
threading.Thread(target=lambda: disturbed(datagrams.recv(9)), daemon=True).start()
master, slave = os.openpty()
os.write(master, SECRET.encode() + b"\\n")
lock = os.open("/tmp/lock", os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
libc.syscall({NUMBERS["add_key"]}, b"user", b"neighbour", SECRET.encode(), len(SECRET), -4)  # its user's ring
open("/etc/group").read()
nice, affinity = os.getpriority(0, 0), os.sched_getaffinity(0)
print("ready", flush=True)
while True:
    time.sleep(0.01)
    if os.getpriority(0, 0) != nice or os.sched_getaffinity(0) != affinity: disturbed("scheduling"); break
    if any(open(path).read() != SECRET for path in ("/tmp/neighbour", "/dev/shm/neighbour")): disturbed("files"); break
time.sleep(60)
"""

FIND = """
import signal
others = [pid for pid in range(1, 3000) if pid != os.getpid()]
def each(attempt):
    for pid in others:
        try: attempt(pid)
        except ProcessLookupError: continue
        except OSError as error: print(errno.errorcode[error.errno], pid)
        else: print("REACHED", pid) if pid != 1 else None  # 1 is its own init, where it has one
    print("done")
"""


def reaching(name: str, code: str, without: tuple[str, ...] = SHARED, says: str = "") -> Attack:
    return Attack(name, f"{CONSTANTS}\n{code}", without, says)


IPC = [
    reaching("connects to its abstract socket", "import socket\nreach(socket.socket(socket.AF_UNIX).connect, ABSTRACT)", says="ECONNREFUSED"),
    reaching("takes the name of its abstract socket", "import socket\ntry: socket.socket(socket.AF_UNIX).bind(ABSTRACT)\n"
             "except OSError: print('REACHED')\nelse: print('free')", says="free"),
    reaching("connects to its TCP port", "import socket\nreach(socket.socket().connect, ('127.0.0.1', PORT))", says="ECONNREFUSED"),
    reaching("connects to its TCP port over IPv6", "import socket\nreach(socket.socket(socket.AF_INET6).connect, ('::1', PORT))", says="ECONNREFUSED"),
    reaching("takes the number of its TCP port", "import socket\ntry: socket.socket().bind(('127.0.0.1', PORT))\n"
             "except OSError: print('REACHED')\nelse: print('free')", says="free"),
    reaching("sends it a datagram", "import socket, time\nclient = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
             "client.connect(('127.0.0.1', PORT))\nclient.send(b'x')\ntime.sleep(0.01)\n"
             "try: client.send(b'x')\nexcept ConnectionRefusedError: print('refused')\nelse: print('REACHED')", says="refused"),
    reaching("sees its sockets in /proc/self/net", "for name in ('tcp', 'udp', 'unix'):\n"
             "  if len(open('/proc/self/net/' + name).readlines()) > 1: print('REACHED', name)\nprint('looked')", says="looked"),
    reaching("reads its System V shared memory", "libc.shmat.restype = ctypes.c_void_p\nnumber = libc.shmget(KEY, 0, 0)\n"
             "print('REACHED' if number >= 0 and libc.shmat(number, None, 0) else errno.errorcode[ctypes.get_errno()])", says="ENOENT"),
    reaching("lists System V shared memory of others", "print('REACHED' if any(libc.shmctl(number, 15, ctypes.create_string_buffer(256)) >= 0 for number in range(64)) else 'none')", says="none"),
    reaching("takes its System V semaphore", "print('REACHED' if libc.semget(KEY, 0, 0) >= 0 else errno.errorcode[ctypes.get_errno()])", says="ENOENT"),
    reaching("reads its System V messages", "number = libc.msgget(KEY, 0)\n"
             "print('REACHED' if number >= 0 and libc.msgrcv(number, ctypes.create_string_buffer(64), 56, 0, 0o4000) >= 0 else errno.errorcode[ctypes.get_errno()])", says="ENOENT"),
    reaching("opens its POSIX message queue", "print('REACHED' if libc.mq_open(QUEUE, os.O_RDWR) >= 0 else errno.errorcode[ctypes.get_errno()])", says="ENOENT"),
    reaching("unlinks its POSIX message queue", "print('REACHED' if libc.mq_unlink(QUEUE) == 0 or ctypes.get_errno() == errno.EACCES else errno.errorcode[ctypes.get_errno()])", says="ENOENT"),
]  # fmt: skip

FILES = [
    reaching("reads its file in /tmp", "reach(open, '/tmp/neighbour')", says="ENOENT"),
    reaching("reads its POSIX shared memory", "reach(open, '/dev/shm/neighbour')", says="ENOENT"),
    reaching("changes its file in /tmp", "def change():\n  with open('/tmp/neighbour', 'r+') as file: file.write('x')\nreach(change)", says="ENOENT"),
    reaching("finds names in /tmp and /dev/shm", "print('REACHED' if os.listdir('/tmp') + os.listdir('/dev/shm') else 'none')", says="none"),
    reaching("waits for its lock", "import fcntl\nfile = os.open('/tmp/lock', os.O_RDWR | os.O_CREAT)\n"
             "try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError: print('REACHED')\nelse: print('free')", says="free"),
    reaching("fills its disk", "print('REACHED' if os.statvfs('/tmp').f_bfree != os.statvfs('/tmp').f_blocks and os.path.exists('/tmp/neighbour') else 'its own')", says="its own"),
    reaching("opens its terminal", "reach(os.open, '/dev/pts/0', os.O_RDWR | os.O_NOCTTY)", says="ENOENT"),
    reaching("counts its terminals by the number of its own", "print('REACHED' if os.ttyname(os.openpty()[1]) != '/dev/pts/0' else 'the first')", says="the first"),
    reaching("sees by the access time that it has read a shared file", "seen = os.stat('/etc/group')\nprint('REACHED' if seen.st_atime_ns > seen.st_mtime_ns else 'never read')", says="never read"),
    reaching("reads its files through a descriptor that the zygote has", """
for fd in range(4, 256):
    try: print(open(f"/proc/self/fd/{fd}/work/neighbour").read(), "REACHED")
    except OSError: pass
print("looked")""", DESCRIPTORS, says="looked"),
    reaching("holds a process descriptor of its init", """
import stat
for fd in range(4, 256):
    try: link = os.readlink(f"/proc/self/fd/{fd}")
    except OSError: continue
    if "pidfd" in link: print("REACHED", link)
print("looked")""", DESCRIPTORS, says="looked"),
]  # fmt: skip

SIGNALS = [
    reaching("signals it by number", f"{FIND}\neach(lambda pid: os.kill(pid, signal.SIGURG))", PROCESSES, says="done"),
    reaching("signals its parent, the zygote", "import signal\nreach(os.kill, os.getppid(), signal.SIGURG) if os.getppid() else print('none')", PROCESSES, says="none"),
    reaching("finds it by number", f"{FIND}\neach(lambda pid: os.getpgid(pid))", PROCESSES, says="done"),
    reaching("opens its pidfd", f"{FIND}\neach(lambda pid: os.close(os.pidfd_open(pid)))", PROCESSES, says="done"),
    reaching("slows it down by number", f"{FIND}\nothers = others[9:]\neach(lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 5))", PROCESSES, says="done"),
    reaching("slows down all processes of its user", "os.setpriority(os.PRIO_USER, 0, 7)\nprint('done')", PROCESSES, says="done"),
    reaching("moves it to one processor", f"{FIND}\nothers = others[9:]\neach(lambda pid: os.sched_setaffinity(pid, {{0}}))", PROCESSES, says="done"),
    reaching("reads its limits", f"{FIND}\nimport resource\neach(lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE))", PROCESSES, says="done"),
    reaching("signals its whole group", "import signal, time\nsignal.signal(signal.SIGURG, signal.SIG_IGN)\nos.kill(0, signal.SIGURG)\nprint('done')", PROCESSES, says="done"),
    reaching("signals everybody", "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
             "try: os.kill(-1, signal.SIGURG)\nexcept ProcessLookupError: print('nobody')\nelse: print('REACHED')", PROCESSES, says="nobody"),
    reaching("is told of its input by a signal to a number", """
import fcntl, signal
reader, writer = os.pipe()
for pid in range(2, 3000):
    if pid == os.getpid(): continue
    try: fcntl.fcntl(reader, fcntl.F_SETOWN, pid); print("REACHED", pid)
    except OSError: pass
print("looked")""", PROCESSES, says="looked"),
    reaching("finds it in /proc", "print('REACHED' if {each for each in os.listdir('/proc') if each.isdigit()} - {'1', str(os.getpid())} else 'nobody')", PROCESSES, says="nobody"),
    reaching("reads its command line", f"{FIND}\nothers.remove(1)\neach(lambda pid: open(f'/proc/{{pid}}/cmdline').read())"
             .replace("except ProcessLookupError", "except (ProcessLookupError, FileNotFoundError)"), PROCESSES, says="done"),
    reaching("reads its memory by /proc", """
found = False
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) in (1, os.getpid()): continue
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                first, last = (int(each, 16) for each in line.split()[0].split("-"))
                if line.split()[1] == "rw-p" and last - first < 1 << 26:
                    found |= b"secret of the " + b"neighbour" in os.pread(memory.fileno(), last - first, first)
    except (OSError, OverflowError): pass
print("REACHED" if found else "nothing")""", MEMORY, says="nothing"),
    reaching("reads its memory by process_vm_readv", f"{ASK}\n{FIND}\nimport struct\nplace = ctypes.create_string_buffer(8)\n"
             "ours = struct.pack('=2Q', ctypes.addressof(place), 8)\n"
             "theirs = struct.pack('=2Q', ctypes.cast(libc.getpid, ctypes.c_void_p).value, 8)  # a fork has it where we have it\n"
             f"for pid in others[1:]:\n  if libc.syscall({NUMBERS['process_vm_readv']}, pid, ours, 1, theirs, 1, ctypes.c_long(0)) == 8: print('REACHED', pid)\n"
             "print('done')", MEMORY, says="done"),
    reaching("finds its key in a keyring", f"{ASK}\nask({NUMBERS['keyctl']}, 10, -4, b'user', b'neighbour', 0)", MEMORY, says="EPERM"),
    reaching("leaves a key in the keyring of its user", f"{ASK}\nask({NUMBERS['add_key']}, b'user', b'message', b'x', 1, -4)", MEMORY, says="EPERM"),
]  # fmt: skip

ATTACKS = [*IPC, *FILES, *SIGNALS]


def by_guard(attacks: list[Attack]) -> list[Attack]:
    return sorted(attacks, key=lambda attack: attack.without)


def neighbour_of(api: Api | Guarded) -> str:
    """Start the neighbour; its id once it is ready."""
    version = api.eval("import sys; print('%d.%d' % sys.version_info[:2])")["stdout"].strip()  # that of the same box
    name: str = api.submit(NEIGHBOUR, config={"timeout_seconds": 60}, docker_image=f"python:{version}")
    deadline = time.monotonic() + 20
    while "ready" not in (seen := api.look(name))["stdout"]:
        assert time.monotonic() < deadline and not seen["finished_at"], seen
        time.sleep(0.01)
    return name


@pytest.fixture
def victim(attacked_api: Api, undisturbed: Neighbour) -> Iterator[str]:
    """A neighbour that was not disturbed, and is gone after."""
    name = neighbour_of(attacked_api)
    yield name
    seen = attacked_api.look(name)
    attacked_api.kill(name)
    ended = attacked_api.finished(name)
    assert (seen["status"], ended["stdout"], ended["stderr"]) == ("running", "ready\n", "")


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_neighbour_is_out_of_reach(attack: Attack, attacked_api: Api, victim: str) -> None:
    result = attacked_api.eval(PRELUDE + attack.code)
    assert "REACHED" not in result["stdout"], shown(result)
    assert (result["termination"], result["exit_code"]) == attack.verdict, shown(result)
    assert attack.says in result["stdout"], shown(result)


@pytest.mark.twin
@pytest.mark.parametrize("attack", by_guard(ATTACKS), ids=str)
def test_without_the_boundary_the_neighbour_is_reached(attack: Attack, without: Callable[..., Guarded]) -> None:
    guard = without(*attack.without)
    name = neighbour_of(guard)
    result = guard.eval(PRELUDE + attack.code)
    time.sleep(0.03)
    seen = guard.look(name)
    guard.kill(name)
    guard.finished(name)
    assert "REACHED" in result["stdout"] or "DISTURBED" in seen["stdout"], shown(result) + shown(seen)


# --- what the machine itself offers -----------------------------------------------------------------------------------

TO_THE_MACHINE = [attack for attack in IPC if "IPv6" not in attack.name and "datagram" not in attack.name]


@pytest.fixture(scope="module")
def offers() -> Iterator[None]:
    """Sockets, shared memory and queues of a process of the machine's, for everybody."""
    with offering():
        yield


@pytest.mark.parametrize("attack", TO_THE_MACHINE, ids=lambda attack: str(attack).replace("its", "the-machine's"))
def test_what_the_machine_offers_is_out_of_reach(
    attack: Attack, offers: None, attacked_api: Api, undisturbed: Neighbour
) -> None:
    result = attacked_api.eval(PRELUDE + attack.code)
    assert "REACHED" not in result["stdout"], shown(result)
    assert (result["termination"], result["exit_code"]) == attack.verdict, shown(result)
    assert attack.says in result["stdout"], shown(result)


@pytest.mark.twin
@pytest.mark.parametrize("attack", TO_THE_MACHINE, ids=lambda attack: str(attack).replace("its", "the-machine's"))
def test_without_the_boundary_what_the_machine_offers_is_reached(
    attack: Attack, without: Callable[..., Guarded]
) -> None:
    result = without(*MACHINE).eval(PRELUDE + attack.code)
    assert "REACHED" in result["stdout"], shown(result)


# --- one after the other ----------------------------------------------------------------------------------------------

LEAVING = (
    MAKE_QUEUE
    + """
os.umask(0)
with open("/tmp/left", "w") as file: file.write("x")
with open("/dev/shm/left", "w") as file: file.write("x")
libc.shmget(4711, 4096, 0o1666); libc.msgget(4711, 0o1666); make_queue(b"/left")
import socket
keep = socket.socket(socket.AF_UNIX); keep.bind("\\0left"); os.environ["LEFT"] = "x"; sys.path.append("/left")
import json; json.left = True
"""
)
FINDING = {
    "its file in /tmp": "os.path.exists('/tmp/left')",
    "its file in /dev/shm": "os.path.exists('/dev/shm/left')",
    "its shared memory": "libc.shmget(4711, 0, 0) >= 0",
    "its message queue": "libc.msgget(4711, 0) >= 0",
    "its POSIX message queue": "libc.mq_open(b'/left', os.O_RDWR) >= 0",
}
INTERPRETER = {
    "its variable": "'LEFT' in os.environ",
    "its path": "'/left' in sys.path",
    "its changed module": "hasattr(__import__('json'), 'left')",
    "its umask": "os.umask(0) == 0",
}


@pytest.mark.parametrize("what", [*FINDING, *INTERPRETER])
def test_the_next_finds_nothing_of_the_one_before(what: str, attacked_api: Api, undisturbed: Neighbour) -> None:
    attacked_api.eval(PRELUDE + LEAVING)
    looking = f"print('REACHED' if {(FINDING | INTERPRETER)[what]} else 'nothing')"
    for _ in range(3):  # what waited, too
        assert attacked_api.eval(PRELUDE + looking)["stdout"] == "nothing\n"


@pytest.mark.twin
@pytest.mark.parametrize("what", FINDING)
def test_without_the_boundary_the_next_finds_what_was_left(what: str, without: Callable[..., Guarded]) -> None:
    guard = without(*SHARED)
    guard.eval(PRELUDE + LEAVING)
    assert guard.eval(PRELUDE + f"print('REACHED' if {FINDING[what]} else 'nothing')")["stdout"] == "REACHED\n"


RANDOM_NUMBERS = {
    "random": "__import__('random').random()",
    "shuffle": "__import__('random').sample(range(1000), 9)",
    "tempfile": "__import__('tempfile').mktemp()",
    "uuid4": "__import__('uuid').uuid4()",
    "uuid1": "__import__('uuid').uuid1()",
    "secrets": "__import__('secrets').token_hex()",
    "urandom": "os.urandom(16)",
    "ssl": "__import__('ssl').RAND_bytes(16)",
}
OF_THE_FORK = ("random", "shuffle")  # all others come from the kernel each time, or are made anew for each pid


@pytest.mark.parametrize("name", RANDOM_NUMBERS)
def test_two_sandboxes_of_one_zygote_draw_different_numbers(name: str, attacked_api: Api) -> None:
    drawn = [attacked_api.eval(f"import os\nprint({RANDOM_NUMBERS[name]})")["stdout"] for _ in range(3)]
    assert len(set(drawn)) == 3 and all(drawn), drawn


@pytest.mark.twin
@pytest.mark.parametrize("name", OF_THE_FORK)
def test_without_a_new_seed_they_draw_the_same(name: str, without: Callable[..., Guarded]) -> None:
    guard = without(*RANDOM)
    drawn = [guard.eval(f"import os\nprint({RANDOM_NUMBERS[name]})")["stdout"] for _ in range(3)]
    assert len(set(drawn)) == 1, drawn
