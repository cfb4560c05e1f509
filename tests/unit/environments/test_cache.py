"""Environments on disk: whole or not there, shared, never removed while somebody uses them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from python_executor.environments import cache as module
from python_executor.environments.cache import Cache, Draft, Lease
from python_executor.environments.locks import read_lock
from python_executor.guest import frames
from python_executor.model.spec import Interpreter

INTERPRETER = Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12")
LOCK = read_lock("six==1.17.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
KEYS = ["env_" + digit * 32 for digit in "abc"]
REQUEST = "1" * 64


def opened(directory: Path) -> Cache:
    cache = Cache(directory / "environments")
    cache.open()
    return cache


def publish(cache: Cache, key: str = KEYS[0], content: bytes = b"code") -> None:
    draft = Draft(cache.directory, 1 << 20)
    path = b"lib/python3.12/site-packages/six.py"
    draft.receiver.feed(frames.FILE_HEADER.pack(frames.FILE, len(path), len(content)) + path + content)
    draft.receiver.feed(frames.FILE_HEADER.pack(frames.END_OF_FILES, 0, 0))
    try:
        cache.publish(draft, key, LOCK, INTERPRETER, "https://pypi.org/simple")
    finally:
        draft.close()


def lease(cache: Cache, key: str = KEYS[0]) -> Lease | None:
    return asyncio.run(cache.lease(key))


def test_what_was_published_is_found_with_its_lock_and_is_a_virtual_environment(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    held = lease(cache)
    assert held is not None and held.stored.lock == LOCK
    assert [package.name for package in held.stored.environment.packages] == ["six"]
    venv = cache.directory / KEYS[0] / "venv"
    assert os.readlink(venv / "bin/python3.12") == "/python/bin/python3.12"
    assert "home = /python/bin\n" in (venv / "pyvenv.cfg").read_text()
    assert list(cache.directory.glob(".new-*")) == []


def test_it_is_found_by_another_process_and_after_a_restart_also_by_what_asked_for_it(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    cache.remember(REQUEST, KEYS[0])
    other = opened(tmp_path)
    found = asyncio.run(other.lease_for(REQUEST))
    assert found is not None and found.stored.key == KEYS[0]
    publish(other, KEYS[1])
    assert lease(cache, KEYS[1]) is not None


def test_what_was_resolved_again_counts_after_a_restart_too(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for key in (KEYS[2], KEYS[0]):
        publish(cache, key)
        cache.remember(REQUEST, key)
    found = asyncio.run(opened(tmp_path).lease_for(REQUEST))
    assert found is not None and found.stored.key == KEYS[0]


def test_what_other_processes_made_and_removed_is_learned(tmp_path: Path) -> None:
    cache, other = opened(tmp_path), opened(tmp_path)
    publish(other)
    cache.refresh()
    assert cache.bytes == other.bytes > 0
    other.remove(KEYS[0])
    cache.refresh()
    assert cache.bytes == 0


def test_a_key_that_is_none_leads_nowhere(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    for key in ("", "..", f"../environments/{KEYS[0]}", f"{KEYS[0]}/venv", KEYS[0].upper(), KEYS[2]):
        assert cache.find(key) is None and lease(cache, key) is None


def test_what_somebody_uses_is_not_removed_in_whichever_process(tmp_path: Path) -> None:
    cache, other = opened(tmp_path), opened(tmp_path)
    publish(cache)
    held = lease(cache)
    assert held is not None and cache.remove(KEYS[0]) == other.remove(KEYS[0]) == 0
    held.release()
    held.release()
    assert other.remove(KEYS[0]) > 0
    assert lease(cache) is None and list(cache.directory.iterdir()) == []


def test_what_asked_for_something_that_is_gone_finds_nothing(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    cache.remember(REQUEST, KEYS[0])
    opened(tmp_path).remove(KEYS[0])
    assert asyncio.run(cache.lease_for(REQUEST)) is None


def test_the_longest_unused_comes_first(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for number, key in enumerate(KEYS):
        publish(cache, key)
        os.utime(cache.directory / key, (number + 1, number + 1))
    held = lease(cache, KEYS[0])
    assert held is not None and cache.by_last_use() == [KEYS[1], KEYS[2], KEYS[0]]
    assert time.time() - (cache.last_used(KEYS[0]) or 0) < 60


def test_drafts_of_a_dead_process_are_swept_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    (cache.directory / ".new-dead" / "venv").mkdir(parents=True)
    draft = Draft(cache.directory, 1)
    opened(tmp_path)
    assert list(cache.directory.iterdir()) == [draft.path]
    draft.close()
    assert list(cache.directory.iterdir()) == []


@pytest.mark.parametrize("damage", [b"c0de", b"co"])
def test_after_another_boot_it_is_compared_and_a_damaged_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    publish(opened(tmp_path))
    monkeypatch.setattr(module, "boot_id", lambda: "another")
    held = lease(opened(tmp_path))
    assert held is not None
    held.release()
    monkeypatch.setattr(module, "boot_id", lambda: "a third")
    cache = opened(tmp_path)
    (cache.directory / KEYS[0] / "venv/lib/python3.12/site-packages/six.py").write_bytes(damage)
    assert lease(cache) is None and list(cache.directory.iterdir()) == []


@pytest.mark.parametrize("harm", ["files.jsonl", "venv/pyvenv.cfg", "venv/bin/python"])
def test_after_another_boot_what_the_server_made_itself_is_right_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    publish(opened(tmp_path))
    monkeypatch.setattr(module, "boot_id", lambda: "another")
    cache = opened(tmp_path)
    place = cache.directory / KEYS[0] / harm
    place.unlink()
    place.write_bytes(b"")
    held = lease(cache)
    if harm == "files.jsonl":
        assert held is None and list(cache.directory.iterdir()) == []
    else:
        venv = cache.directory / KEYS[0] / "venv"
        assert held is not None and os.readlink(venv / "bin/python") == "/python/bin/python3.12"
        assert "home = /python/bin\n" in (venv / "pyvenv.cfg").read_text()


def test_many_who_ask_at_once_after_another_boot_compare_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(opened(tmp_path))
    monkeypatch.setattr(module, "boot_id", lambda: "another")
    compared, differs = [], module.differs
    monkeypatch.setattr(module, "differs", lambda *words: compared.append(words) or differs(*words))

    async def ask() -> None:
        cache = opened(tmp_path)
        for held in await asyncio.gather(*(cache.lease(KEYS[0]) for _ in range(20))):
            assert held is not None
            held.release()

    asyncio.run(ask())
    assert len(compared) == 1


def test_within_a_boot_nothing_is_compared(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    (cache.directory / KEYS[0] / "files.jsonl").unlink()
    assert lease(cache) is not None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', "\xff"])
def test_a_directory_of_another_version_or_nobodys_is_none(tmp_path: Path, text: str) -> None:
    cache = opened(tmp_path)
    publish(cache)
    (cache.directory / KEYS[0] / "environment.json").write_text(text, encoding="latin-1")
    assert opened(tmp_path).all() == []


def test_whoever_is_slower_takes_what_is_there(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    publish(cache, content=b"the same, made twice")
    held = lease(cache)
    assert held is not None
    file = cache.directory / KEYS[0] / "venv/lib/python3.12/site-packages/six.py"
    assert file.read_bytes() == b"code"


def test_spellings_that_are_remembered_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUESTS_MAX", 3)
    cache = opened(tmp_path)
    publish(cache)
    for number in range(9):
        cache.remember(f"{number:064}", KEYS[0])
    assert len((cache.directory / KEYS[0] / "requests").read_text().splitlines()) == 3


def test_what_is_on_disk_says_what_it_takes(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    publish(cache)
    recorded = json.loads((cache.directory / KEYS[0] / "environment.json").read_text())
    assert cache.bytes == recorded["bytes"] > 0
