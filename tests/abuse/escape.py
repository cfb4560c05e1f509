"""Ways out: more rights, other namespaces, the kernel's dangerous calls.

A call that would change the whole machine is made with an argument that the kernel looks at after the caller's rights:
its error then says that the way was open. `ENOSYS` does so too, of a kernel that was built without the call; held, it
is the filter that answers, with EPERM.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

from python_executor.sandboxes.native.seccomp import syscall_numbers
from tests.abuse.attacks import Attack

NUMBERS = syscall_numbers(platform.machine())

FILTER = ("seccomp",)
# In these two sets none hides behind another: one guard for all of them.
FILTER_CONDITIONS = CAPABILITIES = (
    "architecture",
    "capabilities",
    "clone-flags",
    "memory-merging",
    "personality",
    "terminal-takeover",
)
FILES_OF_BOX = OLD_ROOT = ("nested-user-namespace", "old-root", "own-uid", "read-only-root")
ROOT_OF_BOX = ("capabilities", "nested-user-namespace", "own-uid", "seccomp")
ROOT_OF_GUARD = (*ROOT_OF_BOX, "box-user-namespace", "host-files", "host-paths", "processes-of-the-host",
                 "proc-options", "read-only", "read-only-proc")  # fmt: skip
SETUID = ("box-user-namespace", "host-paths", "nested-user-namespace", "no-new-privileges-flag", "nosuid", "seccomp")

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

ASK = """
libc.syscall.restype = ctypes.c_long
def ask(number, *arguments, past=()):
    'A system call; an error of `past` comes only after the rights were looked at, and is as good as success.'
    result = libc.syscall(*(ctypes.c_long(each) if isinstance(each, int) else each for each in (number, *arguments)))
    word = "REACHED" if result >= 0 else errno.errorcode[ctypes.get_errno()]
    print("REACHED" if word in past else word, flush=True)
    return result
