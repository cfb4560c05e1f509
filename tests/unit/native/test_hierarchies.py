"""Where our control groups are: v1, v2, hybrid and inside containers, told by files as in /proc/self."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_executor.sandboxes.native.cgroups import find_hierarchies


@pytest.fixture
def find(tmp_path):
    """Hierarchies by their controllers, from lines of cgroup and (root, mount point, type, options) of mountinfo."""

    def found(groups: str, *mounts: tuple[str, str, str, str]) -> list[tuple[int, str, str]]:
        lines = [f"31 23 0:28 {r} {at} rw,nosuid shared:9 - {kind} {kind} {o}\n" for r, at, kind, o in mounts]
        (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in groups.split()))
        (tmp_path / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "".join(lines))
        trees = find_hierarchies(tmp_path)
        return [(tree.version, " ".join(sorted(tree.controllers)), str(tree.directory)) for tree in trees]

    return found


@pytest.fixture
def unified(tmp_path) -> Path:
    """A mount point of v2 that offers what a systemd machine does."""
    for directory in ("unified", "unified/user.slice", "unified/user.slice/x"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma\n")
    return tmp_path / "unified"


def test_v1_with_a_tree_for_each_controller(find):
    assert find(
        "9:name=systemd:/ 8:pids:/a 7:blkio:/ 4:memory:/b/c 3:cpuset:/ 2:cpuacct:/ 1:cpu:/",
        *[("/", f"/cg/{name}", "cgroup", f"rw,{name}") for name in ("cpu", "cpuacct", "cpuset", "memory", "blkio")],
        ("/", "/cg/pids", "cgroup", "rw,pids"),
        ("/", "/cg/systemd", "cgroup", "rw,name=systemd"),
    ) == [
        (1, "cpu", "/cg/cpu"),
        (1, "cpuacct", "/cg/cpuacct"),
        (1, "memory", "/cg/memory/b/c"),
        (1, "pids", "/cg/pids/a"),
    ]


def test_v1_with_cpu_and_cpuacct_in_one_tree(find):
    assert find("4:cpu,cpuacct:/user.slice", ("/", "/cg/cpu,cpuacct", "cgroup", "rw,cpuacct,cpu")) == [
        (1, "cpu cpuacct", "/cg/cpu,cpuacct/user.slice")
    ]


def test_v2_with_what_we_need_of_what_it_offers(find, unified):
    assert find("0::/user.slice/x", ("/", str(unified), "cgroup2", "rw,nsdelegate")) == [
        (2, "cpu memory pids", f"{unified}/user.slice/x")
    ]


def test_hybrid_leaves_out_a_v2_tree_without_controllers_of_ours(find, unified):
    (unified / "cgroup.controllers").write_text("hugetlb\n")
    mounts = ("/", "/cg/memory", "cgroup", "rw,memory"), ("/", str(unified), "cgroup2", "rw")
    assert find("4:memory:/process/x 0::/", *mounts) == [(1, "memory", "/cg/memory/process/x")]


@pytest.mark.parametrize(("group", "below"), [("/docker/abc", ""), ("/docker/abc/x", "/x")])
def test_a_container_sees_its_part_of_the_tree_as_the_mount(find, unified, group, below):
    (unified / "x").mkdir()
    (unified / "x/cgroup.controllers").write_text("cpu")
    mounts = ("/docker/abc", "/cg/memory", "cgroup", "rw,memory"), ("/docker/abc", str(unified), "cgroup2", "rw")
    assert [directory for _, _, directory in find(f"4:memory:{group} 0::{group}", *mounts)] == [
        f"/cg/memory{below}",
        f"{unified}{below}",
    ]


def test_a_tree_that_is_mounted_twice_counts_once(find):
    mounts = ("/", "/cg/memory", "cgroup", "rw,memory"), ("/", "/elsewhere/memory", "cgroup", "rw,memory")
    assert find("4:memory:/a", *mounts) == [(1, "memory", "/cg/memory/a")]
