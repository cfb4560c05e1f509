"""The seccomp programs, run by a small BPF machine: what each call comes to, by name, on both architectures."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.sandboxes.native import seccomp

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386, ARM = 0x40000003, 0x40000028
X32_BIT = 0x40000000
HIGH = 1 << 32  # a bit that the kernel does not look at

_NEVER = """
    mount umount2 pivot_root chroot unshare setns bpf perf_event_open keyctl add_key request_key io_uring_setup
    io_uring_enter io_uring_register userfaultfd ptrace process_vm_readv process_vm_writev pidfd_getfd kexec_load
    kexec_file_load init_module finit_module delete_module open_by_handle_at name_to_handle_at swapon swapoff
    reboot settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname syslog quotactl quotactl_fd
    fanotify_init fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr iopl ioperm modify_ldt kcmp
    acct statmount listmount
"""
NEVER = sorted(_NEVER.split())
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; and CLONE_PARENT
NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x8000)
THREAD = 0x003D0F00  # VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID: pthread_create(3)
FORK = 0x01200000 | 17  # CHILD_CLEARTID, CHILD_SETTID, SIGCHLD: fork(3) of glibc
TIOCSTI, TIOCLINUX, TIOCSETD, TIOCGWINSZ, FIONBIO = 0x5412, 0x541C, 0x5423, 0x5413, 0x5421
FIEMAP, GETFLAGS, SETFLAGS, FICLONE, SIOCGSTAMP, SIOCETHTOOL = (
    0xC020660B,
    0x80086601,
    0x40086602,
    0x40049409,
    0x8906,
    0x8946,
)
SIOCSIFFLAGS = 0x8914
FIBMAP, NS_GET_PARENT, BLKGETSIZE64 = 1, 0xB702, 0x80081272
SCTP, UDP_LITE, MPTCP, ICMP, RAW = 132, 136, 262, 1, 255
SOL_SOCKET, TCP, IP, IPV6, UDP, SOL_TLS = 1, 6, 0, 41, 17, 282
AF_BLUETOOTH, AF_ALG, AF_VSOCK, AF_TIPC, AF_XDP = 31, 38, 40, 30, 44
SOCK_OPTIONS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


class Filter:
    """The programs of one machine, as the kernel would run them: both, and what forbids more counts."""

    def __init__(self, machine: str) -> None:
        self.arch = ARCHITECTURES[machine]
        self.numbers = seccomp.syscall_numbers(machine)
        self.programs = [
            list(struct.iter_unpack("=HBBI", program))
            for program in (seccomp.zygote_program(machine), seccomp.sandbox_program(machine))
        ]
        assert all(len(program) <= 4096 for program in self.programs)  # BPF_MAXINSNS

    def __call__(self, call: str | int, *arguments: int, arch: int | None = None) -> str:
        """`ALLOW`, `done` where it answers 0 and does nothing, or the errno's name."""
        number = self.numbers[call] if isinstance(call, str) else call
        padded = (*arguments, *([0] * (6 - len(arguments))))
        data = struct.pack("=IIQ6Q", number, self.arch if arch is None else arch, 0, *padded)
        answers = [self._run(program, data) for program in reversed(self.programs)]
        answer = min(answers, key=lambda each: each & 0xFFFF0000)  # of two errors that of the newer program
        if answer == 0x7FFF0000:  # SECCOMP_RET_ALLOW
            return "ALLOW"
        assert answer >> 16 == 5  # SECCOMP_RET_ERRNO: nothing is killed
        return {0: "done", **errno.errorcode}[answer & 0xFFFF]

    @staticmethod
    def _run(program: list[tuple[int, ...]], data: bytes) -> int:
        accumulator = position = 0
        while True:
            code, if_true, if_false, value = program[position]
            position += 1
            match code:
                case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                    (accumulator,) = struct.unpack_from("=I", data, value)
                case 0x54:  # BPF_ALU | BPF_AND
                    accumulator &= value
                case 0x15:  # BPF_JMP | BPF_JEQ
                    position += if_true if accumulator == value else if_false
                case 0x35:  # BPF_JMP | BPF_JGE
                    position += if_true if accumulator >= value else if_false
                case 0x05:  # BPF_JMP | BPF_JA
                    position += value
                case 0x06:  # BPF_RET
                    return value
                case _:
                    raise AssertionError(f"unknown instruction {code:#x}")


FILTERS = {machine: Filter(machine) for machine in ARCHITECTURES}


