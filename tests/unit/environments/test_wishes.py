"""What is wanted of the index, going by what was found in code; and what is not, since Python has it itself."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from python_executor.environments.imports import Imports
from python_executor.environments.modules import missing
from python_executor.environments.needs import SIGN, all_signs, table
from python_executor.environments.requirements import read_requirements
from python_executor.environments.standard_library import without_standard_library
from python_executor.environments.wishes import as_requirements, wishes_of
from python_executor.model.spec import Interpreter

PYTHON = Interpreter("3.12.1", "/opt/python3.12/bin/python3.12", "/opt/python3.12")
OLD = Interpreter("3.9.1", "/opt/python3.9/bin/python3.9", "/opt/python3.9")


def wanted(*needed: str, signs: tuple[str, ...] = (), installs: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The lines that are to be installed for such code."""
    wishes = wishes_of(Imports(needed, signs=signs, installs=installs), PYTHON)
    return as_requirements(wishes, {wish.name for wish in wishes if wish.name}).lines


def test_every_row_of_the_table_of_needs_is_sorted_sound_and_says_where_it_is_from() -> None:
    rows = [(need.library.lower(), " ".join(need.signs), " ".join(need.packages)) for need in table()]
    assert rows == sorted(set(rows)) and len(rows) > 250
    for need in table():
        assert all(part.isidentifier() for part in need.library.split("."))
        assert all(SIGN.fullmatch(sign) for sign in need.signs), need
        assert need.signs or "." in need.library or need.packages != (need.library,), need
        assert need.packages and all(
            canonicalize_name(Requirement(p).name) == Requirement(p).name for p in need.packages
        )
        assert need.source.startswith("https://"), need


@pytest.mark.parametrize(
    ("library", "signs", "package"),
    [
        ("pandas", [".to_excel"], "openpyxl"),
        ("pandas.DataFrame", [".to_markdown"], "tabulate"),
        ("pandas", [".read_parquet"], "pyarrow"),
        ("pandas", [".read_html"], "lxml"),
        ("pandas", [".read_excel", '"*.xls"'], "xlrd"),
        ("bs4.BeautifulSoup", ['"html5lib"'], "html5lib"),
        ("requests", ['"socks5://*"'], "pysocks"),
        ("sqlalchemy.create_engine", ['"postgresql://*"'], "psycopg2-binary"),
        ("plotly.express", [], "numpy"),
        ("pydantic.EmailStr", [".EmailStr"], "email-validator"),
        ("networkx", [".draw"], "matplotlib"),
    ],
)
def test_what_a_library_needs_for_what_code_does_is_wanted_with_it(
    library: str, signs: list[str], package: str
) -> None:
    assert set(signs) <= set(all_signs())
    assert package in wanted(library, signs=tuple(signs))
    assert package not in wanted(library.partition(".")[0])
    assert wanted("six", signs=tuple(signs)) == ("six",)


def test_a_module_that_newer_versions_lack_is_wanted_of_an_older_one() -> None:
    assert wanted("pkg_resources") == ("setuptools<82",)
    assert wanted("pkg_resources", "setuptools") == ("setuptools", "setuptools<82")


def test_what_code_has_pip_install_is_wanted_where_the_index_may_have_it() -> None:
    texts = ("six==1.16", "git+https://x/y", "./here", "https://x/a.whl", "not a name", "json", "six --hash=sha256:0")
    assert wanted("humanize", installs=texts) == ("humanize", "six==1.16")


def test_names_of_the_standard_library_are_left_out_of_requirements_and_said() -> None:
    for text, kept, said in [
        ("json\nsqlite3\nnumpy", ("numpy",), "json, sqlite3 are part of Python 3.12"),
        ("dataclasses==0.8", (), "dataclasses is part of Python 3.12"),
        ("asyncio>=3.4\nSRE_compile", (), "asyncio, sre-compile are part"),
    ]:
        requirements, (warning,) = without_standard_library(read_requirements(text, "r"), PYTHON)
        assert requirements.lines == kept and warning.startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "typing-extensions\nimportlib-metadata\nattrs\nenum34",
        "configparser",  # has backports.configparser
        "DateTime",  # Zope's
        "dataclasses; python_version < '3.7'",
        f"argparse==1.4.0 --hash=sha256:{'0' * 64}",
        "distutils\nasyncore",  # gone in 3.12
    ],
)
def test_distributions_that_only_sound_like_it_are_kept(text: str) -> None:
    requirements = read_requirements(text, "r")
    assert without_standard_library(requirements, PYTHON) == (requirements, ())


def test_what_is_part_of_python_depends_on_its_version() -> None:
    requirements = read_requirements("tomllib\nasyncore\nzoneinfo", "r")
    assert without_standard_library(requirements, PYTHON)[0].names == ("asyncore",)
    assert without_standard_library(requirements, OLD)[0].names == ("tomllib",)


SITE = "lib/python3.12/site-packages"


def test_modules_are_found_among_the_files_of_an_environment() -> None:
    paths = [
        f"{SITE}/{path}"
        for path in ("six.py", "a/b/c.py", "fast.cpython-312-x86_64-linux-gnu.so", "old.pyc", "n/data.json", "bin.txt")
    ]
    paths += ["bin/tool.py", "share/shared.py", f"{SITE}/a/__pycache__/hidden.cpython-312.pyc"]
    asked = ("six", "a", "a.b", "a.b.c", "fast", "old", "n", "bin", "tool", "shared", "a.hidden", "six.moves", "b")
    assert missing(asked, paths) == ("bin", "tool", "shared", "a.hidden", "six.moves", "b")


def test_nothing_is_missing_where_a_pth_file_may_bring_it() -> None:
    assert missing(("a",), [f"{SITE}/extra.pth"]) == ()
    hook = [f"{SITE}/distutils-precedence.pth", f"{SITE}/setuptools/__init__.py"]
    assert missing(("distutils", "setuptools", "pkg_resources"), hook) == ("pkg_resources",)
