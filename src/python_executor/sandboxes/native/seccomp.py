"""The system calls that a sandbox may make: an allow-list as readable data, and its BPF program.

What is not listed fails with EPERM, as an unprivileged user is used to; what the table of numbers does not know fails
with ENOSYS, as on an older kernel, so that libraries fall back. Nothing is killed. The program checks the architecture
(32-bit calls do not get past it, x32 numbers lie beyond the table) and finds the number in a balanced tree. Protocols,
socket options and ioctls are allow-lists too: what is not listed fails as where the kernel knows nothing of it.

Socket options and families that make the kernel keep memory which no cgroup counts are left out: netlink, time stamps
and errors queued for a socket, filters, larger buffers.

There are two programs, since the kernel compiles each where it is installed: the longer, the more of a run's time. The
zygote installs the long one, once, and every fork inherits it; each sandbox takes from itself, with the short one, what
the zygote needs to make sandboxes. Both together are the policy.

Left out on purpose: mounts and new roots, namespaces, keyrings, bpf, perf, io_uring, userfaultfd, ptrace and reading
other processes' memory, aio (its contexts are counted for the whole machine), huge pages, modules, kexec, swap, clocks,
host names, file handles, quotas, fanotify, kernel logs.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from importlib.resources import files

_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fdatasync fgetxattr flistxattr flock
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek
    lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv
    preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2
    rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync_file_range tee truncate umask
    unlink unlinkat utime utimensat utimes vmsplice write writev
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 poll ppoll pselect6 select signalfd signalfd4
"""
_MEMORY = """
    brk get_mempolicy map_shadow_stack membarrier mincore mlock mlock2 mlockall mprotect mremap mseal msync
    munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
    arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake
    get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority
    getresgid getresuid getrlimit getrusage getsid gettid getuid kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self pause pidfd_open pidfd_send_signal prlimit64 process_mrelease restart_syscall rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo tgkill tkill times
    uname vfork wait4 waitid
"""
_TIME = """
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
"""
_TALKING = """
    accept accept4 bind connect getpeername getrandom getsockname getsockopt ioprio_get ioprio_set listen mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg
    semctl semget semop semtimedop shmat shmctl shmdt shutdown
"""
ALLOWED = frozenset(" ".join((_FILES, _WAITING, _MEMORY, _PROCESSES, _TIME, _TALKING)).split())
CONDITIONAL = frozenset(
    {"clone", "clone3", "fadvise64", "fcntl", "ioctl", "madvise", "memfd_create", "mmap", "personality", "prctl",
     "seccomp", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shmget", "socket", "socketpair", "sync", "syncfs"}
)  # fmt: skip  # looked at below
MAKING = frozenset(
    {"fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "seccomp", "setns",
     "umount2", "unshare"}
)  # fmt: skip  # what makes a sandbox, beside one ioctl

_NAMESPACE_FLAGS = 0x7E020000  # every CLONE_NEW* of clone(2)
_CLONE_PARENT = 0x8000  # would make a child of the zygote, that nobody waits for
_TERMINAL_TAKEOVER = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
_PR_SET_SECCOMP = 22  # a program's own filters are compiled into memory of the machine's that no cgroup counts
_OFD_LOCKS = (36, 37, 38)  # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW: they belong to no process, so whose are they?
_MADV_MERGEABLE, _PR_SET_MEMORY_MERGE = 12, 67  # pages shared with others by content: a way to feel what they hold
_MAP_HUGETLB, _MFD_HUGETLB, _SHM_HUGETLB = 0x40000, 0x4, 0o4000  # the machine's reserve, counted by no memory cgroup
_PERSONALITIES = (0x0, 0xFFFFFFFF)  # Linux's own, and the question which it is
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 2, 5, 0xF
_PROTOCOLS = (0, 6, 17)  # the type's own, TCP, UDP; SCTP, MPTCP, UDP-Lite, SMC have ways of their own into the kernel
_MSG_MORE = 0x8000  # keeps 64 KiB in a datagram socket that sends nothing, charged to nobody: a gigabyte a second
_SIOCSIFFLAGS = 0x8914  # raises the loopback of a sandbox
_SIOCETHTOOL = 0x8946  # psutil.net_if_stats() asks it of every interface, and takes no for an answer in one form only

# What ordinary programs ask of sockets, by level. Each is one number in the kernel's headers.
_SOCKET_OPTIONS: dict[int, tuple[int, ...]] = {
    1: (  # SOL_SOCKET
        2, 9, 15, 13,  # REUSEADDR, KEEPALIVE, REUSEPORT, LINGER
        20, 21, 6, 5, 10, 12,  # RCVTIMEO, SNDTIMEO, BROADCAST, DONTROUTE, OOBINLINE, PRIORITY
        16, 18, 25,  # PASSCRED, RCVLOWAT, BINDTODEVICE
    ),
    6: (  # TCP
        1, 2, 3, 4, 5, 6, 7, 8,  # NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2
        9, 10, 12, 13, 18, 25,  # DEFER_ACCEPT, WINDOW_CLAMP, QUICKACK, CONGESTION, USER_TIMEOUT, NOTSENT_LOWAT
    ),
    0: (  # IP
        1, 2, 8, 10, 12, 13,  # TOS, TTL, PKTINFO, MTU_DISCOVER, RECVTTL, RECVTOS
        15, 24,  # FREEBIND, BIND_ADDRESS_NO_PORT
        32, 33, 34, 35, 36,  # MULTICAST_IF, MULTICAST_TTL, MULTICAST_LOOP, ADD_MEMBERSHIP, DROP_MEMBERSHIP: 20 a socket
    ),
    41: (  # IPV6
        26, 16, 17, 18, 19, 23,  # V6ONLY, UNICAST_HOPS, MULTICAST_IF, MULTICAST_HOPS, MULTICAST_LOOP, MTU_DISCOVER
        49, 51, 53, 56, 58,  # RECVPKTINFO, RECVHOPLIMIT, RECVHOPOPTS, RECVRTHDR, RECVDSTOPTS
        62, 66, 67, 78,  # DONTFRAG, RECVTCLASS, TCLASS, FREEBIND; joining groups: thousands a socket, charged to nobody
    ),
}  # fmt: skip
_IGNORED_OPTIONS: dict[int, tuple[int, ...]] = {  # answered with success, since who asks fails where it fails
    1: (7, 8, 32, 33),  # SNDBUF, RCVBUF and the forms that force it: up to the machine's largest, for each socket
    0: (11,),  # IP_RECVERR, which glibc's resolver insists on: a queue of errors
    41: (25,),  # IPV6_RECVERR
}

# What ordinary programs ask of files, terminals and sockets, the commonest first: on open(), inheritance, time-outs.
_IOCTLS = (
    0x5401, 0x5451, 0x5450, 0x5421, 0x541B, 0x5413,  # TCGETS, FIOCLEX, FIONCLEX, FIONBIO, FIONREAD, TIOCGWINSZ
    0x5402, 0x5403, 0x5404,  # TCSETS, TCSETSW, TCSETSF
    0x5405, 0x5406, 0x5407, 0x5408,  # TCGETA, TCSETA, TCSETAW, TCSETAF
    0x5409, 0x540A, 0x540B, 0x5425, 0x5427, 0x5428,  # TCSBRK, TCXONC, TCFLSH, TCSBRKP, TIOCSBRK, TIOCCBRK
    0x540C, 0x540D, 0x540E, 0x540F, 0x5410, 0x5411,  # TIOCEXCL, TIOCNXCL, TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCOUTQ
    0x5414, 0x5415, 0x5416, 0x5417, 0x5418, 0x5419,  # TIOCSWINSZ, TIOCMGET, TIOCMBIS, TIOCMBIC, TIOCMSET, TIOCGSOFTCAR
    0x541A, 0x5420, 0x5422, 0x5424, 0x5429,  # TIOCSSOFTCAR, TIOCPKT, TIOCNOTTY, TIOCGETD, TIOCGSID
    0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D,  # TCGETS2, TCSETS2, TCSETSW2, TCSETSF2
    0x80045430, 0x40045431, 0x80045432, 0x5441,  # TIOCGPTN, TIOCSPTLCK, TIOCGDEV, TIOCGPTPEER
    0x40045436, 0x80045438, 0x80045439, 0x80045440,  # TIOCSIG, TIOCGPKT, TIOCGPTLCK, TIOCGEXCL
    0x5452, 0x5460, 0x8901, 0x8902, 0x8903, 0x8904,  # FIOASYNC, FIOQSIZE, FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP
    0x8905, 0x894B,  # SIOCATMARK, SIOCOUTQNSD
    0x8910, 0x8912, 0x8913, 0x8915, 0x8917, 0x8919,  # SIOCGIFNAME, -CONF, -FLAGS, -ADDR, -DSTADDR, -BRDADDR
    0x891B, 0x891D, 0x8921, 0x8927,  # SIOCGIFNETMASK, -METRIC, -MTU, -HWADDR
    0x8933, 0x8942, 0x8970,  # SIOCGIFINDEX, -TXQLEN, -MAP
)  # fmt: skip

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low half; no argument looked at here is wider in the kernel


# --- a small assembler: each function gives one or more instructions, jumps count instructions to skip ----------------


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(0x20, offset)


def _and(mask: int) -> bytes:
    return _instruction(0x54, mask)


def _skip(count: int) -> bytes:
    return _instruction(0x05, count)


def _count(code: bytes) -> int:
    return len(code) // 8


def _if_equal(value: int, then: bytes) -> bytes:
    return _instruction(0x15, value, 0, _count(then)) + then


def _if_at_least(value: int, then: bytes, otherwise: bytes) -> bytes:
    """Both branches end in a return; a branch longer than a conditional jump reaches is stepped over."""
    if _count(otherwise) <= 255:
        return _instruction(0x35, value, _count(otherwise), 0) + otherwise + then
    return _instruction(0x35, value, 0, 1) + _skip(_count(otherwise)) + otherwise + then


ALLOW = _instruction(0x06, 0x7FFF0000)


def _fail(number: int) -> bytes:
    return _instruction(0x06, 0x00050000 | number)


DENY = _fail(errno.EPERM)
SUCCEED = _fail(0)
UNKNOWN = _fail(errno.ENOSYS)


def _allow_only(argument: int, values: tuple[int, ...], mask: int = 0xFFFFFFFF) -> bytes:
    """Allow where the argument, masked, is one of the values; else go on."""
    head = _load(_argument(argument)) + _and(mask)
    return head + b"".join(_if_equal(value, ALLOW) for value in values)


_LOCAL_TYPES = _allow_only(1, (_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET), _SOCK_TYPE_MASK) + DENY


def _answer_each(values: tuple[int, ...], answer: bytes) -> bytes:
    """End in the answer where what is loaded is one of the values; else go on."""
    return b"".join(_if_equal(value, answer) for value in values)


def _socket_options() -> bytes:
    """By level, then by option; what is not listed is not known here."""
    code = _load(_argument(1))
    for level, options in _SOCKET_OPTIONS.items():
        ignored = _answer_each(_IGNORED_OPTIONS.get(level, ()), SUCCEED)
        known = _load(_argument(2)) + _answer_each(options, ALLOW) + ignored
        code += _if_equal(level, known + _fail(errno.ENOPROTOOPT))
    return code + _fail(errno.ENOPROTOOPT)


def _sockets() -> bytes:
    """Local ones of every ordinary type; TCP and UDP, and no other protocol of their families."""
    protocols = _load(_argument(2)) + _answer_each(_PROTOCOLS, ALLOW) + _fail(errno.EPROTONOSUPPORT)
    types = _load(_argument(1)) + _and(_SOCK_TYPE_MASK)
    internet = types + b"".join(_if_equal(kind, protocols) for kind in (_SOCK_STREAM, _SOCK_DGRAM)) + DENY
    families = ((_AF_UNIX, _LOCAL_TYPES), (_AF_INET, internet), (_AF_INET6, internet))
    code = b"".join(_if_equal(family, rest) for family, rest in families)
    return _load(_argument(0)) + code + _fail(errno.EAFNOSUPPORT)


def _refuse(argument: int, *values: int) -> bytes:
    """Allow but where the argument is one of these, of which the kernel then seems to know nothing."""
    return _load(_argument(argument)) + _answer_each(values, _fail(errno.EINVAL)) + ALLOW


def _refuse_bit(argument: int, mask: int, answer: int) -> bytes:
    """Allow where the bit is not set."""
    return _load(_argument(argument)) + _and(mask) + _if_equal(0, ALLOW) + _fail(answer)


def conditions() -> dict[str, bytes]:
    """Code that ends in a return, for each conditional call."""
    no_strangers = _load(_argument(0)) + _and(_NAMESPACE_FLAGS | _CLONE_PARENT) + _if_equal(0, ALLOW) + DENY
    takeovers = _answer_each(_TERMINAL_TAKEOVER, DENY)
    unsupported = _if_equal(_SIOCETHTOOL, _fail(errno.EOPNOTSUPP))
    known_requests = _load(_argument(1)) + _answer_each(_IOCTLS, ALLOW) + takeovers + unsupported + _fail(errno.ENOTTY)
    local_pairs = _load(_argument(0)) + _if_equal(_AF_UNIX, _LOCAL_TYPES) + _fail(errno.EAFNOSUPPORT)
    return {
        "clone": no_strangers,
        "clone3": UNKNOWN,  # its flags lie in memory, where no filter can look; glibc falls back to clone
        "fadvise64": SUCCEED,  # of pages that are everybody's: whoever drops them makes all others read again
        "ioctl": known_requests,
        "madvise": _refuse(2, _MADV_MERGEABLE),
        "prctl": _refuse(0, _PR_SET_MEMORY_MERGE, _PR_SET_SECCOMP),
        "fcntl": _refuse(1, *_OFD_LOCKS),
        "seccomp": _fail(errno.EINVAL),
        "mmap": _refuse_bit(3, _MAP_HUGETLB, errno.ENOMEM),  # none of these pages are left, so to speak
        "memfd_create": _refuse_bit(1, _MFD_HUGETLB, errno.ENOMEM),
        "shmget": _refuse_bit(2, _SHM_HUGETLB, errno.ENOMEM),
        "sendto": _refuse_bit(3, _MSG_MORE, errno.EOPNOTSUPP),
        "sendmsg": _refuse_bit(2, _MSG_MORE, errno.EOPNOTSUPP),
        "sendmmsg": _refuse_bit(3, _MSG_MORE, errno.EOPNOTSUPP),
        "setsockopt": _socket_options(),
        "personality": _allow_only(0, _PERSONALITIES) + DENY,
        "socket": _sockets(),
        "sync": SUCCEED,  # of the host's disks, which are not the code's to wait for
        "syncfs": SUCCEED,
        "socketpair": local_pairs,  # of other families the kernel would make one first, and refuse to pair it after
    }


def syscall_numbers(machine: str) -> dict[str, int]:
    """Numbers by name, from the table beside this file."""
    lines = files(__package__).joinpath("syscalls.tsv").read_text().splitlines()
    column = lines[0].split("\t").index(machine)
    rows = (line.split("\t") for line in lines[1:])
    return {row[0]: int(row[column]) for row in rows if row[column]}


def _policy(machine: str) -> dict[str, bytes]:
    """What each call of code comes to, of those that the table knows."""
    return {name: ALLOW if name in ALLOWED else DENY for name in syscall_numbers(machine)} | conditions()


def _ranges(actions: Mapping[int, bytes], otherwise: bytes) -> list[tuple[int, bytes]]:
    """What happens from each number on, up to the next: sorted, without two neighbours alike."""
    ranges: list[tuple[int, bytes]] = [(0, actions.get(0, otherwise))]
    for number in range(1, max(actions) + 2):
        action = actions.get(number, otherwise)
        if action != ranges[-1][1]:
            ranges.append((number, action))
    return ranges


def _tree(ranges: list[tuple[int, bytes]]) -> bytes:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    return _if_at_least(ranges[middle][0], _tree(ranges[middle:]), _tree(ranges[:middle]))


def _program(machine: str, actions: Mapping[str, bytes], otherwise: bytes) -> bytes:
    """The BPF program, as `struct sock_filter`s, for a machine as `uname -m` names it; KeyError where there is none."""
    wrong_architecture = _instruction(0x15, _AUDIT_ARCH[machine], 1, 0) + DENY
    numbers = syscall_numbers(machine)
    by_number = {numbers[name]: action for name, action in actions.items() if name in numbers}
    return _load(_ARCH) + wrong_architecture + _load(_NUMBER) + _tree(_ranges(by_number, otherwise))


def zygote_program(machine: str = platform.machine()) -> bytes:
    """What passes in a zygote: what code may call, and what makes a sandbox of a fork."""
    policy = _policy(machine)
    raises_loopback = _load(_argument(1)) + _if_equal(_SIOCSIFFLAGS, ALLOW)
    making = {**dict.fromkeys(MAKING, ALLOW), "ioctl": raises_loopback + policy["ioctl"]}
    return _program(machine, policy | making, UNKNOWN)


def sandbox_program(machine: str = platform.machine()) -> bytes:
    """What is taken away once a sandbox is made: the rest of the policy."""
    policy = _policy(machine)
    loopback_stays = _load(_argument(1)) + _if_equal(_SIOCSIFFLAGS, _fail(errno.ENOTTY)) + ALLOW
    return _program(machine, {name: policy[name] for name in MAKING} | {"ioctl": loopback_stays}, ALLOW)
