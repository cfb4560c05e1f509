"""Who waits for whom: what is light waits behind nothing heavy, and all of it stays within the budget of memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from python_executor.sandboxes.native.cgroups import find_hierarchies
from tests.support.api import Api
from tests.support.index import FakeIndex
from tests.support.packages import assert_worked, held, offer, url_with_login, wait_until_asked
from tests.support.server import ServerProcess

BUDGET_MB = 600
HEAVY = 6  # uploads
INCOMPRESSIBLE = bytes(range(256)) * (200 << 12)  # 200 MiB; in a zip that stores it is what it is


@pytest.fixture(scope="module")
def narrow(index: FakeIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with little memory to give away."""
    settings = {"memory_budget": BUDGET_MB, "default_memory_mb": 64, "pool_min": 1, "pool_max": 1}
    process = ServerProcess(tmp_path_factory.mktemp("narrow"), index_url=url_with_login(index), **settings)
    process.start()
    yield process
    process.stop()


def test_a_package_waits_for_no_other_whose_index_is_slow(api: Api, index: FakeIndex) -> None:
    release = threading.Event()
    pages = [f"/simple/slow-{number}/" for number in range(6)]
    index.faults.update(dict.fromkeys(pages, held(release)))
    offer(index, "light")
    ids = [api.submit("1", requirements_txt=f"slow-{number}") for number in range(len(pages))]
    try:
        wait_until_asked(index, pages[0])
        assert_worked(api.eval("import light", requirements_txt="light"))
        assert {api.look(execution_id)["status"] for execution_id in ids} == {"pending"}
    finally:
        release.set()
    for execution_id in ids:
        api.finished(execution_id)


def test_a_package_that_is_large_is_built_with_more_memory_and_no_other_waits_for_it(
    api: Api, index: FakeIndex
) -> None:
    release = threading.Event()
    paths = [offer(index, f"large-{number}", files={f"large_{number}.dat": INCOMPRESSIBLE}) for number in range(3)]
    index.faults.update(dict.fromkeys(paths, held(release)))
    offer(index, "slim")
    ids = [api.submit("1", requirements_txt=f"large-{number}") for number in range(len(paths))]
    try:
        assert_worked(api.eval("import slim", requirements_txt="slim"))
    finally:
        release.set()
    for execution_id in ids:
        assert_worked(api.finished(execution_id))


def dense(number: int) -> str:
    """Source of 4 MiB whose tree takes hundreds of MiB, with an import of something that is not there."""
    return f"import nowhere_{number}\n" + "a = 0, 1, 2, 3, 4, 5, 6, 7\n" * (4_000_000 // 27)


def test_readers_of_imports_stay_within_the_budget_and_a_light_one_waits_for_no_heavy_one(
    narrow: ServerProcess,
) -> None:
    groups = groups_of(narrow)
    most = 0
    with ExitStack() as stack, ThreadPoolExecutor(HEAVY) as pool:
        apis = [stack.enter_context(closing(Api(narrow.url))) for _ in range(HEAVY)]
        uploads = [
            pool.submit(api.submit, {"main.py": "1", "dense.py": dense(number)}, detect_imports=True)
            for number, api in enumerate(apis)
        ]
        ids = [upload.result() for upload in uploads]
        api = apis[0]
        result = api.eval("try: import nowhere_light\nexcept ImportError: print('ran')")
        waiting = [api.look(each)["status"] for each in ids].count("pending")
        assert (result["stdout"], waiting > 0) == ("ran\n", True)
        while any(not api.look(each)["finished_at"] for each in ids):
            most = max(most, memory_of(groups))
            time.sleep(0.02)
    if groups:
        assert 0 < most <= (BUDGET_MB + 32) << 20


def groups_of(server: ServerProcess) -> list[Path]:
    """The group of all sandboxes of this server; none, where it has no cgroups."""
    assert server.process is not None
    trees = find_hierarchies(groups_of=Path(f"/proc/{server.process.pid}"))
    found = [
        path for tree in trees if "memory" in tree.controllers for path in tree.directory.glob("python-executor-*")
    ]
    return [path for path in found if any(is_below(pid, server.process.pid) for pid in pids_in(path))]


def pids_in(group: Path) -> set[int]:
    return {int(pid) for file in group.glob("*/cgroup.procs") for pid in file.read_text().split()}


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


def memory_of(groups: list[Path]) -> int:
    """Bytes that sandboxes have, without what the kernel gives back by itself."""
    total = 0
    for path in groups:
        for group in path.iterdir():
            try:
                fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except OSError:
                continue  # it is gone, or no directory
            total += int(fields.get("rss", fields.get("anon", 0))) + int(fields.get("shmem", 0))
    return total