@pytest.fixture(params=ARCHITECTURES)
def call(request) -> Filter:
    """The filter, to be called as the kernel is."""
    return FILTERS[request.param]


def test_the_table_has_the_numbers_that_everybody_knows():
    assert [seccomp.syscall_numbers("x86_64")[name] for name in ("read", "mount", "clone3")] == [0, 165, 435]
    assert [seccomp.syscall_numbers("aarch64")[name] for name in ("read", "mount", "clone3")] == [63, 40, 435]


def test_every_name_of_the_lists_is_a_call_of_some_machine():
    known = {name for machine in ARCHITECTURES for name in seccomp.syscall_numbers(machine)}
    assert not (seccomp.ALLOWED | seccomp.CONDITIONAL) - known
    assert not seccomp.ALLOWED & seccomp.CONDITIONAL
    assert not set(NEVER) - known


def test_every_listed_call_passes(call):
    assert {name: call(name) for name in seccomp.ALLOWED & call.numbers.keys() if call(name) != "ALLOW"} == {}


def test_every_other_call_is_refused_as_by_an_unprivileged_user(call):
    others = call.numbers.keys() - seccomp.ALLOWED - seccomp.CONDITIONAL
    assert {name: call(name) for name in others if call(name) != "EPERM"} == {}


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_zygote_may_call_what_makes_sandboxes_and_else_nothing_that_code_may_not(machine):
    zygote, both = Filter(machine), FILTERS[machine]
    zygote.programs = zygote.programs[:1]
    more = {name for name in both.numbers if zygote(name) != both(name)}
    assert more == seccomp.MAKING
    assert (zygote("ioctl", 3, SIOCSIFFLAGS), both("ioctl", 3, SIOCSIFFLAGS)) == ("ALLOW", "ENOTTY")


def test_what_each_sandbox_installs_is_short():
    for machine in ARCHITECTURES:
        assert len(seccomp.sandbox_program(machine)) < len(seccomp.zygote_program(machine)) / 10


@pytest.mark.parametrize("name", NEVER)
def test_what_reaches_the_kernels_weak_spots_is_refused(call, name):
    if name in call.numbers:  # some are of one machine only
        assert {call(name), call(name, 1, 2, 3), call(name, *[2**64 - 1] * 6)} == {"EPERM"}


def test_numbers_that_the_table_does_not_know_yet_read_as_an_older_kernel(call):
    highest = max(call.numbers.values())
    assert {call(number) for number in (highest + 1, highest + 2, 1000, 2**31, 2**32 - 1)} == {"ENOSYS"}


@given(number=st.integers(0, 2**32 - 1) | st.integers(0, 600))
def test_any_number_ends_in_an_answer_and_passes_only_if_listed(number):
    for call in FILTERS.values():
        names = {number: name for name, number in call.numbers.items()}
        is_listed = names.get(number) in seccomp.ALLOWED | seccomp.CONDITIONAL
        assert is_listed or call(number) in ("EPERM", "ENOSYS")


@pytest.mark.parametrize("arch", [I386, ARM, 0, 0xFFFFFFFF])
def test_calls_of_another_architecture_do_not_get_past(call, arch):
    assert {call(number, arch=arch) for number in range(500)} == {"EPERM"}


def test_no_x32_number_passes(call):
    assert {call(X32_BIT | number) for number in range(600)} == {"ENOSYS"}


@pytest.mark.parametrize("flag", NAMESPACES, ids=hex)
def test_clone_makes_no_namespace(call, flag):
    assert {call("clone", flag), call("clone", THREAD | flag), call("clone", HIGH | FORK | flag)} == {"EPERM"}


def test_clone_makes_threads_and_processes_and_clone3_sends_libraries_back_to_it(call):
    assert [call("clone", THREAD), call("clone", FORK), call("clone", 17)] == ["ALLOW"] * 3
    assert call("clone3") == "ENOSYS"


def test_ioctl_takes_over_no_terminal(call):
    takeovers = (TIOCSTI, TIOCLINUX, TIOCSETD)
    assert {call("ioctl", 0, bits | request) for request in takeovers for bits in (0, HIGH)} == {"EPERM"}
    assert {call("ioctl", 0, bits | request) for request in (TIOCGWINSZ, FIONBIO) for bits in (0, HIGH)} == {"ALLOW"}
    assert call("ioctl", TIOCSTI, TIOCGWINSZ) == "ALLOW"  # a descriptor of that number