"""


def asking(
    name: str, call: str, arguments: str, without: Iterable[str], past: str = "", says: str = "EPERM", before: str = ""
) -> Attack:
    """One system call, its arguments as Python source."""
    code = f"{ASK}{before}\nask({NUMBERS[call]}, {arguments}, past={past.split()})"
    return Attack(name, code, tuple(without), says)


def failing(name: str, code: str, without: Iterable[str], says: str = "EPERM") -> Attack:
    return Attack(name, code, tuple(without), says)


NAMESPACES = [
    *(
        asking(f"makes a {kind} namespace of its own by unshare", "unshare", hex(flags | CLONE_NEWUSER), FILTER)
        for kind, flags in (("user", 0), ("user and a mount", CLONE_NEWNS), ("user and a PID", CLONE_NEWPID),
                            ("user and a network", CLONE_NEWNET), ("user and a cgroup", CLONE_NEWCGROUP),
                            ("user and a time", 0x80))
    ),
    *(
        asking(f"makes a {kind} namespace with the rights it has", "unshare", hex(flags), ROOT_OF_BOX)
        for kind, flags in (("mount", CLONE_NEWNS), ("UTS", CLONE_NEWUTS), ("IPC", CLONE_NEWIPC))
    ),
    failing(
        "makes a child in a user namespace by a flag of clone",
        f"{ASK}\nif ask({NUMBERS['clone']}, {CLONE_NEWUSER | 17}, 0, 0, 0, 0) == 0: os._exit(0)",
        FILTER_CONDITIONS,
    ),
    failing(
        "makes a child in a user, mount and PID namespace by clone3, whose flags no filter sees",
        f"{ASK}\nimport struct\nargs = struct.pack('8Q', {CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID}, 0, 0, 0, 17, 0, 0, 0)"
        f"\nif ask({NUMBERS['clone3']}, args, 64) == 0: os._exit(0)",
        FILTER,
        says="ENOSYS",
    ),
    asking("enters a namespace by setns", "setns", "os.open('/proc/self/ns/user', os.O_RDONLY), 0", FILTER, "EINVAL"),
    failing(
        "enters the mount namespace of PID 1",
        f"{ASK}\ntry: fd = os.open('/proc/1/ns/mnt', os.O_RDONLY)\nexcept OSError as e: print(errno.errorcode[e.errno]); fd = -1"
        f"\nask({NUMBERS['setns']}, fd, 0)",
        ROOT_OF_GUARD,
        says="ENOENT\nEPERM",
    ),
    asking("enters the namespaces of PID 1 by its pidfd", "setns", f"os.pidfd_open(1), {CLONE_NEWNS}", ROOT_OF_GUARD),
]  # fmt: skip

MOUNTS = [
    asking("mounts a file system", "mount", "b'x', b'/tmp', b'tmpfs', 0, None", ROOT_OF_BOX),
    asking("mounts a /proc without our options", "mount", "b'proc', b'/proc', b'proc', 0, None", ROOT_OF_GUARD),
    asking("binds one directory over another", "mount", "b'/etc', b'/tmp', None, 4096, None", ROOT_OF_BOX),
    asking("makes the root writable again", "mount", "None, b'/', None, 0x20 | 0x1000, None", ROOT_OF_BOX),
    asking("makes the interpreter's mount writable again by mount_setattr", "mount_setattr",
           "-100, b'/usr/lib', 0, __import__('struct').pack('4Q', 0, 1, 0, 0), 32", ROOT_OF_BOX),
    asking("takes the mount off that hides /proc", "umount2", "b'/proc', 2", ROOT_OF_BOX),
    asking("swaps the root", "pivot_root", "b'/tmp', b'/tmp'", ROOT_OF_BOX, past="EINVAL EBUSY"),
    asking("changes the root", "chroot", "b'/tmp'", ROOT_OF_BOX),
    asking("opens a file system to mount it later", "fsopen", "b'tmpfs', 0", ROOT_OF_BOX),
    asking("picks a mounted file system to change it", "fspick", "-100, b'/tmp', 0", ROOT_OF_BOX),
    asking("clones a tree of mounts", "open_tree", "-100, b'/', 1", ROOT_OF_BOX),
    asking("moves a mount", "move_mount", "-100, b'/tmp', -100, b'/work', 0", ROOT_OF_BOX),
]  # fmt: skip

IDENTITIES = [
    asking("becomes uid 0", "setuid", "0", ROOT_OF_BOX, says="E"),
    asking("becomes uid 0 by setresuid", "setresuid", "0, 0, 0", ROOT_OF_BOX, says="E"),
    asking("becomes gid 0 by setresgid", "setresgid", "0, 0, 0", ROOT_OF_BOX, says="E"),
    asking("becomes another sandbox's uid", "setresuid", "2, 2, 2", ROOT_OF_BOX, says="E"),
    asking("joins other groups", "setgroups", "1, (ctypes.c_uint * 1)(0)", ROOT_OF_BOX),
    failing(
        "opens files as root by setfsuid",
        "libc.setfsuid(0)\nprint('REACHED' if libc.setfsuid(-1) == 0 else 'refused')",
        ROOT_OF_BOX,
        says="refused",
    ),
    failing(
        "takes capabilities by capset",
        f"{ASK}\nimport struct\nask({NUMBERS['capset']}, struct.pack('=Ii', 0x20080522, 0), struct.pack('=6I', 1, 1, 0, 0, 0, 0))",
        CAPABILITIES,
    ),
    failing(
        "gives a program of its own file capabilities",
        "import struct\nopen('/work/program', 'w')\n"
        "reach(os.setxattr, '/work/program', 'security.capability', struct.pack('<5I', 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0))",
        ROOT_OF_BOX,
    ),
    asking("changes its securebits", "prctl", "28, 1, 0, 0, 0", CAPABILITIES),
    *(
        failing(
            f"gains root's uid by the setuid program {program}",
            f"""
