"""What code gets of the packages that it asks for, and in which ways it can ask."""

from __future__ import annotations

import json
import re
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_executor.environments.interpreters import find_interpreters
from tests.support.api import Api, assert_error
from tests.support.index import FakeIndex, sha256
from tests.support.packages import (
    VERSION,
    Kept,
    assert_refused,
    assert_worked,
    held,
    offer,
    packages_of,
    wait_until_asked,
)

KEY = re.compile(r"env_[0-9a-f]{32}")


@pytest.fixture(scope="module")
def toolbox(index: FakeIndex) -> str:
    """A wheel with everything that a wheel can bring."""
    offer(
        index,
        "toolbox",
        "2.5",
        {
            "toolbox/__init__.py": "value = 41\n",
            "toolbox/__main__.py": "print('as a module')\n",
            "toolbox/cli.py": "import sys\ndef main():\n    print('by name', *sys.argv[1:])\n",
            "toolbox/data/words.txt": "some words",
            "toolbox.pth": "import os; os.environ['FROM_PTH'] = 'yes'\n",
            "toolbox-2.5.data/data/share/toolbox/notes.txt": "shared notes",
            "toolbox-2.5.data/scripts/toolbox-script": "#!python\nprint('a script')\n",
        },
        entry_points="[console_scripts]\ntoolbox = toolbox.cli:main\n",
    )
    return "toolbox"


EVERYTHING = """
import importlib.metadata, importlib.resources, os, subprocess, sys, toolbox
run = lambda *argv: subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
print(toolbox.value, importlib.metadata.version("toolbox"))
print(importlib.resources.files("toolbox").joinpath("data/words.txt").read_text(), os.environ["FROM_PTH"])
print(open(f"{sys.prefix}/share/toolbox/notes.txt").read())
print(run("toolbox", "an argument"), run("toolbox-script"), run(sys.executable, "-m", "toolbox"), run("python", "-m", "toolbox"))
"""
EVERYTHING_PRINTED = (
    "41 2.5\nsome words yes\nshared notes\nby name an argument a script as a module as a module\n"  # in this order
)


def by_eval(api: Api, code: str, **fields: Any) -> dict[str, Any]:
    return api.eval(code, **fields)


def by_upload(api: Api, code: str, **fields: Any) -> dict[str, Any]:
    return api.run(code, **fields)


def by_asynchronous_upload(api: Api, code: str, **fields: Any) -> dict[str, Any]:
    return api.finished(api.submit(code, **fields))


WAYS = [by_eval, by_upload, by_asynchronous_upload]


@pytest.mark.parametrize("way", WAYS)
def test_all_that_a_wheel_brings_is_there_whichever_way_code_comes(
    api: Api, toolbox: str, way: Callable[..., dict[str, Any]]
) -> None:
    assert_worked(way(api, EVERYTHING, requirements_txt=toolbox), EVERYTHING_PRINTED)


@pytest.mark.parametrize("way", WAYS)
def test_a_result_tells_the_environment_and_so_does_the_store_later(
    api: Api, toolbox: str, way: Callable[..., dict[str, Any]]
) -> None:
    result = way(api, "import toolbox", requirements_txt=toolbox)
    environment = result["environment"]
    assert environment["packages"] == [{"name": "toolbox", "version": "2.5"}] and environment["name"] is None
    assert KEY.fullmatch(environment["key"]) and result["preparing"] is None and result["warnings"] == []
    assert api.look(result["execution_id"])["environment"] == environment


def test_code_that_asks_for_nothing_has_no_environment(api: Api) -> None:
    result = api.run("import os; print(os.path.exists('/venv/bin'))")
    assert (result["stdout"], result["environment"], result["preparing"]) == ("False\n", None, None)


def test_a_fresh_interpreter_has_packages_too(api: Api, toolbox: str) -> None:
    result = api.run(EVERYTHING, requirements_txt=toolbox, env_vars=["PYTHONHASHSEED=0"])
    assert_worked(result, EVERYTHING_PRINTED)


def test_processes_that_multiprocessing_spawns_have_packages_too(api: Api, toolbox: str) -> None:
    code = (
        "import multiprocessing\n"
        "def ask(_):\n    import toolbox, os\n    return toolbox.value, os.environ['FROM_PTH']\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n        print(pool.map(ask, range(2)))\n"
    )
    assert_worked(api.run(code, requirements_txt=toolbox), "[(41, 'yes'), (41, 'yes')]\n")


def test_pre_commands_have_packages_too(api: Api, toolbox: str) -> None:
    result = api.run("print('main')", requirements_txt=toolbox, pre_commands=["toolbox first", "python -m toolbox"])
    assert_worked(result, "by name first\nas a module\nmain\n")


