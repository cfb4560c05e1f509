"""Locks: nothing but exact versions and hashes comes out of a sandbox, and the same lock makes the same environment."""

from __future__ import annotations

import json
import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.environments import locks
from python_executor.environments.locks import (
    Lock,
    LockedPackage,
    bill_of_materials,
    held_to_hashes,
    lock_key,
    read_lock,
)
from python_executor.environments.requirements import read_requirements
from python_executor.model.errors import EnvironmentFailed

A, B, C = "a" * 64, "b" * 64, "c" * 64
OF_UV = f"""\
six==1.16.0 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
torch==2.3.0+cpu \\
    --hash=sha256:{C} \\
    --hash=sha512:{A}{B}
"""
LOCK = Lock(
    (
        LockedPackage("six", "1.16.0", (f"sha256:{A}", f"sha256:{B}")),
        LockedPackage("torch", "2.3.0+cpu", (f"sha256:{C}", f"sha512:{A}{B}")),
    )
)
DIGESTS = st.integers(0, 2**256 - 1).map("sha256:{:064x}".format)
HASHES = st.sets(DIGESTS, min_size=1, max_size=4).map(lambda hashes: tuple(sorted(hashes)))
VERSIONS = st.sampled_from(["1", "1.0", "2024.1", "1!2.0a1.post3.dev4+cpu.1", "0.0.1rc1"])
PACKAGES = st.builds(LockedPackage, st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)?", fullmatch=True), VERSIONS, HASHES)
LOCKS = st.lists(PACKAGES, unique_by=lambda one: one.name, max_size=6)


def key_of(lock: Lock, python: str = "3.11.7", platform: str = "linux-x86_64", index: str = "https://x") -> str:
    return lock_key(lock, python=python, platform=platform, index=index)


def test_what_uv_prints_is_a_lock_and_a_lock_is_written_as_uv_prints_it() -> None:
    assert read_lock(OF_UV) == LOCK
    assert LOCK.text == OF_UV
    assert read_lock("") == Lock(())


def test_packages_and_hashes_are_sorted() -> None:
    text = f"b==1 \\\n    --hash=sha256:{B} \\\n    --hash=sha256:{A}\na==1 \\\n    --hash=sha256:{C.upper()}\n"
    assert read_lock(text).text == (
        f"a==1 \\\n    --hash=sha256:{C}\nb==1 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n"
    )


@given(LOCKS)
def test_a_lock_that_was_given_out_is_taken_again_and_is_still_a_lock(packages: list[LockedPackage]) -> None:
    lock = Lock(tuple(sorted(packages)))
    requirements = read_requirements(lock.text, "requirements_txt")
    assert requirements.is_lock
    assert requirements.text == lock.text
    assert read_lock(lock.text) == lock


def test_the_largest_lock_is_taken_again() -> None:
    version = "1" * (locks.MAX_PIN - locks.MAX_NAME - 2)
    names = [f"{number:0{locks.MAX_NAME}}" for number in range(locks.MAX_PACKAGES)]
    lock = Lock(tuple(LockedPackage(name, version, (f"sha256:{A}",)) for name in names))
    assert read_lock(lock.text) == lock
    assert read_requirements(lock.text, "requirements_txt").is_lock
    with pytest.raises(ValueError, match="more than 1000 packages"):
        read_lock(lock.text + f"z==1 --hash=sha256:{A}\n")


