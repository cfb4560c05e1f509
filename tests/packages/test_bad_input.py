"""Packages that can't be had: what a request, an index or a package does wrong is said, and harms nobody else."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from tests.support.api import Api
from tests.support.index import FakeIndex, Fault, drips, fails, hangs, is_cut, make_wheel, sha256
from tests.support.packages import (
    VERSION,
    Kept,
    assert_refused,
    assert_worked,
    hangs_up,
    held,
    offer,
    offer_file,
    offer_source,
    packages_of,
    undeclared,
    url_with_login,
    wait_until_asked,
    with_members,
)
from tests.support.server import ServerProcess

MEGABYTES = 16


@pytest.fixture(scope="module")
def strict(index: FakeIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that gives packages little room, and not every one."""
    settings = {"environment_timeout": 30, "environment_max_mb": MEGABYTES, "packages_deny": "denied*, internal-*"}
    process = ServerProcess(tmp_path_factory.mktemp("strict"), index_url=url_with_login(index), **settings)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def impatient(index: FakeIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that gives packages hardly any time."""
    settings = {"environment_timeout": 1, "pool_max": 1}
    process = ServerProcess(tmp_path_factory.mktemp("impatient"), index_url=url_with_login(index), **settings)
    process.start()
    yield process
    process.stop()


@contextmanager
def failing(server: ServerProcess) -> Iterator[Api]:
    """Its API; what is asked of it makes no environment, and leaves nothing half made."""
    kept = Kept(server)
    before = kept.keys()
    with closing(Api(server.url)) as api:
        yield api
    kept.wait_for_leftovers_to_go()
    assert kept.keys() == before


@pytest.fixture
def strict_api(strict: ServerProcess) -> Iterator[Api]:
    """What fails for want of room, or because it is forbidden."""
    with failing(strict) as api:
        yield api


@pytest.fixture
def impatient_api(impatient: ServerProcess) -> Iterator[Api]:
    """What fails for want of time."""
    with failing(impatient) as api:
        yield api


TOO_LONG = "the packages could not be installed: it took longer than 1 s (ENVIRONMENT_TIMEOUT)"
LONG = 4.0  # seconds


# --- packages that are not there, or do not fit ---


def test_a_package_that_does_not_exist_is_named(api: Api, kept: Kept) -> None:
    before = kept.keys()
    result = api.eval("print(1)", requirements_txt="does-not-exist")
    assert_refused(result, "the packages could not be installed: ", "does-not-exist was not found in the package")
    assert api.look(result["execution_id"])["error"] == result["error"] and kept.keys() == before
    assert result["started_at"] is None and result["warnings"] == []


def test_a_version_that_does_not_exist_is_explained(api: Api, index: FakeIndex) -> None:
    offer(index, "one-version")
    assert_refused(
        api.eval("1", requirements_txt="one-version>=2"),
        "only one-version==1.0 is available and you require one-version>=2",
    )


def test_versions_that_conflict_are_explained_as_uv_does(api: Api, index: FakeIndex) -> None:
    for version in ("1.0", "2.0"):
        offer(index, "torn-leaf", version)
    offer(index, "torn-left", requires=["torn-leaf<2"])
    offer(index, "torn-right", requires=["torn-leaf>=2"])
    result = api.eval("1", requirements_txt="torn-left\ntorn-right")
    assert_refused(result, "torn-left depend on torn-leaf<2", "torn-right depend on torn-leaf>=2", "unsatisfiable")


def test_a_package_for_another_platform_only_is_explained(api: Api, index: FakeIndex) -> None:
    offer(index, "windows-only", tag="py3-none-win_amd64")
    assert_refused(api.eval("1", requirements_txt="windows-only"), "windows-only", "win_amd64")


def test_a_package_for_another_python_only_is_explained(api: Api, index: FakeIndex) -> None:
    offer_file(index, "future-1.0-py3-none-any.whl", make_wheel("future", "1.0"), requires_python=">=3.99")
    assert_refused(api.eval("1", requirements_txt="future"), "future", "3.99")


CALLS_HOME = """
import http.client, os
for path in ('/0/simple/{0}/',):
    connection = http.client.HTTPConnection('127.0.0.1', 3141)
    connection.request('GET', path); connection.getresponse().read()
"""


def test_a_source_distribution_is_refused_by_name_and_its_code_never_runs(api: Api, index: FakeIndex) -> None:
    offer_source(index, "only-source", {"setup.py": CALLS_HOME.format("setup-py-was-run")}, is_dynamic=True)
    offer(index, "needs-source", requires=["only-source"])
    for name in ("only-source", "needs-source"):
        result = api.eval("1", requirements_txt=name)
        assert_refused(result, "only-source has no wheel, only source distributions", "(PACKAGE_BUILDS)")
    offer(index, "once-source", "2.0")
    offer_source(index, "once-source", {"setup.py": ""}, version="1.0")
    result = api.eval("1", requirements_txt="once-source==1.0")
    assert_refused(result, "once-source 1.0 has no wheel, only source distributions", "(PACKAGE_BUILDS): name another")
    digest = sha256(index.files["/files/only_source-1.0.tar.gz"])
    result = api.eval("1", requirements_txt=f"only-source==1.0 --hash=sha256:{digest}")
    assert_refused(result, "(PACKAGE_BUILDS)")
    asked = index.asked()
    assert "/simple/setup-py-was-run/" not in asked and "/files/only_source-1.0.tar.gz" not in asked


# --- what a request smuggles ---


@pytest.mark.parametrize(
    ("line", "mention"),
    [
        ("--index-url http://127.0.0.1:1/simple", "the option --index-url is not taken"),
        ("-i http://127.0.0.1:1/simple", "the option -i is not taken"),
        ("--extra-index-url=http://127.0.0.1:1/simple", "the option --extra-index-url is not taken"),
        ("--find-links /etc", "the option --find-links is not taken"),
        ("-f /etc", "the option -f is not taken"),
        ("-r /etc/passwd", "the option -r is not taken"),
        ("-r/etc/passwd", "the option -r is not taken"),
        ("-c /etc/passwd", "the option -c is not taken"),
        ("-e .", "the option -e is not taken"),
        ("--editable=.", "the option --editable is not taken"),
        ("--no-binary :all:", "the option --no-binary is not taken"),
        ("smuggler --config-settings=x=y", "the option --config-settings is not taken"),
        ("smuggler \\\n  --index-url http://127.0.0.1:1/", "the option --index-url is not taken"),
        ("./smuggler", "is a URL or a path"),
        ("/etc", "is a URL or a path"),
        (".", "is a URL or a path"),
        ("smuggler-1.0-py3-none-any.whl", "is a URL or a path"),
        ("~/smuggler", "is a URL or a path"),
        ("git+https://127.0.0.1:1/x.git", "is a URL or a path"),
        ("smuggler @ git+ssh://127.0.0.1:1/x.git", "is a URL or a path"),
        ("smuggler @ https://127.0.0.1:1/x.whl", "is a URL or a path"),
        ("smuggler@file:///etc/passwd", "is a URL or a path"),
        ("https://127.0.0.1:1/x.whl", "is a URL or a path"),
        ("file:///etc/passwd", "is a URL or a path"),
        ("${PYEXEC_INDEX_URL}", "variables such as"),
        ("smuggler==1.0 --hash=md5:0123", "is not a hash that is taken"),
        ("smuggler\0", "has no place here"),
        ("smuggler==1\r--index-url http://x", "has no place here"),
    ],
)  # fmt: skip
def test_what_is_no_requirement_of_a_package_of_the_index_is_refused(
    api: Api, index: FakeIndex, line: str, mention: str
) -> None:
    since = len(index.requests)
    assert_refused(api.eval("1", requirements_txt=f"# a comment\n{line}\n"), "requirements_txt line 2", mention)
    assert_refused(api.run({"main.py": "", "requirements.txt": line}), "requirements.txt line 1", mention)
    assert len(index.requests) == since


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("".join(f"many-{number}\n" for number in range(10_000)), "more than 1000 requirements"),
        ("# nothing\n" * 20_000, "more than 10000 lines"),
        ("a" * 5000, "line 1 is longer than 2000 characters"),
        ("x" * 300_000, "more than 262144 characters"),
        ("one-version;" + "(" * 900 + "python_version>'3'" + ")" * 900, "parentheses"),
        ("=" * 100, "is not a requirement"),
    ],
)
def test_requirements_without_measure_are_refused_quickly(api: Api, text: str, mention: str) -> None:
    start = time.monotonic()
    assert_refused(api.eval("1", requirements_txt=text), mention)
    assert time.monotonic() - start < 10


def test_a_thousand_requirements_are_answered_in_time(strict_api: Api) -> None:
    result = strict_api.eval("1", requirements_txt="".join(f"nobody-has-{number}\n" for number in range(1000)))
    assert_refused(result, "nobody-has-")


@pytest.mark.parametrize(
    ("name", "content", "mention"),
    [
        ("requirements.txt", b"demo\xff\xfe", "requirements.txt is not UTF-8: save it as UTF-8."),
        ("requirements.txt", "demo".encode("utf-16"), "requirements.txt is not UTF-8: save it as UTF-8."),
        ("pyproject.toml", b"[project]\ndependencies = ['\xff']", "pyproject.toml is not UTF-8"),
        ("pyproject.toml", b"[project\n", "pyproject.toml is not valid TOML"),
        ("pyproject.toml", b"[project]\ndependencies = 'demo'", "dependencies is not a list of strings"),
        ("pyproject.toml", b"[project]\ndependencies = ['demo @ file:///etc']", "is a URL or a path"),
        ("main.py", b"# /// script\n# dependencies = [\n# ///\n", "the script's metadata is not valid TOML"),
        ("main.py", b"# /// script\n# dependencies = ['-r x']\n# ///\n", "the option -r is not taken"),
    ],
)
def test_files_that_can_not_be_read_are_named(api: Api, name: str, content: bytes, mention: str) -> None:
    assert_refused(api.run({"main.py": b"print('ran')", name: content}), mention)


# --- an index that does not do its part ---


PLACES = ["page", "metadata", "file"]


def spoil(index: FakeIndex, name: str, place: str, fault: Fault) -> None:
    """Offer a package that can't be had."""
    path = offer(index, name)
    index.faults[{"page": f"/simple/{name}/", "metadata": f"{path}.metadata", "file": path}[place]] = fault


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("kind", "fault", "mention"),
    [("500", fails(500), "answered 500"), ("403", fails(403), "403"), ("cut", hangs_up, "broke off in the middle")],
)
def test_an_index_that_fails_is_named_without_its_credentials(
    strict_api: Api, index: FakeIndex, place: str, kind: str, fault: Fault, mention: str
) -> None:
    name = f"faulty-{place}-{kind}"
    spoil(index, name, place, fault)
    assert_refused(strict_api.eval("1", requirements_txt=name), mention, index.root)


