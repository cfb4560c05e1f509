"""A server that is killed while it makes environments: the next one finds whole ones or none, and no leftovers."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import requests

from tests.support.api import Api
from tests.support.index import FakeIndex
from tests.support.packages import Kept, assert_worked, late, offer, packages_of, url_with_login
from tests.support.server import ServerProcess

ROUNDS = int(os.environ.get("KILL_ROUNDS", "4"))
LONGEST = 1.2  # seconds; a build takes about that long here
SEED = 7
FILES = 200


def code_for(name: str) -> str:
    """Looks at every file of the package."""
    return f"""
import importlib.metadata, pathlib, {name}
parts = [path.read_text() for path in sorted(pathlib.Path({name}.__file__).parent.glob("part*.txt"))]
print(len(parts), set(map(len, parts)), importlib.metadata.version("{name}"), pathlib.Path("/venv/pyvenv.cfg").stat().st_size > 0)
"""


def expected() -> str:
    return f"{FILES} {{10000}} 1.0 True\n"


def test_a_server_that_is_killed_at_any_moment_of_a_build_leaves_nothing_half_made(
    index: FakeIndex, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    delays = [LONGEST * (number + chance.random()) / ROUNDS for number in range(ROUNDS)]
    for number in range(ROUNDS):
        name = f"killed{number}"
        content = {f"{name}/__init__.py": "", **{f"{name}/part{part}.txt": "x" * 10_000 for part in range(FILES)}}
        offer(index, name, files=content)
    with ThreadPoolExecutor(2) as pool:  # two servers, each killed after every other delay
        lives = [pool.submit(live, index, tmp_path / f"killed{half}", delays, half) for half in range(2)]
        assert sum(life.result() for life in lives), "no build was hit: the delays are of no use"


def live(index: FakeIndex, directory: Path, delays: list[float], half: int) -> int:
    """Killed and started again; how often something half made was lying about."""
    process = ServerProcess(directory, index_url=url_with_login(index), pool_min=1, pool_max=2)
    kept = Kept(process)
    process.start()
    half_made = 0
    for number in range(half, ROUNDS, 2):
        name, delay = f"killed{number}", delays[number]
        slow = {f"/simple/{name}/": late(0.05), f"/files/{name}-1.0-py3-none-any.whl": late(0.15)}
        index.faults.update(slow)
        asking = threading.Thread(target=ask, args=(process.url, name))
        asking.start()
        time.sleep(delay)
        process.signal(signal.SIGKILL)
        process.wait()
        asking.join()
        half_made += bool(kept.leftovers())
        for path in slow:
            del index.faults[path]
        process.start()
        assert kept.leftovers() == [], f"killed after {delay} s"
        with closing(Api(process.url)) as api:
            result = api.eval(code_for(name), requirements_txt=name)
            assert_worked(result, expected())
            assert packages_of(result) == {name: "1.0"}
            assert len(kept.keys()) == number // 2 + 1, f"killed after {delay} s"
    process.stop()
    return half_made


def ask(url: str, name: str) -> None:
    """Nobody will hear the answer."""
    with closing(Api(url)) as api, suppress(requests.RequestException):
        api.eval(code_for(name), requirements_txt=name)
