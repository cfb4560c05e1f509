"""What the tests of this folder share: servers that use an engine, and looks at what they have there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.api import Api
from tests.support.archives import Content
from tests.support.engine import Engine
from tests.support.server import ServerProcess

T = TypeVar("T")
OWNER_LABEL = "python-executor.owner"
WELL = ("completed", "exited", 0)  # status, termination and exit code
OURS = ("failed", "error", 125)  # of what failed by our doing
ITS_IMAGES = ("failed", "image", 125)  # of what its image failed
SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(60)"
WHERE_AND_SLEEP = f"print(open('/proc/self/mountinfo').read(), flush=True)\n{SLEEP}"  # the engine's name of it is there
long = pytest.mark.long


class Served:
    """A server on an engine, and its API."""

    def __init__(self, engine: Engine, process: ServerProcess) -> None:
        self.engine = engine
        self.process = process
        self.api = Api(process.url)

    def containers(self) -> list[str]:
        """Ids of those that it has made, of whatever state; other servers may be on the same engine."""
        owner = (self.process.directory / "data/owner").read_text()
        return self.engine.run_cli("ps", "--quiet", "--all", f"--filter=label={OWNER_LABEL}={owner}").split()

    def begin(self, code: Mapping[str, Content] | str = SLEEP, **metadata: Any) -> str:
        """Start code that says `up`, and wait until it has; its id."""
        execution_id = self.api.submit(code, **metadata)
        self.api.until(execution_id, "stdout", "up\n")
        return execution_id


@contextmanager
def serving(engine: Engine, directory: Path, **settings: object) -> Iterator[Served]:
    """A server whose images run on the engine, and by default all of whose code does."""
    process = ServerProcess(directory, **{"backend": "docker", "docker_socket": str(engine.socket), **settings})
    try:
        process.start()
        served = Served(engine, process)
        yield served
        served.api.close()
    finally:
        process.stop()


def ending(result: dict[str, Any]) -> tuple[str, str, int]:
    """How it ended."""
    return result["status"], result["termination"], result["exit_code"]


def our_containers(engine: Engine, *, only_running: bool = False) -> list[str]:
    """Ids of the containers on it that any server has made."""
    scope = [] if only_running else ["--all"]
    return engine.run_cli("ps", "--quiet", "--no-trunc", *scope, f"--filter=label={OWNER_LABEL}").split()


def inspect(engine: Engine, container: str) -> dict[str, Any]:
    """What the engine knows of it."""
    (found,) = json.loads(engine.run_cli("inspect", container))
    return found


def container_of(
    served: Served, *, also: Mapping[str, Content] | None = None, before_sleep: str = "", **metadata: Any
) -> tuple[str, str]:
    """Start something that sleeps, with files beside it; its id, and its container's."""
    execution_id = served.begin({"main.py": f"{before_sleep}\n{WHERE_AND_SLEEP}", **(also or {})}, **metadata)
    mounts = served.api.look(execution_id)["stdout"]
    (name,) = [each for each in our_containers(served.engine, only_running=True) if each in mounts]
    return execution_id, name


def eventually(ask: Callable[[], T], seconds: float = 10.0) -> T:
    """The first answer that is true, or the last."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def processes_of(container: str) -> list[int]:
    """The machine's processes that are in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            if container in path.read_text():
                found.append(int(path.parent.name))
    return found
