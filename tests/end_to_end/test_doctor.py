"""`python-executor doctor` says of this machine what a server would find at its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from python_executor.model.isolation import BOUNDARIES
from tests.support import machine


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "python_executor", "doctor", *arguments],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    done = doctor("--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_it_has_tried_every_boundary(report: dict[str, Any]) -> None:
    assert [each["name"] for each in report["boundaries"]] == [boundary.name for boundary in BOUNDARIES]
    assert report["refused"] == [] and report["backends"]["native"] == "ok"


def test_what_is_weaker_here_is_named_with_the_reason_and_what_mends_it(report: dict[str, Any]) -> None:
    weaker = {each["name"] for each in report["boundaries"] if each["state"] != "ok"}
    assert weaker == machine.weaker()
    assert all(each["seen"] and each["mend"] for each in report["boundaries"] if each["name"] in weaker)


def test_it_lists_interpreters_limits_and_versions(report: dict[str, Any]) -> None:
    assert report["interpreters"] and report["limits"]["memory_mb"]["default"] == 1024
    assert report["versions"]["kernel"] == os.uname().release


def test_the_table_has_a_line_for_each_boundary_and_a_conclusion() -> None:
    done = doctor()
    assert done.returncode == 0
    assert all(f" {boundary.name} " in done.stdout for boundary in BOUNDARIES)
    assert done.stdout.splitlines()[-1].startswith("A server starts here")


def test_where_no_sandbox_can_be_made_it_says_why_and_exits_with_1() -> None:
    """A user namespace in which no further one may be made stands for a machine that forbids them."""
    code = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" -m python_executor doctor'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", code, sys.executable], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("No sandbox can be made here: ")
    assert "user namespaces must be allowed" in done.stdout