@pytest.mark.parametrize("place", PLACES)
def test_an_index_that_hangs_is_given_up_in_time(impatient_api: Api, index: FakeIndex, place: str) -> None:
    spoil(index, f"hangs-{place}", place, hangs)
    start = time.monotonic()
    assert_refused(impatient_api.eval("1", requirements_txt=f"hangs-{place}"), TOO_LONG)
    assert time.monotonic() - start < LONG


def test_a_file_that_drips_is_given_up_in_time(impatient_api: Api, index: FakeIndex) -> None:
    spoil(index, "dripping", "file", drips(0.05))
    start = time.monotonic()
    assert_refused(impatient_api.eval("1", requirements_txt="dripping"), TOO_LONG)
    assert time.monotonic() - start < LONG


def test_a_file_that_is_cut_is_not_installed(strict_api: Api, index: FakeIndex) -> None:
    index.faults[offer(index, "cut-short")] = is_cut
    assert_refused(strict_api.eval("1", requirements_txt="cut-short"), "broke off in the middle of an answer")


def test_a_file_of_other_content_than_the_index_says_is_not_installed(strict_api: Api, index: FakeIndex) -> None:
    offer_file(index, "liar-1.0-py3-none-any.whl", make_wheel("liar", "1.0"), hashes={"sha256": "0" * 64})
    assert_refused(strict_api.eval("1", requirements_txt="liar"), "Hash mismatch for `liar==1.0`", "0" * 64)


