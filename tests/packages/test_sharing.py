"""Environments are made once, for all; they go when room is needed, and what was damaged is made again."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.index import FakeIndex
from tests.support.packages import (
    VERSION,
    Kept,
    assert_refused,
    assert_worked,
    held,
    late,
    offer,
    packages_of,
    url_with_login,
    wait_until_asked,
)
from tests.support.server import ServerProcess
from tests.support.traces import within

MEGABYTE = 1 << 20


def test_fifty_requests_at_once_make_one_environment_and_all_have_it(api: Api, index: FakeIndex, kept: Kept) -> None:
    path = offer(index, "crowded")
    index.faults[path] = late(0.5)
    before = kept.keys()

    def ask(_: int) -> dict[str, object]:
        with closing(Api(api.url)) as own:
            return own.eval("import crowded; print(crowded.version)", requirements_txt="crowded")

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(ask, range(50)))
    for result in results:
        assert_worked(result, "1.0\n")
    assert len({packages_of(result)["crowded"] for result in results}) == 1
    assert index.asked().count(path) == 1 and len(kept.keys() - before) == 1


def test_requests_for_the_same_in_other_words_at_once_make_one_environment(
    api: Api, index: FakeIndex, kept: Kept
) -> None:
    path = offer(index, "reworded")
    index.faults[path] = late(0.2)
    before = kept.keys()
    words = ["reworded", "reworded>=0", "reworded>=0.1", "reworded>0.2", "reworded<9", "reworded!=3"]

    def ask(text: str) -> dict[str, object]:
        with closing(Api(api.url)) as own:
            return own.eval("import reworded; print(reworded.version)", requirements_txt=text)

    with ThreadPoolExecutor(len(words)) as pool:
        for result in pool.map(ask, words):
            assert_worked(result, "1.0\n")
    assert index.asked().count(path) == 1 and len(kept.keys() - before) == 1


def test_a_hundred_runs_take_no_more_disk_than_one(api: Api, index: FakeIndex, kept: Kept) -> None:
    offer(index, "reused", files={"reused.py": "", "reused.bin": bytes(MEGABYTE)})
    assert_worked(api.eval("import reused", requirements_txt="reused"))
    before = kept.bytes()

    def ask(number: int) -> dict[str, object]:
        code = f"import reused; open('own-{number}', 'w').write('x' * 100_000)"
        return api.eval(code, requirements_txt="reused")

    for result in map(ask, range(100)):
        assert_worked(result)
    assert kept.bytes() == before


# --- room ---


@pytest.fixture(scope="module")
def small(index: FakeIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with room for two environments of 1 MiB."""
    process = ServerProcess(
        tmp_path_factory.mktemp("small"), index_url=url_with_login(index), environments_max_mb=3, pool_max=4
    )
    process.start()
    yield process
    process.stop()


