"""What is seen of sandboxes from outside, and the watch that looks: nothing that fails or takes long ends or stalls it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from python_executor.model.events import Usage
from python_executor.model.spec import Limits
from python_executor.sandboxes.native import backend, watch
from python_executor.sandboxes.native.backend import NativeBackend
from python_executor.sandboxes.native.sandbox import SOCKETS_MAX, UNCOUNTED_MAX, NativeSandbox

MIB = 1 << 20


@pytest.fixture
def own_pidfd() -> Iterator[int]:
    pidfd = os.pidfd_open(os.getpid())
    yield pidfd
    os.close(pidfd)


# --- what is measured


def test_sockets_are_counted_through_a_file_that_stays_open(own_pidfd: int) -> None:
    meter = watch.SocketMeter(own_pidfd)
    try:
        pairs = [socket.socketpair() for _ in range(300)]
        count, _ = meter.count()
        assert count >= 600
        for pair in pairs:
            for end in pair:
                end.close()
    finally:
        meter.close()


def test_there_is_no_meter_of_a_sandbox_that_has_ended() -> None:
    child = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(child.pid)
    child.wait()
    with pytest.raises(OSError):
        watch.SocketMeter(pidfd)
    os.close(pidfd)


def test_what_waits_in_datagram_sockets_is_summed(tmp_path: Path) -> None:
    table = tmp_path / "udp"
    line = "  {n}: 0100007F:A000 00000000:0000 07 {out:08X}:{queued:08X} 00:00000000 00000000  1000 0 7 2 0 0\n"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr\n" + line.format(n=1, out=512, queued=4096) * 3
    )
    assert watch._queued(str(table)) == 3 * (512 + 4096)
    assert watch._queued(str(tmp_path / "udp6")) == 0


def test_file_locks_of_processes_are_counted(tmp_path: Path) -> None:
    import fcntl

    own = Path("/proc/self")
    before = watch.locks([own])
    with open(tmp_path / "locked", "w") as file:
        for at in range(50):
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * at)
        assert watch.locks([own]) == before + 50
    assert watch.locks([Path("/proc/0")]) == 0


def test_all_sandboxes_are_looked_at_in_one_walk_over_the_processes(
    own_pidfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = 0
    glob = Path.glob

    def counted(self: Path, pattern: str) -> Any:
        nonlocal walks
        walks += self == Path("/proc")
        return glob(self, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    others = [os.pidfd_open(os.getpid()) for _ in range(20)]
    found = watch.samples(dict.fromkeys([own_pidfd, *others], 1 << 50))
    for pidfd in others:
        os.close(pidfd)
    assert walks == 1
    assert len(found) == 21 and all(usage.memory_peak_bytes > MIB for usage in found.values())


# --- what a look decides


class Counted:
    """A cgroup, and the sockets of a sandbox, with what they are to tell."""

    def __init__(self, *, sockets: int = 3, datagram: int = 0, queued: int = 0, charged: int = 0, tcp: int = 0) -> None:
        self._sockets, self._datagram, self._queued = sockets, datagram, queued
        self._charged, self._tcp = charged, tcp

    def count(self) -> tuple[int, int]:
        return self._sockets, self._datagram

    def queued_bytes(self) -> int:
        return self._queued

    def memory_bytes(self) -> int:
        return self._charged

    def uncounted_bytes(self) -> int:
        return self._tcp

    def verdict(self) -> None:
        return None


def looked_at(counted: Counted, sample: Usage | None = None) -> tuple[bool, str]:
    """Whether a running sandbox of 64 MiB was ended, and for what."""
    sandbox = NativeSandbox.__new__(NativeSandbox)
    ended = SimpleNamespace(done=lambda: False)
    sandbox._emit, sandbox._ended, sandbox._gone = print, ended, ended  # type: ignore[assignment]
    sandbox._was_killed, sandbox._over_memory, sandbox._over_what = False, False, ""
    sandbox._usage_seen, sandbox._memory_bytes = Usage(), 64 * MIB
    sandbox._sockets, sandbox._cgroup = counted, None if sample else counted  # type: ignore[assignment]
    sandbox._kill = lambda: None  # type: ignore[method-assign]
    sandbox.check_memory(sample)
    assert sandbox._was_killed == sandbox._over_memory
    return sandbox._over_memory, sandbox._over_what


def test_more_sockets_than_there_may_be_end_it_with_a_sentence() -> None:
    assert looked_at(Counted(sockets=SOCKETS_MAX)) == (False, "")
    is_over, words = looked_at(Counted(sockets=SOCKETS_MAX + 1))
    assert is_over and f"{SOCKETS_MAX + 1} sockets" in words


def test_what_sockets_hold_is_added_to_what_the_processes_have() -> None:
    assert looked_at(Counted(charged=64 * MIB, tcp=UNCOUNTED_MAX)) == (False, "")
    assert looked_at(Counted(charged=10 * MIB, tcp=60 * MIB)) == (False, "")
    assert looked_at(Counted(charged=60 * MIB, tcp=30 * MIB))[0]
    assert looked_at(Counted(charged=1 * MIB, datagram=900, queued=90 * MIB))[0]
    assert not looked_at(Counted(charged=1 * MIB, datagram=9, queued=90 * MIB))[0]  # not even asked: nine hold little


def test_without_a_cgroup_the_sample_and_the_sockets_count() -> None:
    assert looked_at(Counted(), Usage(1, 63 * MIB)) == (False, "")
    assert looked_at(Counted(), Usage(1, 65 * MIB)) == (True, "")
    assert looked_at(Counted(sockets=5000), Usage(1, 1))[0]


# --- the watch itself


class Running:
    """A sandbox that runs; what its check does is given."""

    has_cgroup, memory_bytes, is_running = True, 64 * MIB, True

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.pidfd, self.looks, self._check = id(self), 0, check

    def check_memory(self, _usage: Usage | None) -> None:
        self.looks += 1
        self._check()


class FakeSupply:
    is_idle = True

    def __init__(self, *sandboxes: Running, closing: float = 0, trim: Callable[[], None] = lambda: None) -> None:
        self._sandboxes, self._closing = sandboxes, closing
        self.pool = SimpleNamespace(trim=trim, bound=lambda _: None)

    def running(self) -> list[Running]:
        return list(self._sandboxes)

    async def close(self) -> None:
        await asyncio.sleep(self._closing)


def broken() -> None:
    raise RuntimeError("a check that nobody has thought of")


def watch_for(monkeypatch: pytest.MonkeyPatch, supplies: dict[str, FakeSupply], retiring: set[FakeSupply]) -> None:
    """Let the watch of a backend run for a while over these."""
    monkeypatch.setattr(backend, "WATCH_INTERVAL", 0.005)
    monkeypatch.setattr(watch, "locks_of_all", lambda: 0)

    async def main() -> None:
        limits = Limits(10, 64, 64, 1024)
        watcher = NativeBackend([], default_python="3.12", default_limits=limits, pool_min=0, pool_max=0)
        watcher._supplies, watcher._retiring = supplies, retiring  # type: ignore[assignment]
        watching = asyncio.create_task(watcher._watch())
        await asyncio.sleep(0.3)
        assert not watching.done()
        watching.cancel()
        for task in watcher._aside.values():
            task.cancel()

    asyncio.run(main())


def test_one_sandboxs_failing_check_stops_neither_anothers_nor_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = Running(broken), Running()
    watch_for(monkeypatch, {"3.12": FakeSupply(bad, good)}, set())
    assert bad.looks >= 3 and good.looks >= 3


def test_a_failing_trim_of_one_pool_stops_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Running()
    watch_for(monkeypatch, {"3.11": FakeSupply(trim=broken), "3.12": FakeSupply(good)}, set())
    assert good.looks >= 3


def test_a_slow_close_of_what_is_retired_holds_up_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    good, slow = Running(), FakeSupply(closing=3600)
    watch_for(monkeypatch, {"3.12": FakeSupply(good)}, {slow})
    assert good.looks >= 3
