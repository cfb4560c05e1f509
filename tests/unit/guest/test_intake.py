"""What is done for user code before it: its files, and whether it needs an interpreter of its own."""

from __future__ import annotations

import marshal
import os
import socket
import stat
from pathlib import Path

import pytest

from python_executor.guest import frames


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=["inline", "descriptor"])
def content(request, intake, tmp_path_factory):
    """Makes what holds the files' bytes, as it follows the spec or comes as a descriptor."""

    def make(data: bytes, stdin: bytes = b""):
        fds = []
        if stdin:
            read_end, write_end = os.pipe()
            os.write(write_end, stdin)
            os.close(write_end)
            fds.append(read_end)
        if request.param == "descriptor":
            archive = tmp_path_factory.mktemp("archive") / "archive"
            archive.write_bytes(data)
            fds.append(os.open(archive, os.O_RDONLY))
        inline = b"" if request.param == "descriptor" else data
        spec = marshal.dumps({"content_bytes": len(inline), "stdin_bytes": len(stdin)}, frames.SPEC_FORMAT)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(ours, [frames.SPEC_LENGTH.pack(len(spec))], fds)
            ours.sendall(spec + inline)
            for fd in fds:
                os.close(fd)
            return intake.receive(intake.Control(theirs))[1]

    return make


def test_the_plan_of_a_tree_is_carried_out(intake, content, tmp_path):
    held = content(b"..print(1)..", b"the rest is stdin")
    entries = [
        ["directory", "package", 0o500],
        ["directory", "package/deep/empty", 0o711],
        ["file", "package/main.py", 0o644, 2, 8],
        ["file", "implied/by/tool", 0o755, 0, 2],
        ["file", "empty", 0o400, 5, 0],
        ["symlink", "links/to", "../package/main.py"],
        ["symlink", "dangling", "nowhere"],
    ]
    intake.make_files(entries, held)
    assert os.read(held.stdin, 100) == b"the rest is stdin"
    os.close(held.stdin)
    held.close()
    assert (tmp_path / "package/main.py").read_bytes() == b"print(1)"
    assert (tmp_path / "links/to").read_bytes() == b"print(1)"
    assert os.readlink(tmp_path / "dangling") == "nowhere"
    modes = {path: mode for kind, path, mode, *_ in entries if kind != "symlink"}
    assert {path: mode_of(tmp_path / path) for path in modes} == modes


def test_a_file_longer_than_the_archive_is_an_error(intake, content):
    held = content(b"12345")
    with pytest.raises(EOFError):
        intake.make_files([["file", "a", 0o644, 3, 3]], held)
    held.close()


@pytest.fixture
def modes_set(intake, monkeypatch, tmp_path) -> list[str]:
    """Paths in the order in which directories get their modes."""
    paths: list[str] = []
    monkeypatch.setattr(intake.os, "chmod", lambda path, mode: paths.append(os.path.relpath(path, tmp_path)))
    return paths


def test_a_directory_gets_its_mode_when_all_below_it_is_there(intake, content, modes_set, tmp_path):
    held = content(b"")
    intake.make_files([["directory", "a", 0], ["directory", "a/b", 0], ["file", "a/b/c", 0o600, 0, 0]], held)
    held.close()
    assert modes_set == ["a/b", "a"]


def test_a_directory_gets_its_mode_before_its_parent_whatever_the_order(intake, content, modes_set):
    held = content(b"")
    intake.make_files([["directory", "a/b", 0], ["directory", "a", 0]], held)
    held.close()
    assert modes_set == ["a/b", "a"]


@pytest.mark.parametrize(
    ("env", "is_fresh"),
    [
        ({}, False),
        ({"HOME": "/x", "PATH": "/y", "TZ": "UTC"}, False),
        ({"PYTHONHASHSEED": "0"}, True),
        ({"LD_PRELOAD": "x.so"}, True),
        ({"LC_ALL": "C"}, True),
    ],
)
def test_a_fresh_interpreter_starts_only_where_it_would_behave_otherwise(intake, env, is_fresh):
    assert intake.needs_fresh_interpreter(env, None) is is_fresh
