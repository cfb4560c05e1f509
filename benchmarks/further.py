"""More than one line of output: imports, a project, much output, a large upload; and waiting for an async execution."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from load import Way, sequential
from server import Server
from ways import CODE, EXPECTED, bare, eval_body, evaluated, executed, in_result

from python_executor.model.spec import Interpreter
from python_executor_client import ExecutionResult, PythonExecutorClient

MEBIBYTE = 1 << 20
MODULES = (
    *("argparse", "asyncio", "collections", "csv", "datetime", "decimal", "functools", "hashlib", "heapq"),
    *("http.client", "itertools", "json", "logging", "math", "pathlib", "random", "re", "statistics", "string"),
    "urllib.request",
)
SYNC, ASYNC = "`execute_sync()` of our client", "`execute_async()` + `wait_for_completion()`"


@dataclass(frozen=True, slots=True)
class Work:
    """A project with a main.py, and what it prints."""

    name: str
    files: dict[str, bytes]
    stdout: bytes
    is_uploaded: bool = False  # by exec/sync, else it is the body of an eval

    def over_http(self, server: Server) -> Way:
        expected = in_result(self.stdout)
        if self.is_uploaded:
            return executed(server, self.files, expected, self.name)
        files = [{"name": name, "content": content.decode()} for name, content in self.files.items()]
        return evaluated(server, eval_body(files=files, entrypoint="main.py"), expected, self.name)

    def on_disk(self, interpreter: Interpreter, directory: Path) -> Way:
        directory.mkdir()
        for name, content in self.files.items():
            (directory / name).write_bytes(content)
        return bare(interpreter, directory / "main.py", self.stdout, f"{self.name}, bare")


def works() -> list[Work]:
    imports = "".join(f"import {module}\n" for module in MODULES)
    modules = {f"part{n}.py": f"def value(x):\n    return x + {n}\n".encode() for n in range(1, 10)}
    project = "".join(f"import part{n}\n" for n in range(1, 10))
    total = " + ".join(f"part{n}.value(1)" for n in range(1, 10))
    blocks = {f"block{n}.bin": os.urandom(MEBIBYTE) for n in range(10)}
    read = 'print(sum(len(open(f"{sys.path[0]}/block{n}.bin", "rb").read()) for n in range(10)))\n'
    return [
        Work(f"{len(MODULES)} imports of the standard library", {"main.py": (imports + CODE).encode()}, EXPECTED),
        Work("a project of 10 files", {"main.py": f"{project}print({total})\n".encode(), **modules}, b"54\n"),
        Work(
            "1 MiB of output",
            {"main.py": b'print(("x" * 1023 + "\\n") * 1024, end="")\n'},
            (b"x" * 1023 + b"\n") * 1024,
        ),
        Work(
            "300,000 prints",
            {"main.py": b"for n in range(300000): print(n)\n"},
            "".join(f"{n}\n" for n in range(300000)).encode(),
        ),
        Work(
            "a 10 MiB archive, `exec/sync`",
            {"main.py": f"import sys\n{read}".encode(), **blocks},
            b"10485760\n",
            is_uploaded=True,
        ),
    ]


def further(
    interpreter: Interpreter, server: Server, directory: Path, turns: int, advance: Callable[[], None]
) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds of each run by the work's name: bare, and over HTTP; all of them take turns."""
    pairs = {
        work.name: (work.on_disk(interpreter, directory / str(number)), work.over_http(server))
        for number, work in enumerate(works())
    }
    times = sequential([way for pair in pairs.values() for way in pair], turns, warm_up=3, advance=advance)
    return {name: (times[on_disk.name], times[over_http.name]) for name, (on_disk, over_http) in pairs.items()}


def through_client(server: Server, turns: int, advance: Callable[[], None]) -> dict[str, list[float]]:
    """Milliseconds from the call to the result through our client library, of its sync and its async way.

    Both go through one client, thus one kept connection, and send the same archive.
    """
    client = PythonExecutorClient(server.url)
    files = {"main.py": CODE}

    def sync() -> bytes:
        return text_of(client.execute_sync(files=files))

    def submit_and_wait() -> bytes:
        return text_of(client.wait_for_completion(client.execute_async(files=files)))

    ways = [Way(SYNC, lambda: sync, EXPECTED), Way(ASYNC, lambda: submit_and_wait, EXPECTED)]
    return sequential(ways, turns, warm_up=3, advance=advance)


def text_of(result: ExecutionResult) -> bytes:
    return (result.stdout or "").encode()
