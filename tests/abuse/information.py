"""What code learns of the machine, the server and its operator.

Left out is what the kernel tells everybody and no namespace divides: its version, the processors, memory and load as
sysinfo() has them. What the machine itself may offer to a stranger (sockets, shared memory, queues) is offered for
real in test_neighbours.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.abuse.attacks import Attack
from tests.abuse.escape import ASK, NUMBERS, ROOT_OF_GUARD

# Each is a boundary of its own and none hides behind another: one guard for all of them.
MACHINE = DESCRIPTORS = FULL_PROC = (
    "cgroup-namespace", "control-socket", "descriptors", "environment", "hidden-packages", "host-files", "host-paths",
    "ipc-of-the-host", "network-of-the-host", "proc-options", "socket-families", "uts-namespace",
)  # fmt: skip


def telling(name: str, code: str, without: Iterable[str] = MACHINE, says: str = "nothing") -> Attack:
    """Code that leaves what it found in `found`."""
    return Attack(name, f"{code}\nprint('REACHED', found) if found else print('nothing')", tuple(without), says)


def opening(path: str, name: str, without: Iterable[str] = ROOT_OF_GUARD) -> Attack:
    return Attack(name, f"reach(lambda: os.read(os.open({path!r}, os.O_RDONLY), 1))", tuple(without), "ENOENT")


READER = """
def text(path):
    try:
        with open(path, errors="replace") as file: return file.read()
    except OSError: return ""
"""
FILES = [
    telling("reads who the machine's users are", "import pwd\nfound = {each.pw_name for each in pwd.getpwall()} - {'root', 'sandbox', 'nobody'}"),
    opening("/etc/shadow", "reads the machine's passwords"),
    opening("/etc/machine-id", "reads the machine's id", MACHINE),
    telling("lists root's home", "try: found = os.listdir('/root')\nexcept OSError: found = []", ROOT_OF_GUARD),
    *(
        telling(f"finds {path}", f"found = os.path.lexists({path!r})")
        for path in ("/home", "/boot", "/srv", "/opt", "/sys", "/usr/local")
    ),
    telling("looks for the devices that the machine has", "found = [path for path in ('/sys/block', '/sys/class/net', '/sys/bus') if os.path.exists(path)]"),
    telling("finds the packages that the operator has installed", "import importlib.metadata\nfound = [each.name for each in importlib.metadata.distributions()]"),
    telling("imports a package that the operator has installed", "import importlib.util\nfound = [name for name in ('pip', 'setuptools') if (spec := importlib.util.find_spec(name)) and spec.submodule_search_locations]"),  # a package: our stand-in for pip is a module
    telling("reads the machine's devices out of its mounts", f"""{READER}
found = [line for name in ("mountinfo", "mounts", "mountstats") for line in text("/proc/self/" + name).splitlines()
         if any(word in line for word in ("/dev/vd", "/dev/sd", "/dev/nvme", "/dev/mapper", "/dev/root", "ext4", "xfs", "btrfs"))]"""),
    telling("reads the machine's directories out of its mounts", f"""{READER}
fields = [line.split(" ") for line in text("/proc/self/mountinfo").splitlines()]
own = ("/work", "/tmp", "/shm")  # of its own tmpfs
found = [root for _, _, _, root, point, *_ in fields if root not in ("/", *own) and not point.endswith(root)]"""),
]  # fmt: skip

SERVER = [
    telling("reads the server's environment from its own", "found = set(os.environ) - {'HOME', 'LANG', 'PATH', 'LC_CTYPE'}"),
    telling("reads the server's environment from /proc", "found = {each.partition(b'=')[0] for each in open('/proc/self/environ', 'rb').read().split(b'\\0')} - {b'', b'HOME', b'LANG', b'PATH', b'LD_BIND_NOW'}"),
    telling("reads the server's environment out of its own memory", """
import re
wanted = re.compile(rb"PYEX[E]C_DATA_DI[R]=/")  # not a text that it would itself be found by
found = []
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        if line.split()[1][0] != "r" or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")): continue
        try: found += wanted.findall(os.pread(memory.fileno(), last - first, first))
        except OSError: continue"""),
    telling("finds the server's time zone", "import time\nfound = [each for each in (*time.tzname, os.environ.get('TZ')) if each not in ('UTC', None)]"),
    telling("finds the server's host name", "import socket\nfound = {socket.gethostname(), os.uname().nodename} - {'sandbox'}"),
    telling("finds where in the machine's cgroups it runs", "found = [line for line in open('/proc/self/cgroup') if line.rstrip().rpartition(':')[2] != '/']"),
    telling("finds the server's process by its command line", """
found = []
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        try: found.append(open(f"/proc/{name}/cmdline").read())
        except OSError: pass""", ROOT_OF_GUARD),
    opening("/proc/1/environ", "reads the environment of PID 1"),
    opening("/proc/1/maps", "reads the memory map of PID 1"),
    opening("/proc/1/cmdline", "reads the command line of PID 1", ROOT_OF_GUARD),
    telling("finds descriptors of the server's or of other sandboxes", "found = sorted(set(os.listdir('/proc/self/fd')) - {'0', '1', '2', '3'})[:-1]", DESCRIPTORS),
    telling("finds the control socket", "import stat\nfound = [fd for fd in range(64) if os.path.exists(f'/proc/self/fd/{fd}') and stat.S_ISSOCK(os.fstat(fd).st_mode)]", DESCRIPTORS),
    telling("finds the zygote's table of other sandboxes below its own frames", """
