"""Control groups over directories that behave like cgroupfs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.model.events import Termination, Usage
from python_executor.sandboxes.native import cgroups
from python_executor.sandboxes.native.cgroups import PREFIX, Cgroup, CgroupTree, Hierarchy, sweep, weight_from_shares

# What the kernel puts into a new directory; the counters start where no test may take them for its own.
FILES = {
    1: {
        "cgroup.procs": "",
        "tasks": "",
        "pids.max": "max",
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "-1",
        "cpuacct.usage": "12345678",
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.max_usage_in_bytes": "4096",
        "memory.usage_in_bytes": "0",
        "memory.kmem.usage_in_bytes": "0",
        "memory.kmem.tcp.usage_in_bytes": "0",
        "memory.force_empty": "",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "memory.memsw.max_usage_in_bytes": "4096",
    },
    2: {
        "cgroup.procs": "",
        "cgroup.subtree_control": "",
        "cpu.stat": "usage_usec 34567\nuser_usec 30000\nsystem_usec 4567\n",
        "cpu.weight": "100",
        "cpu.max": "max 100000",
        "memory.events.local": "low 0\nhigh 0\nmax 9\noom 5\noom_kill 3\noom_group_kill 0\n",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 5\noom_kill 3\noom_group_kill 0\n",
        "memory.max": "max",
        "memory.oom.group": "0",
        "memory.current": "0",
        "memory.peak": "8192",
        "memory.reclaim": "",
        "memory.stat": "anon 1\nslab_reclaimable 0\n",
        "memory.swap.max": "max",
        "pids.max": "max",
    },
}


class FakeKernel:
    """Makes directories below `root` behave as cgroupfs does; `tree()` is a hierarchy in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.killed: list[int] = []
        self.left_out: set[str] = set()  # files that this kernel does not have

    def tree(self, version: int, *controllers: str) -> Hierarchy:
        directory = self.root / f"v{version}" / "-".join(controllers)
        directory.mkdir(parents=True)
        return Hierarchy(version, frozenset(controllers), directory)

    def trees(self, version: int) -> list[Hierarchy]:
        if version == 2:
            return [self.tree(2, "cpu", "memory", "pids")]
        return [self.tree(1, "cpu", "cpuacct"), self.tree(1, "memory"), self.tree(1, "pids")]

    def populate(self, group: Path) -> None:
        version = int(group.relative_to(self.root).parts[0].removeprefix("v"))
        for name, text in FILES[version].items():
            if name not in self.left_out:
                (group / name).write_text(text)

    def kill(self, pid: int, signal: int) -> None:
        self.killed.append(pid)
        for procs in self.root.rglob("cgroup.procs"):
            procs.write_text(procs.read_text().replace(f"{pid}\n", ""))


