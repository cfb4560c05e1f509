"""How large packages are before they are downloaded: never taken for more than they are."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

import pytest

from python_executor.environments.index.pages import Files, Listed
from python_executor.environments.index.wheels import FILE, FILES_MAX, _unpacked
from python_executor.environments.locks import Lock, LockedPackage
from python_executor.environments.sizes import Choice, check_sizes, choices_of
from python_executor.model.spec import Interpreter

MEBIBYTE = 1 << 20
PYTHON = Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12")
PAGE = "https://index.invalid/simple/demo/"


def sizes_of(version: str, *files: tuple[str, int | None]) -> list[int]:
    """The sizes of what may be installed."""
    lock = Lock((LockedPackage("demo", version, ()),))
    page = Files(0, PAGE, tuple(Listed(name, name, size) for name, size in files))
    return [choice.size for choice in choices_of(lock, {"demo": [page]}, PYTHON)["demo"]]


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("demo-1.0-py3-none-any.whl", True),
        ("demo-1.0-1-py2.py3-none-any.whl", True),
        ("demo-1.0-cp312-cp312-linux_x86_64.whl", True),
        ("demo-1.0-cp39-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", True),
        ("demo-1.0.tar.gz", True),
        ("demo-1.0-cp311-cp311-linux_x86_64.whl", False),
        ("demo-1.0-py3-none-win_amd64.whl", False),
        ("demo-1.0-cp312-cp312-macosx_11_0_arm64.whl", False),
        ("demo-1.0.1-py3-none-any.whl", False),
        ("demo-1.0-no-wheel.whl", False),
    ],
)
def test_only_files_that_may_be_installed_count(name: str, fits: bool) -> None:
    assert sizes_of("1.0", (name, 7)) == ([7] if fits else [])


def test_a_local_version_and_a_size_that_nobody_gives_are_understood() -> None:
    assert sizes_of("1.0+cpu", ("demo-1.0+cpu-py3-none-any.whl", None), ("demo-1.0-py3-none-any.whl", 5)) == [0]


def checked(most: int, unpacked: int | None = None, **sizes: Sequence[int]) -> tuple[int | None, list[str]]:
    """What it comes to where that is too much, and the files that were looked into."""
    looks: list[str] = []

    async def look(_index: int, _page: str, url: str) -> int | None:
        looks.append(url)
        return None if unpacked is None else unpacked * MEBIBYTE

    choices = {name: [Choice(0, PAGE, name, size * MEBIBYTE) for size in of_name] for name, of_name in sizes.items()}
    found = asyncio.run(check_sizes(choices, most * MEBIBYTE, look))
    return (None if found is None else found.bytes // MEBIBYTE), looks


def test_the_smallest_file_of_each_package_counts() -> None:
    assert checked(100, small=[60, 90], large=[41]) == (101, [])
    assert checked(100, small=[0, 90], large=[41])[0] is None
    assert checked(100, nothing=[]) == (None, [])


def test_wheels_are_looked_into_where_that_may_decide_and_no_longer_than_it_does() -> None:
    assert checked(100, 90, one=[40], two=[30], three=[1]) == (121, ["one"])
    assert checked(100, 50, one=[40], two=[30]) == (None, ["one", "two"])
    assert checked(100, None, one=[40], two=[30])[0] is None
    assert checked(1000, 5000, one=[40], two=[30]) == (None, [])  # a usual environment costs no look
    assert checked(100, 5000, one=[40, 41]) == (None, [])  # which of them it is is not known


def test_a_table_of_contents_with_too_many_files_is_not_read() -> None:
    few, many = (_table(count) for count in (FILES_MAX, FILES_MAX + 1))
    assert _unpacked(few) == FILES_MAX
    assert _unpacked(many) is None


def _table(count: int) -> bytes:
    """The end of a wheel with so many files of one byte."""
    file = FILE + struct.pack("<4B4HL2L5H2L", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0) + b"a"
    shown = min(count, 0xFFFF)
    return file * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, shown, shown, len(file) * count, 0, 0)