import fcntl, subprocess, time, resource
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True: os.write(writer, bytes(4096))  # what the program prints does not fit any more: it stays while we look
except BlockingIOError: os.set_blocking(writer, True)
program = subprocess.Popen(["/usr/bin/{program}", "--help"], stdout=writer, stderr=writer)
def state():
    try: return open(f"/proc/{{program.pid}}/stat").read().rpartition(")")[2].split()[0]
    except OSError: return "hidden"
deadline = time.monotonic() + 5
while state() not in ("S", "Z", "hidden") and time.monotonic() < deadline: time.sleep(0.002)
try: resource.prlimit(program.pid, resource.RLIMIT_NOFILE); print("our own still")
except PermissionError: print("REACHED")
program.kill()
""",
            SETUID,
            says="our own still",
        )
        for program in ("su", "mount", "passwd")
    ),
]  # fmt: skip

OTHER_PROCESSES = [
    failing(
        "traces a child of its own",
        f"{ASK}\nif (child := os.fork()) == 0: ask({NUMBERS['ptrace']}, 0, 0, 0, 0); os._exit(0)\nos.waitpid(child, 0)",
        FILTER,
    ),
    asking("traces its init", "ptrace", "16, 1, 0, 0", ROOT_OF_BOX, says="E"),
    asking(
        "reads a process's memory by process_vm_readv", "process_vm_readv", "os.getpid(), None, 0, None, 0, 0", FILTER
    ),
    asking(
        "writes a process's memory by process_vm_writev",
        "process_vm_writev",
        "os.getpid(), None, 0, None, 0, 0",
        FILTER,
    ),
    asking("takes a descriptor out of another process", "pidfd_getfd", "os.pidfd_open(os.getpid()), 1, 0", FILTER),
    asking("compares what two processes have", "kcmp", "os.getpid(), os.getpid(), 0, 1, 1", FILTER),
    failing(
        "lets a filter of its own allow what ours refuses",
        f"""
{ASK}
import struct
allow = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
program = struct.pack("@HxxxxxxQ", 1, ctypes.addressof(allow))
libc.prctl(38, 1, 0, 0, 0)
if libc.syscall({NUMBERS["seccomp"]}, 1, 0, program) != 0: print("no filter")
ask({NUMBERS["unshare"]}, {CLONE_NEWUSER})
""",
        FILTER,
    ),
    failing(
        "runs sitecustomize of its own in a fresh interpreter, without the filter",
        f"open('/work/sitecustomize.py', 'w').write('''import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print('REACHED' if libc.unshare({CLONE_NEWUSER}) == 0 else errno.errorcode[ctypes.get_errno()], flush=True)''')\n"
        "os.execve(sys.executable, [sys.executable, '-c', ''], {'PYTHONPATH': '/work'})",
        FILTER,
    ),
]

KERNEL = [
    asking("asks for a key of its session", "keyctl", "0, -3, 1", FILTER),
    asking("adds a key", "add_key", "b'user', b'python-executor', b'x', 1, -2", FILTER),
    asking("requests a key", "request_key", "b'user', b'python-executor', None, 0", FILTER, past="ENOKEY"),
    asking("loads a BPF map", "bpf", "0, __import__('struct').pack('=5I44x', 2, 4, 4, 1, 0), 64", ROOT_OF_GUARD),
    asking("opens a performance counter", "perf_event_open",
           "__import__('struct').pack('=IIQ112x', 1, 128, 0), 0, -1, -1, 0", ROOT_OF_GUARD),
    asking("sets up io_uring", "io_uring_setup", "1, ctypes.create_string_buffer(256)", FILTER),
    asking("enters io_uring", "io_uring_enter", "-1, 0, 0, 0, None, 0", FILTER, past="EBADF"),
    asking("sets up userfaultfd", "userfaultfd", "1", FILTER),
    asking("watches a file system by fanotify", "fanotify_init", "0x200, 0", FILTER),
    asking("loads a module from memory", "init_module", "None, 0, b''", ROOT_OF_GUARD, past="EFAULT ENOEXEC EINVAL ENOSYS"),
    asking("loads a module from a file", "finit_module", "-1, b'', 0", ROOT_OF_GUARD, past="EBADF ENOSYS"),
    asking("removes a module", "delete_module", "b'no such module', 0o4000", ROOT_OF_GUARD, past="ENOENT ENOSYS"),
    asking("loads another kernel", "kexec_load", "0, 0, None, 0xFFFF", ROOT_OF_GUARD, past="EINVAL ENOSYS"),
    asking("restarts the machine", "reboot", "0, 0, 0, None", ROOT_OF_GUARD, past="EINVAL"),
    asking("swaps to a file", "swapon", "b'', 0", ROOT_OF_GUARD, past="ENOENT EINVAL"),
    asking("ends swapping to a file", "swapoff", "b''", ROOT_OF_GUARD, past="ENOENT EINVAL"),
    asking("writes the machine's accounting to a file", "acct", "b'/no/such/file'", ROOT_OF_GUARD, past="ENOENT ENOSYS"),
    asking("asks for a disk quota", "quotactl", "0x80000700, b'', 0, None", FILTER, past="ENOENT ENOTBLK ENODEV ENOSYS EINVAL"),
    asking("sets the time", "settimeofday", "None, None", ROOT_OF_GUARD),
    asking("sets a clock", "clock_settime", "0, None", FILTER, past="EFAULT"),
    asking("bends the clock", "adjtimex", "__import__('struct').pack('=I204x', 0x4000)", ROOT_OF_GUARD, past="EINVAL"),
    asking("sets the host name", "sethostname", "b'sandbox', 7", ROOT_OF_BOX),
    asking("sets the domain name", "setdomainname", "b'', 0", ROOT_OF_BOX),
    asking("reads the kernel's log", "syslog", "3, ctypes.create_string_buffer(64), 64", ROOT_OF_GUARD),
    asking("names a file by a handle", "name_to_handle_at",
           "-100, b'/work', __import__('struct').pack('=II128x', 128, 0), ctypes.create_string_buffer(8), 0", FILTER),
    failing(
        "opens a file by its handle",
        f"{ASK}\nimport struct\nhandle = ctypes.create_string_buffer(struct.pack('=II', 128, 0) + bytes(128))\n"
        f"libc.syscall({NUMBERS['name_to_handle_at']}, -100, b'/work', handle, ctypes.create_string_buffer(8), 0)\n"
        f"ask({NUMBERS['open_by_handle_at']}, os.open('/work', os.O_RDONLY), handle, 0)",
        ROOT_OF_GUARD,
    ),
    asking("changes which memory node it gets", "set_mempolicy", "0, None, 0", FILTER, past="ENOSYS"),
    asking("asks who it is to the kernel's modules of security", "lsm_list_modules", "None, None, 0", FILTER, past="EINVAL EFAULT E2BIG ENOSYS"),
    asking("lets its pages be merged with its neighbours'", "prctl", "67, 1, 0, 0, 0", FILTER_CONDITIONS, says="EINVAL"),
    asking("takes the machine's contexts of asynchronous I/O", "io_setup", "1, ctypes.byref(ctypes.c_ulong())", FILTER),
    asking("offers a page to be merged", "madvise", "ctypes.c_void_p(place), 4096, 12", FILTER_CONDITIONS, says="EINVAL",
           before="import mmap\npage = mmap.mmap(-1, 4096)\nplace = ctypes.addressof(ctypes.c_char.from_buffer(page))"),
    asking("turns address randomization off", "personality", "0x40000", FILTER_CONDITIONS),
    *([asking("changes its table of segments", "modify_ldt", "0, ctypes.create_string_buffer(64), 64", FILTER, past="ENOSYS"),
       asking("asks for the machine's ports", "iopl", "3", ROOT_OF_GUARD, past="ENOSYS")] if "iopl" in NUMBERS else []),
    asking("maps the heap of a process that ends", "process_madvise", "os.pidfd_open(os.getpid()), None, 0, 20, 0", FILTER, past="EINVAL"),
]  # fmt: skip

INT_80 = """
import mmap, platform
if platform.machine() != "x86_64": print("EPERM"); raise SystemExit
code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid of i386); int 0x80; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print("REACHED" if result > 0 else errno.errorcode[-result])
"""
if platform.machine() == "x86_64":
    KERNEL.append(failing("calls the kernel as a 32-bit program", INT_80, FILTER_CONDITIONS))


def socket_of(name: str, family: int, kind: int, protocol: int, without: Iterable[str], says: str) -> Attack:
    return asking(f"opens {name}", "socket", f"{family}, {kind}, {protocol}", without, says=says)


SOCKETS = [
    socket_of("a packet socket", 17, 3, 0x300, ROOT_OF_BOX, "EAFNOSUPPORT"),
    socket_of("a raw socket", 2, 3, 1, ROOT_OF_BOX, "EPERM"),
    socket_of("a raw IPv6 socket", 10, 3, 58, ROOT_OF_BOX, "EPERM"),
    socket_of("a socket of a rare protocol", 2, 2, 136, FILTER, "EPROTONOSUPPORT"),
    socket_of("a socket of another rare protocol, over IPv6", 10, 2, 136, FILTER, "EPROTONOSUPPORT"),
    socket_of("a socket to the hypervisor", 40, 1, 0, FILTER, "EAFNOSUPPORT"),
    socket_of("a socket of generic netlink", 16, 3, 16, FILTER, "EAFNOSUPPORT"),
    socket_of("a socket of the kernel's device events", 16, 3, 15, FILTER, "EAFNOSUPPORT"),
    socket_of("a socket of the packet filters", 16, 3, 12, FILTER, "EAFNOSUPPORT"),
    socket_of("a socket of the socket diagnostics", 16, 3, 4, FILTER, "EAFNOSUPPORT"),
    failing(
        "opens a socket of any other family",
        """
