"""Resolves requirements, or installs a lock, in a sandbox whose only way out leads to the server's package index.

    resolve    uv turns requirements into a lock, which goes to the server
    install    uv puts what a lock says into /work/venv, compiled to bytecode; then the files go to the server

Run as the sandbox's program, with its instructions as JSON on stdin. Where uv fails, its explanation is on stderr and
the exit code is 1. The server believes nothing of what it is sent: the code that builds a package may have taken over
this process.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from typing import Any, Dict, Iterable, Iterator, List

import frames

UV = "/venv/uv"
VENV = "/work/venv"
REQUIREMENTS, LOCK = "/work/requirements.in", "/work/requirements.lock"
CHUNK = 1 << 20


def main() -> None:
    """One of the two."""
    instructions: Dict[str, Any] = json.load(sys.stdin)
    prepare()
    write(REQUIREMENTS, instructions["text"])
    if instructions["step"] == "resolve":
        resolve(instructions)
        with open(LOCK, "rb") as lock:
            deliver(instructions["port"], [lock.read()])
    else:
        install(instructions)
        deliver(instructions["port"], packed())


def prepare() -> None:
    """A virtual environment, made by hand: what Debian leaves out of its Python is not needed for it."""
    os.environ.update(
        UV_CACHE_DIR="/work/cache", UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1", NO_COLOR="1",
        UV_HTTP_RETRIES="0", UV_HTTP_TIMEOUT="120",
    )  # fmt: skip
    os.makedirs(VENV + "/bin")
    os.symlink(sys.executable, VENV + "/bin/python")
    version = ".".join(map(str, sys.version_info[:3]))
    home = os.path.dirname(sys.executable)
    write(VENV + "/pyvenv.cfg", f"home = {home}\nimplementation = CPython\nversion_info = {version}\n"
          "include-system-site-packages = false\nrelocatable = true\n")  # fmt: skip


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def resolve(instructions: Dict[str, Any]) -> None:
    """uv's lock: exact versions, and hashes of every file that may be installed for them."""
    uv("pip", "compile", REQUIREMENTS, "--output-file", LOCK, "--generate-hashes", "--no-annotate", "--no-header",
       *options(instructions))  # fmt: skip


def install(instructions: Dict[str, Any]) -> None:
    """What the lock names and nothing else; a lock that came with the request may have forgotten something."""
    whole = [] if instructions["step"] == "install foreign" else ["--no-deps"]
    uv("pip", "install", "--requirements", REQUIREMENTS, "--require-hashes", *whole, *options(instructions))
    compile_bytecode()


def compile_bytecode() -> None:
    """Not by uv, whose compiler runs what `.pth` files say: nothing of a wheel is to run here. Errors are the wheel's.

    /venv is where the files will be, and where nobody changes them: so they are never compared with their sources.
    """
    base = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*base, "-s", VENV, "-p", "/venv", VENV + "/lib"], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def options(instructions: Dict[str, Any]) -> List[str]:
    default, *extra = [f"http://127.0.0.1:{instructions['port']}/{n}/simple/" for n in range(instructions["indexes"])]
    indexes = [word for url in extra for word in ("--index", url)]
    only = ["--no-build"] if instructions["wheels_only"] else []
    return ["--quiet", "--python", VENV + "/bin/python", "--default-index", default, *indexes, *only]


def uv(*arguments: str) -> None:
    if subprocess.run([UV, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit(1)


def deliver(port: int, body: Iterable[bytes]) -> None:
    """Send the result to the server; where it does not take it, it knows why."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Transfer-Encoding": "chunked"}
    connection.request("PUT", "/result", body=iter(body), encode_chunked=True, headers=headers)
    if connection.getresponse().status != 200:
        sys.exit(1)


def packed() -> Iterator[bytes]:
    """Every regular file below /work/venv, but what the server makes itself."""
    for directory, names, files in os.walk(VENV):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, VENV)
            if "/" in relative and os.path.isfile(path) and not os.path.islink(path):
                yield from frame(path, relative.encode("utf-8", "surrogateescape"))
    yield frames.FILE_HEADER.pack(frames.END_OF_FILES, 0, 0)


def frame(path: str, relative: bytes) -> Iterator[bytes]:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        kind = frames.PROGRAM if status.st_mode & 0o100 else frames.FILE
        yield frames.FILE_HEADER.pack(kind, len(relative), status.st_size) + relative
        while chunk := file.read(CHUNK):
            yield chunk


if __name__ == "__main__":
    main()