def offer_megabyte(index: FakeIndex, name: str) -> None:
    content = {f"{name}.py": f"version = {name!r}\n", f"{name}.bin": bytes(MEGABYTE + MEGABYTE // 8)}
    offer(index, name, files=content)


def use(api: Api, name: str) -> str:
    result = api.eval(f"import {name}; print({name}.version)", requirements_txt=name)
    assert_worked(result, f"{name}\n")
    return str(result["environment"]["key"])


def test_the_longest_unused_goes_when_room_is_needed_and_comes_again_when_it_is_asked_for(
    index: FakeIndex, small: ServerProcess
) -> None:
    kept = Kept(small)
    for number in range(4):
        offer_megabyte(index, f"room{number}")
    with closing(Api(small.url)) as api:
        first, second = use(api, "room0"), use(api, "room1")
        assert use(api, "room0") == first  # now the other one is the longest unused
        third = use(api, "room2")
        assert kept.keys() == {first, third}
        assert api.get(f"/api/v1/environments/{second}/lock").status_code == 404
        for number in (3, 1, 0):  # each makes room for itself
            use(api, f"room{number}")
        assert len(kept.keys()) == 2
    kept.wait_for_leftovers_to_go()


def test_what_is_in_use_never_goes(index: FakeIndex, small: ServerProcess) -> None:
    kept = Kept(small)
    for name in ("held_by_code", "held_a", "held_b", "held_c"):
        offer_megabyte(index, name)
    code = """
import sys, time
while True:
    import held_by_code
    print(held_by_code.version, flush=True)
    del sys.modules["held_by_code"]
    time.sleep(0.2)
"""
    with closing(Api(small.url)) as api:
        execution_id = api.submit(code, requirements_txt="held_by_code")
        api.until(execution_id, "stdout", "held_by_code\n")
        for name in ("held_a", "held_b", "held_c"):
            use(api, name)
        seen = api.look(execution_id)
        assert seen["environment"]["key"] in kept.keys()  # noqa: SIM118 - no mapping
        assert within(30, lambda: len(api.look(execution_id)["stdout"]) > len(seen["stdout"]))
        api.kill(execution_id)
        result = api.finished(execution_id)
        assert (result["termination"], result["stderr"]) == ("killed", "")
    kept.wait_for_leftovers_to_go()


def test_runs_never_see_a_part_of_an_environment_while_others_come_and_go(
    index: FakeIndex, small: ServerProcess
) -> None:
    names = [f"coming{number}" for number in range(5)]
    for name in names:
        offer_megabyte(index, name)

    def ask(number: int) -> None:
        with closing(Api(small.url)) as api:
            for turn in range(4):
                use(api, names[(number + turn) % len(names)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    Kept(small).wait_for_leftovers_to_go()


def test_an_environment_that_another_process_removed_is_made_again(index: FakeIndex, small: ServerProcess) -> None:
    kept = Kept(small)
    offer_megabyte(index, "removed")
    with closing(Api(small.url)) as api:
        key = use(api, "removed")
        for _ in range(2):
            gone = kept.directory / ".new-removed-by-another"
            (kept.directory / key).rename(gone)
            shutil.rmtree(gone)
            assert use(api, "removed") == key


# --- damage, and other lives of the server ---


@pytest.fixture
def own(index: FakeIndex, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Starts a server on one directory, again and again: `own(packages_deny="x")` ends the one before."""
    running: list[tuple[ServerProcess, Api]] = []

    def stop() -> None:
        for process, api in running:
            api.close()
            process.stop()
        running.clear()

    def start(**settings: object) -> Api:
        stop()
        process = ServerProcess(tmp_path / "own", index_url=url_with_login(index), pool_max=2, **settings)
        process.start()
        running.append((process, Api(process.url)))
        own_kept.append(Kept(process))
        return running[0][1]

    start.stop = stop  # type: ignore[attr-defined]
    start.kept = own_kept = []  # type: ignore[attr-defined]
    yield start
    stop()


def test_environments_outlive_a_server_and_what_is_denied_now_is_not_had_from_them(
    own: Callable[..., Api], index: FakeIndex
) -> None:
    for name in ("outlives", "denied_later"):
        offer(index, name)
    offer(index, "brings_denied_later", requires=["denied-later"])
    texts = ["outlives", "denied-later", "brings-denied-later"]
    api = own()
    first = [api.eval("1", requirements_txt=text) for text in texts]
    locks = [api.get(f"/api/v1/environments/{each['environment']['key']}/lock").text for each in first]
    api = own(packages_deny="denied-later")
    asked = len(index.requests)
    again = api.eval("import outlives; print(outlives.version)", requirements_txt="outlives")
    assert_worked(again, "1.0\n")
    assert again["environment"] == first[0]["environment"]
    for text in (*texts[1:], *locks[1:]):
        assert_refused(api.eval("1", requirements_txt=text), "'denied-later' is not allowed", "(PACKAGES_DENY)")
    assert len(index.requests) == asked
    api = own(packages_allow="outlives, brings-*")
    assert_worked(api.eval("import outlives", requirements_txt="outlives"))
    for text in (*texts[1:], *locks[1:]):
        assert_refused(api.eval("1", requirements_txt=text), "'denied-later' is not allowed", "(PACKAGES_ALLOW)")
    assert len(index.requests) == asked


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def from_another_boot(environment: Path) -> None:
    path = environment / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))


def harm_file(environment: Path) -> None:
    flip_a_byte(next(environment.rglob("*fragile.py")))


def harm_bytecode(environment: Path) -> None:
    flip_a_byte(next(environment.rglob("*fragile*.pyc")))


def harm_by_removing(environment: Path) -> None:
    next(environment.rglob("*fragile.py")).unlink()


def harm_by_emptying(environment: Path) -> None:
    next(environment.rglob("*fragile.py")).write_bytes(b"")


def harm_manifest(environment: Path) -> None:
    (environment / "files.jsonl").write_bytes(b"")


def harm_config(environment: Path) -> None:
    (environment / "venv/pyvenv.cfg").write_bytes(b"")


def harm_record(environment: Path) -> None:
    (environment / "environment.json").write_bytes(b"")
    harm_file(environment)


HARMS = [harm_bytecode, harm_by_emptying]
MORE_HARMS = [harm_file, harm_by_removing, harm_manifest, harm_config, harm_record]


@pytest.mark.parametrize(
    "harms", [pytest.param(HARMS, id="a few"), pytest.param(MORE_HARMS, id="all others", marks=pytest.mark.long)]
)
def test_what_a_crash_of_the_machine_damaged_is_noticed_and_made_again(
    own: Callable[..., Api], index: FakeIndex, harms: list[Callable[[Path], None]]
) -> None:
    names = {harm.__name__: harm for harm in harms}
    code = (
        "import {0}_fragile, subprocess, sys\n"
        "print({0}_fragile.version, sys.prefix != sys.base_prefix, flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import {0}_fragile as f, sys; print(f.version, sys.prefix)'])\n"
    )
    expected = "1.0 True\n1.0 /venv\n"

    def use_all(api: Api) -> dict[str, str]:
        ids = {
            name: api.submit(code.format(name), requirements_txt=f"{name}_fragile", docker_image=f"python:{VERSION}")
            for name in (*names, "none")
        }
        results = {name: api.finished(execution_id) for name, execution_id in ids.items()}
        for result in results.values():
            assert_worked(result, expected)
        return {name: result["environment"]["key"] for name, result in results.items()}

    for name in (*names, "none"):
        offer(index, f"{name}_fragile")
    keys = use_all(own())
    directory = own.kept[-1].directory  # type: ignore[attr-defined]
    own.stop()  # type: ignore[attr-defined]
    for name, key in keys.items():
        from_another_boot(directory / key)
        if name in names:
            names[name](directory / key)
    asked = len(index.requests)
    assert use_all(own()) == keys
    assert not any("/none_fragile" in request.path for request in index.requests[asked:])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for key in keys.values():
        assert json.loads((directory / key / "environment.json").read_text())["boot"] == boot
    own.kept[-1].wait_for_leftovers_to_go()  # type: ignore[attr-defined]


def test_a_shutdown_gives_up_what_is_being_made_and_leaves_nothing(own: Callable[..., Api], index: FakeIndex) -> None:
    api = own(shutdown_grace=0)
    index.faults[offer(index, "given_up")] = held(threading.Event())
    api.submit("1", requirements_txt="given-up")
    wait_until_asked(index, "/files/given_up-1.0-py3-none-any.whl")
    start = time.monotonic()
    own.stop()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 10
    assert own.kept[-1].leftovers() == []  # type: ignore[attr-defined]
    assert own.kept[-1].keys() == set()  # type: ignore[attr-defined]