frame, found = sys._getframe(), []
while frame is not None:
    if frame.f_code.co_filename.endswith("zygote.py") and isinstance(frame.f_locals.get("sandbox"), int):
        found.append(frame.f_locals["sandbox"])  # how many there have been so far
    for value in list(frame.f_locals.values()):
        if type(value).__name__ == "Zygote": found += [*value.children.values(), *value.file_systems, *value.lent, *value.outgoing, *value.networks.spares]
    frame = frame.f_back""", ("frames",)),
]  # fmt: skip

NETWORK = [
    telling("lists the machine's network interfaces", "found = [line for line in open('/proc/self/net/dev') if ':' in line and not line.strip().startswith('lo:')]"),
    telling("lists the machine's addresses by ioctl", """
import array, fcntl, socket, struct
names = array.array("B", bytes(4096))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    size = struct.unpack("iP", fcntl.ioctl(any_socket, 0x8912, struct.pack("iP", 4096, names.buffer_info()[0])))[0]
found = [socket.inet_ntoa(names[start + 20 : start + 24].tobytes()) for start in range(0, size, 40)]
found = [address for address in found if address != "127.0.0.1"]"""),
    telling("lists the machine's addresses by netlink", """
import socket, struct
try: route = socket.socket(16, 3, 0)
except OSError: print("nothing"); raise SystemExit
route.sendto(struct.pack("=IHHII BxxxI", 24, 22, 0x301, 1, 0, 0, 0), (0, 0))  # RTM_GETADDR, dump
answer = route.recv(65536)
found, position = [], 0
while position < len(answer):
    length, kind = struct.unpack_from("=IH", answer, position)
    if kind == 20 and struct.unpack_from("=I", answer, position + 20)[0] != 1: found.append(answer[position : position + length])
    position += (length + 3) & ~3"""),
    telling("lists the machine's routes", f"{READER}\nfound = [line for line in text('/proc/self/net/route').splitlines()[1:]]"),
    telling("lists the machines of its network", f"{READER}\nfound = text('/proc/self/net/arp').splitlines()[1:]"),
    telling("lists the machine's listening ports", f"{READER}\nfound = text('/proc/self/net/tcp').splitlines()[1:]"),
    telling("counts the machine's packets", f"{READER}\nfound = [line for line in text('/proc/self/net/dev').splitlines()[2:] if not line.strip().startswith('lo:')]"),
    telling("connects to the server's own port", f"""{READER}
import socket
found = []
ports = [int(line.split()[1].rpartition(":")[2], 16) for line in text("/proc/self/net/tcp").splitlines()[1:] if line.split()[3] == "0A"]
for port in ports:
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", port)) == 0: found.append(port)"""),
]  # fmt: skip

KERNEL = [
    Attack(
        "asks where on the machine's disk a library lies",
        "import fcntl, struct\nwith open('/usr/lib/os-release', 'rb') as file:\n"
        "    reach(fcntl.ioctl, file, 0xC020660B, struct.pack('=QQIIII', 0, 1 << 40, 0, 0, 0, 0) + bytes(64))",
        ("terminal-takeover",),
        "ENOTTY",
    ),
    telling("finds anything in /proc but processes", "found = [name for name in os.listdir('/proc') if not name.isdigit() and name not in ('self', 'thread-self')]", FULL_PROC),
    *(
        opening(f"/proc/{path}", f"reads {what}", FULL_PROC)
        for path, what in (("cmdline", "how the machine was started"), ("sys/kernel/hostname", "the kernel's settings"),
                           ("keys", "which keys the machine has"), ("kallsyms", "where the kernel is"),
                           ("mounts", "the mounts by the old name"), ("partitions", "the machine's disks"),
                           ("interrupts", "the machine's interrupts"), ("net/unix", "sockets by the old name"),
                           ("sysvipc/shm", "the table of shared memory"), ("locks", "who locks which files"),
                           ("pressure/cpu", "how busy the machine is"), ("diskstats", "what the disks do"))
    ),
    Attack(
        "reads the kernel's memory and its map",
        "for name in ('kcore', 'kpageflags', 'vmallocinfo'): reach(lambda: os.read(os.open('/proc/' + name, os.O_RDONLY), 8))",
        ROOT_OF_GUARD,
        "ENOENT\nENOENT\nENOENT",
    ),
    Attack("reads the log of the kernel by its size", f"{ASK}\nask({NUMBERS['syslog']}, 10, None, 0)", ROOT_OF_GUARD, "EPERM"),
    telling("finds where its memory lies in the machine's", """
page = ctypes.create_string_buffer(b"x" * 8192)
with open("/proc/self/pagemap", "rb") as file:
    file.seek(ctypes.addressof(page) // 4096 * 8)
    found = int.from_bytes(file.read(8), "little") & ((1 << 55) - 1)""", ROOT_OF_GUARD),
]  # fmt: skip

ATTACKS = [*FILES, *SERVER, *NETWORK, *KERNEL]
