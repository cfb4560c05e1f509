"""Podman behind its Docker-like API, as root: the promises on which it might differ from Docker.

It is told to use cgroupfs and runc: Debian's crun refuses machines that have both versions of cgroups. Podman raises
the limit of processes of each user as far as Linux knows one, which root without CAP_SYS_RESOURCE can't: `RUNC` takes
that out again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.engine import IMAGES, Unpacked, tarball
from tests.support.machine import need
from tests.support.server import ServerProcess

pytestmark = pytest.mark.long
IMAGE = "python:3.11-slim"
START_SECONDS = 15.0
CONF = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[engine.runtimes]
runc = ["{runc}"]
"""
RUNC = """\
#!/usr/bin/python3 -ISs
import json, os, sys
if "--bundle" in sys.argv:
    path = sys.argv[sys.argv.index("--bundle") + 1] + "/config.json"
    with open(path) as file:
        config = json.load(file)
    config["process"]["rlimits"] = [each for each in config["process"]["rlimits"] if each["type"] != "RLIMIT_NPROC"]
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *sys.argv[1:]])
"""
PLACES = {"root": "root", "runroot": "run", "tmpdir": "tmp"}
Podman = Callable[..., str]


@pytest.fixture(scope="module")
def podman() -> Iterator[tuple[Podman, Path]]:
    """Its command line and its socket, with a store of its own."""
    need("podman")
    place = Path(tempfile.mkdtemp(prefix="podman-"))  # Podman takes 50 characters at most
    runc = place / "runc"
    runc.write_text(RUNC)
    runc.chmod(0o755)
    (place / "conf").write_text(CONF.format(runc=runc))
    places = [f"--{option}={place / name}" for option, name in PLACES.items()]
    command = ["podman", *places, "--storage-driver=overlay"]
    env = {**os.environ, "CONTAINERS_CONF": str(place / "conf")}

    def run(*argv: str) -> str:
        done = subprocess.run([*command, *argv], env=env, check=True, capture_output=True)
        return done.stdout.decode()

    image = IMAGES[IMAGE]
    assert isinstance(image, Unpacked)
    changes = [word for change in image.changes for word in ("--change", change)]
    run("import", *changes, str(tarball(image)), f"docker.io/library/{IMAGE}")
    engine = place / "socket"
    with (place / "log").open("wb") as log:
        serving = [*command, "system", "service", "--time=0", f"unix://{engine}"]
        service = subprocess.Popen(serving, env=env, stdout=log, stderr=log, cwd=place)  # conmon leaves files
    deadline = time.monotonic() + START_SECONDS
    while not engine.is_socket():
        assert service.poll() is None and time.monotonic() < deadline, (place / "log").read_text()
        time.sleep(0.02)
    yield run, engine
    service.terminate()
    service.wait()
    run("rm", "--all", "--force", "--time=0")
    run("rmi", "--all", "--force")
    subprocess.run(["umount", place / "root/overlay"], check=False, capture_output=True)
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def api(podman: tuple[Podman, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API of a server that runs images there."""
    server = ServerProcess(tmp_path_factory.mktemp("server"), backend="docker", docker_socket=podman[1])
    try:
        with closing(Api(server.start())) as api:
            yield api
    finally:
        server.stop()
    assert podman[0]("ps", "--all", "--quiet") + podman[0]("volume", "ls", "--quiet") == "", "something is left"


def test_files_input_and_the_last_expression(api: Api) -> None:
    files = {"main.py": "import helper\nprint(input())\nhelper.six * 7", "helper.py": "six = 6"}
    result = api.run(files, docker_image=IMAGE, stdin="in\n", eval_last_expr=True)
    assert (result["stdout"], result["result"], result["backend"]) == ("in\n", "42", "docker")


def test_memory_is_bounded(api: Api) -> None:
    result = api.run("bytearray(300 << 20)", docker_image=IMAGE, config={"memory_mb": 128})
    assert (result["termination"], result["exit_code"]) == ("memory", 137)


def test_files_are_bounded_and_nothing_else_can_be_written_to(api: Api) -> None:
    code = """\
for place in ("/work", "/tmp", "/dev/shm", "/run", "/var/tmp", "/dev", "/"):
    try:
        with open(f"{place}/file", "wb") as file:
            file.write(bytes(64 << 20))
        print(place)
    except OSError:
        pass
"""
    result = api.run(code, docker_image=IMAGE, config={"disk_mb": 32})
    assert (result["stdout"], result["exit_code"]) == ("", 0)


def test_a_timeout_ends_what_ignores_signals_and_keeps_its_output(api: Api) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('so far')\ntime.sleep(60)"
    result = api.run(code, docker_image=IMAGE, config={"timeout_seconds": 1})
    assert (result["termination"], result["stdout"]) == ("timeout", "so far\n")


def test_a_kill_ends_it(api: Api) -> None:
    execution = api.submit("import time; time.sleep(60)", docker_image=IMAGE)
    assert api.request("DELETE", f"/api/v1/executions/{execution}").status_code == 200
    assert api.finished(execution)["status"] == "killed"


def test_an_image_that_can_not_be_had_is_named(api: Api) -> None:
    result = api.run("", docker_image="localhost/no-such-image:1")
    assert (result["termination"], "localhost/no-such-image" in result["error"]) == ("image", True)


def test_twenty_runs_leave_nothing(api: Api) -> None:
    assert {api.run("print(1)", docker_image=IMAGE)["stdout"] for _ in range(20)} == {"1\n"}
