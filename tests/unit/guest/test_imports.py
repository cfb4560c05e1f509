"""Which imports are found in files that nobody vouches for, on the newest and the oldest Python at hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from python_executor.environments.interpreters import find_interpreters
from tests.support.guest import GUEST

NOTHING: dict[str, list[str]] = {
    "imports": [], "optional": [], "modules": [], "signs": [], "installs": [], "unparsed": [],
}  # fmt: skip


def pythons() -> list[str]:
    """Our own interpreter, and 3.9 where there is one."""
    old = [found.executable for found in find_interpreters() if found.minor_version == "3.9"]
    return [sys.executable, *old]


@pytest.fixture(params=pythons(), ids=lambda path: Path(path).name)
def detect(tmp_path, request):
    """What the program prints about these files, given by path."""

    def run(contents: dict[str, str | bytes], signs: str = "") -> dict[str, list[str]]:
        shutil.copy(GUEST / "imports.py", tmp_path)
        (tmp_path / "files").mkdir(exist_ok=True)
        for name, content in contents.items():
            path = tmp_path / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = subprocess.run(
            [request.param, "imports.py"],
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=False,
            input=signs.encode(),
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return json.loads(done.stdout)

    return run


@pytest.fixture
def found(detect):
    """Names that one file needs, and those that it can do without."""

    def find(code: str | bytes) -> tuple[list[str], list[str]]:
        answer = detect({"main.py": code})
        assert answer["unparsed"] == []
        return answer["imports"], answer["optional"]

    return find


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import numpy", ["numpy"]),
        ("import google.cloud.storage as gcs, numpy", ["google.cloud.storage", "numpy"]),
        ("from google.cloud import storage", ["google.cloud.storage"]),
        ("from numpy import array, zeros as z", ["numpy.array", "numpy.zeros"]),
        ("from numpy import *", ["numpy"]),
        ("def f():\n    async def g():\n        import numpy", ["numpy"]),
        ("class C:\n    import numpy", ["numpy"]),
        ("if x:\n    import numpy\nelse:\n    import pandas", ["numpy", "pandas"]),
        ("x = 1; import \\\n  numpy", ["numpy"]),
        ("import importlib\nimportlib.import_module('numpy.linalg')", ["numpy.linalg"]),
        ("from importlib import import_module as load\nimport_module(name='numpy')", ["numpy"]),
        ("f'{__import__(\"numpy\").array}'", ["numpy"]),
        ("import ｎｕｍｐｙ", ["numpy"]),
        ("import größe", ["größe"]),
        ("x = 'import numpy'  # import numpy\n'''\nimport numpy\n'''", []),
        ("from . import numpy\nfrom .numpy import a\nfrom .. import b", []),
        ("from __future__ import annotations", []),
        ("import os.path, sys, _thread, json, __main__, math, array, sqlite3, test.support", []),
        ("__import__(name); __import__(b'numpy'); __import__(); __import__(*a)", []),
        ("__import__('not a name'); __import__(''); __import__('a..b'); __import__('.a')", []),
    ],
)
def test_absolute_imports_are_found_wherever_they_stand_and_nothing_else_is(found, code, names):
    assert found(code) == (names, [])


@pytest.mark.parametrize(
    "handler",
    [
        "except ImportError: pass",
        "except ModuleNotFoundError as error: pass",
        "except Exception: pass",
        "except BaseException: pass",
        "except: pass",
        "except builtins.ImportError: pass",
        "except (ValueError, ImportError): pass",
        "except ValueError: pass\nexcept ImportError: pass",
    ],
)
def test_an_import_whose_absence_is_handled_is_optional(found, handler):
    assert found(f"try:\n    import numpy\n    if x:\n        import pandas\n{handler}") == ([], ["numpy", "pandas"])


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    import numpy\nexcept ValueError: pass",
        "try:\n    import numpy\nfinally: pass",
        "try: pass\nexcept ImportError:\n    import numpy",
        "try: pass\nexcept ImportError: pass\nelse:\n    import numpy",
        "with open(x):\n    import numpy",
        "with suppress(ValueError):\n    import numpy",
        "try:\n    import numpy\nexcept ImportError: pass\nimport numpy",
    ],
)
def test_an_import_whose_absence_is_not_handled_is_needed(found, code):
    assert found(code) == (["numpy"], [])


@pytest.mark.parametrize(
    "suppress", ["contextlib.suppress(ImportError)", "open(x), suppress(KeyError, Exception) as y"]
)
def test_a_suppressed_import_is_optional(found, suppress):
    assert found(f"with {suppress}:\n    import numpy") == ([], ["numpy"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="except* came with 3.11")
def test_exception_groups_are_handlers_too(found, request):
    if "3.9" not in request.node.name:
        assert found("try:\n    import numpy\nexcept* ImportError: pass") == ([], ["numpy"])


@pytest.mark.parametrize(
    "code",
    [
        "if TYPE_CHECKING:\n    import numpy\nelse:\n    import pandas",
        "if typing.TYPE_CHECKING:\n    import numpy\nelif x:\n    import pandas",
        "if not TYPE_CHECKING:\n    import pandas\nelse:\n    import numpy",
    ],
)
def test_what_only_type_checkers_see_is_left_out(found, code):
    assert found(code) == (["pandas"], [])


# --- what files provide for each other --------------------------------------------------------------------------------


def test_modules_of_the_request_itself_are_left_out(detect):
    answer = detect(
        {
            "main.py": "import helper, package, deep.down, data, numpy",
            "helper.py": "",
            "package/__init__.py": "import sibling",
            "package/sibling.py": "",
            "deep/down/there.py": "",
            "data/table.csv": "",
        }
    )
    assert answer == {**NOTHING, "imports": ["numpy"]}


def test_a_script_in_a_directory_imports_its_neighbours(detect):
    answer = detect(
        {"src/main.py": "import beside, below, csvs", "src/beside.py": "", "src/below/a/b.py": "", "src/csvs/a.csv": ""}
    )
    assert answer["imports"] == ["csvs"]


def test_files_that_do_not_parse_are_named_and_the_others_count(detect):
    answer = detect(
        {"good.py": "import numpy", "b.py": "import pandas\n1 +", "a/b.py": b"\xff", "notes.txt": "import x"}
    )
    assert answer == {**NOTHING, "imports": ["numpy"], "unparsed": ["a/b.py", "b.py"]}


def test_nothing_is_a_complete_answer(detect):
    assert detect({}) == NOTHING


# --- hostile files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        b"(" * 100_000,
        b"-" * 100_000 + b"1",
        b"lambda: " * 50_000 + b"1",
        b"1 if 1 else " * 50_000,
        b"if 1:\n pass\n" + b"elif 1:\n pass\n" * 50_000,
        b"".join(b" " * depth + b"if 1:\n" for depth in range(200)),
        b"import numpy\n\0",
        b"x = '\xe9'",
        b"# coding: no-such-codec\nimport numpy",
        b"# coding: hex\nimport numpy",
        b"\xff\xfei\0m\0p\0o\0r\0t\0",
        b"import\n",
    ],
    ids=lambda code: repr(code[:12]),
)
def test_what_the_parser_refuses_is_unparsed(detect, code):
    assert detect({"main.py": code, "other.py": "import numpy"}) == {
        **NOTHING,
        "imports": ["numpy"],
        "unparsed": ["main.py"],
    }


@pytest.mark.parametrize("link", [" + 1", ".a", "()", "[0]"])
def test_a_chain_without_end_is_walked_or_unparsed(detect, link):
    answer = detect({"main.py": "import numpy\nx" + link * 50_000})
    assert (answer["imports"], answer["unparsed"]) in ((["numpy"], []), ([], ["main.py"]))


@pytest.mark.parametrize(
    "code",
    [
        b"# coding: latin-1\nx = '\xe9'\nimport numpy",
        b"\xef\xbb\xbfimport numpy",
        b"# coding: utf-7\n+AGkAbQBwAG8AcgB0 numpy",
        b"import numpy; x = '" + b"a" * 1_000_000 + b"'",
        b"x = 1\n" * 100_000 + b"import numpy",
        b"x = '''\n" + b"import pandas\n" * 70_000 + b"'''\rimport numpy",
        b"if 1:\n\timport numpy\r\n\x0c",
    ],
    ids=lambda code: repr(code[:12]),
)
def test_what_python_can_read_is_read(found, code):
    assert found(code) == (["numpy"], [])


def test_a_warning_of_the_parser_is_not_said(found):
    assert found(r"x = '\d'; 0 is 0; import numpy") == (["numpy"], [])


def test_a_file_that_is_too_large_is_not_read_into_memory(detect):
    assert detect({"main.py": b"#" * (10 * 1024 * 1024 + 1)})["unparsed"] == ["main.py"]


def test_symlinks_are_not_followed(detect, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("import secret_dependency")
    files = tmp_path / "files"
    files.mkdir()
    (files / "linked.py").symlink_to(outside / "secret.py")
    (files / "directory").symlink_to(outside)
    (files / "around").symlink_to(".")
    (files / "circle.py").symlink_to("circle.py")
    (files / "dangling").symlink_to("nowhere")
    answer = detect({"main.py": "import linked, directory, around, circle, numpy"})
    assert answer == {**NOTHING, "imports": ["numpy"]}


def test_what_is_called_a_file_but_is_none_is_not_opened(detect, tmp_path):
    (tmp_path / "files" / "x.py").mkdir(parents=True)
    os.mkfifo(tmp_path / "files" / "pipe.py")
    answer = detect({"x.py/main.py": "import numpy"})
    assert answer == {**NOTHING, "imports": ["numpy"]}


def test_a_tree_is_looked_through_as_deep_as_one_may_be(detect):
    assert detect({"a/" * 199 + "main.py": "import numpy"})["imports"] == ["numpy"]


def test_a_name_that_is_no_text_is_named_all_the_same(detect, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / os.fsdecode(b"files/\xff.py")).write_text("1 +")
    assert detect({})["unparsed"] == ["\ufffd.py"]


# --- what is used, and what pip is to install -------------------------------------------------------------------------

SIGNS = '.to_excel\n.read_html\nas_frame=\n"lxml"\n"socks5://*"\n"*.xls"'


@pytest.mark.parametrize(
    ("code", "signs"),
    [
        ("df.to_excel('a.xlsx')", [".to_excel"]),
        ("write = df.to_excel", [".to_excel"]),
        ("from pandas import read_html as r", [".read_html"]),
        ("load_iris(as_frame=True)", ["as_frame="]),
        ("BeautifulSoup(x, 'lxml')", ['"lxml"']),
        ("proxies = {'http': f'socks5://{host}'}", ['"socks5://*"']),
        ("pd.read_excel(f'{name}.xls')", ['"*.xls"']),
        ("def to_excel(as_frame): pass\nto_excel('lxml2', b'lxml', '.xlsx')", []),
        ("'''pandas can .to_excel'''  # df.to_excel", []),
    ],
)
def test_signs_of_use_are_found_where_code_has_them(detect, code, signs):
    assert detect({"main.py": code}, SIGNS)["signs"] == signs


@pytest.mark.parametrize(
    ("code", "installs"),
    [
        (
            "subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', 'humanize', 'six>=1'])",
            ["humanize", "six>=1"],
        ),
        ("subprocess.check_call((sys.executable, '-m', 'pip', 'install', 'six'))", ["six"]),
        ("subprocess.run(['/usr/bin/pip3', 'install', '-i', 'https://x', '-r', 'r.txt', 'six'])", ["six"]),
        ("os.system('cd /tmp && pip install --user \"six>=1\" ; pip3 install yaml')", ["six>=1", "yaml"]),
        ("os.system(f'{sys.executable} -m pip install six=={version} humanize')", ["humanize"]),
        ("subprocess.run('pip install six'.split(), check=True)", ["six"]),
        ("await asyncio.create_subprocess_exec('pip', 'install', 'six')", ["six"]),
        ("pip.main(['install', 'six'])", ["six"]),
        ("os.system('pip install \"six')", []),
        ("subprocess.run(['pip', 'uninstall', 'six']); print('pip', 'list')", []),
        ("main(['six']); run(['pip']); run([]); run(); run(['install', 'six'])", []),
        ("# pip install six\n'''pip install six'''", []),
    ],
)
def test_what_code_has_pip_install_is_found_where_it_stands_there(detect, code, installs):
    assert detect({"main.py": code})["installs"] == installs


def test_what_must_be_a_module_is_told_apart_from_what_may_be_an_attribute(detect):
    answer = detect({"main.py": "import a.b, c\nfrom d.e import f\nfrom g import h\nimport os.path"})
    assert answer["modules"] == ["a.b", "d.e"]


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_each_distribution_is_named_before_any_is_named_twice(detect):
    many = "from alpha import " + ", ".join(f"name{number}" for number in range(300))
    answer = detect({"main.py": f"{many}\nimport zeta.one\ntry:\n    import optional\nexcept ImportError: pass"})
    assert len(answer["imports"]) == 200
    assert {"alpha.name0", "zeta.one"} < set(answer["imports"])
    assert answer["optional"] == []
    assert answer["imports"] == sorted(answer["imports"])


def test_no_name_is_longer_than_the_bound(detect):
    long = "b" * 199
    answer = detect(
        {"main.py": f"import a.{long}, {long}, {'c' * 201}, {'d.' * 150}d", f"{'e' * 150}/{'f' * 150}.py": "1 +"}
    )
    assert answer["imports"] == ["a", long, "d." * 99 + "d"]
    assert [len(name) for name in answer["unparsed"]] == [200]


def test_at_most_so_many_files_are_named(detect):
    assert len(detect({f"{number}.py": "1 +" for number in range(250)})["unparsed"]) == 200
