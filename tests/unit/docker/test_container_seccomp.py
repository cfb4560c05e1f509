"""The containers' seccomp profile, read as runc reads it: each call ends as the native filter's own program has it."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.sandboxes.docker.seccomp import LEFT_TO_DEFAULT, profile
from python_executor.sandboxes.native import seccomp
from tests.unit.native.test_seccomp import FILTERS, NEVER

PROFILE: dict[str, Any] = json.loads(profile())
RULES: list[dict[str, Any]] = PROFILE["syscalls"]
CALLS = sorted({name for call in FILTERS.values() for name in call.numbers})
# What the conditions look for, what they let pass beside it, and numbers that mean nothing to them.
TELLING = (
    0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 22, 30, 31, 32, 33, 38, 40, 41, 42, 44, 66, 67, 68, 0x3D0F00,
    0x1200011, 0x8000, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x7E028000, 0x5411,
    0x5412, 0x5413, 0x541B, 0x541C, 0x5421, 0x5423, 0x40000, 0x40022, 0o4000, 0o5600, 0x800, 0x80000, 0x80801, 0x80803,
    0x80805, 0xFFFFFFFE, 0xFFFFFFFF, 6, 14, 20, 25, 26, 36, 37, 50, 60, 100, 132, 136, 262, 282, 0x5401, 0x5451, 0x8906,
    0x8946, 0x802C542A, 0x80045430, 0xC020660B,
)  # fmt: skip
HIGH = (0, 1 << 32, 1 << 63, 0xFFFFFFFF << 32, 0x5412 << 32)  # which the kernel does not look at
near = st.sampled_from(TELLING) | st.builds(
    lambda value, bit: value ^ 1 << bit, st.sampled_from(TELLING), st.integers(0, 31)
)
argument = st.builds(lambda low, high: low | high, near | st.integers(0, 2**32 - 1), st.sampled_from(HIGH))


def holding(name: str, arguments: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Rules of a call that hold: all comparisons of 64 bits, as libseccomp's."""
    for rule in RULES:
        compared = rule.get("args", ())
        if name in rule["names"] and all(
            arguments[each["index"]] & each["value"] == each["valueTwo"] for each in compared
        ):
            yield rule


def answer(name: str, *arguments: int) -> str:
    """`ALLOW`, or the errno's name, as the native filter's test has it."""
    rules = list(holding(name, (*arguments, *([0] * (6 - len(arguments))))))
    assert len(rules) <= 1  # what the engine would make of two is nobody's promise
    if not rules:
        return "EPERM"
    return "ALLOW" if rules[0]["action"] == "SCMP_ACT_ALLOW" else {0: "done", **errno.errorcode}[rules[0]["errnoRet"]]


def native(machine: str, name: str, *arguments: int) -> str:
    """What the native program answers, where the profile can say it: what no list has is the profile's default."""
    word = FILTERS[machine](name, *arguments)
    return "EPERM" if word in {errno.errorcode[number] for number in LEFT_TO_DEFAULT} else word


def same_on_every_machine(name: str, *arguments: int) -> None:
    for machine, call in FILTERS.items():
        if name in call.numbers:
            assert answer(name, *arguments) == native(machine, name, *arguments), (machine, name, arguments)


def test_what_is_not_listed_fails_with_eperm_on_both_machines_and_32_bit_calls_have_no_place():
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"  # EPERM, where nothing else is said
    assert PROFILE.keys() == {"defaultAction", "archMap", "syscalls"}
    machines = {each["architecture"]: each["subArchitectures"] for each in PROFILE["archMap"]}
    assert machines == {"SCMP_ARCH_X86_64": [], "SCMP_ARCH_AARCH64": []}


def test_every_call_without_arguments_ends_as_natively():
    for name in CALLS:
        same_on_every_machine(name)


@pytest.mark.parametrize("name", NEVER)
def test_what_reaches_the_kernels_weak_spots_has_no_rule(name):
    assert not [rule for rule in RULES if name in rule["names"]]


@pytest.mark.parametrize("name", sorted(seccomp.CONDITIONAL))
def test_conditional_calls_end_as_natively_whatever_the_high_bits_say(name):
    chance = random.Random(name)
    for low in TELLING:
        for index in range(4):
            for high in HIGH:
                arguments = [chance.choice(TELLING) for _ in range(6)]
                arguments[index] = low | high
                same_on_every_machine(name, *arguments)


@pytest.mark.parametrize("name", sorted(seccomp.CONDITIONAL))
def test_a_value_that_differs_in_any_one_bit_ends_as_natively(name):
    for value in (0, 1, 2, 12, 16, 32, 41, 67, 0x5412, 0x541C, 0x5423):
        for bit in range(64):
            for index in range(3):
                arguments = [0, 41, 0]  # IPPROTO_IPV6, so that setsockopt looks further
                arguments[index] = value ^ 1 << bit
                same_on_every_machine(name, *arguments)


@given(name=st.sampled_from(sorted(seccomp.CONDITIONAL)), arguments=st.tuples(*[argument] * 4))
def test_any_arguments_of_conditional_calls_end_as_natively(name, arguments):
    same_on_every_machine(name, *arguments)


def test_attacks_with_high_bits_set_fail_as_without_them():
    for high in HIGH:
        assert answer("ioctl", 0, high | 0x5412) == "EPERM"  # TIOCSTI
        assert answer("clone", high | 0x10000011) == "EPERM"  # CLONE_NEWUSER
        assert answer("madvise", 0, 4096, high | 12) == "EINVAL"  # MADV_MERGEABLE
        assert answer("prctl", high | 67, 1) == "EINVAL"  # PR_SET_MEMORY_MERGE
        assert answer("mmap", 0, 4096, 3, high | 0x40022) == "ENOMEM"  # MAP_HUGETLB
        assert answer("socket", high | 2, high | 3) == "EPERM"  # SOCK_RAW
        assert answer("socket", high | 38, 5) == "EAFNOSUPPORT"  # AF_ALG
        assert answer("socket", high | 16, 3, high | 9) == "EAFNOSUPPORT"  # NETLINK_AUDIT
        assert answer("socket", high | 2, high | 1, high | 262) == "EPERM"  # MPTCP
        assert answer("setsockopt", 3, high | 41, high | 32) == "EPERM"  # IPV6_FLOWLABEL_MGR
        assert answer("setsockopt", 3, high | 1, high | 8) == "done"  # SO_RCVBUF
        assert answer("ioctl", 3, high | 0xC020660B) == "EPERM"  # FS_IOC_FIEMAP
    assert answer("clone3") == "ENOSYS"


def test_rules_compare_as_engines_agree_on():
    """Masked, low halves only, each argument once: two comparisons of one would be alternatives to runc."""
    for rule in RULES:
        compared = rule.get("args", [])
        assert len({each["index"] for each in compared}) == len(compared)
        for each in compared:
            assert each["op"] == "SCMP_CMP_MASKED_EQ"
            assert 0 < each["value"] < 2**32
            assert not each["valueTwo"] & ~each["value"]


def test_a_call_with_conditions_has_no_rule_without():
    for name in seccomp.CONDITIONAL:
        rules = [rule for rule in RULES if name in rule["names"]]
        assert len(rules) == 1 or all(rule["args"] for rule in rules)


def test_the_profile_stays_small():
    assert len(RULES) <= 360  # each is four instructions of an engine's filter, of which the kernel takes 4096
    assert len(profile()) <= 64 << 10
