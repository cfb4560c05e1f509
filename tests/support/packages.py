"""Packages to be offered by an index of a test's own, faults of that index, and what a server keeps of packages."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from python_executor.environments.interpreters import find_interpreters

from .index import FakeIndex, Fault, Handler, make_sdist, make_wheel
from .server import ServerProcess

USER, PASSWORD = "ci-user", "s3cret-of-the-index"
POLL_SECONDS = 0.02
VERSIONS = [interpreter.minor_version for interpreter in find_interpreters()]
VERSION = "3.12" if "3.12" in VERSIONS else VERSIONS[0]  # what an eval gets that names none


def url_with_login(index: FakeIndex) -> str:
    """As the operator of a server names it."""
    return index.url.replace("//", f"//{USER}:{PASSWORD}@")


def offer(
    index: FakeIndex,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    tag: str = "py3-none-any",
    **wheel: Any,
) -> str:
    """Have the index offer a wheel, by default with a module of its name that has a `version`; where its file is."""
    stem = name.replace("-", "_")
    files = {f"{stem}.py": f"version = {version!r}\n"} if files is None else files
    return offer_file(index, f"{stem}-{version}-{tag}.whl", make_wheel(name, version, files, tag=tag, **wheel))


def offer_file(index: FakeIndex, filename: str, data: bytes, **lies: Any) -> str:
    """Have the index offer a file; where that is."""
    index.add(filename, data, **lies)
    return f"/files/{filename}"


def offer_source(
    index: FakeIndex,
    name: str,
    files: Mapping[str, str | bytes],
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    is_dynamic: bool = False,
) -> str:
    """Have the index offer a source distribution; one that is dynamic has to be built even to be resolved."""
    extra = "Dynamic: Requires-Dist" if is_dynamic else ""
    data = make_sdist(name, version, files, requires=requires, metadata_extra=extra)
    return offer_file(index, f"{name.replace('-', '_')}-{version}.tar.gz", data)


def with_members(wheel: bytes, *members: tuple[str, bytes, int]) -> bytes:
    """The wheel with more in its zip than its RECORD says: name, content, mode with the kind of file."""
    packed = io.BytesIO(wheel)
    with zipfile.ZipFile(packed, "a") as archive:
        for name, data, mode in members:
            member = zipfile.ZipInfo("placeholder")
            member.filename = name  # as it is: the constructor would cut it
            member.external_attr = mode << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


# --- faults of an index ---


def held(release: threading.Event) -> Fault:
    """Answers as soon as that is set."""

    def hold(handler: Handler) -> None:
        while not release.wait(POLL_SECONDS) and not handler.index.closing.is_set():
            pass
        handler.serve(unquote(urlsplit(handler.path).path))

    return hold


def late(seconds: float) -> Fault:
    """Answers after a while."""

    def wait(handler: Handler) -> None:
        handler.index.closing.wait(seconds)
        handler.serve(unquote(urlsplit(handler.path).path))

    return wait


def undeclared(handler: Handler) -> None:
    """Sends the file without saying how long it is."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    if handler.command != "HEAD":
        handler.wfile.write(handler.index.files[unquote(urlsplit(handler.path).path)])


def hangs_up(handler: Handler) -> None:
    """Closes the connection without an answer."""
    handler.close_connection = True


def wait_until_asked(index: FakeIndex, path: str, seconds: float = 20.0) -> None:
    """Until somebody wants that."""
    deadline = time.monotonic() + seconds
    while path not in index.asked():
        assert time.monotonic() < deadline, f"nobody asks for {path}: {index.asked()[-10:]}"
        time.sleep(POLL_SECONDS)


# --- what a server keeps ---


class Kept:
    """The environments on a server's disk."""

    def __init__(self, server: ServerProcess) -> None:
        self.directory = Path(str(server._settings["data_dir"])) / "environments"

    def keys(self) -> set[str]:
        """Of those that are complete."""
        return {path.name for path in self.directory.glob("env_*")}

    def leftovers(self) -> list[str]:
        """Names of what is being made or removed, or neither any more."""
        return sorted(path.name for path in self.directory.iterdir() if not path.name.startswith("env_"))

    def wait_for_leftovers_to_go(self, seconds: float = 10.0) -> None:
        """What is being removed takes a moment."""
        deadline = time.monotonic() + seconds
        while self.leftovers() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        assert self.leftovers() == []

    def bytes(self) -> int:
        """That the environments take on disk."""
        return sum(path.lstat().st_blocks * 512 for path in self.directory.rglob("*"))

    def find(self, key: str, name: str) -> Path:
        """A file of an environment."""
        return next((self.directory / key / "venv").rglob(name))


# --- results ---


def assert_worked(result: Mapping[str, Any], stdout: str | None = None) -> None:
    """It ran to a good end, and printed that."""
    shown = {
        key: result[key] for key in ("status", "termination", "exit_code", "error", "stdout", "stderr", "warnings")
    }
    assert (result["status"], result["exit_code"]) == ("completed", 0), shown
    assert stdout is None or result["stdout"] == stdout, shown


def assert_refused(result: Mapping[str, Any], *mentions: str) -> None:
    """It was not run, since its packages can't be had, for a reason that mentions all of these."""
    got = (result["status"], result["termination"], result["exit_code"], result["stdout"], result["environment"])
    assert got == ("failed", "environment", 1, "", None), (got, result["error"])
    error = result["error"]
    for mention in mentions:
        assert mention in error, error
    for secret in (PASSWORD, USER, "127.0.0.1:3141", "\n"):
        assert secret not in error, error


def packages_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Versions by name."""
    assert result["environment"] is not None, result
    return {package["name"]: package["version"] for package in result["environment"]["packages"]}