def test_a_file_of_other_content_than_the_request_says_is_not_installed(strict_api: Api, index: FakeIndex) -> None:
    path = offer(index, "replaced")
    assert_refused(
        strict_api.eval("1", requirements_txt=f"replaced==1.0 --hash=sha256:{'1' * 64}"),
        "Hash mismatch for `replaced==1.0`",
    )
    index.files[path] = make_wheel("replaced", "1.0", {"replaced.py": "another = True"})
    assert_refused(strict_api.eval("1", requirements_txt="replaced"), "Hash mismatch for `replaced==1.0`")


def test_files_that_the_index_has_no_hashes_of_are_locked_to_what_they_are(api: Api, index: FakeIndex) -> None:
    wheel = make_wheel("unhashed", "1.0", {"unhashed.py": ""})
    offer_file(index, "unhashed-1.0-py3-none-any.whl", wheel, hashes={})
    key = api.eval("import unhashed", requirements_txt="unhashed")["environment"]["key"]
    assert sha256(wheel) in api.get(f"/api/v1/environments/{key}/lock").text


def test_a_lock_that_has_forgotten_a_dependency_is_not_installed(strict_api: Api, index: FakeIndex) -> None:
    path = offer(index, "forgetful", requires=["forgotten"])
    offer(index, "forgotten")
    lock = f"forgetful==1.0 --hash=sha256:{sha256(index.files[path])}"
    assert_refused(strict_api.eval("1", requirements_txt=lock), "forgotten")