def test_a_package_is_there_for_the_interpreter_that_was_asked_for(api: Api, toolbox: str) -> None:
    question = "import sys, toolbox; print(toolbox.__file__)"
    versions = [interpreter.minor_version for interpreter in find_interpreters()[:2]]
    keys = set()
    for version in versions:
        result = api.eval(question, python_version=version, requirements_txt=toolbox)
        assert_worked(result, f"/venv/lib/python{version}/site-packages/toolbox/__init__.py\n")
        keys.add(result["environment"]["key"])
    assert len(keys) == len(versions)


def test_code_stays_without_network_although_its_packages_were_fetched(
    api: Api, index: FakeIndex, toolbox: str
) -> None:
    port = int(index.root.rpartition(":")[2])
    code = (
        "import socket, toolbox\n"
        f"for address in (('127.0.0.1', {port}), ('127.0.0.1', 3141), ('1.1.1.1', 53)):\n"
        "    try:\n        socket.create_connection(address, 2)\n"
        "    except OSError as error:\n        print(type(error).__name__)\n"
    )
    result = api.eval(code, requirements_txt=toolbox)
    assert_worked(result, "ConnectionRefusedError\nConnectionRefusedError\nOSError\n")


def test_an_environment_can_not_be_changed_by_those_who_use_it(api: Api, toolbox: str) -> None:
    code = (
        "import os, toolbox\n"
        "for path in (toolbox.__file__, '/venv/new', '/venv/bin/python', '/venv/pyvenv.cfg'):\n"
        "    for attack in (lambda: open(path, 'a'), lambda: os.unlink(path), lambda: os.chmod(path, 0o777)):\n"
        "        try:\n            attack()\n            print('could', path)\n"
        "        except OSError:\n            pass\n"
    )
    assert_worked(api.eval(code, requirements_txt=toolbox), "")


def test_a_namespace_package_may_come_from_two_distributions(api: Api, index: FakeIndex) -> None:
    for part in ("one", "two"):
        offer(index, f"spaced-{part}", files={f"spaced/{part}.py": f"name = {part!r}\n"})
    result = api.eval(
        "import spaced.one, spaced.two; print(spaced.one.name, spaced.two.name)",
        requirements_txt="spaced-one\nspaced-two",
    )
    assert_worked(result, "one two\n")


def test_dependencies_extras_and_markers_are_followed(api: Api, index: FakeIndex) -> None:
    for name in ("leaf-always", "leaf-extra", "leaf-windows", "leaf-old"):
        offer(index, name)
    offer(
        index,
        "branch",
        requires=[
            "leaf-always",
            'leaf-extra; extra == "more"',
            'leaf-windows; sys_platform == "win32"',
            'leaf-old; python_version < "3.5"',
        ],
        metadata_extra="Provides-Extra: more",
    )
    plain = api.eval("import branch, leaf_always", requirements_txt="branch")
    assert packages_of(plain) == {"branch": "1.0", "leaf-always": "1.0"}
    more = api.eval("import leaf_extra", requirements_txt="branch[more]")
    assert packages_of(more) == {"branch": "1.0", "leaf-always": "1.0", "leaf-extra": "1.0"}
    marked = api.eval("1", requirements_txt="leaf-always\nleaf-windows; sys_platform == 'win32'")
    assert packages_of(marked) == {"leaf-always": "1.0"}


def test_requirements_of_which_none_is_for_this_machine_are_an_environment_without_packages(
    api: Api, index: FakeIndex
) -> None:
    result = api.eval("print(1)", requirements_txt="leaf-windows; sys_platform == 'win32'")
    assert_worked(result, "1\n")


def test_versions_are_chosen_as_asked(api: Api, index: FakeIndex) -> None:
    for version in ("1.0", "1.5", "2.0"):
        offer(index, "versioned", version)
    offer(index, "versioned", "3.0rc1")
    for wanted, version in (("", "2.0"), ("<2", "1.5"), ("==1.0", "1.0"), ("~=1.0", "1.5"), (">=3.0rc1", "3.0rc1")):
        result = api.eval("import versioned; print(versioned.version)", requirements_txt=f"versioned{wanted}")
        assert_worked(result, f"{version}\n")


def test_a_compiled_extension_is_loaded(api: Api, index: FakeIndex) -> None:
    interpreter = find_interpreters()[0]
    version = interpreter.minor_version
    library = Path(interpreter.prefix) / "lib" / f"python{version}" / "lib-dynload"
    found = next((path for name in ("_queue", "_lsprof", "_opcode") for path in library.glob(f"{name}.*.so")), None)
    if found is None:
        pytest.skip("this interpreter has no extension that could be put into a wheel")
    name = found.name.partition(".")[0]
    tag = f"cp{version.replace('.', '')}"
    platform = sysconfig.get_platform().replace("-", "_")
    offer(index, "compiled", files={f"compiled/{found.name}": found.read_bytes()}, tag=f"{tag}-{tag}-{platform}")
    result = api.eval(
        f"from compiled import {name}; print({name}.__file__)", requirements_txt="compiled", python_version=version
    )
    assert_worked(result, f"/venv/lib/python{version}/site-packages/compiled/{found.name}\n")


