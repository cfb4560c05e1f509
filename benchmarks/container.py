"""`docker run --network none` with the very interpreter that all others use: an image made of its files, no registry.

The image holds the interpreter with its standard library (site-packages and tests left out), the libraries that `ldd`
names for it and for its extension modules, and main.py, each where it is on this machine. We start no engine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load import Way, sentence, why_not
from ways import DOCKER, DOCKER_EVERY, EXPECTED, process, version_of

from python_executor.model.spec import Interpreter

IMAGE = "python-executor-bench:latest"
LEFT_OUT = ("site-packages", "dist-packages", "test", "idlelib", "tkinter", "config-")
LIBRARY = re.compile(r"(/\S+) \(0x")


@contextmanager
def docker(interpreter: Interpreter, script: Path) -> Iterator[Way | str]:
    """The way, or a sentence where there is none; the image is removed again."""
    if shutil.which("docker") is None:
        yield "Docker is not installed here"
    elif version_of("docker", "version") is None:
        yield "no Docker engine answers here"
    else:
        try:
            failure = make_image(interpreter, script)
            command = ["docker", "run", "--rm", "--network", "none", IMAGE, interpreter.executable, "/main.py"]
            way = Way(DOCKER, lambda: process(command), EXPECTED, DOCKER_EVERY)
            failure = failure or why_not(way)
            yield way if failure is None else f"does not work here: {sentence(failure)}"
        finally:
            subprocess.run(["docker", "rmi", "--force", IMAGE], capture_output=True)


def make_image(interpreter: Interpreter, script: Path) -> str | None:
    """Import the image; None once it is there, else what went wrong."""
    files = list(interpreter_files(interpreter))
    try:
        libraries = libraries_of([path for path in files if path.suffix == ".so" or path == files[0]])
    except (OSError, subprocess.SubprocessError) as error:
        return f"ldd could not name the interpreter's libraries ({error})"
    importing = subprocess.Popen(
        ["docker", "import", "-", IMAGE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert importing.stdin is not None and importing.stderr is not None
    try:
        with importing.stdin, tarfile.open(fileobj=importing.stdin, mode="w|", dereference=True) as tar:
            for path in {*files, *libraries}:
                tar.add(path, recursive=False)
            tar.add(script, "main.py")
    except BrokenPipeError:
        pass  # what it says tells why
    said = importing.stderr.read().decode(errors="replace").strip()
    return said if importing.wait() else None


def interpreter_files(interpreter: Interpreter) -> Iterator[Path]:
    """The binary first, then its standard library with compiled and extension modules."""
    yield Path(interpreter.executable)
    top = Path(interpreter.prefix, "lib", f"python{interpreter.minor_version}")
    for directory, below, names in os.walk(top):
        if Path(directory) == top:
            below[:] = [name for name in below if not name.startswith(LEFT_OUT)]
        yield from (Path(directory, name) for name in names)


def libraries_of(programs: list[Path]) -> set[Path]:
    """Shared libraries that the loader would take for them."""
    done = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True)
    return {Path(path) for path in LIBRARY.findall(done.stdout)}
