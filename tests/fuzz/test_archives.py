"""Archives made to do harm: each is refused in a sentence, or becomes a tree that stays where it is put."""

from __future__ import annotations

import errno
import marshal
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from python_executor.api import trees
from python_executor.api.archives import read_archive
from python_executor.guest import frames
from python_executor.model.errors import Refusal
from python_executor.model.spec import DirectoryEntry, Entry, FileEntry, FileTree, SymlinkEntry
from python_executor.sandboxes.handover import _entry
from tests.fuzz.conftest import Bytes, bounded
from tests.support.archives import padded

BLOCK = 512
USTAR, GNU, OLD = b"ustar\x0000", b"ustar  \0", bytes(8)
OUTSIDE = "outside"  # beside the tree that the guest makes: nothing may ever reach it
MADE_IN_PLACE_AT_LEAST = 0.2  # of all archives; else the test looks at refusals alone

# --- what is made -----------------------------------------------------------------------------------------------------

# Few and short ones, so that names meet each other.
PLAIN = st.sampled_from([b"a", b"b", b"c", b"main.py", "ä".encode()])
NASTY = st.sampled_from([
    b"..", b".", b"", b" ", b"\\", b"a\n", b"-rf", b"\xff\xfe", b"\xed\xa0\x80", "\N{RIGHT-TO-LEFT OVERRIDE}".encode(),
    b"a\0b", b"\0", b"n" * 255, b"n" * 256, "\N{SNOWMAN}".encode() * 85, b"/", OUTSIDE.encode(), b"canary",
])  # fmt: skip


def _weighted(often: st.SearchStrategy[bytes], seldom: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([often] * 7 + [seldom]).flatmap(lambda chosen: chosen)


tame_paths = st.builds(
    lambda directories, leaf: b"/".join([*directories, leaf]),
    st.lists(st.sampled_from([b"d", b"e", b".", "ü".encode()]), max_size=3),
    st.sampled_from([b"a", b"b", b"c", b"main.py", b"n" * 255, b"-rf", b" "]),
)
paths = st.one_of(
    st.lists(PLAIN, min_size=1, max_size=4).map(b"/".join),
    st.lists(_weighted(PLAIN, NASTY), min_size=1, max_size=5).map(b"/".join),
    st.sampled_from([
        b"", b"/", b"./", b".", b"//a", b"/etc/passwd", b"../outside/canary", b"a/../../outside/canary", b"../../x",
        b"..", b"d/..", b"a/../b", b"/b", b"d/./e", b"d/" + b"n" * 256, b"n" * 256, b"d\0e", b"\xff",
        b"a/" * 201 + b"b", b"d/" * 150 + b"e", b"n/" * 2500, (b"m" * 250 + b"/") * 15 + b"m", (b"m" * 250 + b"/") * 17,
    ]),
    st.binary(max_size=30),
)  # fmt: skip
targets = st.one_of(
    st.lists(_weighted(PLAIN, st.just(b"..")), min_size=1, max_size=5).map(b"/".join),
    st.sampled_from(
        [b"..", b"../..", b"../outside", b"../outside/canary", b"/", b"/etc", b"a", b"a/..", b"./a", b"//"]
    ),
    paths,
)
KNOWN_TYPES = [b"0", b"\0", b"7", b"1", b"2", b"5"]
types = st.sampled_from([*KNOWN_TYPES * 6, b"0", b"0", b"2", b"3", b"4", b"6", b"S", b"D", b"M", b"V", b"Z", b"\xff"])
MODES = st.sampled_from([b"0000644\0", b"0000000\0", b"0107777\0", b"\x80\0\0\0\x80\0\x01\xed", b"777     ", bytes(8)])
BROKEN_NUMBERS = st.sampled_from([
    b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0", b"12345678x\0", b"-1".ljust(12), b"1 7".ljust(12, b"\0"),
    b"1_000".ljust(12, b"\0"), b"\x80".ljust(12, b"\0"),
])  # fmt: skip


def _block(
    name: bytes, type: bytes, size: bytes, mode: bytes = b"0000644\0", link: bytes = b"", magic: bytes = USTAR,
    prefix: bytes = b"",
) -> bytes:  # fmt: skip
    """A header with the right checksum, whatever it says."""
    fields = (name[:100].ljust(100, b"\0"), mode, b"0000000\0" * 2, size[:12].ljust(12, b"\0"), b"00000000000\0")
    block = b"".join(fields) + b" " * 8 + type + link[:100].ljust(100, b"\0") + magic
    return _with_checksum((block.ljust(345, b"\0") + prefix[:155]).ljust(BLOCK, b"\0"))


def _with_checksum(block: bytes) -> bytes:
    return block[:148] + b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * ord(" ")) + block[156:]


