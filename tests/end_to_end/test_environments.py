"""`env …` on the data directory of a running server, with packages from an index of the test's own."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.api import Api, assert_error
from tests.support.index import FakeIndex, make_wheel
from tests.support.server import ServerProcess

from .conftest import EXAMPLES, Cli

MODULES = {"demo.py": "value = 41\n", "broken.py": "1 / 0\n"}
LOOK = "import sys; loaded = sys.meta_path[-1].ahead.is_waiting('demo'); import demo; (demo.value, loaded)"
LINE = re.compile(r"\w+ (env_[0-9a-f]{32}) 1 package \d\.\d MiB\n")


@pytest.fixture(scope="module")
def index() -> Iterator[FakeIndex]:
    """Has one version of one package."""
    with FakeIndex() as index:
        index.add("demo-1.0-py3-none-any.whl", make_wheel("demo", "1.0", MODULES))
        yield index


@pytest.fixture(scope="module")
def serving(index: FakeIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that gets packages there."""
    server = ServerProcess(tmp_path_factory.mktemp("server"), index_url=index.url, pool_min=0, pool_max=1)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(index: FakeIndex, serving: ServerProcess) -> dict[str, str]:
    """The variables of the command line: the same index, data directory and server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
    return {
        **inherited,
        "PYEXEC_SERVER": serving.url,
        "PYEXEC_INDEX_URL": index.url,
        "PYEXEC_DATA_DIR": os.path.relpath(serving.directory / "data", EXAMPLES),  # as one may type it
    }


@pytest.fixture
def needs(tmp_path: Path) -> Callable[[str], str]:
    """Writes a requirements.txt and names it."""

    def write(text: str) -> str:
        (tmp_path / "requirements.txt").write_text(text)
        return str(tmp_path / "requirements.txt")

    return write


@pytest.fixture
def remote(serving: ServerProcess) -> Iterator[Api]:
    """The API of that server."""
    api = Api(serving.url)
    yield api
    api.close()


@pytest.fixture
def data(serving: ServerProcess) -> Path:
    """Its data directory."""
    return serving.directory / "data"


def look(remote: Api, environment: str) -> str:
    """The value in that environment, and whether the module was there before the code."""
    return str(remote.eval(LOOK, environment=environment, eval_last_expr=True)["result"])


def test_an_environment_that_is_added_is_there_at_once_on_a_running_server(
    cli: Cli, needs: Callable[[str], str], remote: Api
) -> None:
    added = cli("env", "add", "first", "-r", needs("demo"), "--preload", "demo,json")
    assert (added.returncode, added.stderr) == (0, "")
    match = LINE.fullmatch(added.stdout)
    assert match, added.stdout

    asked = cli("eval", "-v", "--environment", "first", LOOK)
    assert asked.stdout == "(41, True)\n"
    assert f"packages:  1 in first ({match[1]})\n" in asked.stderr

    table = cli("env", "list").stdout.splitlines()
    assert table[0].split() == ["NAME", "PYTHON", "PACKAGES", "SIZE", "PRELOAD"]
    assert re.fullmatch(r"first +3\.\d+ +demo 1\.0 +0\.\d MiB +demo, json", table[1])
    lock = cli("env", "lock", match[1]).stdout
    assert lock.startswith("demo==1.0 \\\n    --hash=sha256:")
    assert remote.get(f"/api/v1/environments/{match[1]}/lock").text == lock


@pytest.mark.parametrize(
    ("requirement", "module", "told"),
    [
        (
            "demo",
            "nowhere",
            "the module nowhere can't be imported ahead (PRELOAD): ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("demo", "broken", "the module broken can't be imported ahead (PRELOAD): ZeroDivisionError: division by zero"),
        ("nosuch", "demo", "nosuch was not found"),
    ],
)
def test_what_can_not_be_had_or_imported_gets_no_name(
    cli: Cli, needs: Callable[[str], str], data: Path, requirement: str, module: str, told: str
) -> None:
    done = cli("env", "add", "failing", "-r", needs(requirement), "--preload", module)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)
    assert told in done.stderr
    assert not (data / "named/failing.json").exists()


def test_a_rebuild_finds_newer_versions_and_keeps_name_and_modules(
    cli: Cli, needs: Callable[[str], str], index: FakeIndex, remote: Api
) -> None:
    cli("env", "add", "fresh", "-r", needs("demo<3"), "--preload", "demo")
    assert look(remote, "fresh") == "(41, True)"
    index.add("demo-2.0-py3-none-any.whl", make_wheel("demo", "2.0", {"demo.py": "value = 42\n"}))
    try:
        assert LINE.fullmatch(cli("env", "rebuild", "fresh").stdout)
    finally:
        index.pages["demo"].pop()
    assert look(remote, "fresh") == "(42, True)"
    named = remote.get("/api/v1/environments").json()["environments"]
    (fresh,) = [environment for environment in named if environment["name"] == "fresh"]
    assert (fresh["requirements"], fresh["preload"]) == ("demo<3", ["demo"])


def test_what_a_server_uses_is_not_pruned_and_what_was_pruned_is_made_again(cli: Cli, data: Path, remote: Api) -> None:
    sleeper = remote.submit("import demo, time; print('begun', flush=True); time.sleep(60)", requirements_txt="demo<5")
    key = remote.until(sleeper, "stdout", "begun\n")["environment"]["key"]
    prune(cli, removed=data / "environments" / "nothing")
    assert (data / "environments" / key).exists()
    remote.kill(sleeper)
    remote.finished(sleeper)
    prune(cli, removed=data / "environments" / key)

    for _ in range(2):  # the server's box still knows the directory that is gone
        result = remote.run("import demo; print(demo.value)", requirements_txt="demo<5")
        assert (result["stdout"], result["environment"]["key"]) == ("41\n", key)


def prune(cli: Cli, removed: Path) -> None:
    """Prune until this is gone: a run lets go of its packages a moment after its end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done = cli("env", "prune")
        assert re.fullmatch(r"\d+ environments? removed, \d+\.\d MiB given back\n", done.stdout), done.stderr
        if not removed.exists():
            return
    raise AssertionError(f"{removed} was not removed")


