"""The descriptors between the server and a sandbox."""

from __future__ import annotations

import os
import socket

import pytest

from python_executor.sandboxes.native.pipes import Pipes


@pytest.mark.parametrize("failing", ["pipe2", "socketpair"])
def test_where_not_all_can_be_had_none_is_kept(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    before = os.listdir("/proc/self/fd")
    really_make, made = os.pipe2, []

    def fail(*_: object) -> tuple[int, int]:
        if failing == "pipe2" and len(made) < 2:
            made.append(1)
            return really_make(os.O_CLOEXEC)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os if failing == "pipe2" else socket, failing, fail)
    with pytest.raises(OSError, match="Too many open files"):
        Pipes()
    assert os.listdir("/proc/self/fd") == before
