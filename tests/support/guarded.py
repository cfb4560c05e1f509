"""A server with boundaries switched off, in a guard of its own: where the twins of the abuse suite run, never bare.

The guard has a cgroup (memory, processes) and mount, PID, network, IPC and UTS namespaces; what an attack reaches there
is the guard's, not the machine's. Calls go in as JSON lines and come back the same way, since nothing of the guard's
network can be reached from outside it. Needs root.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from python_executor.sandboxes.native.cgroups import CgroupTree, find_hierarchies, sweep
from tests.support.api import Api
from tests.support.mutants import EVERYTHING, make_mutant
from tests.support.offers import offering
from tests.support.server import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
MEMORY_BYTES, PROCESSES = 3 << 30, 3000
BAIT = (  # a network with more than one interface, that leads nowhere
    "ip link set lo up && ip link add bait type veth peer name end && ip address add 192.0.2.7/24 dev bait && "
    "ip link set bait up && ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev bait"
)
SPACES = ("--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net", "--mount-proc")


@contextmanager
def guard(*command: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The command in a guard of its own, with pipes as stdin and stdout; at the end all that runs there is killed."""
    tree = CgroupTree(find_hierarchies())
    group = tree.acquire()
    group.set_limits(memory_bytes=MEMORY_BYTES, processes=PROCESSES, cpu_shares=1024)
    joins = group.open_to_join()

    def join() -> None:
        for fd in joins:
            os.write(fd, b"0")

    process = subprocess.Popen(
        ["unshare", *SPACES, "sh", "-c", f'{BAIT} && exec "$@"', "sh", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=join,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()  # and with it, by --kill-child, PID 1 of the guard
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a question that a server which never came up has not read
                    pipe.close()
        deadline = time.monotonic() + 10
        while not group.remove() and time.monotonic() < deadline:
            time.sleep(0.02)
            for directory in group._directories:
                sweep(directory)  # the groups that the server in the guard made there: it was killed, too
        tree.close()


class Guarded:
    """The API of a server without some of its boundaries. Every method of `Api` that gives a value can be called."""

    def __init__(self, without: Iterable[str], **settings: object) -> None:
        self._stack = ExitStack()
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-")))
        mutant = make_mutant(directory / "mutant", without)
        arguments = (str(directory), json.dumps({"insecure_allow": EVERYTHING, "pool_max": 0, **settings}))
        path = f"{mutant}{os.pathsep}{ROOT}"
        self._process = self._stack.enter_context(
            guard(
                sys.executable,
                "-P",
                "-m",
                "tests.support.guarded",
                *arguments,
                environment={"PYTHONPATH": path, "TZ": "Pacific/Chatham"},
            )
        )
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: self.start(name, *arguments, **options).result(90)

    def start(self, name: str, *arguments: Any, **options: Any) -> Future[Any]:
        """Begin a call; several may be under way."""
        number = next(self._numbers)
        answer: Future[Any] = Future()
        self._waiting[number] = answer
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps([number, name, arguments, options]) + "\n")
            self._process.stdin.flush()
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            number, value, failure = json.loads(line)
            if failure:
                self._waiting.pop(number).set_exception(AssertionError(failure))
            else:
                self._waiting.pop(number).set_result(value)
        for answer in self._waiting.values():
            answer.set_exception(AssertionError("the guarded server has ended"))

    def close(self) -> None:
        """End all that runs in the guard."""
        self._process.kill()
        self._reader.join()
        self._stack.close()


def serve(directory: Path, settings: dict[str, object]) -> None:
    """Inside the guard: start the server, and call it as the lines on stdin say."""
    server = ServerProcess(directory / "server", **settings)
    server.start()
    api = Api(server.url)
    lock = threading.Lock()

    def answer(number: int, name: str, arguments: list[Any], options: dict[str, Any]) -> None:
        value, failure = None, ""
        try:
            value = getattr(api, name)(*arguments, **options)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        with lock:
            sys.stdout.write(json.dumps([number, value, failure]) + "\n")
            sys.stdout.flush()

    with offering(), ThreadPoolExecutor(16) as pool:
        for line in sys.stdin:
            pool.submit(answer, *json.loads(line))
    server.stop()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), json.loads(sys.argv[2]))