def test_a_name_keeps_its_files_and_may_be_given_again_once_it_is_gone(
    cli: Cli, needs: Callable[[str], str], data: Path, remote: Api, index: FakeIndex
) -> None:
    index.add("brief-1.0-py3-none-any.whl", make_wheel("brief", "1.0", {"demo.py": "value = 43\n"}))
    requirements = needs("brief")
    match = LINE.fullmatch(cli("env", "add", "brief", "-r", requirements).stdout)
    assert match
    assert cli("env", "prune").returncode == 0
    assert look(remote, "brief") == "(43, False)"

    assert cli("env", "remove", "brief").returncode == 0
    unnamed = json.loads(cli("env", "list", "--json").stdout)["unnamed"]
    (left,) = [environment for environment in unnamed if environment["key"] == match[1]]
    assert left["packages"] == [{"name": "brief", "version": "1.0"}]
    assert left["bytes"] > 0 and left["last_used"].endswith("Z")
    assert_error(remote.post_eval({"code": LOOK, "environment": "brief"}), 400, "invalid_request", "'brief' is not")
    prune(cli, removed=data / "environments" / match[1])

    assert cli("env", "add", "brief", "-r", requirements).stdout == match[0]
    assert look(remote, "brief") == "(43, False)"  # not what the server's box of that name knew


def test_requirements_of_a_run_are_installed(cli: Cli, needs: Callable[[str], str]) -> None:
    code = "import demo; print(demo.value)"
    assert cli("run", "--requirements", needs("demo"), stdin=code).stdout == "41\n"
    assert "No module named 'demo'" in cli("run", stdin=code).stderr
