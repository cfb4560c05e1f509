"""What containers have in common, and how what the limits leave to files is shared out among their file systems."""

from __future__ import annotations

import pytest

from python_executor.api.trees import MAX_ENTRIES
from python_executor.model.spec import MEBIBYTE, PAGE, ExecutionSpec, FileEntry, FileTree, Limits
from python_executor.sandboxes.docker.plan import INODES, Image, Kind, Terms, alike, container, kind_of

IMAGE = Image("python:3.11-slim", "sha256:1", "")
LITTLE = 512 * 1024  # what all the others have in any case


def limits(memory_mb: int = 1024, disk_mb: int = 2048, timeout_seconds: int = 300) -> Limits:
    return Limits(timeout_seconds, memory_mb, min(disk_mb, memory_mb), 1024)


def kind(limits: Limits, size: int = 0) -> Kind:
    tree = FileTree((FileEntry("main.py", 0o644, 0, size),), b"")
    return kind_of(IMAGE, ExecutionSpec(tree, "main.py", "", limits), "runc", root_commands=False)


def sizes(limits: Limits, size: int = 0) -> dict[str, int]:
    """Bytes of each file system that may be written to."""
    host = container(kind(limits, size), "python3", Terms({}, (), ""))["HostConfig"]
    options = {path: dict(word.partition("=")[::2] for word in text.split(",")) for path, text in host["Tmpfs"].items()}
    return {"/dev/shm": host["ShmSize"], **{path: int(option["size"]) for path, option in options.items()}}


@pytest.mark.parametrize("memory_mb", [1, 2, 3, 5, 64, 1023, 1024])
@pytest.mark.parametrize("disk_mb", [1, 2, 7, 2048])
@pytest.mark.parametrize("part", [0, 0.3, 0.5, 0.9, 1])
def test_whatever_files_were_let_in_fit_and_no_file_system_is_without_a_size(
    memory_mb: int, disk_mb: int, part: float
) -> None:
    most = limits(memory_mb, disk_mb).file_system_bytes
    given = int(most * part) // PAGE * PAGE
    shares = sizes(limits(memory_mb, disk_mb), given)
    assert shares["/work"] >= given
    assert min(shares.values()) >= PAGE  # to tmpfs, a size of 0 is no limit
    assert sum(shares.values()) <= most + LITTLE


def test_files_that_leave_room_change_nothing() -> None:
    assert kind(limits(), MEBIBYTE) == kind(limits())
    assert sizes(limits(), MEBIBYTE) == sizes(limits())


def test_files_that_fill_the_disk_take_a_container_of_their_own() -> None:
    assert kind(limits(disk_mb=4), 3 * MEBIBYTE) != kind(limits(disk_mb=4))


@pytest.mark.parametrize("memory_mb", [1, 5, 9, 100, 1024])
def test_containers_that_stand_in_for_each_other_have_the_same_disk(memory_mb: int) -> None:
    asked = limits(memory_mb)
    assert alike(asked).file_system_bytes == asked.file_system_bytes
    assert alike(asked) == alike(limits(memory_mb, timeout_seconds=7)) == alike(alike(asked))


def test_there_may_be_as_many_files_as_a_request_may_bring() -> None:
    assert INODES > MAX_ENTRIES


@pytest.mark.parametrize("has_ipv6", [True, False])
def test_localhost_has_both_addresses_where_the_kernel_knows_both(has_ipv6: bool) -> None:
    host = container(kind(limits()), "python3", Terms({}, (), "", has_ipv6=has_ipv6))["HostConfig"]
    assert host["Sysctls"] == ({"net.ipv6.conf.lo.disable_ipv6": "0"} if has_ipv6 else {})