# --- packages without measure ---


def test_a_package_that_is_too_large_is_refused_before_a_byte_of_it(strict_api: Api, index: FakeIndex) -> None:
    path = offer_file(index, "gigantic-1.0-py3-none-any.whl", make_wheel("gigantic", "1.0"), size=5 << 30)
    mentions = f"take more than {MEGABYTES} MiB (ENVIRONMENT_MAX_MB): at least 5120 MiB, 5120 of them gigantic"
    assert_refused(strict_api.eval("1", requirements_txt="gigantic"), mentions)
    since = len(index.requests)
    assert_refused(strict_api.eval("1", requirements_txt="gigantic"), mentions)
    assert path not in index.asked() and len(index.requests) == since


def test_packages_that_unpack_to_too_much_are_refused_before_they_are_downloaded(
    strict_api: Api, index: FakeIndex
) -> None:
    data = {"half.bin": os.urandom(MEGABYTES << 19), "zeros.bin": bytes(MEGABYTES << 20)}
    path = offer_file(index, "dense-1.0-py3-none-any.whl", make_wheel("dense", "1.0", data))
    result = strict_api.eval("1", requirements_txt="dense")
    assert_refused(result, "(ENVIRONMENT_MAX_MB): at least", "of them dense")
    asked = [request for request in index.requests if request.path == path]
    assert asked and all(request.headers.get("range", "").startswith("bytes=-") for request in asked)


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_package_that_turns_out_too_large_is_given_up(strict_api: Api, index: FakeIndex, is_declared: bool) -> None:
    name = f"swelling{is_declared}".lower()
    wheel = make_wheel(name, "1.0", {"swelling.bin": os.urandom((MEGABYTES + 1) << 20)})
    path = offer_file(index, f"{name}-1.0-py3-none-any.whl", wheel, size=1000)
    if not is_declared:
        index.faults[path] = undeclared
    assert_refused(strict_api.eval("1", requirements_txt=name), f"the packages are larger than {MEGABYTES} MiB")
    del index.files[path]


@pytest.mark.parametrize("megabytes", [MEGABYTES + 8, 8 * MEGABYTES])
def test_a_small_wheel_that_unpacks_to_too_much_is_given_up(strict_api: Api, index: FakeIndex, megabytes: int) -> None:
    name = f"bomb-{megabytes}"
    offer(index, name, files={"bomb.bin": bytes(megabytes << 20)})
    result = strict_api.eval("1", requirements_txt=name)
    assert_refused(result, f"take more than {MEGABYTES} MiB (ENVIRONMENT_MAX_MB)")


def test_a_hundred_thousand_files_are_too_many_for_a_small_environment(strict_api: Api, index: FakeIndex) -> None:
    offer(index, "crowd", files={f"crowd/{number}.txt": b"" for number in range(100_000)})
    result = strict_api.eval("1", requirements_txt="crowd")
    assert_refused(result, f"take more than {MEGABYTES} MiB (ENVIRONMENT_MAX_MB)")


# --- wheels that want out ---


def escape(name: str, *members: tuple[str, bytes, int]) -> tuple[str, bytes]:
    wheel = make_wheel(name, "1.0", {f"{name}.py": "version = '1.0'\n"})
    return f"{name}-1.0-py3-none-any.whl", with_members(wheel, *members)


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("absolute", ("/work/venv/lib/escaped.py", b"", FILE)),
        ("upwards", ("../../../../../lib/escaped.py", b"", FILE)),
        ("inwards", ("upwards/../../escaped.py", b"", FILE)),
        ("windows", ("..\\..\\escaped.py", b"", FILE)),
        ("scheme", ("scheme-1.0.data/../../data/escaped.py", b"", FILE)),
    ],
)
def test_a_wheel_whose_names_lead_out_writes_nothing_there(
    api: Api, index: FakeIndex, kept: Kept, name: str, member: tuple[str, bytes, int]
) -> None:
    offer_file(index, *escape(f"{name}_path", member))
    result = api.eval("print('ran')", requirements_txt=f"{name}-path")
    found = [path for path in kept.directory.parent.rglob("*escaped*") if "site-packages" not in path.parts]
    assert found == [], (result, found)
    assert result["status"] == "completed" or result["termination"] == "environment"
    if result["status"] == "failed":
        assert_refused(result)


