"""What of the caller's files reaches the archive, and which of them runs."""

from __future__ import annotations

import io
import os
import socket
import stat
import sys
import tarfile

import pytest

from python_executor_client.archive import find_entrypoint, pack

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes are POSIX")


def unpacked(data):
    """The archive's members in their order: name to content, for a link "-> target", for a directory None."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {
            member.name: f"-> {member.linkname}"
            if member.issym()
            else (archive.extractfile(member).read() if member.isreg() else None)
            for member in archive
        }


def test_text_is_stored_as_utf8_and_bytes_as_they_are():
    assert unpacked(pack({"main.py": "print('grün')\r\n", "data/blob": b"\xff\x00"})) == {
        "main.py": "print('grün')\r\n".encode(),
        "data/blob": b"\xff\x00",
    }


def test_long_and_non_ascii_names_survive():
    names = ["d/" * 100 + "x.py", "ключ.py"]

    assert list(unpacked(pack(dict.fromkeys(names, "")))) == names


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "package" / "__pycache__").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "package" / "__init__.py").write_text("")
    (root / "package" / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"stale")
    (root / "main.py").write_text("import package")
    (root / ".hidden").write_text("kept")
    return root


def test_a_virtual_environment_below_a_directory_stays_out(project):
    for name in (".venv/lib/site.py", "tools/env/lib/site.py", "data/lib/site.py"):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text("")
    for name in (".venv", "tools/env"):
        (project / name / "pyvenv.cfg").write_text("home = /usr/bin")
    names = unpacked(pack(project))
    assert [name for name in names if name.endswith("site.py")] == ["data/lib/site.py"]
    assert "lib/site.py" in unpacked(pack(project / ".venv"))  # where that is what was named


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_directory_goes_in_whole_under_relative_names_without_bytecode_caches(project, kind):
    assert unpacked(pack(kind(project))) == {
        ".hidden": b"kept",
        "empty": None,
        "main.py": b"import package",
        "package": None,
        "package/__init__.py": b"",
    }


@posix
def test_the_same_files_give_the_same_bytes(project):
    before = pack(project)
    os.utime(project / "main.py", (1, 1))
    (project / "main.py").chmod(0o600)

    assert pack(project) == before
    assert list(unpacked(before)) == [".hidden", "main.py", "empty", "package", "package/__init__.py"]


@posix
def test_of_modes_only_the_executable_bit_is_kept(tmp_path):
    for name, mode in {"secret.txt": 0o600, "tool.sh": 0o700}.items():
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)

    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path))) as archive:
        members = archive.getmembers()

    assert {member.name: member.mode for member in members} == {"secret.txt": 0o644, "tool.sh": 0o755}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}


@posix
def test_symbolic_links_stay_links_wherever_they_point_and_are_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.py").write_text("x")
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "broken").symlink_to("gone")

    assert unpacked(pack(tmp_path)) == {
        "alias": "-> real",
        "broken": "-> gone",
        "loop": "-> .",
        "out": "-> /etc/passwd",
        "real": None,
        "real/x.py": b"x",
    }


@posix
def test_hard_links_become_files_of_their_own(tmp_path):
    (tmp_path / "a").write_text("same")
    os.link(tmp_path / "a", tmp_path / "b")

    assert unpacked(pack(tmp_path)) == {"a": b"same", "b": b"same"}


@posix
def test_sockets_and_pipes_in_a_directory_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)
        assert unpacked(pack(tmp_path)) == {}


def test_a_single_file_goes_in_under_its_own_name(project):
    assert unpacked(pack(project / "package" / "__init__.py")) == {"__init__.py": b""}


@posix
def test_a_single_file_may_be_named_through_a_link(project):
    (project / "run.py").symlink_to("main.py")

    assert unpacked(pack(project / "run.py")) == {"run.py": b"import package"}


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_missing_path_is_file_not_found(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        pack(kind(tmp_path / "gone.py"))


@pytest.mark.parametrize(
    ("names", "entrypoint"),
    [
        (["b.py", "__main__.py", "main.py"], "main.py"),
        (["b.py", "__main__.py", "pkg/main.py"], "__main__.py"),
        (["readme.md", "b.py", "a.py"], "b.py"),
        (["pkg/run.py"], "pkg/run.py"),
        (["script"], "script"),
        (["script", "data"], None),
        ([".venv/lib/a.py", "x/.a.py", "run.py", ".b.py"], "run.py"),
        ([".venv/main.py", ".b.py", "readme.md"], ".venv/main.py"),
        (["./main.py", "a.py"], "main.py"),
    ],
)
def test_the_entrypoint_is_the_usual_name_or_the_first_script_or_the_only_file(names, entrypoint):
    assert find_entrypoint(pack(dict.fromkeys(names, ""))) == entrypoint


def test_of_a_directory_the_files_of_the_top_come_first(tmp_path):
    for name in ("app/models.py", ".venv/lib/site.py", "start.py", "app/lib/x.py", "app/z.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    archive = pack(tmp_path)

    assert [name for name in unpacked(archive) if name.endswith(".py")] == [
        "start.py",
        ".venv/lib/site.py",
        "app/models.py",
        "app/z.py",
        "app/lib/x.py",
    ]
    assert find_entrypoint(archive) == "start.py"


def test_a_directory_is_no_entrypoint(tmp_path):
    (tmp_path / "a.py").mkdir()
    (tmp_path / "z.py").write_text("")

    assert find_entrypoint(pack(tmp_path)) == "z.py"


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar_has_no_entrypoint(data):
    assert find_entrypoint(data) is None