@pytest.fixture
def kernel(tmp_path, monkeypatch) -> FakeKernel:
    """As if the test's directory were cgroupfs: files come and go with their directory, and kills empty it."""
    fake = FakeKernel(tmp_path)
    make = Path.mkdir

    def mkdir(self: Path, *args: object, **options: bool) -> None:
        is_new = not self.exists()
        make(self, *args, **options)
        if is_new and tmp_path in self.parents and len(self.relative_to(tmp_path).parts) > 1:
            fake.populate(self)

    def rmdir(self: Path) -> None:
        if (self / "cgroup.procs").read_text() or any(path.is_dir() for path in self.iterdir()):
            raise OSError(16, "Device or resource busy")
        shutil.rmtree(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    monkeypatch.setattr(os, "kill", fake.kill)
    return fake


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def version(request) -> int:
    return request.param


@pytest.fixture
def hierarchies(kernel, version) -> list[Hierarchy]:
    return kernel.trees(version)


@pytest.fixture
def group(hierarchies) -> Cgroup:
    return new_group(hierarchies)


def new_group(hierarchies: list[Hierarchy], kind: type[Cgroup] = Cgroup) -> Cgroup:
    return kind({tree.directory / "7": tree for tree in hierarchies})


def files_of(hierarchies: list[Hierarchy]) -> dict[str, str]:
    """What the files of a group hold, all hierarchies together."""
    return {
        path.name: path.read_text()
        for tree in hierarchies
        for path in (tree.directory / "7").iterdir()
        if path.name.split(".")[0] in tree.controllers
    }


# --- one sandbox's groups ---------------------------------------------------------------------------------------------


def test_limits_are_written_as_each_version_takes_them(group, version, hierarchies):
    group.set_limits(memory_bytes=1 << 30, processes=256, cpu_shares=1024)
    files = files_of(hierarchies)
    wanted = {
        1: {"memory.limit_in_bytes": "1073741824", "memory.memsw.limit_in_bytes": "1073741824", "cpu.shares": "1024"},
        2: {"memory.max": "1073741824", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.weight": "39"},
    }[version]
    assert {name: files[name] for name in wanted} == wanted
    assert files["pids.max"] == "256"


def test_a_quota_of_processors_is_written_only_where_there_is_one_and_taken_back(group, version, hierarchies):
    names = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}[version]
    limits = {"memory_bytes": 1 << 30, "processes": 256, "cpu_shares": 1024}
    seen = []
    before = files_of(hierarchies)
    for cpus in (None, 0.5, 2, 0.001, None):
        group.set_limits(**limits, cpus=cpus)
        seen.append([files_of(hierarchies).get(name) for name in names])
    assert seen[0] == [before.get(name) for name in names]
    assert (
        seen[1:]
        == {
            1: [["50000", "100000"], ["200000", "100000"], ["1000", "100000"], ["-1", "100000"]],
            2: [["50000 100000"], ["200000 100000"], ["1000 100000"], ["max 100000"]],
        }[version]
    )


def test_a_kernel_without_swap_accounting_gets_the_other_limits(kernel, hierarchies):
    kernel.left_out = {"memory.memsw.limit_in_bytes", "memory.swap.max", "memory.oom.group"}
    new_group(hierarchies).set_limits(memory_bytes=1 << 30, processes=256, cpu_shares=1024)
    assert not kernel.left_out & files_of(hierarchies).keys()  # here, trying to create them would succeed


class Invariant(Cgroup):
    """The kernel's rule: memory alone is never allowed more than memory and swap together."""

    def _write(self, controller: str, name: str, value: int) -> None:
        super()._write(controller, name, value)
        if controller == "memory":
            memory, together = (
                int(self._read("memory", f"memory.{kind}limit_in_bytes")) & (1 << 63) - 1 for kind in ("", "memsw.")
            )
            assert memory <= together, "EINVAL"


def test_limits_may_be_raised_and_lowered_on_v1_with_swap_accounting(kernel):
    hierarchies = kernel.trees(1)
    group = new_group(hierarchies, Invariant)
    for mebibytes in (1024, 512, 4096):
        group.set_limits(memory_bytes=mebibytes << 20, processes=256, cpu_shares=1024)
        assert files_of(hierarchies)["memory.memsw.limit_in_bytes"] == str(mebibytes << 20)


def test_a_kill_for_memory_counts_only_if_it_is_new(group, version, hierarchies):
    group.set_limits(memory_bytes=64 << 20, processes=256, cpu_shares=1024)
    assert group.verdict() is None
    happen(hierarchies, OOM_KILL[version], OWN_LIMIT[version])
    assert group.verdict() is Termination.MEMORY


OOM_KILL = {1: ("memory.oom_control", "oom_kill 3", "oom_kill 4"), 2: ("memory.events", "oom_kill 3", "oom_kill 4")}
OWN_LIMIT = {1: ("memory.memsw.max_usage_in_bytes", "4096", "67100672"), 2: ("memory.events.local", "oom 5", "oom 6")}


def happen(hierarchies: list[Hierarchy], *changes: tuple[str, str, str]) -> None:
    """The kernel counts something: in a file of this name, this text gives way to that one."""
    directory = next(tree.directory / "7" for tree in hierarchies if "memory" in tree.controllers)
    for name, before, after in changes:
        (directory / name).write_text((directory / name).read_text().replace(before, after))


def test_a_kill_for_the_lack_of_memory_above_is_not_the_groups_own_doing(group, version, hierarchies):
    group.set_limits(memory_bytes=64 << 20, processes=256, cpu_shares=1024)
    happen(hierarchies, OOM_KILL[version])
    assert group.verdict() is Termination.EVICTED


def test_a_limit_that_was_reached_and_cost_nobody_his_life_is_no_verdict(group, version, hierarchies):
    group.set_limits(memory_bytes=64 << 20, processes=256, cpu_shares=1024)
    happen(hierarchies, OWN_LIMIT[version])
    assert group.verdict() is None


def test_without_swap_accounting_and_local_events_the_own_limit_is_told_all_the_same(kernel, version, hierarchies):
    kernel.left_out = {"memory.memsw.max_usage_in_bytes", "memory.events.local"}
    group = new_group(hierarchies)
    group.set_limits(memory_bytes=64 << 20, processes=256, cpu_shares=1024)
    others = {1: ("memory.max_usage_in_bytes", "4096", "67108864"), 2: ("memory.events", "oom 5", "oom 6")}
    happen(hierarchies, OOM_KILL[version])
    assert group.verdict() is Termination.EVICTED
    happen(hierarchies, others[version])
    assert group.verdict() is Termination.MEMORY


def test_usage_is_what_the_kernel_counted(group, version):
    assert group.usage() == {1: Usage(12, 4096), 2: Usage(34, 8192)}[version]


def test_usage_is_zero_where_the_kernel_does_not_count(kernel, hierarchies):
    kernel.left_out = {"memory.peak", "memory.max_usage_in_bytes", "cpu.stat", "cpuacct.usage"}
    assert new_group(hierarchies).usage() == Usage(0, 0)


def test_a_process_joins_through_one_descriptor_for_each_tree(group, version, hierarchies):
    fds = group.open_to_join()
    paths = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
    for fd in fds:
        os.write(fd, b"0")
    name = {1: "tasks", 2: "cgroup.procs"}[version]
    assert paths == [str(tree.directory / "7" / name) for tree in hierarchies]


def test_removal_waits_for_the_last_process_and_is_done_once(group, hierarchies):
    last = hierarchies[-1].directory / "7/cgroup.procs"
    last.write_text("123\n")
    assert not group.remove()
    last.write_text("")
    assert group.remove()
    assert group.remove()
    assert not any((tree.directory / "7").exists() for tree in hierarchies)


@given(shares=st.integers(1, 1 << 40))
def test_weights_stay_within_what_v2_takes_and_keep_their_order(shares):
    assert 1 <= weight_from_shares(shares) <= weight_from_shares(shares + 1) <= 10_000


def test_the_ends_of_the_scale_and_the_default_are_runcs():
    assert [weight_from_shares(shares) for shares in (1, 2, 1024, 262_144, 1 << 40)] == [1, 1, 39, 10_000, 10_000]


# --- the server's part ------------------------------------------------------------------------------------------------


def own(tree: Hierarchy) -> list[Path]:
    return sorted(tree.directory.glob(PREFIX + "*"))


def test_a_server_makes_numbered_groups_below_its_own_and_takes_all_away(hierarchies):
    tree = CgroupTree(hierarchies)
    tree.acquire()
    assert [len(own(hierarchy)) for hierarchy in hierarchies] == [1] * len(hierarchies)
    assert all((own(hierarchy)[0] / "1/cgroup.procs").exists() for hierarchy in hierarchies)
    tree.close()
    assert [own(hierarchy) for hierarchy in hierarchies] == [[]] * len(hierarchies)


COUNTED = {  # by a first tenant, in files of each version
    1: {
        "cpuacct.usage": "912345678",
        "memory.max_usage_in_bytes": "7096000",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 9\n",
        "memory.memsw.max_usage_in_bytes": "67108864",
    },
    2: {
        "cpu.stat": "usage_usec 934567\n",
        "memory.peak": "7096000",
        "memory.events": "oom 5\noom_kill 9\n",
        "memory.events.local": "oom 9\n",
    },
}


def used_group(tree: CgroupTree, hierarchies: list[Hierarchy], version: int, **more: str) -> Cgroup:
    """A group whose tenant has come and gone, and left these numbers in its files."""
    group = tree.acquire()
    group.set_limits(memory_bytes=64 << 20, processes=256, cpu_shares=2, cpus=0.5)
    group.usage()
    write_counters(hierarchies, COUNTED[version] | more)
    tree.release(group)
    return group


def write_counters(hierarchies: list[Hierarchy], texts: dict[str, str]) -> None:
    for name, text in texts.items():
        for hierarchy in hierarchies:
            for path in own(hierarchy)[0].glob(f"1/{name}"):
                path.write_text(text)


def texts_of(hierarchies: list[Hierarchy], name: str) -> list[str]:
    return [file.read_text() for hierarchy in hierarchies for file in own(hierarchy)[0].glob(f"1/{name}")]


def test_a_group_that_is_used_again_shows_nothing_of_its_last_tenant(hierarchies, version):
    tree = CgroupTree(hierarchies)
    first = used_group(tree, hierarchies, version)
    again = tree.acquire()
    assert again is first
    assert again.verdict() is None
    write_counters(hierarchies, {"memory.oom_control": "oom_kill 10\n", "memory.events": "oom_kill 10\n"})
    assert again.verdict() is Termination.EVICTED  # the limit was reached by the last tenant, not by this one
    assert again.usage().cpu_ms == 0
    peak = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}[version]
    assert "0096000" in texts_of(hierarchies, peak)  # of "7096000"; the kernel takes any number for "begin again"
    again.set_limits(memory_bytes=64 << 20, processes=256, cpu_shares=1024)
    name, none = {1: ("cpu.cfs_quota_us", "-1"), 2: ("cpu.max", "max 100000")}[version]
    assert set(texts_of(hierarchies, name)) == {none}
    tree.close()