@pytest.mark.parametrize(
    ("target", "is_used"), [("/etc/passwd", False), ("../../../../../../etc", False), ("/", False), ("/tmp", True)]
)
def test_a_wheel_with_a_symlink_brings_no_symlink(
    api: Api, index: FakeIndex, kept: Kept, target: str, is_used: bool
) -> None:
    name = f"links_{sha256(f'{target}{is_used}'.encode())[:6]}"
    below = [("a_link/below.py", b"", FILE)] if is_used else []
    offer_file(index, *escape(name, ("a_link", target.encode(), LINK), *below))
    result = api.eval(f"print(open('/venv/lib/python{VERSION}/site-packages/a_link').read())", requirements_txt=name)
    if is_used:
        assert_refused(result, "a_link")
    else:
        assert_worked(result, f"{target}\n")  # a file like any other
        venv = kept.directory / result["environment"]["key"] / "venv"
        assert {path.relative_to(venv).parts[0] for path in venv.rglob("*") if path.is_symlink()} == {"bin"}


@pytest.mark.parametrize(
    ("way", "program"),
    [("data", "python"), ("data", "python3"), ("data", f"python{VERSION}"), ("data", "python3.99"),
     ("scripts", "python"), ("entry-point", "python3")],
)  # fmt: skip
def test_a_wheel_that_brings_an_interpreter_is_refused(
    strict_api: Api, index: FakeIndex, way: str, program: str
) -> None:
    name = f"impostor_{way.replace('-', '_')}_{program.replace('.', '_')}"
    path = {"scripts": f"{name}-1.0.data/scripts/{program}", "data": f"{name}-1.0.data/data/bin/{program}"}.get(way)
    points = f"[console_scripts]\n{program} = {name}:main\n" if path is None else ""
    offer(index, name, files={path: "#!/bin/sh\necho impostor\n"} if path else None, entry_points=points)
    assert_refused(strict_api.eval("1", requirements_txt=name))


