"""What comes out of a build becomes regular files below one directory, and nothing else."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.environments import files
from python_executor.environments.files import Receiver, checked, differs, write_manifest
from python_executor.guest import frames

SITE = b"lib/python3.12/site-packages"
MAX = 1 << 20


def frame(path: bytes, content: bytes = b"", kind: int = frames.FILE, size: int | None = None) -> bytes:
    header = frames.FILE_HEADER.pack(kind, len(path), len(content) if size is None else size)
    return header + path + content


END = frame(b"", kind=frames.END_OF_FILES)


def receive(directory: Path, *parts: bytes, max_bytes: int = MAX) -> Receiver:
    receiver = Receiver(directory, max_bytes)
    try:
        for part in parts:
            receiver.feed(part)
    finally:
        receiver.close()
    return receiver


def test_files_are_written_as_they_came_with_modes_that_everybody_can_read(tmp_path: Path) -> None:
    os.umask(0o077)
    try:
        program = frame(b"bin/tool", b"#!x", frames.PROGRAM)
        receiver = receive(tmp_path, frame(SITE + b"/a/b.py", b"code"), frame(SITE + b"/empty"), program, END)
    finally:
        os.umask(0o022)
    assert receiver.is_complete and next(path for path, _, _ in receiver.manifest) == (SITE + b"/a/b.py").decode()
    place = tmp_path / SITE.decode() / "a"
    assert (place / "b.py").read_bytes() == b"code"
    modes = [stat.S_IMODE(os.lstat(path).st_mode) for path in (place, place / "b.py", tmp_path / "bin/tool")]
    assert modes == [0o755, 0o644, 0o755]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=40)), max_size=8), st.integers(1, 17))
def test_it_does_not_matter_how_the_stream_is_cut(
    tmp_path_factory: pytest.TempPathFactory, contents: list[tuple[str, bytes]], size: int
) -> None:
    stream = b"".join(frame(f"{name}/{number}".encode(), data) for number, (name, data) in enumerate(contents)) + END
    directory = tmp_path_factory.mktemp("files")
    receiver = receive(directory, *(stream[start : start + size] for start in range(0, len(stream), size)))
    assert receiver.is_complete
    for number, (name, data) in enumerate(contents):
        assert (directory / name / str(number)).read_bytes() == data


@pytest.mark.parametrize(
    "path",
    [b"/etc/passwd", b"../x", b"a/../../x", b"a/./b", b"a//b", b"a/", b"", b".", b"..", b"a\0b/c", b"\xff/x", b"top",
     b"bin/python", b"bin/python3", b"bin/python3.12", b"a/" * 50 + b"b", b"a/" + b"n" * 256, b"x/" * 600 + b"y"],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_or_hides_the_interpreter_is_refused(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "venv").mkdir()
    with pytest.raises(ValueError, match=r"path|package"):
        receive(tmp_path / "venv", frame(path, b"x"), END)
    assert list(tmp_path.rglob("*")) == [tmp_path / "venv"]


@given(st.binary(max_size=60))
def test_whatever_is_taken_for_a_path_stays_below(path: bytes) -> None:
    try:
        text = checked(path)
    except ValueError:
        return
    assert not text.startswith("/") and "\0" not in text
    assert not {"", ".", ".."} & set(text.split("/"))


def test_a_file_that_comes_twice_or_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    for parts in ([frame(b"a/b"), frame(b"a/b")], [frame(b"c/d"), frame(b"c/d/e")], [frame(b"e/f/g"), frame(b"e/f")]):
        with pytest.raises(ValueError, match="twice"):
            receive(tmp_path, *parts)


def test_more_bytes_or_files_than_allowed_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="more than 1 MiB"):
        receive(tmp_path, frame(b"a/b", size=1 << 60))
    monkeypatch.setattr(files, "FILES_MAX", 2)
    with pytest.raises(ValueError, match="more than 2 files"):
        receive(tmp_path, *(frame(f"c/{number}".encode()) for number in range(3)))
    assert not (tmp_path / "a").exists()


def test_directories_count_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 1 MiB"):
        receive(tmp_path, *(frame(f"{number}/{'d/' * 35}x".encode()) for number in range(8)))


def test_many_tiny_files_count_for_what_they_take_on_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 1 MiB"):
        receive(tmp_path, *(frame(f"c/{number}".encode(), b"x") for number in range(200)))


def test_a_stream_that_goes_on_or_names_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="after the last file"):
        receive(tmp_path, END, b"x")
    with pytest.raises(ValueError, match="no file"):
        receive(tmp_path, frame(b"a/b", kind=9))


def test_a_stream_that_ends_early_is_not_complete(tmp_path: Path) -> None:
    assert not receive(tmp_path, frame(b"a/b", b"half", size=8)).is_complete
    assert not receive(tmp_path, frame(b"a/c", b"all")).is_complete


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "link"])
def test_a_file_that_is_not_as_it_was_written_is_found(tmp_path: Path, damage: str) -> None:
    (tmp_path / "venv").mkdir()
    receiver = receive(tmp_path / "venv", frame(b"a/b", b"code"), END)
    digest = write_manifest(tmp_path / "files.jsonl", receiver.manifest)
    assert differs(tmp_path / "venv", tmp_path / "files.jsonl", digest) is None
    file = tmp_path / "venv/a/b"
    if damage in ("gone", "link"):
        file.unlink()
    if damage == "link":
        file.symlink_to("/etc/passwd")
    if damage in ("flip", "cut"):
        file.write_bytes(b"c0de" if damage == "flip" else b"co")
    assert differs(tmp_path / "venv", tmp_path / "files.jsonl", digest) == "a/b"


def test_a_list_of_files_that_is_damaged_itself_is_found(tmp_path: Path) -> None:
    for text in ("[", '["../x", 1, ""]\n', "\xff"):
        (tmp_path / "files.jsonl").write_text(text, encoding="latin-1")
        assert differs(tmp_path, tmp_path / "files.jsonl", sha256(text.encode("latin-1")).hexdigest())
        assert differs(tmp_path, tmp_path / "files.jsonl", "0" * 64) == "files.jsonl"
    assert differs(tmp_path, tmp_path / "none", "")
