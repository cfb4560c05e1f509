"""What a container has of the network: nothing but a loopback, unless it is asked for, and then what the filter leaves."""

from __future__ import annotations

import subprocess

import pytest

from .serving import Served, container_of, inspect

DEVICES = "import os\nprint(sorted(os.listdir('/sys/class/net')))\n"


def test_a_container_has_a_loopback_and_nothing_else(containers: Served) -> None:
    assert containers.api.run(DEVICES)["stdout"] == "['lo']\n"


@pytest.mark.needs("network")
def test_one_with_network_has_a_tap_behind_a_filter_and_reaches_nothing_of_the_machine(containers: Served) -> None:
    reach = f"""{DEVICES}
import socket
for address in ("10.0.2.2", "10.0.2.3", "169.254.169.254", "192.168.0.1", "10.0.0.1"):
    for port in (22, 80, {containers.process.url.rpartition(":")[2]}):
        try: socket.create_connection((address, port), 1).close(); print("REACHED")
        except OSError: pass
"""
    execution_id, container = container_of(containers, before_sleep=reach, config={"network_disabled": False})
    pid = inspect(containers.engine, container)["State"]["Pid"]
    rules = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout
    said = containers.api.look(execution_id)["stdout"]
    containers.api.kill(execution_id)
    assert said.startswith("['lo', 'tap0']\n")
    assert "REACHED" not in said
    assert "169.254.0.0/16" in rules
    assert "10.0.0.0/8" in rules
