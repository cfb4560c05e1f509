"""Whose containers a server may remove, and where it looks for an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_executor.sandboxes.docker.engine import Lives, find_address


def test_a_server_removes_what_its_earlier_life_left_running_or_not() -> None:
    before, now = Lives("a", is_only=True), Lives("a", is_only=True)
    assert now.is_over(before.labels, "running")
    assert now.is_over(before.labels, "exited")


def test_nobody_removes_what_is_its_own_or_another_data_directorys() -> None:
    now = Lives("a", is_only=True)
    assert not now.is_over(now.labels, "exited")
    assert not now.is_over(Lives("b", is_only=True).labels, "exited")


def test_what_runs_beside_a_server_leaves_the_servers_alone_and_each_other_while_they_live() -> None:
    server, beside, other = Lives("a", is_only=True), Lives("a", is_only=False), Lives("a", is_only=False)
    assert not beside.is_over(server.labels, "exited")
    assert not server.is_over(beside.labels, "running")
    assert not other.is_over(beside.labels, "running")
    assert server.is_over(beside.labels, "exited")
    assert other.is_over(beside.labels, "exited")


@pytest.mark.parametrize(
    ("setting", "variables", "address"),
    [
        ("/a.sock", {"DOCKER_HOST": "unix:///b"}, "unix:///a.sock"),
        ("tcp://host:2375", {}, "tcp://host:2375"),
        (None, {"DOCKER_HOST": "unix:///b"}, "unix:///b"),
    ],
)
def test_the_operators_word_goes_before_the_usual_places(
    setting: str | None, variables: dict[str, str], address: str
) -> None:
    assert find_address(setting, variables) == address


def test_an_engine_of_the_users_own_is_found(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "docker.sock"))
        assert find_address(None, {"XDG_RUNTIME_DIR": str(tmp_path)}) == f"unix://{tmp_path}/docker.sock"