def test_a_wheel_that_brings_its_own_sitecustomize_changes_only_itself(api: Api, index: FakeIndex) -> None:
    offer(index, "customized", files={"sitecustomize.py": "import os; os.environ['CUSTOMIZED'] = 'yes'\n"})
    code = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; print(os.environ.get(\"CUSTOMIZED\"))'])"
    assert_worked(api.eval(code, requirements_txt="customized"), "yes\n")
    assert_worked(api.eval(code), "None\n")


def test_a_wheel_that_brings_another_pyvenv_cfg_does_not_get_it_through(
    impatient: ServerProcess, index: FakeIndex
) -> None:
    name = "misconfigured"
    offer(index, name, files={f"{name}.py": "", f"{name}-1.0.data/data/pyvenv.cfg": "home = /work\n"})
    with closing(Api(impatient.url)) as api:
        result = api.eval("print(open('/venv/pyvenv.cfg').read())", requirements_txt=name)
    if result["status"] == "completed":
        assert "/work" not in result["stdout"] and "version_info" in result["stdout"]
    else:
        assert_refused(result)  # some interpreters do not start with that, so that uv waits for them in vain


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_wheel_is_refused(api: Api, index: FakeIndex, data: bytes) -> None:
    name = f"broken{len(data)}"
    index.metadata = False
    try:
        offer_file(index, f"{name}-1.0-py3-none-any.whl", data)
    finally:
        index.metadata = True
    assert_refused(api.eval("1", requirements_txt=name), name)


# --- what the operator forbids ---


def test_a_package_that_the_operator_denies_is_refused_and_never_asked_for(strict_api: Api, index: FakeIndex) -> None:
    for name in ("denied", "denied-too", "internal-tool"):
        offer(index, name)
    offer(index, "brings-denied", requires=["denied-too"])
    since = len(index.requests)
    for text in ("denied", "Denied_Too", "denied==1.0", f"internal.tool==1.0 --hash=sha256:{'0' * 64}"):
        assert_refused(strict_api.eval("1", requirements_txt=text), "is not allowed on this server (PACKAGES_DENY)")
    assert len(index.requests) == since
    result = strict_api.eval("1", requirements_txt="brings-denied")
    assert_refused(result, "the package 'denied-too' is not allowed on this server (PACKAGES_DENY)")
    assert "/simple/denied-too/" not in index.asked()
    imported = strict_api.eval("import denied")
    assert imported["error_type"] == "ModuleNotFoundError" and "PACKAGES_DENY" in imported["warnings"][0]


# --- failures and kills ---


def test_a_failure_is_remembered_for_a_moment_with_the_same_words(api: Api, index: FakeIndex) -> None:
    index.faults["/simple/flaky/"] = fails(503)
    first = api.eval("1", requirements_txt="flaky")
    since = len(index.requests)
    second = api.run("1", requirements_txt="Flaky", docker_image=f"python:{VERSION}")
    assert_refused(first, "answered 503")
    assert_refused(second, "answered 503")
    assert first["error"] == second["error"] and len(index.requests) == since


def test_a_kill_ends_one_that_waits_for_packages_at_once_and_the_others_get_them(api: Api, index: FakeIndex) -> None:
    release = threading.Event()
    path = offer(index, "patience")
    index.faults[path] = held(release)
    ids = [api.submit("import patience; print(patience.version)", requirements_txt="patience") for _ in range(3)]
    wait_until_asked(index, path)
    start = time.monotonic()
    assert api.kill(ids[0]) == "killed"  # the one that the build was begun for
    assert time.monotonic() - start < 10  # the build goes on until we say so
    killed = api.look(ids[0])
    assert (killed["termination"], killed["exit_code"], killed["started_at"]) == ("killed", 137, None)
    release.set()
    for execution_id in ids[1:]:
        assert_worked(api.finished(execution_id), "1.0\n")
    assert index.asked().count(path) == 1


def test_a_build_that_nobody_waits_for_any_more_ends_and_leaves_its_place_to_others(api: Api, index: FakeIndex) -> None:
    release = threading.Event()
    paths = [offer(index, f"abandoned-{number}") for number in range(3)]
    index.faults.update(dict.fromkeys(paths, held(release)))
    try:
        for number, path in enumerate(paths):
            execution_id = api.submit("1", requirements_txt=f"abandoned-{number}")
            wait_until_asked(index, path)
            api.kill(execution_id)
        offer(index, "next-in-line")
        assert_worked(api.eval("import next_in_line", requirements_txt="next-in-line"))
    finally:
        release.set()


def test_builds_that_hang_hold_up_neither_code_without_packages_nor_code_whose_packages_are_there(
    index: FakeIndex, api: Api
) -> None:
    offer(index, "there-already")
    assert packages_of(api.eval("1", requirements_txt="there-already"))
    release = threading.Event()
    for number in range(4):
        index.faults[f"/simple/hanging-{number}/"] = held(release)
    ids = [api.submit("1", requirements_txt=f"hanging-{number}") for number in range(4)]
    try:
        start = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            texts = ["", "there-already"] * 8
            results = list(pool.map(lambda text: api.eval("print(1)", requirements_txt=text), texts))
        assert all(result["stdout"] == "1\n" for result in results) and time.monotonic() - start < 20
        assert [api.look(execution_id)["status"] for execution_id in ids] == ["pending"] * 4
    finally:
        release.set()
    for execution_id in ids:
        assert_refused(api.finished(execution_id))


def test_the_server_logs_no_traceback_for_any_of_this(
    server: ServerProcess, strict: ServerProcess, impatient: ServerProcess
) -> None:
    for process in (server, strict, impatient):
        assert "Traceback" not in process.output and '"level": "error"' not in process.output


def test_names_of_the_standard_library_are_no_reason_not_to_run(api: Api, index: FakeIndex) -> None:
    offer(index, "beside_the_library")
    since = len(index.requests)
    result = api.eval("import json, sqlite3; print(json.dumps(1))", requirements_txt="json\nsqlite3==3.40")
    assert_worked(result, "1\n")
    assert result["environment"] is None and len(index.requests) == since
    assert len(result["warnings"]) == 1 and result["warnings"][0].startswith("json, sqlite3 are part of Python 3.")
    files = {"main.py": "import beside_the_library; print(2)", "requirements.txt": "beside-the-library\ntkinter\n"}
    result = api.run(files)
    assert_worked(result, "2\n")
    assert packages_of(result) == {"beside-the-library": "1.0"} and "tkinter is part of" in result["warnings"][0]
