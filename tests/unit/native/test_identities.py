"""Which uids of the host's a box takes."""

from __future__ import annotations

import os

import pytest

from python_executor.sandboxes.native.identities import PREFERRED_BASE, WANTED, Identities, choose_identities


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """The choice of a user with a uid_map."""

    def choice(uid_map: str, euid: int = 0) -> Identities:
        monkeypatch.setattr(os, "geteuid", lambda: euid)
        path = tmp_path / "uid_map"
        path.write_text(uid_map)
        return choose_identities(path)

    return choice


def test_root_of_a_machine_takes_a_range_that_nobody_has(choose):
    assert choose("         0          0 4294967295\n") == Identities(PREFERRED_BASE, WANTED)


def test_root_of_a_container_takes_the_end_of_what_it_was_given(choose):
    assert choose("0 100000 65536\n") == Identities(32768, 32768)


def test_of_several_extents_the_largest_is_taken_from(choose):
    chosen = choose("0 1000 1\n1 100000 65536\n")
    assert chosen.base > 1
    assert chosen.base + chosen.count == 1 + 65536


@pytest.mark.parametrize("uid_map", ["0 1000 1\n", "0 1000 2\n"])
def test_root_with_hardly_any_uids_shares_its_own(choose, uid_map):
    chosen = choose(uid_map)
    assert (chosen, chosen.has_own_uids) == (Identities(0, 1), False)


def test_an_ordinary_user_has_just_its_own(choose):
    chosen = choose("0 0 4294967295\n", euid=1234)
    assert (chosen, chosen.has_own_uids) == (Identities(1234, 1), False)


@pytest.mark.parametrize("count", [4, 5, 1000, 65536, 70000, 2**32 - 1])
def test_uid_0_of_the_host_is_never_in_a_range(choose, count):
    chosen = choose(f"0 0 {count}\n")
    assert chosen.base > 0
    assert chosen.base + chosen.count <= count
    assert chosen.count <= WANTED