# --- where requirements are found ---


@pytest.fixture(scope="module")
def wanted(index: FakeIndex) -> str:
    """Requirements of a package that no import of this test's code names."""
    offer(index, "wanted")
    return "wanted==1.0"


SCRIPT = "# /// script\n# dependencies = [{0!r}]\n# ///\n"
PROJECT = '[project]\nname = "mine"\nversion = "1"\ndependencies = [{0!r}]\n'
DYNAMIC = "__import__('importlib').import_module('wan' + 'ted')\n"


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": DYNAMIC, "requirements.txt": "# mine\n{0}\n"},
        {"main.py": DYNAMIC, "pyproject.toml": PROJECT},
        {"main.py": SCRIPT + DYNAMIC},
        {"app/run.py": DYNAMIC, "app/requirements.txt": "{0}"},
        {"app/run.py": DYNAMIC, "requirements.txt": "{0}"},
        {"app/run.py": DYNAMIC, "pyproject.toml": PROJECT},
    ],
)
def test_requirements_are_found_among_the_files(api: Api, wanted: str, files: dict[str, str]) -> None:
    filled = {name: content.format(wanted) for name, content in files.items()}
    entrypoint = next(iter(files))
    assert packages_of(api.run(filled, entrypoint=entrypoint)) == {"wanted": "1.0"}
    sent = [{"name": name, "content": content} for name, content in filled.items()]
    assert packages_of(api.eval(files=sent, entrypoint=entrypoint)) == {"wanted": "1.0"}


@pytest.mark.parametrize("way", [by_eval, by_upload])
def test_a_dash_switches_all_of_that_off(
    api: Api, index: FakeIndex, wanted: str, way: Callable[..., dict[str, Any]]
) -> None:
    offer(index, "imported")
    before = len(index.requests)
    for code in (SCRIPT.format(wanted), "try:\n    import imported\nexcept ImportError:\n    print('absent')\n"):
        assert way(api, code, requirements_txt="-", detect_imports=True)["environment"] is None
    files = {"main.py": "", "requirements.txt": wanted, "pyproject.toml": PROJECT.format(wanted)}
    assert api.run(files, requirements_txt="-")["environment"] is None
    assert len(index.requests) == before


def test_requirements_go_before_files_files_in_their_order_and_all_before_imports(api: Api, index: FakeIndex) -> None:
    for name in ("by-request", "by-script", "by-file", "by-project", "by_import"):
        offer(index, name)
    imports = "try:\n    import by_import\nexcept ImportError:\n    pass\n"
    files = {
        "main.py": SCRIPT.format("by-script") + imports,
        "requirements.txt": "by-file",
        "pyproject.toml": PROJECT.format("by-project"),
    }
    assert packages_of(api.run(files, requirements_txt="by-request", detect_imports=True)) == {"by-request": "1.0"}
    assert packages_of(api.run(files, detect_imports=True)) == {"by-script": "1.0"}
    files["main.py"] = imports
    assert packages_of(api.run(files, detect_imports=True)) == {"by-file": "1.0"}
    del files["requirements.txt"]
    assert packages_of(api.run(files, detect_imports=True)) == {"by-project": "1.0"}
    del files["pyproject.toml"]
    assert packages_of(api.run(files, detect_imports=True)) == {"by-import": "1.0"}
    assert api.run(files)["environment"] is None  # an upload's imports count only where that is asked for


@pytest.mark.parametrize("files", [
    {"main.py": '# /// script\n# requires-python = ">=3.99"\n# ///\nprint("ran")'},
    {"main.py": 'print("ran")', "pyproject.toml": '[project]\nrequires-python = ">=3.99"\ndependencies = []\n'},
])  # fmt: skip
def test_another_python_than_the_files_ask_for_is_a_failure_that_says_so(api: Api, files: dict[str, str]) -> None:
    result = api.run(files)
    where = "pyproject.toml" if "pyproject.toml" in files else "main.py"
    assert_refused(result, f"{where} asks for Python >=3.99, and this is 3.", "python_version", "docker_image")


def test_a_python_that_the_files_ask_for_is_no_obstacle(api: Api, wanted: str) -> None:
    project = PROJECT.format(wanted) + 'requires-python = ">=3.9"\n'
    assert packages_of(api.run({"main.py": "import wanted", "pyproject.toml": project})) == {"wanted": "1.0"}


# --- one environment for all who mean the same ---