@pytest.mark.parametrize(
    "left",
    [{"cgroup.procs": "123\n"}, {"memory.usage_in_bytes": "2000000", "memory.current": "2000000"}],
    ids=["a process", "memory"],
)
def test_a_group_in_which_something_is_left_is_not_used_again(hierarchies, version, left):
    tree = CgroupTree(hierarchies)
    first = used_group(tree, hierarchies, version)
    write_counters(hierarchies, left)
    second = tree.acquire()
    assert second is not first
    write_counters(hierarchies, {"cgroup.procs": ""})
    tree.release(second)
    tree.close()
    assert [own(hierarchy) for hierarchy in hierarchies] == [[]] * len(hierarchies)


@contextmanager
def too_many_open_files(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> Iterator[None]:
    """What is done here fails when it opens one of these files."""
    really_open = os.open

    def open_or_fail(path, *arguments, **options):
        if fails(str(path)):
            raise OSError(24, "Too many open files")
        return really_open(path, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(os, "open", open_or_fail)
        yield


def test_a_limit_that_could_not_be_written_is_written_for_the_next_tenant(hierarchies, version, monkeypatch):
    tree = CgroupTree(hierarchies)
    group = tree.acquire()
    limits = {"memory_bytes": 64 << 20, "processes": 256, "cpu_shares": 1024, "cpus": 0.5}
    name = {1: "memory.limit_in_bytes", 2: "memory.max"}[version]
    with too_many_open_files(monkeypatch, lambda path: path.endswith(name)):
        group.set_limits(**limits)
    group.set_limits(**limits)
    assert str(64 << 20) in texts_of(hierarchies, name)
    tree.close()


def test_a_group_that_a_process_may_still_enter_is_not_used_again(hierarchies):
    tree = CgroupTree(hierarchies)
    first = tree.acquire()
    first.is_spoiled = True
    tree.release(first)
    assert tree.acquire() is not first
    tree.close()


def test_a_sandbox_joins_all_trees_or_none(group, hierarchies, monkeypatch):
    before = os.listdir("/proc/self/fd")
    last = str(hierarchies[-1].directory)
    with too_many_open_files(monkeypatch, lambda path: path.startswith(last)):
        group.open_to_join()
    assert os.listdir("/proc/self/fd") == before
    assert len(group.open_to_join()) == len(hierarchies)


def test_where_a_kernel_cannot_reset_its_counters_each_sandbox_gets_a_new_group(hierarchies, version, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "pwrite", refuse)
    tree = CgroupTree(hierarchies)
    first = used_group(tree, hierarchies, version)
    assert tree.acquire() is not first
    assert not any((own(hierarchy)[0] / "1").exists() for hierarchy in hierarchies)
    tree.close()


def test_on_v2_the_server_moves_into_a_leaf_and_controllers_are_passed_on(kernel):
    (hierarchy,) = kernel.trees(2)
    tree = CgroupTree([hierarchy])
    assert (hierarchy.directory / "server.python-executor/cgroup.procs").read_text() == "0"
    for directory in (hierarchy.directory, own(hierarchy)[0]):
        assert (directory / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    tree.close()


def test_missing_controllers_are_named(kernel):
    with pytest.raises(OSError, match="no cgroup controller for memory, pids"):
        CgroupTree([kernel.tree(1, "cpu", "cpuacct")])


def test_a_second_server_leaves_the_first_alone_and_a_third_sweeps_what_a_dead_one_left(hierarchies):
    first, second = CgroupTree(hierarchies), CgroupTree(hierarchies)
    assert [len(own(hierarchy)) for hierarchy in hierarchies] == [2] * len(hierarchies)
    for lock in first._locks:  # as when it dies
        os.close(lock)
    third = CgroupTree(hierarchies)
    kept = {second._name, third._name}
    assert [{path.name for path in own(hierarchy)} for hierarchy in hierarchies] == [kept] * len(hierarchies)
    second.close()
    third.close()


def test_a_server_that_may_not_make_groups_keeps_nothing(kernel, monkeypatch):
    hierarchies = kernel.trees(1)
    locks, really_lock = [], fcntl.flock

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(cgroups, "_make_room_for_controllers", refuse)
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: (locks.append(fd), really_lock(fd, how)))
    with pytest.raises(PermissionError):
        CgroupTree([*hierarchies, kernel.tree(2, "io")])
    assert [own(hierarchy) for hierarchy in hierarchies] == [[]] * 3
    assert len(locks) == 3
    assert not [fd for fd in locks if os.path.exists(f"/proc/self/fd/{fd}")]


def test_sweeping_kills_what_is_left_and_passes_by_what_is_locked_or_not_ours(kernel):
    directory = kernel.tree(1, "memory").directory
    for name in ("dead/7/of-a-server-inside/1", "dead/8", "alive/9"):
        (directory / (PREFIX + name)).mkdir(parents=True)
    (directory / "somebody-elses").mkdir()
    (directory / (PREFIX + "dead") / "8/cgroup.procs").write_text("4242\n")
    lock = os.open(directory / (PREFIX + "alive"), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(directory)
    finally:
        os.close(lock)
    assert kernel.killed == [4242]
    assert {path.name for path in directory.iterdir() if path.is_dir()} == {PREFIX + "alive", "somebody-elses"}
    assert (directory / (PREFIX + "alive") / "9").is_dir()


def test_all_sandboxes_together_are_bounded_and_weigh_less_than_the_server(hierarchies, version):
    tree = CgroupTree(hierarchies)
    tree.bound(memory_bytes=1 << 30, processes=999)
    tree.bound(memory_bytes=2 << 30, processes=1999)
    files = {
        path.name: path.read_text()
        for hierarchy in hierarchies
        for path in own(hierarchy)[0].iterdir()
        if path.name.split(".")[0] in hierarchy.controllers
    }
    wanted = {
        1: {"memory.limit_in_bytes": "2147483648", "memory.memsw.limit_in_bytes": "2147483648", "cpu.shares": "1024"},
        2: {"memory.max": "2147483648", "memory.swap.max": "0", "memory.oom.group": "0", "cpu.weight": "39"},
    }[version]
    assert {name: files[name] for name in wanted} == wanted
    assert files["pids.max"] == "1999"
    tree.close()


def test_a_kernel_without_swap_accounting_bounds_all_sandboxes_together_too(kernel, hierarchies):
    kernel.left_out = {"memory.memsw.limit_in_bytes", "memory.swap.max"}
    tree = CgroupTree(hierarchies)
    tree.bound(memory_bytes=1 << 30, processes=999)
    assert not any((own(hierarchy)[0] / name).exists() for hierarchy in hierarchies for name in kernel.left_out)
    tree.close()


# --- what the kernel keeps for a group


def keep(group: Path, version: int, size: int) -> None:
    """As if the kernel still had so many bytes of dentries for the group."""
    name, text = {
        1: ("memory.kmem.usage_in_bytes", f"{size}"),
        2: ("memory.stat", f"anon 1\nslab_reclaimable {size}\n"),
    }[version]
    (group / name).write_text(text)


def memory_directory(cgroup: Cgroup) -> Path:
    return cgroup._by_controller["memory"]


def test_a_group_for_which_the_kernel_keeps_much_is_emptied_before_it_is_used_again(hierarchies, version):
    tree = CgroupTree(hierarchies)
    used, other = tree.acquire(), tree.acquire()
    keep(memory_directory(used), version, 90 << 20)
    tree.release(used)
    tree.release(other)
    assert tree.acquire() is other
    assert tree.take_laden() == [used]
    assert tree.take_laden() == []
    used.give_back()
    asked = {1: "memory.force_empty", 2: "memory.reclaim"}[version]
    assert (memory_directory(used) / asked).read_text() != ""
    tree.emptied(used)
    assert tree.acquire() is used


def test_what_an_ordinary_run_leaves_in_the_kernel_is_left_there(hierarchies, version):
    tree = CgroupTree(hierarchies)
    used = tree.acquire()
    keep(memory_directory(used), version, 1 << 20)
    tree.release(used)
    assert tree.take_laden() == []
    assert tree.acquire() is used


def test_a_kernel_that_cannot_be_asked_to_give_back_is_none_to_fail_on(kernel, version):
    kernel.left_out |= {
        "memory.force_empty",
        "memory.reclaim",
        "memory.kmem.usage_in_bytes",
        "memory.kmem.tcp.usage_in_bytes",
    }
    group = new_group(kernel.trees(version))
    group.give_back()
    assert (group.uncounted_bytes(), group.left_in_kernel()) == (0, 0)


def test_what_v1_counts_in_sockets_is_told_apart(group, version):
    if version == 1:
        (memory_directory(group) / "memory.kmem.tcp.usage_in_bytes").write_text("77")
    assert group.uncounted_bytes() == {1: 77, 2: 0}[version]
