"""`ROOT_COMMANDS`: whose rights a request's own commands have in an image, and what is left of them for its code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine import Engine

from .serving import WELL, Served, container_of, ending, inspect, serving

FULL_NAME = "docker.io/library/python:3.11-slim"  # which auto takes for no interpreter of this machine
ABOUT_ITSELF = """
import os
for line in open("/proc/self/status"):
    if line.startswith(("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp:")):
        print(*line.split())
def attempt(path, flags=os.O_WRONLY | os.O_CREAT):
    try: os.close(os.open(path, flags)); print(path, "written")
    except OSError as error: print(path, error.errno in (1, 13, 30))
attempt("/usr/local/mine")
attempt("/usr/local/made")
attempt("/etc/passwd", os.O_WRONLY)
try: os.setuid(0); print("REACHED")
except OSError: print("no root")
print(os.stat("main.py").st_uid, os.path.exists("/usr/local/made"))
open("own", "w").close()
"""


@pytest.fixture(scope="module")
def rooted(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that lets commands be root's."""
    with serving(engine, tmp_path_factory.mktemp("rooted"), backend="auto", root_commands=True) as served:
        yield served


def test_commands_are_the_users_where_the_operator_says_nothing(containers: Served) -> None:
    commands = [
        "id -u",
        "touch /work/a /tmp/b && echo written",
        *(f"touch {path}/x 2>/dev/null || echo refused" for path in ("/usr", "/etc", "/root", "/opt", "/var/tmp")),
    ]
    result = containers.api.run("print('code')", pre_commands=commands)
    assert ending(result) == WELL, (result["error"], result["stderr"])
    assert result["stdout"].split() == ["1000", "written", *["refused"] * 5, "code"]


def test_a_command_that_fails_is_the_end_with_its_exit_code(containers: Served, rooted: Served) -> None:
    for served in (containers, rooted):
        result = served.api.run("print('code')", pre_commands=["echo one", "exit 7"], docker_image=FULL_NAME)
        assert (result["stdout"], result["exit_code"]) == ("one\n", 7)


def test_commands_are_roots_where_the_operator_says_so_and_the_code_is_the_users(rooted: Served) -> None:
    commands = [
        "id -u",
        "mkdir -p /usr/local",
        "echo hello >/usr/local/made",
        "cat /usr/local/made",
        "mkdir -p /opt/x && chown 1000 /opt/x",
    ]
    result = rooted.api.run(ABOUT_ITSELF, docker_image=FULL_NAME, pre_commands=commands)
    assert ending(result) == WELL, (result["error"], result["stderr"])
    said = result["stdout"].splitlines()
    assert said[:2] == ["0", "hello"]
    assert said[2:4] == ["Uid: 1000 1000 1000 1000", "Gid: 1000 1000 1000 1000"]
    assert "Groups:" in said
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{name}: 0000000000000000" in said
    assert "NoNewPrivs: 1" in said
    assert "Seccomp: 2" in said
    assert said[-5:] == ["/usr/local/mine True", "/usr/local/made True", "/etc/passwd True", "no root", "1000 True"]


def test_what_roots_commands_leave_running_ends_with_the_code(rooted: Served) -> None:
    result = rooted.api.run("print('code')", docker_image=FULL_NAME, pre_commands=["sleep 60 & echo left"])
    assert result["stdout"] == "left\ncode\n"
    assert result["duration_ms"] < 5000


def test_what_roots_commands_change_is_nobody_elses(rooted: Served) -> None:
    rooted.api.run("", docker_image=FULL_NAME, pre_commands=["echo changed >/etc/hostile"])
    code = "import os\nprint(os.path.exists('/etc/hostile'))"
    assert rooted.api.run(code, docker_image=FULL_NAME)["stdout"] == "False\n"
    assert rooted.api.run(code, docker_image=FULL_NAME, pre_commands=["true"])["stdout"] == "False\n"


def test_root_of_commands_has_few_capabilities_and_no_new_ones(rooted: Served) -> None:
    before = ["cat /proc/self/status", "mount -t tmpfs x /mnt 2>/dev/null || echo refused"]
    result = rooted.api.run("", docker_image=FULL_NAME, pre_commands=before)
    assert "refused" in result["stdout"]
    (bounding,) = [int(line.split()[1], 16) for line in result["stdout"].splitlines() if line.startswith("CapBnd")]
    assert bounding & ~0b11111011 == 0  # chown, dac_override, fowner, fsetid, kill, setgid, setuid
    assert "NoNewPrivs:\t1" in result["stdout"]


def test_an_execution_without_commands_is_confined_as_any(rooted: Served) -> None:
    execution_id, container = container_of(rooted, docker_image=FULL_NAME)
    found = inspect(rooted.engine, container)
    rooted.api.kill(execution_id)
    assert found["Config"]["User"] == "1000:1000"
    assert (found["HostConfig"]["ReadonlyRootfs"], found["HostConfig"]["CapAdd"]) == (True, [])


def test_commands_on_an_interpreter_of_this_machine_are_never_roots(rooted: Served) -> None:
    result = rooted.api.run("print('code')", pre_commands=["id -u", "touch /usr/x 2>/dev/null || echo refused"])
    assert result["backend"] == "native"
    assert result["stdout"].split()[1:] == ["refused", "code"]
    assert result["stdout"].split()[0] != "0"
