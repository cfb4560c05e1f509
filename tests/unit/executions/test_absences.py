"""Complaints about what a sandbox does not have, and what is none."""

from __future__ import annotations

import time

import pytest

from python_executor.executions.absences import TAIL_BYTES, explain_absence, explain_network


@pytest.mark.parametrize(
    ("stderr", "path"),
    [
        ("Traceback …\nFileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'\n", "/proc/meminfo"),
        ("cat: /proc/cpuinfo: No such file or directory", "/proc/cpuinfo"),
        ("free: Memory information file /proc/meminfo does not exist", "/proc/meminfo"),
        ("Error: /proc must be mounted\n  To mount /proc at boot …", "/proc/meminfo"),
        ("ps: Unable to get total memory", "/proc/meminfo"),
        ("uptime: Cannot get system uptime: No such file or directory", "/proc/uptime"),
        ("[Errno 2] No such file or directory: '/proc/sys/kernel/pid_max'", "/proc/sys/kernel/pid_max"),
    ],
)
def test_a_file_of_the_machines_that_code_looked_for_is_named_with_the_reason(stderr: str, path: str) -> None:
    warning = explain_absence(stderr.encode())
    assert warning is not None
    assert warning.startswith(f"{path} is not there: ")
    assert "\n" not in warning


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/123/stat'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/self/nothing'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'",
        "reading /proc/meminfo",
        "No such file\n/proc/meminfo",
    ],
)
def test_other_complaints_are_not_explained(stderr: str) -> None:
    assert explain_absence(stderr.encode()) is None


@pytest.mark.parametrize("piece", [b"/proc/", b"/proc/a", b"\n", b"No such file", b"\xff", b"/proc/a No such"])
def test_it_takes_no_time_whatever_code_has_written(piece: bytes) -> None:
    start = time.perf_counter()
    explain_absence((piece * TAIL_BYTES)[:TAIL_BYTES])
    assert time.perf_counter() - start < 0.05


@pytest.mark.parametrize(
    "stderr",
    [
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "OSError: [Errno 101] Network is unreachable",
        "curl: (6) Could not resolve host: example.org",
    ],
)
def test_code_that_looks_for_a_network_is_told_that_it_is_off(stderr: str) -> None:
    warning = explain_network(stderr.encode())
    assert warning is not None and "network_disabled false (--network)" in warning and "\n" not in warning
    assert explain_network(b"ConnectionRefusedError: [Errno 111] Connection refused") is None
