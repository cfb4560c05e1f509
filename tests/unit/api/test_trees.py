"""Trees: whatever they are called, what comes out is safe to carry out."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.api import trees
from python_executor.api.trees import CheckedTree, TreePlan, clean_path
from python_executor.model.errors import InvalidRequest
from python_executor.model.spec import DirectoryEntry, FileEntry, SymlinkEntry


def _tree(*entries: tuple[str, ...]) -> CheckedTree:
    """Files ("a",), directories ("a/",), symlinks ("a", "target") in that order."""
    plan = TreePlan()
    for name, *target in entries:
        if target:
            plan.add_symlink(name, target[0])
        elif name.endswith("/"):
            plan.add_directory(name, 0o755)
        else:
            plan.add_file(name, 0o644, 0, 0)
    return plan.check(b"")


def _paths(tree: CheckedTree) -> list[str]:
    return [entry.path for entry in tree.tree.entries]


@pytest.mark.parametrize(
    ("name", "path"), [("a", "a"), ("./a", "a"), ("a//b", "a/b"), ("a/./b/", "a/b"), ("./", ""), ("ä/b c", "ä/b c")]
)
def test_dots_and_doubled_slashes_are_dropped(name: str, path: str) -> None:
    assert clean_path(name, "path") == path


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("/etc/passwd", "absolute"),
        ("//a", "absolute"),
        ("..", "'..'"),
        ("a/../b", "'..'"),
        ("a/..", "'..'"),
        ("a\0b", "NUL"),
        ("a\udcff", "UTF-8"),
        ("a" * 256, "255 bytes"),
        ("ä" * 128, "255 bytes"),
        ("a/" * 2001, "4000 bytes"),
    ],
)
def test_a_name_that_no_tree_may_hold_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        clean_path(name, "path")


def test_the_longest_names_are_taken() -> None:
    assert clean_path("a" * 255, "path")
    assert clean_path("/".join(["a" * 99] * 40), "path")


@given(st.text(max_size=40))
def test_a_clean_path_has_none_but_plain_components(name: str) -> None:
    try:
        path = clean_path(name, "path")
    except InvalidRequest:
        return
    assert path == "" or all(part not in ("", ".", "..") and "\0" not in part for part in path.split("/"))
    assert clean_path(path, "path") == path


def test_the_last_of_several_entries_of_one_name_wins() -> None:
    plan = TreePlan()
    plan.add_file("a", 0o600, 0, 1)
    plan.add_file("b", 0o600, 1, 1)
    plan.add_file("./a", 0o755, 2, 1)
    assert plan.check(b"abc").tree.entries == (FileEntry("b", 0o600, 1, 1), FileEntry("a", 0o755, 2, 1))


def test_modes_are_masked() -> None:
    plan = TreePlan()
    plan.add_file("a", 0o104755, 0, 0)
    plan.add_directory("b", 0o41777)
    assert plan.check(b"").tree.entries == (FileEntry("a", 0o755, 0, 0), DirectoryEntry("b", 0o777))


@pytest.mark.parametrize(
    "entries",
    [
        (("a",), ("a/b",)),
        (("a/b",), ("a",)),
        (("a/",), ("a",)),
        (("a",), ("a/",)),
        (("a/",), ("a", "b")),
        (("a", "b"), ("a/",)),
        (("b/",), ("a", "b"), ("a/x",)),
        (("b/",), ("a/x",), ("a", "b")),
        (("a/b/c/d",), ("a/b",)),
    ],
)
def test_nothing_is_both_a_directory_and_something_else(entries: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(InvalidRequest, match="keep one"):
        _tree(*entries)


def test_a_symlink_and_a_file_of_one_name_are_no_contradiction() -> None:
    assert isinstance(_tree(("a", "b"), ("a",)).tree.entries[0], FileEntry)
    assert isinstance(_tree(("a",), ("a", "b")).tree.entries[0], SymlinkEntry)


@pytest.mark.parametrize(
    ("entries", "made"),
    [
        ([("a", "b")], True),
        ([("a", "b/../c")], True),
        ([("d/a", "../b")], True),
        ([("d/a", "..")], True),
        ([("a", ".")], True),
        ([("a", "..")], False),
        ([("a", "/work/b")], False),
        ([("a", "b/../../c")], False),
        ([("d/a", "../../b")], False),
        ([("a", "a")], False),
    ],
)
def test_a_symlink_is_made_only_if_it_stays_inside(entries: list[tuple[str, ...]], made: bool) -> None:
    tree = _tree(*entries)
    path = entries[0][0]
    assert (path in _paths(tree)) is made
    assert len(tree.warnings) == (0 if made else 1)
    assert made or repr(path) in tree.warnings[0]


def test_a_symlink_that_leads_out_through_another_is_not_made() -> None:
    # Lexically "down/.." is the root; through the link it is the root's parent.
    tree = _tree(("down", "."), ("out", "down/../x"))
    assert _paths(tree) == ["down"]
    # Two steps, each of which is harmless alone.
    tree = _tree(("d/up", ".."), ("over", "d/up/.."))
    assert _paths(tree) == ["d/up"]


def test_many_symlinks_that_lead_out_are_named_only_in_part() -> None:
    tree = _tree(*((f"link{number}", "/etc") for number in range(100)))
    assert len(tree.warnings) == trees.MAX_SYMLINKS_NAMED + 1
    assert "80 more" in tree.warnings[-1]


def test_a_symlink_without_a_target_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="symlink"):
        _tree(("a", ""))


def test_what_is_at_a_path_is_seen_through_symlinks() -> None:
    tree = _tree(("src/main.py",), ("empty/",), ("link.py", "src/main.py"), ("dir", "src"), ("broken", "nowhere"))
    assert tree.kind("src/main.py") is FileEntry
    assert tree.kind("link.py") is FileEntry
    assert tree.kind("dir/main.py") is FileEntry
    assert tree.kind("src") is DirectoryEntry
    assert tree.kind("empty") is DirectoryEntry
    assert tree.kind("dir") is DirectoryEntry
    assert tree.kind("") is DirectoryEntry
    assert tree.kind("broken") is None
    assert tree.kind("none.py") is None


def test_more_entries_than_are_taken_are_refused() -> None:
    plan = TreePlan()
    with pytest.raises(InvalidRequest, match="100000 entries"):
        for number in range(trees.MAX_ENTRIES + 1):
            plan.add_directory(f"d{number}", 0o755)


def _refused_within(seconds: float, plan: TreePlan) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest):
        plan.check(b"")
    assert time.process_time() - began < seconds


def test_deep_paths_that_imply_millions_of_directories_are_refused_soon() -> None:
    plan = TreePlan()
    for number in range(5_000):
        plan.add_file(f"{number}/" + "a/" * 190 + "f", 0o644, 0, 0)
    _refused_within(5, plan)


def test_tangled_symlinks_are_refused_soon() -> None:
    plan = TreePlan()
    for number in range(3_000):
        plan.add_symlink(f"link{number}", "a/../" * 700 + f"link{number + 1}")
    _refused_within(10, plan)


def test_what_would_not_fit_into_a_sandbox_is_refused_here(monkeypatch):
    plan = TreePlan()
    with pytest.raises(InvalidRequest, match="deep"):
        plan.add_file("d/" * 250 + "f", 0o644, 0, 0)
    monkeypatch.setattr(trees, "MAX_ENTRIES", 10)
    for number in range(6):
        plan.add_file(f"{number}/f", 0o644, 0, 0)  # 6 files, and 6 directories that are implied
    with pytest.raises(InvalidRequest, match="more than 10 files and directories"):
        plan.check(b"")


def test_files_take_whole_pages():
    plan = TreePlan()
    for number in range(3):
        plan.add_file(f"f{number}", 0o644, 0, number)
    assert plan.check(b"xx").tree.total_bytes == 2 * 4096