def _number(size: int) -> bytes:
    return b"%011o\0" % size


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


@st.composite
def extended_headers(draw: st.DrawFn, name: bytes, link: bytes, size: int) -> bytes:
    """What may come before an entry: GNU long names, pax records of all kinds, broken ones."""
    kind = draw(st.sampled_from(["L", "K", "x", "x", "g", "X", "broken"]))
    if kind in "LK":
        data = (name if kind == "L" else link) + b"\0"
        return _block(b"././@LongLink", kind.encode(), _number(len(data)), magic=GNU) + padded(data)
    records = {
        b"path": name, b"linkpath": link, b"size": b"%d" % size, b"mtime": b"nan", b"SCHILY.xattr.user.x": b"\0\n=",
        b"comment": b"c" * 600, b"GNU.sparse.major": b"1", b"": b"", b"hdrcharset": b"BINARY",
    }  # fmt: skip
    likely = st.sampled_from([b"path", b"linkpath", b"size", b"mtime", b"comment"])
    keys = draw(st.lists(likely | st.sampled_from(list(records)), max_size=3))
    data = b"".join(_record(key, records[key]) for key in keys)
    if kind == "g":
        data = draw(st.sampled_from([_record(b"comment", b"x"), data]))
    if kind == "broken":
        data = draw(st.binary(max_size=40) | st.sampled_from([b"0 path=a\n", b"9 path=a", b"99 path=a\n", b" a=b\n"]))
    type = b"x" if kind == "broken" else kind.encode()
    return _block(b"pax", type, _number(len(data))) + padded(data)


@st.composite
def entries(draw: st.DrawFn, name: bytes, type: bytes, link: bytes, oddity: str = "") -> bytes:
    """One entry with all that belongs to it, and perhaps something odd about its headers."""
    data = draw(st.binary(max_size=40) | st.sampled_from([b"x" * 511, b"x" * 512, b"y" * 5000]))
    data = data if type in (b"0", b"\0", b"7") else b""
    before = draw(extended_headers(name, link, len(data))) if oddity == "extended" else b""
    for kind, text in ((b"L", name), (b"K", link)):
        if len(text) > 100 and not before:
            before += _block(b"././@LongLink", kind, _number(len(text)), magic=GNU) + padded(text)
    number = draw(st.just(_number(len(data) + 1)) | BROKEN_NUMBERS) if oddity == "number" else _number(len(data))
    prefix = draw(st.sampled_from([b"d", b"..", b"/", b"p" * 155])) if oddity == "prefix" else b""
    magic = draw(st.sampled_from([USTAR, GNU, OLD]))
    return before + _block(name, type, number, draw(MODES), link, magic, prefix) + padded(data)


@st.composite
def tame(draw: st.DrawFn) -> bytes:
    """Entries as somebody could mean them, who puts a hard link after its file; one of them may be anything but."""
    files, parts = [b"main.py"], [draw(entries(b"main.py", b"0", b""))]
    for type in draw(st.lists(st.sampled_from([b"0", b"0", b"7", b"1", b"2", b"2", b"5"]), max_size=7)):
        name = draw(tame_paths)
        link = draw(st.sampled_from(files) if type == b"1" else targets) if type in (b"1", b"2") else b""
        if type not in (b"2", b"5"):
            files.append(name)
        parts.append(draw(entries(name, type, link)))
    if draw(st.booleans()):
        parts.insert(draw(st.sampled_from(range(len(parts) + 1))), draw(odd_entries(files)))
    return b"".join(parts)


@st.composite
def odd_entries(draw: st.DrawFn, others: list[bytes]) -> bytes:
    """One that should not be there: by its name, its link, its type, its headers, or beside the others."""
    oddity = draw(st.sampled_from(["name", "name", "link", "type", "clash", "clash", "extended", "number", "prefix"]))
    name, type = draw(tame_paths), draw(st.sampled_from(KNOWN_TYPES))
    link = draw(targets) if type in (b"1", b"2") else b""
    if oddity == "name":
        name, oddity = draw(paths), draw(st.sampled_from(["", "extended"]))
    elif oddity == "link":
        type, link = draw(st.sampled_from([b"1", b"2"])), draw(targets)
    elif oddity == "type":
        type = draw(types)
    elif oddity == "clash":
        name = draw(st.sampled_from(others)) + draw(st.sampled_from([b"", b"", b"/", b"/x", b"/x/y"]))
    return draw(entries(name, type, link, oddity))


@st.composite
def wild(draw: st.DrawFn) -> bytes:
    """Entries of every kind under every name."""
    parts = []
    for type in draw(st.lists(types, max_size=6)):
        link = draw(targets) if type in (b"1", b"2") else b""
        parts.append(draw(entries(draw(paths), type, link)))
    return b"".join(parts)


