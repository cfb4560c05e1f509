"""The seccomp profile of the server's container: the file is what the script prints, and fits our own filter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from python_executor.sandboxes.native import seccomp

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "deploy/seccomp.json"
_MAKES_SANDBOXES = """
    fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root sethostname setns umount2 unshare
"""
MAKES_SANDBOXES = set(_MAKES_SANDBOXES.split())


def allowed() -> set[str]:
    """Every name that the profile lists; it has no conditions."""
    rules = json.loads(FILE.read_text())["syscalls"]
    assert all(rule.keys() == {"comment", "action", "names"} for rule in rules)
    assert {rule["action"] for rule in rules} == {"SCMP_ACT_ALLOW"}
    return {name for rule in rules for name in rule["names"]}


def test_the_file_is_what_the_script_prints() -> None:
    argv = [sys.executable, str(ROOT / "scripts/seccomp-profile")]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert printed == FILE.read_text(), "run: scripts/seccomp-profile > deploy/seccomp.json"


def test_what_is_not_listed_fails() -> None:
    assert json.loads(FILE.read_text())["defaultAction"] == "SCMP_ACT_ERRNO"


def test_sandboxes_lose_nothing_and_the_server_gains_only_what_making_one_takes() -> None:
    assert allowed() == seccomp.ALLOWED | seccomp.CONDITIONAL | MAKES_SANDBOXES
    assert not (seccomp.ALLOWED | seccomp.CONDITIONAL) & MAKES_SANDBOXES


def test_every_name_is_a_system_call() -> None:
    assert allowed() <= set(seccomp.syscall_numbers("x86_64")) | set(seccomp.syscall_numbers("aarch64"))
