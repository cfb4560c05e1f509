"""Packages that nobody names: what code imports is looked for, and what can't be had is the code's own affair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.index import FakeIndex, fails
from tests.support.packages import VERSION, assert_worked, offer, packages_of
from tests.support.server import ServerProcess


def asked_for(index: FakeIndex, since: int) -> set[str]:
    """Names of projects that the index was asked for."""
    paths = [request.path for request in index.requests[since:]]
    return {path.split("/")[2] for path in paths if path.startswith("/simple/")}


def assert_not_found(result: dict[str, Any], module: str, stdout: str = "") -> None:
    """A run that failed to import this, as plain Python would, and one warning that says why it was not there."""
    assert (result["status"], result["termination"], result["exit_code"]) == ("completed", "exited", 1), result
    assert (result["stdout"], result["error_type"], result["error"]) == (stdout, "ModuleNotFoundError", None)
    assert len(result["warnings"]) == 1 and module in result["warnings"][0], result["warnings"]
    assert "\n" not in result["warnings"][0]


def test_what_code_imports_is_there(api: Api, index: FakeIndex) -> None:
    offer(index, "plainly_imported")
    result = api.eval("import plainly_imported; print(plainly_imported.version)")
    assert_worked(result, "1.0\n")
    assert packages_of(result) == {"plainly-imported": "1.0"} and result["warnings"] == []


def test_a_module_to_run_is_looked_for_as_if_it_were_imported(api: Api, index: FakeIndex) -> None:
    offer(index, "run_by_name", files={"run_by_name/__init__.py": "", "run_by_name/__main__.py": "print(__name__)"})
    since = len(index.requests)
    assert_worked(api.run("", module="run_by_name", detect_imports=True), "__main__\n")
    assert_worked(api.run("print('own')", module="main", detect_imports=True), "own\n")
    assert api.run("", module="json.tool", script_args=["--help"], detect_imports=True)["exit_code"] == 0
    assert asked_for(index, since) == {"run-by-name"}


def test_an_import_of_another_name_than_its_package_is_found_by_the_table(api: Api, index: FakeIndex) -> None:
    offer(index, "pyyaml", "6.0", {"yaml/__init__.py": "name = 'from pyyaml'\n"})
    offer(index, "yaml", "0.1", {"yaml.py": "name = 'from a squatter'\n"})
    result = api.eval("import yaml; print(yaml.name)")
    assert_worked(result, "from pyyaml\n")
    assert packages_of(result) == {"pyyaml": "6.0"}


def test_a_package_of_the_table_that_the_index_lacks_is_not_there_and_nothing_is_taken_in_its_place(
    api: Api, index: FakeIndex
) -> None:
    offer(index, "cv2", files={"cv2.py": "raise SystemExit('a squatter')"})
    since = len(index.requests)
    assert_not_found(api.eval("import cv2"), "cv2")
    assert asked_for(index, since) == {"opencv-python-headless"}


def test_an_import_that_can_not_be_had_fails_as_it_does_in_python_and_the_others_work(
    api: Api, index: FakeIndex
) -> None:
    for number in range(3):
        offer(index, f"present{number}")
    code = "import present0, present1\nfrom present2 import version\nprint(version)\nimport missing_thing.part\n"
    result = api.eval(code)
    assert_not_found(result, "missing_thing", "1.0\n")
    assert "missing-thing was not found" in result["warnings"][0]
    assert result["error_line"] == 4 and packages_of(result) == {f"present{number}": "1.0" for number in range(3)}
    since = len(index.requests)
    again = api.eval(code)
    assert again["warnings"] == result["warnings"] and again["environment"] == result["environment"]
    assert len(index.requests) == since


def test_an_import_that_nothing_is_missing_for_adds_no_warning_if_code_fails_otherwise(
    api: Api, index: FakeIndex
) -> None:
    result = api.eval("def never():\n    import missing_but_never_imported\nraise ValueError('mine')")
    assert (result["error_type"], result["warnings"]) == ("ValueError", [])
    assert_worked(api.eval("def never():\n    import missing_but_never_imported\nprint(1)"), "1\n")


def test_many_imports_that_can_not_be_had_do_not_take_one_with_them_that_can(api: Api, index: FakeIndex) -> None:
    offer(index, "present_among_many")
    missing = [f"missing_of_many_{number}" for number in range(12)]
    tries = "".join(f"def f():\n    import {name}\n" for name in missing)
    assert_worked(api.eval(f"{tries}import present_among_many; print(present_among_many.version)"), "1.0\n")


def test_imports_whose_packages_can_not_be_installed_do_not_take_others_with_them(api: Api, index: FakeIndex) -> None:
    offer(index, "installable")
    offer(index, "for_windows", tag="py3-none-win_amd64")
    offer(index, "wants_the_missing", requires=["nobody-has-this>=2"])
    code = "import installable; print(installable.version)\nimport {}\n"
    for name in ("for_windows", "wants_the_missing"):
        assert_not_found(api.eval(code.format(name)), name, "1.0\n")


def test_imports_that_conflict_never_make_a_run_fail_before_it_begins(api: Api, index: FakeIndex) -> None:
    offer(index, "shared-leaf", "1.0")
    offer(index, "shared-leaf", "2.0")
    offer(index, "wants_one", requires=["shared-leaf==1.0"])
    offer(index, "wants_two", requires=["shared-leaf==2.0"])
    result = api.eval("print('began')\nimport wants_one, wants_two")
    assert result["stdout"] == "began\n" and result["status"] == "completed"


OPTIONAL = [
    "try:\n    import {name}\nexcept ImportError:\n    {name} = None\n",
    "try:\n    import {name}\nexcept Exception:\n    pass\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {name}\n",
    "import contextlib\nwith contextlib.suppress(ImportError):\n    import {name}\n",
]


@pytest.mark.parametrize("number", range(len(OPTIONAL)))
def test_imports_that_code_can_do_without_never_warn_or_fail(api: Api, number: int) -> None:
    code = OPTIONAL[number].format(name=f"optional{number}") + "print('went on')\n"
    result = api.eval(code)
    assert_worked(result, "went on\n")
    assert result["warnings"] == [] and result["environment"] is None
    failed = api.eval(code + "from os import nothing_of_that_name\n")
    assert (failed["error_type"], failed["warnings"]) == ("ImportError", [])


def test_imports_for_type_checkers_are_not_installed_and_optional_ones_are(api: Api, index: FakeIndex) -> None:
    offer(index, "only_checked")
    offer(index, "perhaps")
    code = "import typing\nif typing.TYPE_CHECKING:\n    import only_checked\n{}"
    assert api.eval(code.format(""))["environment"] is None
    assert packages_of(api.eval(code.format("try:\n    import perhaps\nexcept ImportError: pass"))) == {
        "perhaps": "1.0"
    }


def test_neither_the_standard_library_nor_modules_of_its_own_are_looked_up(api: Api, index: FakeIndex) -> None:
    for name in ("helper", "inner", "json", "xml", "tkinter"):
        offer(index, name, files={f"{name}.py": "raise SystemExit('from the index')"})
    files = {
        "main.py": "import json, xml.sax, tkinter.ttk, helper, package.inner, os as o\nfrom package import inner\n",
        "helper.py": "import sys",
        "package/__init__.py": "",
        "package/inner.py": "from . import __name__\nimport helper",
    }
    files["main.py"] = files["main.py"].replace("tkinter.ttk, ", "")  # not every interpreter here was built with it
    files["main.py"] += "try:\n    import tkinter\nexcept ImportError: pass\n"
    since = len(index.requests)
    result = api.eval(files=[{"name": name, "content": content} for name, content in files.items()])
    assert_worked(result)
    assert (result["environment"], result["warnings"]) == (None, []) and len(index.requests) == since
    assert_worked(api.run(files, detect_imports=True))
    assert len(index.requests) == since


@pytest.mark.parametrize(
    "code", ["print('no such thing: import absent_thing')", "# import absent_thing", "'''\nimport absent_thing\n'''"]
)
def test_what_only_looks_like_an_import_is_not_looked_up(api: Api, index: FakeIndex, code: str) -> None:
    since = len(index.requests)
    assert_worked(api.eval(code))
    assert len(index.requests) == since


def test_explicit_requirements_go_before_imports(api: Api, index: FakeIndex) -> None:
    offer(index, "asked_for")
    offer(index, "not_asked_for")
    result = api.eval("import asked_for; print(1)\nimport not_asked_for", requirements_txt="asked-for")
    assert packages_of(result) == {"asked-for": "1.0"} and result["stdout"] == "1\n"
    assert (result["error_type"], result["warnings"]) == ("ModuleNotFoundError", [])
    empty = api.run({"main.py": "import not_asked_for", "requirements.txt": "# none"}, detect_imports=True)
    assert (empty["error_type"], empty["environment"]) == ("ModuleNotFoundError", None)


def test_a_request_can_switch_the_detection_off_and_on(api: Api, index: FakeIndex) -> None:
    offer(index, "switched")
    since = len(index.requests)
    assert api.eval("import switched", detect_imports=False)["error_type"] == "ModuleNotFoundError"
    assert api.run("import switched")["error_type"] == "ModuleNotFoundError"
    assert len(index.requests) == since
    assert_worked(api.run("import switched", detect_imports=True))


def test_code_that_can_not_be_parsed_gets_its_syntax_error_and_nothing_else(api: Api) -> None:
    result = api.eval("import absent_thing_2\nthis is no python")
    assert (result["error_type"], result["error_line"], result["warnings"]) == ("SyntaxError", 2, [])


def test_an_index_that_fails_is_no_reason_for_code_not_to_run(api: Api, index: FakeIndex) -> None:
    index.faults["/simple/unlucky/"] = fails(500)
    assert_not_found(api.eval("print(1)\nimport unlucky"), "500", "1\n")


def test_an_operator_can_switch_the_detection_off(index: FakeIndex, start_server: Callable[..., ServerProcess]) -> None:
    offer(index, "undetected")
    api = Api(start_server(auto_detect_imports="false", index_url=index.url, pool_max=1).url)
    since = len(index.requests)
    for result in (api.eval("import undetected"), api.run("import undetected", detect_imports=True)):
        assert (result["error_type"], result["environment"], result["warnings"]) == ("ModuleNotFoundError", None, [])
    assert len(index.requests) == since
    api.close()


def test_what_a_library_needs_for_what_code_does_is_there_too(api: Api, index: FakeIndex) -> None:
    offer(index, "pandas", "3.0", {"pandas.py": "def DataFrame(): pass\n"})
    offer(index, "openpyxl")
    code = "import pandas\ndef f(): pandas.DataFrame().to_excel('x'); pandas.DataFrame().to_hdf('y')\nprint(1)"
    result = api.eval(code)
    assert_worked(result, "1\n")  # of what can't be had (tables) only who fails to import it is told
    assert packages_of(result) == {"openpyxl": "1.0", "pandas": "3.0"} and result["warnings"] == []
    failed = api.eval(f"{code}\nraise ImportError('Missing optional dependency: tables')")
    assert len(failed["warnings"]) == 1 and "tables" in failed["warnings"][0], failed
    assert packages_of(api.eval("import pandas; print(1)")) == {"pandas": "3.0"}


def test_a_module_that_its_distribution_no_longer_has_is_named_with_the_version(api: Api, index: FakeIndex) -> None:
    offer(index, "shrunk", "2.0", {"shrunk/__init__.py": "def part(): pass\n"})
    result = api.eval("import shrunk\nfrom shrunk import part\nimport shrunk.editor as e")
    assert_not_found(result, "shrunk.editor is no module of shrunk 2.0")
    assert packages_of(result) == {"shrunk": "2.0"}
    whole = api.eval("import shrunk\nfrom shrunk import part, nothing_of_that_name")
    assert (whole["error_type"], whole["warnings"]) == ("ImportError", [])


def test_a_module_that_newer_versions_lack_comes_from_an_older_one(api: Api, index: FakeIndex) -> None:
    offer(index, "setuptools", "84.0", {"setuptools/__init__.py": ""})
    offer(index, "setuptools", "81.0", {"setuptools/__init__.py": "", "pkg_resources/__init__.py": "name = 'here'\n"})
    result = api.eval("import pkg_resources; print(pkg_resources.name)")
    assert_worked(result, "here\n")
    assert packages_of(result) == {"setuptools": "81.0"}


def test_what_code_has_pip_install_is_there_before_it_runs(api: Api, index: FakeIndex) -> None:
    offer(index, "installed_by_code", "1.0")
    offer(index, "installed_by_code", "2.0")
    command = "[sys.executable, '-m', 'pip', 'install', 'installed_by_code==1.0', 'https://elsewhere/a.whl']"
    result = api.eval(f"import subprocess, sys\ndef f(): subprocess.run({command})\nprint(1)")
    assert_worked(result, "1\n")
    assert packages_of(result) == {"installed-by-code": "1.0"}


PIP = """
import subprocess, sys