ENDS = st.sampled_from([bytes(1024), b"", bytes(512), bytes(1024) + b"trailing"])
built = st.builds(lambda parts, end: parts + end, st.one_of(tame(), tame(), tame(), wild()), ENDS)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A built archive with bytes changed, blocks swapped, or its end missing; often with its checksums set right."""
    archive = bytearray(draw(built))
    for position, byte in draw(st.lists(st.tuples(st.integers(0, 4 * BLOCK), st.integers(0, 255)), max_size=4)):
        if position < len(archive):
            archive[position] = byte
            start = position // BLOCK * BLOCK
            if draw(st.booleans()) and len(archive) >= start + BLOCK:
                archive[start : start + BLOCK] = _with_checksum(bytes(archive[start : start + BLOCK]))
    cut = draw(st.none() | st.integers(0, 6 * BLOCK))
    return bytes(archive[:cut])


archives = st.one_of(built, built, built, built, damaged(), st.binary(max_size=2 * BLOCK)).map(Bytes)

NEVER_FORGOTTEN = [
    b"../x",
    b"a/../../x",
    b"/x",
    b"a\0b",
    b"n" * 256,
    b"n" * 255,
    b"d/" * 250 + b"x",
    b"\xff",
    b".",
    b"a/",
]


def _also_these(test: Callable[..., None], *rest: Any) -> Callable[..., None]:
    """The names that matter most, in a pax header, which can spell them all: not left to chance."""
    for name in NEVER_FORGOTTEN:
        records = _record(b"path", name)
        pax = _block(b"pax", b"x", _number(len(records))) + padded(records)
        test = example(Bytes(pax + _block(b"a", b"0", _number(1)) + padded(b"x")), *rest)(test)
    return test


# --- what must hold ---------------------------------------------------------------------------------------------------


def test_any_archive_is_refused_or_becomes_a_tree_that_keeps_every_promise() -> None:
    @bounded(400)
    @given(archives)
    def check(archive: bytes) -> None:
        tree = _read(archive)
        if tree is not None:
            _check_paths(tree.entries)
            _check_ancestors(tree.entries)
            _check_ranges(tree.entries, len(archive))
            _check_symlinks(tree.entries)

    _also_these(check)()


def test_an_archive_in_a_file_is_read_as_the_same_in_memory() -> None:
    @bounded(100)
    @given(archives)
    def check(archive: bytes) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(archive)
            file.flush()
            try:
                from_file = read_archive(file).tree.entries
            except Refusal:
                from_file = None
        in_memory = _read(archive)
        assert from_file == (in_memory and in_memory.entries)

    check()


def test_the_guest_makes_of_an_accepted_archive_what_was_planned_and_nothing_outside(
    guest: dict[str, ModuleType], playground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = playground / "work"
    monkeypatch.setattr(guest["runner"], "WORK", str(work))
    before = _snapshot(playground)
    seen: Counter[str] = Counter()

    @bounded(250)
    @given(archives, st.booleans())
    def check(archive: bytes, inline: bool) -> None:
        tree = _read(archive)
        seen["accepted" if tree is not None and tree.entries else "not"] += 1
        if tree is None:
            return
        work.mkdir()
        try:
            _carry_out(guest["intake"], tree, archive, inline)
            _check_made(work, tree.entries, archive)
        finally:
            _remove(work)
        assert _snapshot(playground) == before

    _also_these(check, True)()
    assert seen["accepted"] >= MADE_IN_PLACE_AT_LEAST * seen.total(), seen


@pytest.fixture
def playground() -> Iterator[Path]:
    """A directory with room for a tree, and with something beside it. Its own path is short: trees have long ones."""
    root = Path(tempfile.mkdtemp(prefix="f"))
    (root / OUTSIDE).mkdir()
    (root / OUTSIDE / "canary").write_text("alive")
    (root / "main.py").write_text("alive")
    yield root
    shutil.rmtree(root)


def _read(archive: bytes) -> FileTree | None:
    """The tree, or None where it was refused, which it must be in one readable sentence."""
    try:
        checked = read_archive(archive)
    except Refusal as refusal:
        _check_sentence(refusal.message)
        return None
    for warning in checked.warnings:
        _check_sentence(warning + ".")
    return checked.tree


def _check_sentence(message: str) -> None:
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 3000
    message.encode()


def _check_paths(planned: Sequence[Entry]) -> None:
    all_paths = [entry.path for entry in planned]
    assert len(set(all_paths)) == len(all_paths) <= trees.MAX_ENTRIES
    for path in all_paths:
        components = path.split("/")
        assert not {"", ".", ".."} & set(components)
        assert "\0" not in path
        assert len(path.encode()) <= trees.MAX_PATH_BYTES
        assert all(len(component.encode()) <= 255 for component in components)
        assert len(components) <= trees.MAX_DEPTH


def _check_ancestors(planned: Sequence[Entry]) -> None:
    kinds = {entry.path: type(entry) for entry in planned}
    for path in kinds:
        for parent in _parents(path):
            assert kinds.get(parent, DirectoryEntry) is DirectoryEntry


def _parents(path: str) -> list[str]:
    components = path.split("/")
    return ["/".join(components[:count]) for count in range(1, len(components))]


def _check_ranges(planned: Sequence[Entry], length: int) -> None:
    for entry in planned:
        if isinstance(entry, FileEntry):
            assert entry.offset >= BLOCK
            assert entry.size >= 0
            assert entry.offset + entry.size <= length
        if not isinstance(entry, SymlinkEntry):
            assert 0 <= entry.mode <= 0o777


def _check_symlinks(planned: Sequence[Entry]) -> None:
    links = {entry.path: entry.target for entry in planned if isinstance(entry, SymlinkEntry)}
    for path, target in links.items():
        assert target
        assert "\0" not in target
        _walk(links, path)


def _walk(links: dict[str, str], path: str) -> None:
    """Follow a path as the kernel does, component by component; it never leaves the tree, nor goes on for ever."""
    at: list[str] = []
    ahead = path.split("/")
    hops = 0
    while ahead:
        component = ahead.pop(0)
        if component in ("", "."):
            continue
        if component == "..":
            assert at, f"{path!r} leads out"
            at.pop()
            continue
        at.append(component)
        target = links.get("/".join(at))
        if target is not None:
            assert not target.startswith("/"), f"{path!r} leads out"
            hops += 1
            assert hops <= 40, f"{path!r} leads in circles"
            at.pop()
            ahead = target.split("/") + ahead


def _carry_out(intake: ModuleType, tree: FileTree, archive: bytes, inline: bool) -> None:
    """As in a sandbox, with the content in either form."""
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as file:
        spec = {"content_bytes": len(archive) if inline else 0, "stdin_bytes": 0}
        message = marshal.dumps(spec, frames.SPEC_FORMAT)
        head = frames.SPEC_LENGTH.pack(len(message))
        if inline:
            sending = threading.Thread(target=ours.sendall, args=(head + message + archive,))
        else:
            file.write(archive)
            file.flush()
            socket.send_fds(ours, [head], [file.fileno()])
            sending = threading.Thread(target=ours.sendall, args=(message,))
        sending.start()
        _, content = intake.receive(intake.Control(theirs))
        sending.join()
        try:
            intake.make_files([_entry(entry) for entry in tree.entries], content)
        finally:
            content.close()


def _check_made(work: Path, planned: Sequence[Entry], archive: bytes) -> None:
    """Each entry of the plan, and each directory that it implies, is in the tree, and nothing else is."""
    expected = {entry.path: entry for entry in planned}
    implied = {parent for path in expected for parent in _parents(path)} - expected.keys()
    made: set[str] = set()
    for directory, directories, names in os.walk(work):
        for name in [*directories, *names]:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, work)
            made.add(relative)
            _check_one(path, expected.get(relative), archive)
    assert made == expected.keys() | implied
    for entry in planned:
        if isinstance(entry, SymlinkEntry):
            _check_link(work, os.path.join(work, entry.path))


def _check_one(path: str, entry: Entry | None, archive: bytes) -> None:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    match entry:
        case FileEntry():
            assert stat.S_ISREG(status.st_mode)
            assert (mode, status.st_nlink) == (entry.mode, 1)
            os.chmod(path, 0o600)  # an ordinary user can't read what has no mode
            assert Path(path).read_bytes() == archive[entry.offset : entry.offset + entry.size]
        case SymlinkEntry():
            assert os.readlink(path) == entry.target
        case _:
            assert stat.S_ISDIR(status.st_mode)
            assert entry is None or mode == entry.mode
            os.chmod(path, 0o700)


def _check_link(work: Path, link: str) -> None:
    assert os.path.realpath(link).startswith(f"{os.path.realpath(work)}/") or os.path.realpath(
        link
    ) == os.path.realpath(work)
    try:
        os.stat(link)
    except OSError as error:
        assert error.errno in (errno.ENOENT, errno.ENOTDIR)


def _snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that is there: type and mode, time of the last change, content."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b"\n".join(os.fsencode(name) for name in os.listdir(path))
        found[str(path)] = (status.st_mode, 0 if path.is_dir() else status.st_mtime_ns, content)
    return found


def _remove(work: Path) -> None:
    def retry(function: Callable[..., object], path: str, _error: object) -> None:
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        function(path)

    shutil.rmtree(work, onerror=retry)