HASH = f"--hash=sha256:{A}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("six==1", "no SHA-256 of six"),
        (f"six==1 --hash=sha512:{A}{B}", "no SHA-256 of six"),
        (f"six>=1 {HASH}", "where name==version should be"),
        (f"six==1.* {HASH}", "where name==version should be"),
        (f"six===1 {HASH}", "where name==version should be"),
        (f"six==1.0-alpha {HASH}", "where name==version should be"),
        (f"six==1{'1' * 5_000} {HASH}", "where name==version should be"),
        (f"Six==1 {HASH}", "where name==version should be"),
        (f"si_x==1 {HASH}", "where name==version should be"),
        (f"six[x]==1 {HASH}", "where name==version should be"),
        (f"{'s' * 201}==1 {HASH}", "where name==version should be"),
        (f"six==1 ; os_name=='posix' {HASH}", "where a --hash should be"),
        (f"six==1  {HASH}", "where a --hash should be"),
        (f"six==1 \\\n  {HASH}", "where a --hash should be"),
        (f"six==1 {HASH} # via x", "where a --hash should be"),
        (f"six==1 {HASH} --index-url=x", "where a --hash should be"),
        (f"six==1 {HASH} \\", "where a --hash should be"),
        (f"six==1 --hash=md5:{'0' * 32}", "where a --hash should be"),
        (f"six==1 {HASH}\r\n", "where a --hash should be"),
        (f"six==1 {HASH}\n\n", "where name==version should be"),
        (f"# uv\nsix==1 {HASH}\n", "where name==version should be"),
        (f"--index-url x\nsix==1 {HASH}\n", "where name==version should be"),
        (f"six @ file:///x {HASH}", "where name==version should be"),
        (f"six==1 {HASH}\nsix==2 {HASH}\n", "names a package twice"),
        (f"six==1{f' {HASH}' * 2_001}", "more than 2000 hashes of six"),
        ("a" * (locks.MAX_TEXT + 1), "longer than 4194304 characters"),
    ],
)
def test_anything_else_is_no_lock(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        read_lock(text)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")


@given(
    st.text()
    | st.lists(st.sampled_from(["six", "==", "1", " ", "\n", " \\\n    ", HASH, "\\", "-", "\0"])).map("".join)
)
def test_any_text_is_a_lock_or_a_value_error(text: str) -> None:
    try:
        lock = read_lock(text)
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert read_lock(lock.text) == lock


@pytest.mark.parametrize("unit", ["a", "a-", "\n", " ", "==", "1.", " \\\n    ", f" {HASH}", f"a==1 {HASH}\n", HASH])
def test_hostile_output_takes_no_longer_than_other_output(unit: str) -> None:
    text = (unit * (locks.MAX_TEXT // len(unit) + 1))[: locks.MAX_TEXT]
    for hostile in (text, f"six==1 {HASH}{text}"[: locks.MAX_TEXT]):
        began = time.process_time()
        with pytest.raises(ValueError, match="the lock"):
            read_lock(hostile)
        assert time.process_time() - began < 2


def test_hashes_that_were_asked_for_are_the_only_ones_left() -> None:
    wanted = read_requirements(
        f"six==1.16.0; os_name == 'posix' --hash=sha256:{B}\ntorch[x]==2.3.0+cpu --hash=sha256:{C}", "requirements_txt"
    )
    held = held_to_hashes(LOCK, wanted)
    assert [package.hashes for package in held.packages] == [(f"sha256:{B}",), (f"sha256:{C}",)]
    assert held_to_hashes(LOCK, read_requirements("six", "requirements_txt")) is LOCK


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (f"six==1.16.0 --hash=sha256:{A}", "the package torch is needed, too"),
        (f"six==1.16.0 --hash=sha256:{C}\ntorch==2.3.0 --hash=sha256:{C}", "no file of six 1.16.0"),
        (f"six==1.16.0 --hash=sha256:{A}\ntorch==2.3.0 --hash=sha512:{A}{B}", "no file of torch 2.3.0\\+cpu"),
    ],
)
def test_a_package_without_a_hash_that_was_asked_for_is_refused(asked: str, complaint: str) -> None:
    with pytest.raises(EnvironmentFailed, match=complaint):
        held_to_hashes(LOCK, read_requirements(asked, "requirements_txt"))


def test_a_key_is_of_all_that_makes_an_environment_and_of_nothing_else() -> None:
    other = Lock((LockedPackage("six", "1.16.0", (f"sha256:{A}",)), LOCK.packages[1]))
    keys = [
        key_of(LOCK), key_of(other), key_of(Lock(LOCK.packages[:1])), key_of(LOCK, python="3.12.1"),
        key_of(LOCK, platform="linux-aarch64"), key_of(LOCK, index="https://y"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("env_[0-9a-f]{32}", key) for key in keys)
    assert key_of(Lock(LOCK.packages[::-1])) == keys[0]


def test_a_key_stays_the_same_from_release_to_release() -> None:
    assert (
        key_of(LOCK) == "env_60ec4683186dafe851892f787aea28a0"
    )  # another one: every environment is made again, so raise KEY_FORMAT


def test_a_bill_of_materials_lists_the_interpreter_and_every_package() -> None:
    bill = bill_of_materials(LOCK, python="3.11.7", key="env_1")
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert uuid.UUID(str(bill["serialNumber"]).removeprefix("urn:uuid:")).version == 5
    interpreter, six, torch = bill["components"]  # type: ignore[misc]
    assert (interpreter["type"], interpreter["name"], interpreter["version"]) == ("platform", "CPython", "3.11.7")
    assert (six["type"], six["name"], six["version"]) == ("library", "six", "1.16.0")
    assert (six["purl"], torch["purl"]) == ("pkg:pypi/six@1.16.0", "pkg:pypi/torch@2.3.0%2Bcpu")
    (files,) = torch["externalReferences"]
    assert files["type"] == "distribution"
    assert files["hashes"] == [{"alg": "SHA-256", "content": C}, {"alg": "SHA-512", "content": A + B}]
    references = [component["bom-ref"] for component in (interpreter, six, torch)]
    assert len(set(references)) == 3
    assert bill["dependencies"] == [{"ref": "env_1", "dependsOn": references}]


def test_a_bill_of_materials_is_the_same_each_time_and_another_for_another_key() -> None:
    first, again, other = (bill_of_materials(LOCK, python="3.11.7", key=key) for key in ("env_1", "env_1", "env_2"))
    assert json.dumps(first) == json.dumps(again)
    assert first["serialNumber"] != other["serialNumber"]