@pytest.mark.parametrize(
    "request_",
    [FIEMAP, GETFLAGS, SETFLAGS, FICLONE, FIBMAP, SIOCGSTAMP, NS_GET_PARENT, BLKGETSIZE64],
    ids=hex,
)
def test_no_ioctl_tells_of_the_machines_disks_or_reaches_what_no_program_needs(call, request_):
    assert {call("ioctl", 3, bits | request_) for bits in (0, HIGH)} == {"ENOTTY"}
    assert {call("ioctl", 3, bits | SIOCETHTOOL) for bits in (0, HIGH)} == {
        errno.errorcode[errno.EOPNOTSUPP]
    }  # as loopback's driver says


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("options", [0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, SOCK_OPTIONS])
def test_ordinary_sockets_are_ordinary(call, family, options):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert call("socket", family, kind | options) == "ALLOW"
    for kind in (socket.SOCK_RAW, socket.SOCK_RDM, 10):  # 10: SOCK_PACKET
        assert call("socket", family, kind | options) == "EPERM"
    packets = "ALLOW" if family == socket.AF_UNIX else "EPERM"  # elsewhere that is SCTP, where it is loaded
    assert call("socket", family, socket.SOCK_SEQPACKET | options) == packets


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_of_the_internets_protocols_there_are_tcp_and_udp(call, family):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert {call("socket", family, kind, high | known) for known in (0, TCP, UDP) for high in (0, HIGH)} == {
            "ALLOW"
        }
        others = (SCTP, UDP_LITE, MPTCP, ICMP, RAW)
        assert {call("socket", family, kind, high | other) for other in others for high in (0, HIGH)} == {
            "EPROTONOSUPPORT"
        }


@pytest.mark.parametrize(
    "family", [0, socket.AF_PACKET, socket.AF_NETLINK, socket.AF_CAN, AF_BLUETOOTH, AF_TIPC, AF_ALG, AF_VSOCK, AF_XDP]
)
def test_other_families_do_not_exist(call, family):
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
    assert {call("socket", bits | family, kind) for kind in kinds for bits in (0, HIGH)} == {"EAFNOSUPPORT"}


