"""CONTRACT §2, "Archives": what arrives in /work is what was packed, and nothing else is ever touched."""

from __future__ import annotations

import hashlib
import json
import tarfile

import pytest

from tests.support.api import Api, assert_error
from tests.support.archives import directory, entry, hard_link, header, padded, symlink, tar_of

LIST = """
import json, os
found = {}
for base, names, files in os.walk("."):
    for name in names + files:
        path = os.path.join(base, name)[2:]
        mode = oct(os.lstat(path).st_mode & 0o777)
        found[path] = "-> " + os.readlink(path) if os.path.islink(path) else "dir" if os.path.isdir(path) else mode
print(json.dumps(found))
"""


def _listing(api: Api, archive: bytes) -> dict[str, str]:
    result = api.run(archive, entrypoint="list.py")
    assert result["exit_code"] == 0, result
    listing = json.loads(result["stdout"])
    del listing["list.py"]
    return listing


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_is_unpacked(api: Api, format: int) -> None:
    files = {"list.py": LIST, "a/b/c.txt": "text", "./d.bin": bytes(1000), "empty": ""}
    assert _listing(api, tar_of(files, format)) == {
        "a": "dir",
        "a/b": "dir",
        "a/b/c.txt": "0o644",
        "d.bin": "0o644",
        "empty": "0o644",
    }


def test_contents_arrive_byte_for_byte(api: Api) -> None:
    content = bytes(range(256)) * 5000 + b"\r\n"
    code = "import hashlib; print(hashlib.sha256(open('data', 'rb').read()).hexdigest())"
    assert api.run({"main.py": code, "data": content})["stdout"] == hashlib.sha256(content).hexdigest() + "\n"


def test_modes_are_kept_and_masked(api: Api) -> None:
    archive = header(b"run.sh", 0, mode=b"0004755\0") + tar_of({"list.py": LIST})
    assert _listing(api, archive) == {"run.sh": "0o755"}


def test_long_and_foreign_names_arrive(api: Api) -> None:
    names = ["n" * 255, "/".join(["deep"] * 100) + "/f", "ünïcödé/文件.txt", "with space", "quote'\"\\", "new\nline"]
    listing = _listing(api, tar_of({"list.py": LIST, **dict.fromkeys(names, "x")}))
    assert set(names) <= set(listing)


def test_the_last_of_several_entries_of_one_name_wins(api: Api) -> None:
    first, second = tar_of({"main.py": "print(1)"}), tar_of({"./main.py": "print(2)"})
    assert api.run(first[:1024] + second)["stdout"] == "2\n"


def test_links_inside_the_tree_are_made(api: Api) -> None:
    files = {"list.py": LIST, "d/f": "x", "d/l": symlink("../d/f"), "e": symlink("d"), "h": hard_link("d/f")}
    listing = _listing(api, tar_of(files))
    assert (listing["d/l"], listing["e"], listing["h"]) == ("-> ../d/f", "-> d", listing["d/f"])


@pytest.mark.parametrize("target", ["/usr/bin/python3", "../../etc/passwd", "../..", "d/../../../x"])
def test_a_symlink_that_leads_out_is_left_out_and_named(api: Api, target: str) -> None:
    result = api.run({"main.py": "import os; print(os.path.lexists('venv/python'))", "venv/python": symlink(target)})
    assert result["stdout"] == "False\n"
    (warning,) = result["warnings"]
    assert "venv/python" in warning


def test_old_headers_and_missing_ends_are_fine(api: Api) -> None:
    code = b"print(1)"
    archive = header(b"main.py", len(code), type=b"\0") + padded(code)
    assert api.run(archive)["stdout"] == "1\n"


def test_ten_thousand_entries_arrive(api: Api) -> None:
    files = {f"package{number % 100}/module{number}.py": "" for number in range(10_000)}
    code = "import os; print(sum(len(files) for _, _, files in os.walk('.')))"
    assert api.run({"main.py": code, **files})["stdout"] == "10001\n"


MAIN = {"main.py": "print('ran')"}


@pytest.mark.parametrize(
    "archive",
    [
        tar_of({**MAIN, "/etc/cron.d/x": "x"}),
        tar_of({**MAIN, "../x": "x"}),
        tar_of({**MAIN, "a/../../x": "x"}),
        tar_of({**MAIN, "null": entry(tarfile.CHRTYPE)}),
        tar_of({**MAIN, "sda": entry(tarfile.BLKTYPE)}),
        tar_of({**MAIN, "pipe": entry(tarfile.FIFOTYPE)}),
        tar_of({**MAIN, "shadow": hard_link("/etc/shadow")}),
        tar_of({**MAIN, "shadow": hard_link("../../etc/shadow")}),
        tar_of({**MAIN, "out": symlink("/etc"), "out/x": "x"}),
        tar_of({**MAIN, "in": symlink("d"), "d": directory(), "in/x": "x"}),
        tar_of({**MAIN, "main.py/x": "x"}),
        header(b"pax", 12, b"x") + padded(b"12 path=a\0b\n") + tar_of(MAIN),
        header(b"\xff\xfe.py") + tar_of(MAIN),
        header(b"sparse", type=b"S") + tar_of(MAIN),
        header(b"main.py", b"\x80" + (2**63).to_bytes(11, "big")),
        header(b"main.py", b"\xff" * 12),
        tar_of(MAIN)[:700],
        tar_of(MAIN)[:1024] + b"garbage in the middle".ljust(512) + tar_of(MAIN),
        b"\x1f\x8b\x08" + bytes(1000),
        b"PK\x03\x04" + bytes(1000),
        b"print('no tar')",
        b"",
    ],
    ids=[
        "absolute",
        "parent",
        "parent in the middle",
        "device",
        "disk",
        "pipe",
        "absolute hard link",
        "hard link that leads out",
        "through a symlink that leads out",
        "through a symlink",
        "file in a file",
        "NUL",
        "not UTF-8",
        "sparse",
        "8 EiB",
        "negative size",
        "cut",
        "broken header",
        "gzip",
        "zip",
        "no tar",
        "empty",
    ],
)
def test_a_bad_archive_is_a_400_and_nothing_runs(api: Api, archive: bytes) -> None:
    response = api.post_exec(archive, {"entrypoint": "main.py"})
    assert_error(response, 400, "invalid_request")


def test_files_larger_than_the_disk_are_a_400(api: Api) -> None:
    files = {**MAIN, "data": bytes(3 << 20)}
    assert_error(api.post_exec(files, {"config": {"disk_mb": 2}}), 400, "invalid_request", "disk_mb")
    assert api.run(files, config={"disk_mb": 4})["stdout"] == "ran\n"


@pytest.mark.parametrize(
    ("config", "most"), [({"disk_mb": 1}, 1 << 20), ({"disk_mb": 2}, 2 << 20), ({"memory_mb": 9}, 9 << 19)]
)
def test_files_may_take_all_of_the_disk(api: Api, config: dict[str, int], most: int) -> None:
    files = {**MAIN, "data": bytes(most - 4096)}  # a file takes whole pages
    assert api.run(files, config=config)["stdout"] == "ran\n"
