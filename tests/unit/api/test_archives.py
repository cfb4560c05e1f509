"""Archives: every writer's format is read, and nothing hostile gets through."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.api.archives import MAX_EXTENDED_BYTES, read_archive
from python_executor.model.errors import InvalidRequest
from python_executor.model.spec import DirectoryEntry, FileEntry, SymlinkEntry
from tests.support.archives import directory, entry, hard_link, header, padded, symlink, tar_of

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
END = bytes(1024)


def _files(archive: bytes) -> dict[str, bytes]:
    entries = read_archive(archive).tree.entries
    return {e.path: archive[e.offset : e.offset + e.size] for e in entries if isinstance(e, FileEntry)}


def _refused(archive: bytes, *mentions: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_archive(archive)
    for mention in mentions:
        assert mention in refusal.value.message


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format: int) -> None:
    files = {"main.py": "print(1)", "pkg/__init__.py": "", "data.bin": bytes(range(256)) * 5, "./x": "y"}
    expected = {"main.py": b"print(1)", "pkg/__init__.py": b"", "data.bin": bytes(range(256)) * 5, "x": b"y"}
    assert _files(tar_of(files, format)) == expected


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=8,
).map("/".join)


@given(st.lists(st.tuples(names, st.binary(max_size=2000)), max_size=6), st.sampled_from(FORMATS[1:]))
def test_what_tarfile_writes_is_read_back(files: list[tuple[str, bytes]], format: int) -> None:
    archive = tar_of(dict(files), format)
    try:
        found = _files(archive)
    except InvalidRequest as refusal:
        # Only names may be at fault: too long, or one inside of another.
        assert "keep one" in refusal.message or "bytes" in refusal.message
        return
    assert found == dict(files)


@given(st.binary(max_size=3000))
def test_noise_is_refused_and_breaks_nothing(noise: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_archive(b"x" + noise)


@given(st.integers(0, 2559), st.integers(0, 255))
def test_a_changed_byte_breaks_nothing(position: int, byte: int) -> None:
    archive = bytearray(tar_of({"main.py": "print(1)", "link": symlink("main.py")}))
    archive[position] = byte
    with contextlib.suppress(InvalidRequest):
        read_archive(bytes(archive))


@pytest.mark.parametrize("format", FORMATS[1:])
def test_long_names_and_long_targets_are_read(format: int) -> None:
    name = "/".join(["directory"] * 30) + "/" + "n" * 200
    archive = tar_of({name: "x", "link": symlink("directory/" + "t" * 200)}, format)
    assert _files(archive) == {name: b"x"}
    assert read_archive(archive).tree.entries[1] == SymlinkEntry("link", "directory/" + "t" * 200)


def test_a_long_ustar_name_is_put_together_from_its_prefix() -> None:
    name = "a" * 90 + "/" + "b" * 90
    assert _files(tar_of({name: "x"}, tarfile.USTAR_FORMAT)) == {name: b"x"}


def test_base_256_numbers_are_read() -> None:
    # Go writes the mode of a directory so, because its own bits for the type don't fit into octal.
    archive = header(b"d/", type=b"5", mode=b"\x80\0\0\0\x80\0\x01\xed") + header(
        b"d/main.py", size=b"\x80" + (8).to_bytes(11, "big")
    )
    tree = read_archive(archive + padded(b"print(1)") + END).tree
    assert tree.entries == (DirectoryEntry("d", 0o755), FileEntry("d/main.py", 0o644, 1024, 8))


def test_directories_links_and_modes_are_kept() -> None:
    archive = tar_of({"d": directory(0o2700), "d/f": "x", "l": symlink("d/f"), "h": hard_link("d/f")})
    directory_entry, file, link, copy = read_archive(archive).tree.entries
    assert directory_entry == DirectoryEntry("d", 0o700)
    assert link == SymlinkEntry("l", "d/f")
    assert isinstance(file, FileEntry)
    assert copy == FileEntry("h", file.mode, file.offset, file.size)


def test_a_directory_of_old_tars_is_told_by_its_slash() -> None:
    assert read_archive(header(b"old/", type=b"\0")).tree.entries == (DirectoryEntry("old", 0o644),)


def test_the_root_itself_may_be_listed() -> None:
    assert _files(tar_of({"./": directory(), "./main.py": "x"})) == {"main.py": b"x"}


@pytest.mark.parametrize(
    "archive",
    [tar_of({"a.py": "x"})[:1024], tar_of({"a.py": "x"})[:1536], header(b"a.py") + END + b"trailing garbage"],
    ids=["no end marker", "half an end marker", "garbage after the end"],
)
def test_what_comes_at_the_end_is_not_looked_at(archive: bytes) -> None:
    assert list(_files(archive)) == ["a.py"]


def test_an_archive_without_entries_is_a_tar() -> None:
    assert read_archive(END).tree.entries == ()


def test_a_comment_of_git_archive_is_skipped() -> None:
    comment = b"52 comment=0123456789012345678901234567890123456789\n"
    archive = header(b"pax_global_header", len(comment), b"g") + padded(comment) + tar_of({"main.py": "x"})
    assert _files(archive) == {"main.py": b"x"}


@pytest.mark.parametrize(
    ("archive", "mentions"),
    [
        (b"", ["empty"]),
        (b"print(1)\n" * 100, ["no tar"]),
        (b"\x1f\x8b\x08" + bytes(600), ["gzip"]),
        (b"BZh91AY" + bytes(600), ["bzip2"]),
        (b"\xfd7zXZ\0" + bytes(600), ["xz"]),
        (b"PK\x03\x04" + bytes(600), ["zip"]),
        (tar_of({"/etc/passwd": "x"}), ["/etc/passwd", "absolute"]),
        (tar_of({"../x": "x"}), ["'..'"]),
        (tar_of({"a/../../x": "x"}), ["'..'"]),
        (tar_of({"null": entry(tarfile.CHRTYPE)}), ["null", "character device"]),
        (tar_of({"sda": entry(tarfile.BLKTYPE)}), ["block device"]),
        (tar_of({"pipe": entry(tarfile.FIFOTYPE)}), ["FIFO"]),
        (tar_of({"x": entry(b"Z")}), ["type 'Z'"]),
        (header(b"sparse", type=b"S"), ["sparse"]),
        (tar_of({"h": hard_link("later"), "later": "x"}), ["hard link", "earlier"]),
        (tar_of({"h": hard_link("../../etc/passwd")}), ["'..'"]),
        (tar_of({"h": hard_link("/etc/passwd")}), ["absolute"]),
        (tar_of({"d": directory(), "h": hard_link("d")}), ["hard link"]),
        (tar_of({"l": symlink("/etc/passwd"), "h": hard_link("l")}), ["hard link"]),
        (tar_of({"a/link": symlink("b"), "a/link/x": "x"}), ["a/link"]),
        (tar_of({"out": symlink("/etc"), "out/cron.d/x": "x"}), ["out"]),
        (header(b"\xff\xfe.py"), ["UTF-8"]),
        (header(b""), ["no name"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_no_archive_may_hold_is_refused(archive: bytes, mentions: list[str]) -> None:
    _refused(archive, *mentions)


@pytest.mark.parametrize(
    "size",
    [b"\x80" + (2**63).to_bytes(11, "big"), b"\xff" * 12, b"77777777777\0", 1, b"\x80" + b"\xff" * 11],
    ids=["8 EiB", "-1", "8 GiB", "one byte", "more than there is"],
)
def test_a_size_beyond_the_end_is_refused(size: bytes | int) -> None:
    _refused(header(b"main.py", size), "cut short")


@pytest.mark.parametrize("length", [1, 511, 513, 1025, 1535])
def test_an_archive_that_is_cut_is_refused(length: int) -> None:
    archive = header(b"a.py", 600) + padded(b"x" * 600) + header(b"b.py") + END
    _refused(archive[:length])


@pytest.mark.parametrize("type", [b"x", b"L", b"K"])
def test_an_archive_that_ends_after_an_extended_header_is_refused(type: bytes) -> None:
    data = b"16 path=abcdefg\n"
    _refused(header(b"extended", len(data), type) + padded(data), "cut short")


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end() -> None:
    first, second = header(b"a.py"), header(b"b.py")
    _refused(first + second[:200] + b"X" + second[201:] + END, "byte 512")
    _refused(first + b"garbage".ljust(512, b"\0") + END, "byte 512")
    _refused(first + header(b"b.py", b"12345678x\0"), "broken")


@pytest.mark.parametrize(
    "records",
    [
        b"nonsense",
        b"0 path=x\n",
        b"99 path=x\n",
        b"5 path=x\n",
        b"x path=x\n",
        b"9 path=xyz",
        b"99999999999999999999999 path=x\n",
        b"1" * 4000,
        b"13 size=-100\n",
        b"13 size=1e10\n",
        b"22 GNU.sparse.major=1\n",
    ],
)
def test_a_broken_pax_header_is_refused(records: bytes) -> None:
    _refused(header(b"pax", len(records), b"x") + padded(records) + header(b"main.py") + END)


def test_a_nul_in_a_pax_name_is_refused() -> None:
    _refused(header(b"pax", 12, b"x") + padded(b"12 path=a\0b\n") + header(b"main.py") + END, "NUL")


def test_a_pax_name_that_is_not_utf_8_is_refused() -> None:
    _refused(header(b"pax", 11, b"x") + padded(b"11 path=\xff\xfe\n") + header(b"main.py") + END, "UTF-8")


def test_a_global_pax_header_may_not_rename_everything() -> None:
    _refused(header(b"pax", 10, b"g") + padded(b"10 path=a\n") + header(b"main.py") + END, "global")


def test_an_extended_header_larger_than_any_name_is_refused() -> None:
    size = MAX_EXTENDED_BYTES + 1
    _refused(header(b"long", size, b"L") + padded(b"a" * size) + header(b"main.py") + END, "extended header")


def test_extended_headers_one_after_the_other_need_no_recursion() -> None:
    _refused((header(b"long", 3, b"L") + padded(b"abc")) * 5000, "cut short")


def test_extended_attributes_are_skipped() -> None:
    info = entry(tarfile.REGTYPE)
    info.pax_headers = {"SCHILY.xattr.user.note": "n" * 5000, "mtime": "nan", "comment": "ä"}
    assert list(_files(tar_of({"main.py": info}))) == ["main.py"]


def test_digits_without_end_in_a_pax_header_take_no_time() -> None:
    digits = b"1" * (MAX_EXTENDED_BYTES - 1)
    began = time.process_time()
    _refused(header(b"pax", len(digits), b"x") + padded(digits) + header(b"main.py"))
    assert time.process_time() - began < 0.5


def test_ten_thousand_entries_are_read_in_a_moment() -> None:
    archive = tar_of({f"package{number % 100}/module{number}.py": "x = 1\n" for number in range(10_000)})
    began = time.process_time()
    assert len(read_archive(archive).tree.entries) == 10_000
    assert time.process_time() - began < 1


def test_an_archive_in_a_file_is_read_and_left_open() -> None:
    archive = tar_of({"main.py": "print(1)"})
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        tree = read_archive(file).tree
        assert tree.content is file
        (found,) = tree.entries
        assert isinstance(found, FileEntry)
        file.seek(found.offset)
        assert file.read(found.size) == b"print(1)"


def test_a_mode_with_strange_bits_is_masked() -> None:
    (found,) = read_archive(header(b"a", mode=b"0107777\0")).tree.entries
    assert isinstance(found, FileEntry)
    assert found.mode == 0o777


def test_gnu_tar_with_times_in_its_header_is_read() -> None:
    # GNU keeps the times of an incremental backup where ustar has a prefix.
    block = bytearray(header(b"main.py"))
    block[257:265] = b"ustar  \0"
    block[345:357] = b"14530123456\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert list(_files(bytes(block))) == ["main.py"]