OPTIONS = {  # level, option
    "SO_TIMESTAMPING": (SOL_SOCKET, 37), "SO_TIMESTAMPING_NEW": (SOL_SOCKET, 65), "SO_TIMESTAMP": (SOL_SOCKET, 29),
    "SO_RXQ_OVFL": (SOL_SOCKET, 40), "SO_ATTACH_FILTER": (SOL_SOCKET, 26), "SO_ATTACH_BPF": (SOL_SOCKET, 50),
    "SO_ATTACH_REUSEPORT_CBPF": (SOL_SOCKET, 51), "SO_ATTACH_REUSEPORT_EBPF": (SOL_SOCKET, 52), "SO_ZEROCOPY": (SOL_SOCKET, 60),
    "SO_TXTIME": (SOL_SOCKET, 61), "SO_MARK": (SOL_SOCKET, 36), "SO_MAX_PACING_RATE": (SOL_SOCKET, 47),
    "TCP_ULP": (TCP, 31), "TCP_MD5SIG": (TCP, 14), "TCP_AO_ADD_KEY": (TCP, 38), "TCP_REPAIR": (TCP, 19),
    "TCP_FASTOPEN_KEY": (TCP, 33), "TCP_TX_DELAY": (TCP, 37), "UDP_CORK": (UDP, 1), "UDP_ENCAP": (UDP, 100), "UDP_SEGMENT": (UDP, 103),
    "UDP_GRO": (UDP, 104), "IP_OPTIONS": (IP, 4), "IP_MSFILTER": (IP, 41), "MCAST_JOIN_GROUP": (IP, 42),
    "IPT_SO_SET_REPLACE": (IP, 64), "IPV6_JOIN_GROUP": (IPV6, 20), "IPV6_FLOWLABEL_MGR": (IPV6, 32), "IPV6_HOPOPTS": (IPV6, 54),
    "TLS_TX": (SOL_TLS, 1), "a level that nobody knows": (300, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_socket_options_that_keep_kernel_memory_or_change_the_protocol_are_not_known(call, name):
    level, option = OPTIONS[name]
    assert {call("setsockopt", 3, one | level, other | option) for one in (0, HIGH) for other in (0, HIGH)} == {
        "ENOPROTOOPT"
    }


def test_ordinary_socket_options_are_ordinary(call):
    names = {
        "SOL_SOCKET": "REUSEADDR REUSEPORT KEEPALIVE LINGER BROADCAST OOBINLINE PASSCRED BINDTODEVICE DONTROUTE PRIORITY",
        "IPPROTO_TCP": "NODELAY CORK KEEPIDLE KEEPINTVL KEEPCNT USER_TIMEOUT MAXSEG QUICKACK DEFER_ACCEPT CONGESTION",
        "IPPROTO_IP": "TOS TTL MULTICAST_TTL MULTICAST_LOOP MULTICAST_IF ADD_MEMBERSHIP DROP_MEMBERSHIP",
        "IPPROTO_IPV6": "V6ONLY UNICAST_HOPS MULTICAST_HOPS RECVPKTINFO RECVHOPLIMIT TCLASS",
    }
    prefixes = {"SOL_SOCKET": "SO", "IPPROTO_TCP": "TCP", "IPPROTO_IP": "IP", "IPPROTO_IPV6": "IPV6"}
    for level, options in names.items():
        for option in options.split():
            number = getattr(socket, f"{prefixes[level]}_{option}")
            assert call("setsockopt", 3, getattr(socket, level), number) == "ALLOW", option


def test_no_socket_has_larger_buffers_or_a_queue_of_errors_and_who_asks_is_not_told(call):
    ignored = ((SOL_SOCKET, 7), (SOL_SOCKET, 8), (SOL_SOCKET, 32), (SOL_SOCKET, 33), (IP, 11), (IPV6, 25))
    assert {call("setsockopt", 3, level, option) for level, option in ignored} == {"done"}


def test_nothing_is_sent_piece_by_piece_through_a_datagram_that_the_kernel_keeps(call):
    flags = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
    for name, index in flags.items():
        before = (3,) * index
        assert {call(name, *before, high | 0x8000 | 0x4000) for high in (0, HIGH)} == {"ENOTSUP"}  # the same number
        assert {call(name, *before, other) for other in (0, 0x40, 0x4000, HIGH)} == {"ALLOW"}


def test_code_compiles_no_filters_of_its_own_and_locks_only_what_its_processes_own(call):
    assert {call("seccomp", operation) for operation in (0, 1, 2, HIGH | 1)} == {"EINVAL"}
    assert {call("prctl", high | 22, 2) for high in (0, HIGH)} == {"EINVAL"}
    assert {call("fcntl", 3, high | lock) for lock in (36, 37, 38) for high in (0, HIGH)} == {"EINVAL"}
    assert {call("fcntl", 3, command) for command in (*range(17), 1024, 1030, 1031, 1033)} == {"ALLOW"}


def test_no_page_of_a_file_is_dropped_for_everybody(call):
    assert {call("fadvise64", 3, 0, 0, advice) for advice in range(6)} == {"done"}


def test_socketpair_is_no_way_round_the_families(call):
    assert call("socketpair", socket.AF_UNIX, socket.SOCK_STREAM) == "ALLOW"
    assert "ALLOW" not in {call("socketpair", family, socket.SOCK_STREAM) for family in (AF_TIPC, AF_ALG, AF_VSOCK)}


def test_personality_is_asked_for_and_not_changed(call):
    assert {call("personality", value) for value in (0, 0xFFFFFFFF, 2**64 - 1)} == {"ALLOW"}
    no_randomization, read_implies_exec, linux32 = 0x0040000, 0x0400000, 0x0008
    assert {call("personality", value) for value in (no_randomization, read_implies_exec, linux32)} == {"EPERM"}


def test_memory_is_advised_on_but_never_merged(call):
    assert {call("madvise", 0, 4096, advice) for advice in (0, 4, 8, 14, 23)} == {"ALLOW"}
    assert call("madvise", 0, 4096, 12) == "EINVAL"
    assert (call("prctl", 38), call("prctl", 67, 1)) == ("ALLOW", "EINVAL")


def test_the_machines_huge_pages_are_not_to_be_had_and_ordinary_ones_are(call):
    hugetlb = {"mmap": (0, 4096, 3, 0x40022), "memfd_create": (0, 0x5), "shmget": (0, 4096, 0o5600)}
    ordinary = {"mmap": (0, 4096, 3, 0x22), "memfd_create": (0, 0x1), "shmget": (0, 4096, 0o1600)}
    assert {call(name, *arguments) for name, arguments in hugetlb.items()} == {"ENOMEM"}
    assert {call(name, *arguments) for name, arguments in ordinary.items()} == {"ALLOW"}


def test_aio_whose_contexts_are_the_machines_is_refused(call):
    assert call("io_setup", 1, 0) == "EPERM"
