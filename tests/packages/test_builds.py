"""Source distributions, where the operator has them built: what the code of a build can do, and what not."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.index import FakeIndex, sha256
from tests.support.packages import (
    PASSWORD,
    USER,
    VERSION,
    Kept,
    assert_refused,
    assert_worked,
    offer,
    offer_source,
    packages_of,
    url_with_login,
)
from tests.support.server import ServerProcess

PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import base64, hashlib, os, zipfile
NAME = {name!r}
{before}
def files():
    return {{NAME.replace("-", "_") + ".py": "version = '1.0'\\nseen = " + repr(SEEN) + "\\n"}}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    stem = NAME.replace("-", "_") + "-1.0"
    contents = {{**files(), stem + ".dist-info/METADATA": "Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: 1.0\\n",
                 stem + ".dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}}
    record = "".join(path + ",,\\n" for path in (*contents, stem + ".dist-info/RECORD"))
    with zipfile.ZipFile(os.path.join(wheel_directory, stem + "-py3-none-any.whl"), "w") as archive:
        for path, text in {{**contents, stem + ".dist-info/RECORD": record}}.items():
            archive.writestr(path, text)
    return stem + "-py3-none-any.whl"
"""


@pytest.fixture(scope="module")
def building(index: FakeIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that builds."""
    process = ServerProcess(
        tmp_path_factory.mktemp("building"),
        index_url=url_with_login(index),
        package_builds="true",
        environment_max_mb=64,
        environment_timeout=30,
    )
    process.start()
    yield process
    process.stop()
    assert PASSWORD not in process.output


@pytest.fixture
def api(building: ServerProcess) -> Iterator[Api]:
    """Its API; nothing half made stays on its disk."""
    with closing(Api(building.url)) as api:
        yield api
    Kept(building).wait_for_leftovers_to_go()


@pytest.fixture
def kept(building: ServerProcess) -> Kept:
    """What it has on disk."""
    return Kept(building)


def offer_code(index: FakeIndex, name: str, code: str = "SEEN = None", *, is_dynamic: bool = False) -> None:
    """A source distribution whose build runs that, and packs SEEN into its module."""
    backend = BACKEND.format(name=name, before=textwrap.dedent(code))
    offer_source(index, name, {"pyproject.toml": PROJECT, "backend.py": backend}, is_dynamic=is_dynamic)


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_a_source_distribution_is_built_where_that_is_allowed(api: Api, index: FakeIndex, is_dynamic: bool) -> None:
    name = f"built{is_dynamic}".lower()
    offer_code(index, name, is_dynamic=is_dynamic)
    offer(index, f"{name}-user", requires=[name])
    result = api.eval(f"import {name}; print({name}.version)", requirements_txt=f"{name}-user")
    assert_worked(result, "1.0\n")
    assert packages_of(result) == {name: "1.0", f"{name}-user": "1.0"}


def test_a_build_that_fails_says_why(api: Api, index: FakeIndex) -> None:
    offer_code(index, "unbuildable", "raise SystemExit('no compiler in sight')")
    assert_refused(api.eval("1", requirements_txt="unbuildable"), "unbuildable", "no compiler in sight")


LOOK_AROUND = """
import http.client, json, socket, subprocess

def answers(method, path, body=None, headers={{}}):
    connection = http.client.HTTPConnection("127.0.0.1", 3141, timeout=5)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return [response.status, response.getheaders(), response.read().decode("latin-1")]
    except Exception as error:
        return [type(error).__name__]
    finally:
        connection.close()

def text(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("latin-1")
    except OSError:
        return ""

def reached(address):
    try:
        socket.create_connection(address, 2).close()
        return True
    except OSError:
        return False

def everything():
    places = []
    for root in ("/work", "/tmp", "/venv", "/run", "/etc", "/guest", "/var", "/home", "/root", "/proc/self", "/store"):
        for directory, names, found in os.walk(root):
            names[:] = [name for name in names if name not in ("task", "site-packages")]
            places += [os.path.join(directory, name) for name in found]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        places += ["/proc/" + pid + "/environ", "/proc/" + pid + "/cmdline", "/proc/" + pid + "/mountinfo"]
    return {{path: text(path) for path in places if not os.path.islink(path) and os.path.basename(path) not in ("uv", "kmsg")}}

found = everything()
SECRETS = [secret[::-1] for secret in {secrets!r}]
SEEN = json.dumps({{
    "uid": os.getuid(),
    "environ": dict(os.environ),
    "files": len(found),
    "control": any("build-backend" in content for content in found.values()),
    "secrets": [path for path, content in found.items() if any(secret in path + content for secret in SECRETS)],
    "reached": [list(address) for address in {addresses!r} if reached(tuple(address))],
    "interfaces": [line.partition(":")[0].strip() for line in open("/proc/self/net/dev") if ":" in line],
    "answers": {{path: answers("GET", path, headers={{"Host": "127.0.0.1"}}) for path in {paths!r}}},
    "put": answers("PUT", "/elsewhere", b"x"),
    "absolute": answers("GET", {absolute!r}),
    "environments": os.path.exists("/store") and os.listdir("/store"),
}})
"""


def test_the_code_of_a_build_sees_neither_network_nor_credentials_nor_anything_of_others(
    api: Api, index: FakeIndex
) -> None:
    offer(index, "innocent")
    assert packages_of(api.eval("1", requirements_txt="innocent"))  # an environment that is there
    port = int(index.root.rpartition(":")[2])
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    code = LOOK_AROUND.format(
        secrets=[PASSWORD[::-1], basic[::-1]],  # or it would find itself
        addresses=[("127.0.0.1", port), ("127.0.0.1", int(api.url.rpartition(":")[2])), ("1.1.1.1", 53), ("10.0.2.2", port)],
        paths=["/0/simple/innocent/", "/0/simple/spy/", "/", "/result", "/1/simple/innocent/", "/0/simple/../../x/",
               "/0/files/0-0/innocent-1.0-py3-none-any.whl", "/0/files/9-9/x", "/api/v1/executions/x", "/0/simple/nobody-has-it/"],
        absolute=f"{index.root}/simple/innocent/",
    )  # fmt: skip
    offer_code(index, "spy", code)
    result = api.eval("import spy; print(spy.seen)", requirements_txt="spy")
    assert_worked(result)
    seen = json.loads(result["stdout"])
    assert seen["uid"] != 0
    assert seen["secrets"] == [] and seen["control"] and seen["files"] > 50
    assert (seen["reached"], seen["interfaces"]) == ([], ["lo"])
    for secret in (PASSWORD, basic, index.root, f":{port}"):
        for part in ("environ", "answers", "put", "absolute"):
            assert secret not in json.dumps(seen[part]), part
    assert seen["answers"]["/0/simple/innocent/"][0] == 200
    assert {answer[0] for path, answer in seen["answers"].items() if path not in ("/0/simple/innocent/", "/0/simple/spy/")} <= {
        404, 405, 200,
    }  # fmt: skip
    assert seen["answers"]["/api/v1/executions/x"][0] == 404 and seen["put"][0] == 404
    assert not seen["environments"]
    assert set(seen["environ"]).isdisjoint({"PYEXEC_INDEX_URL", "HTTP_PROXY", "UV_INDEX", "NETRC"})


DELIVER = """
import http.client, struct, sys
def frames(files):
    yield b"".join(struct.pack("!BHQ", 1, len(path), len(data)) + path + data for path, data in files)
    yield struct.pack("!BHQ", 0, 0, 0)
def deliver(body):
    connection = http.client.HTTPConnection("127.0.0.1", 3141, timeout=5)
    connection.request("PUT", "/result", body=body, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    return connection.getresponse().status
def end_well():
    # the program that delivers is told to be over, as if it had ended with exit code 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if int(fd) > 2:
                    with open(f"/proc/{pid}/fd/{fd}", "wb", buffering=0) as file:
                        file.write(struct.pack("!BI", 3, 1) + b"\\0")
        except OSError:
            pass
is_installing = os.path.exists("/work/requirements.in") and "--hash" in open("/work/requirements.in").read()
"""


def published(kept: Kept) -> dict[str, set[str]]:
    """All files of all environments."""
    return {
        key: {str(path.relative_to(kept.directory / key)) for path in (kept.directory / key).rglob("*")}
        for key in sorted(kept.keys())
    }


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_the_code_of_a_build_can_not_publish_under_the_key_of_others(
    api: Api, index: FakeIndex, kept: Kept, is_dynamic: bool
) -> None:
    """It takes over the delivery of both steps: a forged lock that names a victim, and forged files of the victim."""
    victim, thief = f"victim{is_dynamic}".lower(), f"thief{is_dynamic}".lower()
    digest = sha256(index.files[offer(index, victim)])
    site = f"lib/python{VERSION}/site-packages"
    forged_lock = f"{victim}==1.0 --hash=sha256:{digest}\n"
    code = (
        DELIVER
        + f"""
if is_installing:
    SEEN = deliver(frames([(b"{site}/{victim}.py", b"version = 'stolen'")]))
else:
    SEEN = deliver(iter([{forged_lock!r}.encode()]))
end_well()
"""
    )
    offer_code(index, thief, code, is_dynamic=is_dynamic)
    before = published(kept)
    results = [api.eval("1", requirements_txt=text) for text in (thief, f"{thief}\n{victim}")]
    genuine = api.eval(f"import {victim}; print({victim}.version)", requirements_txt=victim)
    assert_worked(genuine, "1.0\n")
    lock = api.eval(f"import {victim}; print({victim}.version)", requirements_txt=forged_lock)
    assert_worked(lock, "1.0\n")
    assert lock["environment"] == genuine["environment"]
    for result in results:
        if result["environment"]:
            assert thief in packages_of(result) or result["environment"] == genuine["environment"]
    for key, paths in before.items():
        assert published(kept)[key] == paths


ESCAPES = [b"../../../escaped", b"/tmp/escaped", b"lib/../../escaped", b"lib/./escaped", b"lib//escaped", b"escaped",
           b"bin/python", b"lib/\xff", b"lib/a\0b", b"lib/" + b"x" * 300, b"lib/" * 60 + b"x"]  # fmt: skip


def assert_all_refused(api: Api, names: list[str]) -> None:
    """Two at a time, as the server builds them."""
    for execution_id in [api.submit("1", requirements_txt=name) for name in names]:
        assert_refused(api.finished(execution_id))


def test_the_code_of_a_build_can_not_make_the_server_write_elsewhere(api: Api, index: FakeIndex, kept: Kept) -> None:
    before = published(kept)
    names = [f"escaper-{number}" for number in range(len(ESCAPES))]
    for name, path in zip(names, ESCAPES, strict=True):
        offer_code(index, name, DELIVER + f"SEEN = deliver(frames([({path!r}, b'x')])) if is_installing else None")
    assert_all_refused(api, names)
    assert published(kept) == before
    assert not [path for path in kept.directory.parent.rglob("*escaped*") if "venv" not in path.parts]


HOSTILE = {
    "garbage": "deliver(iter([b'\\xff' * 100_000]))",
    "endless": "deliver(bytes(1 << 20) for _ in range(1 << 20))",
    "huge-file": "deliver(iter([struct.pack('!BHQ', 1, 5, 1 << 62) + b'lib/x']))",
    "twice": "deliver(frames([(b'lib/x', b'1'), (b'lib/x', b'2')]))",
    "file-as-directory": "deliver(frames([(b'lib/x', b'1'), (b'lib/x/y', b'2')]))",
    "cut": "deliver(iter([struct.pack('!BHQ', 1, 5, 100) + b'lib/x']))",
    "kind": "deliver(iter([struct.pack('!BHQ', 7, 5, 0) + b'lib/x']))",
    "after-the-end": "deliver(iter([struct.pack('!BHQ', 0, 0, 0) + b'more']))",
}


@pytest.mark.parametrize("step", ["resolving", "installing"])
def test_what_a_build_delivers_is_not_believed(api: Api, index: FakeIndex, kept: Kept, step: str) -> None:
    condition = "is_installing" if step == "installing" else "not is_installing"
    names = [f"hostile-{step}-{kind}" for kind in HOSTILE]
    for name, attack in zip(names, HOSTILE.values(), strict=True):
        code = f"SEEN = None\nif {condition}:\n    try:\n        SEEN = {attack}\n    except OSError:\n        pass\n"
        offer_code(index, name, DELIVER + code, is_dynamic=step == "resolving")
    before = kept.keys()
    assert_all_refused(api, names)
    assert kept.keys() == before


def test_what_a_build_starts_does_not_outlive_it(api: Api, index: FakeIndex, building: ServerProcess) -> None:
    marker = "sleep-of-a-build-98765"
    offer_code(
        index,
        "lingering",
        f"""
        import subprocess, sys
        SEEN = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "{marker}"], start_new_session=True, stdin=-3, stdout=-3, stderr=-3).pid
    """,
    )
    assert_worked(api.eval("import lingering", requirements_txt="lingering"))
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert marker.encode() not in path.read_bytes()
        except OSError:
            continue


def test_a_build_that_takes_too_much_memory_is_given_up(api: Api, index: FakeIndex) -> None:
    offer_code(index, "greedy", "SEEN = len(bytearray(b'x') * (3 << 30))")
    assert_refused(api.eval("1", requirements_txt="greedy"))


def test_no_code_of_a_wheel_runs_while_it_is_installed(api: Api, index: FakeIndex) -> None:
    asleep = "import time; time.sleep(600)\n"
    offer(index, "sleepy", files={"sleepy.py": "", "sleepy.pth": asleep, "sitecustomize.py": asleep})
    result = api.eval("1", requirements_txt="sleepy", config={"timeout_seconds": 1})
    assert (result["termination"], packages_of(result)) == ("timeout", {"sleepy": "1.0"})