def pip(*words):
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    print(done.returncode, done.stdout.strip() or done.stderr.strip())
"""


def test_pip_lists_what_is_there_and_has_nothing_left_to_install(api: Api, index: FakeIndex) -> None:
    offer(index, "had_ahead", "1.5")
    code = f"{PIP}import importlib, os\nos.system('pip install had_ahead==1.5')\nimportlib.import_module('had_ahead')\n"
    result = api.eval(f"{code}pip('freeze')\nimport pip as itself; itself.main(['install', 'had-ahead'])")
    place = f"/venv/lib/python{VERSION}/site-packages"
    said = "Requirement already satisfied: {} in " + place + " (1.5)\n"
    assert_worked(result, said.format("had_ahead==1.5") + "0 had_ahead==1.5\n" + said.format("had-ahead"))


def test_pip_says_what_to_do_where_there_are_no_packages(api: Api) -> None:
    result = api.eval(f"{PIP}pip('list'); name = 'humanize'; pip('install', name)", detect_imports=False)
    line = "1 ERROR: humanize: not installed, and nothing can be while code runs here: list it in requirements_txt "
    assert_worked(result)
    assert result["stdout"].startswith(f"0 \n{line}") and result["stdout"].count("\n") == 2, result["stdout"]


def test_pip_itself_can_be_asked_for(api: Api, index: FakeIndex) -> None:
    offer(index, "pip", "30.0", {"pip/__init__.py": "name = 'itself'\n", "pip/__main__.py": "print('ran itself')\n"})
    code = f"{PIP}pip('list')\nimport pip as it; print(it.name)"
    assert_worked(api.eval(code, requirements_txt="pip"), "0 ran itself\nitself\n")