def test_requirements_that_come_to_the_same_share_one_environment(api: Api, index: FakeIndex, kept: Kept) -> None:
    offer(index, "same_thing", requires=["same-leaf"])
    offer(index, "same-leaf")
    before = kept.keys()
    spellings = [
        "same_thing",
        "Same.Thing >= 0.5 # a comment",
        "same-leaf\nsame-thing==1.0",
        "same-thing;python_version>'3'",
    ]
    keys = {api.eval("import same_thing", requirements_txt=text)["environment"]["key"] for text in spellings}
    by_file = api.run({"main.py": "", "requirements.txt": "same--thing"}, docker_image=f"python:{VERSION}")
    keys.add(by_file["environment"]["key"])
    assert len(keys) == 1 and kept.keys() - before == keys


def test_a_second_run_does_not_ask_the_index_and_takes_no_time(api: Api, index: FakeIndex) -> None:
    offer(index, "asked-once")
    first = api.eval("import asked_once", requirements_txt="asked-once")
    asked = len(index.requests)
    second = api.eval("import asked_once; print(asked_once.version)", requirements_txt="asked-once")
    assert_worked(second, "1.0\n")
    assert first["environment"] == second["environment"] and len(index.requests) == asked


def test_a_lock_gives_the_same_environment_again_and_the_inventory_has_its_packages(
    api: Api, index: FakeIndex, kept: Kept
) -> None:
    offer(index, "locked-root", requires=["locked-leaf>=1"])
    offer(index, "locked-leaf", "1.7")
    environment = api.eval("import locked_root", requirements_txt="locked-root")["environment"]
    lock = api.get(f"/api/v1/environments/{environment['key']}/lock")
    assert lock.status_code == 200 and lock.headers["content-type"].startswith("text/plain")
    digests = [sha256(index.files[f"/files/locked_{name}-py3-none-any.whl"]) for name in ("leaf-1.7", "root-1.0")]
    assert lock.text == (
        f"locked-leaf==1.7 \\\n    --hash=sha256:{digests[0]}\nlocked-root==1.0 \\\n    --hash=sha256:{digests[1]}\n"
    )
    asked, keys = len(index.requests), kept.keys()
    again = api.eval("import locked_root", requirements_txt=lock.text)
    assert again["environment"] == environment and kept.keys() == keys and len(index.requests) == asked
    inventory = api.get(f"/api/v1/environments/{environment['key']}/sbom")
    assert inventory.headers["content-type"].startswith("application/vnd.cyclonedx+json")
    content = json.loads(inventory.text)
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    purls = [component["purl"] for component in content["components"]]
    assert purls[1:] == ["pkg:pypi/locked-leaf@1.7", "pkg:pypi/locked-root@1.0"]


def test_a_lock_is_enough_where_there_is_no_environment_yet(api: Api, index: FakeIndex) -> None:
    path = offer(index, "only-locked")
    lock = f"only-locked==1.0 --hash=sha256:{sha256(index.files[path])}"
    result = api.eval("import only_locked", requirements_txt=lock)
    assert packages_of(result) == {"only-locked": "1.0"}
    assert api.eval("1", requirements_txt="only-locked")["environment"] == result["environment"]


@pytest.mark.parametrize("what", ["lock", "sbom"])
@pytest.mark.parametrize(
    "key", ["env_" + "0" * 32, "env_", "..", "%2e%2e%2fexecutions.sqlite3", ".new-x", "env_" + "0" * 31 + "/"]
)
def test_an_environment_that_is_not_there_is_a_404(api: Api, key: str, what: str) -> None:
    assert_error(api.get(f"/api/v1/environments/{key}/{what}"), 404, "not_found")


def test_how_far_packages_are_is_seen_while_they_are_waited_for(api: Api, index: FakeIndex) -> None:
    release = {"page": threading.Event(), "file": threading.Event()}
    path = offer(index, "awaited")
    index.faults["/simple/awaited/"] = held(release["page"])
    index.faults[path] = held(release["file"])
    execution_id = api.submit("import awaited", requirements_txt="awaited", config={"timeout_seconds": 1})
    wait_until_asked(index, "/simple/awaited/")
    pending = api.look(execution_id)
    assert pending["status"] == "pending"
    assert pending["preparing"] == {"stage": "resolving", "what": "", "done_bytes": 0, "total_bytes": None}
    assert (pending["started_at"], pending["environment"]) == (None, None)
    release["page"].set()
    stages = [api.look(execution_id)["preparing"]["stage"]]
    while stages[-1] != "installing" and len(stages) < 500:
        stages.append(api.look(execution_id)["preparing"]["stage"])
    assert set(stages) <= {"resolving", "downloading", "installing"} and stages[-1] == "installing"
    release["file"].set()
    result = api.finished(execution_id)
    assert_worked(result)
    assert result["preparing"] is None and packages_of(result) == {"awaited": "1.0"}
    assert api.look(execution_id)["preparing"] is None