import socket
for family in range(3, 46):
    if family == 10: continue
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind, 0).close()
        except OSError as error: word = errno.errorcode[error.errno]
        else: word = "REACHED"
        if word != "EAFNOSUPPORT": print(word, family, kind)
print("none is there")
""",
        FILTER,
        says="none is there",
    ),
    failing(
        "changes its network by netlink",
        """
import socket, struct
try: route = socket.socket(16, 3, 0)
except OSError as error: print(errno.errorcode[error.errno]); raise SystemExit
route.sendto(struct.pack("=IHHII BxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 0, 0), (0, 0))  # RTM_NEWLINK of lo: down or up as it is
number = -struct.unpack_from("=i", route.recv(4096), 16)[0]
print(errno.errorcode[number] if number else "REACHED")
""",
        ROOT_OF_BOX,
        says="EAFNOSUPPORT",
    ),
    failing(
        "marks its packets, which rules of the machine's may trust",
        "import socket\nreach(socket.socket(2, 2).setsockopt, 1, 36, 7)",
        ROOT_OF_BOX,
        says="ENOPROTOOPT",
    ),
]  # fmt: skip

TERMINAL = "import fcntl, pty, termios\nmaster, slave = os.openpty()\nfcntl.ioctl(slave, termios.TIOCSCTTY, 0)\n"
TERMINALS = [
    failing(
        f"takes over a terminal by {name}",
        f"{TERMINAL}try: fcntl.ioctl(slave, {number}, {argument!r})\n"
        "except OSError as error: print('EPERM' if error.errno == errno.EPERM else 'REACHED')\nelse: print('REACHED')",
        FILTER_CONDITIONS,
    )
    for name, number, argument in (("TIOCSTI", 0x5412, b"x"), ("TIOCLINUX", 0x541C, b"\2"), ("TIOCSETD", 0x5423, bytes(4)))
]  # fmt: skip

BEYOND_ITS_OWN = ("/work", "/tmp", "/dev/shm", "/dev/pts", "/proc")
FILES = [
    *(
        failing(f"opens {path} for writing", f"reach(os.open, {path!r}, os.O_WRONLY)", ROOT_OF_GUARD, says="ENOENT")
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/panic",
                     "/proc/1/oom_score_adj", "/proc/1/mem")
    ),
    failing(
        "opens a file of the cgroups for writing",
        "import glob\nfiles = [*glob.glob('/sys/fs/cgroup/cgroup.procs'), *glob.glob('/sys/fs/cgroup/*/cgroup.procs')]\n"
        "for path in files: reach(os.open, path, os.O_WRONLY)\nprint(len(files))",
        ROOT_OF_GUARD,
        says="0",
    ),
    *(
        failing(
            f"makes the device node of {name}",
            f"import stat\nreach(os.mknod, '/work/node', {kind} | 0o600, os.makedev({major}, {minor}))",
            ROOT_OF_GUARD,
        )
        for name, kind, major, minor in (("the machine's memory", "stat.S_IFCHR", 1, 1), ("a disk", "stat.S_IFBLK", 254, 0),
                                         ("the kernel's log", "stat.S_IFCHR", 1, 11))
    ),
    failing(
        "changes the box's own files",
        """
for attempt in (lambda: os.open("/etc/passwd", os.O_WRONLY), lambda: os.open("/guest/runner.py", os.O_WRONLY),
                lambda: os.mkdir("/x"), lambda: os.rename("/etc/hosts", "/etc/hosts2"), lambda: os.chmod("/guest", 0o777),
                lambda: os.unlink("/etc/hostname"), lambda: os.utime("/etc/group"), lambda: os.symlink("/work", "/root/x"),
                lambda: os.setxattr("/etc/hosts", "user.x", b""), lambda: os.mknod("/run/fifo", 0o10600)):
    reach(attempt)
""",
        FILES_OF_BOX,
        says="EROFS",
    ),
    failing(
        "makes a file in any mount that is not its own",
        f"""
for line in open("/proc/self/mountinfo"):
    point = line.split(" ")[4]
    if point.startswith({BEYOND_ITS_OWN}): continue
    path = point.rstrip("/") + "/file" if os.path.isdir(point) else point
    reach(os.open, path, os.O_WRONLY | (os.O_CREAT if os.path.isdir(point) else 0)) if not point.startswith("/dev/") else None
""",
        FILES_OF_BOX,
        says="EROFS",
    ),
    failing(
        "opens the interpreter's library for writing",
        "print(os.__file__)\nreach(os.open, os.__file__, os.O_WRONLY)",
        ROOT_OF_GUARD,
        says="E",
    ),
    failing(
        "leaves its root by ..",
        "home = set(os.listdir('/'))\nos.chdir('/')\n"
        "for way in ('/..', '/../..', '/proc/self/root/..', '/work/../../..'): print('REACHED' if set(os.listdir(way)) - home else 'the same')",
        OLD_ROOT,
        says="the same",
    ),
    failing(
        "leaves its root by a symlink in /work",
        "home = set(os.listdir('/'))\nos.symlink('../../..', '/work/up')\n"
        "print('REACHED' if set(os.listdir('/work/up')) - home else 'the same')",
        OLD_ROOT,
        says="the same",
    ),
    failing(
        "looks through the root of PID 1",
        "reach(os.listdir, '/proc/1/root/')",
        ROOT_OF_GUARD,
        says="ENOENT",
    ),
]  # fmt: skip

ATTACKS = [*NAMESPACES, *MOUNTS, *IDENTITIES, *OTHER_PROCESSES, *KERNEL, *SOCKETS, *TERMINALS, *FILES]
