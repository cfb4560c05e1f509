"""`deploy/`: the server's own image, built here without a registry, started as docs/containers.md says, and put to work.

Its base is a Debian of mmdebstrap's, to which this machine's certificates and index of packages are told: what a build
behind a company's proxy does. Builds and the server have the machine's network, the engine of the tests has no other.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.engine import MERGED, TARBALL_SECONDS, Engine, Unpacked, _apt_options, mirror, tarball

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
MAX_MB = 190  # on top of the base
KEY = "key-of-the-test"
START_SECONDS = 30.0
LEAVE_OUT = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]  # as slim ones do
HARDENED = (
    "--security-opt", f"seccomp={DEPLOY / 'seccomp.json'}", "--security-opt", "systempaths=unconfined",
    "--security-opt", "no-new-privileges", "--cap-drop=ALL", "--read-only", "--memory=2g", "--network=host",
)  # fmt: skip


def context() -> bytes:
    """Of the repository what BuildKit would send; the builder of this engine does not know Dockerfile.dockerignore."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(DEPLOY / "Dockerfile", "Dockerfile")
        for name in ("LICENSE", "README.md", "pyproject.toml", "python", "src"):
            tar.add(ROOT / name, name, filter=lambda it: None if "__pycache__" in it.name else it)
    return file.getvalue()


def base_context() -> bytes:
    """A Dockerfile that tells this machine's certificates and index to a bare Debian."""
    config = configparser.ConfigParser()
    config["global"] = {"cert": "/etc/ssl/certs/ca-certificates.crt", **pip_index()}
    text = io.StringIO()
    config.write(text)
    own = {path.name: path.read_bytes() for path in Path("/usr/local/share/ca-certificates").glob("*.crt")}
    steps = "FROM bare\nCOPY pip.conf /etc/pip.conf\nCOPY own/ /usr/local/share/ca-certificates/\n"
    files = {"Dockerfile": steps.encode(), "pip.conf": text.getvalue().encode(), "own/.keep": b""}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in {**files, **{f"own/{name}": data for name, data in own.items()}}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def pip_index() -> dict[str, str]:
    """Where this machine's pip has packages from, if it was told."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True)
    url = os.environ.get("PIP_INDEX_URL") or asked.stdout.decode().strip()
    return {"index-url": url} if url.startswith("http") else {}


def bare() -> Path:
    """A Debian with apt as a tarball; kept for a week beside the images of the engine."""
    path = tarball(Unpacked()).with_name("debian-with-apt.tar")
    if not path.exists() or time.time() - path.stat().st_mtime > TARBALL_SECONDS:
        options = path.with_suffix(".conf")
        options.write_text(_apt_options())
        made = path.with_suffix(f".{os.getpid()}.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", f"--aptopt={options}", f"--hook-dir={MERGED}", *LEAVE_OUT,
             "--include=usr-is-merged", "bookworm", made, mirror()],
            check=True, capture_output=True,
        )  # fmt: skip
        made.replace(path)
    return path


@pytest.fixture(scope="module")
def image(engine: Engine) -> Iterator[str]:
    """The server's image, built from the Dockerfile that users build it from."""
    engine.run_cli("import", str(bare()), "bare:latest")
    engine.run_cli("build", "--quiet", "--tag", "deploy-base", "-", stdin=base_context())
    build = ("build", "--network=host", "--build-arg=BASE=deploy-base", "--tag=server", "-")
    engine.run_cli(*build, stdin=context(), seconds=300)
    yield "server"
    for name in ("server", "deploy-base", "bare"):
        engine.run_cli("rmi", "--force", name)
    engine.run_cli("image", "prune", "--force")


@pytest.fixture(scope="module")
def container(engine: Engine, image: str) -> Iterator[str]:
    """The server as docs/containers.md starts it, with the socket of the engine: its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = os.stat(engine.socket).st_gid
    engine.run_cli(
        "run", "--detach", "--name=server", *HARDENED, "--volume=data:/var/lib/python-executor",
        f"--volume={engine.socket}:/run/engine.sock", f"--group-add={group}",
        "--env=PYEXEC_DOCKER_SOCKET=/run/engine.sock", "--env=PYEXEC_HOST=127.0.0.1", f"--env=PYEXEC_PORT={port}",
        f"--env=PYEXEC_API_KEY={KEY}", *(f"--env=PYEXEC_INDEX_URL={url}" for url in pip_index().values()), image,
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    engine.run_cli("rm", "--force", "--volumes", "server")
    engine.run_cli("volume", "rm", "data")


@pytest.fixture(scope="module")
def api(engine: Engine, container: str) -> Iterator[Api]:
    """The API of that server."""
    api = Api(container, {"Authorization": f"Bearer {KEY}"})
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            api.get("/health")
            break
        except OSError:
            assert time.monotonic() < deadline, engine.run_cli("logs", "server")
            time.sleep(0.1)
    yield api
    api.close()


def test_the_image_is_small_and_its_user_is_not_root(engine: Engine, image: str) -> None:
    about = json.loads(engine.run_cli("inspect", image))[0]
    base = json.loads(engine.run_cli("inspect", "deploy-base"))[0]
    assert about["Config"]["User"] == "executor"
    added = (about["Size"] - base["Size"]) / 1e6
    assert added < MAX_MB, added


def test_interpreters_of_the_container_run_in_native_sandboxes(api: Api) -> None:
    result = api.eval("sum(range(10))", eval_last_expr=True)
    assert (result["result"], result["backend"]) == ("45", "native")


def test_packages_are_installed_and_shown_to_code(api: Api) -> None:
    result = api.eval("import six; print(six.__name__)", requirements_txt="six")
    assert (result["stdout"], result["termination"]) == ("six\n", "exited"), result


def test_an_image_runs_on_the_engine_whose_socket_it_was_given(api: Api) -> None:
    result = api.run("import sys; print(sys.version_info[:2])", docker_image="python:3.13-slim")
    assert (result["stdout"], result["backend"]) == ("(3, 13)\n", "docker")


def test_the_command_line_inside_speaks_to_it(engine: Engine, api: Api) -> None:
    answer = engine.run_cli("exec", "server", "python-executor", "--server", api.url, "eval", "2 + 2")
    assert answer.strip() == "4"


def test_the_health_check_passes(engine: Engine, api: Api) -> None:
    check = json.loads(engine.run_cli("inspect", "server"))[0]["Config"]["Healthcheck"]["Test"]
    assert check.pop(0) == "CMD"
    engine.run_cli("exec", "server", *check)
