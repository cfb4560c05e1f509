"""Which distribution an import leads to, and what bytes alone tell of imports: never too little, and fast."""

from __future__ import annotations

import ast
import sys
import time
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from python_executor.environments import import_names
from python_executor.environments.import_names import ANYTHING, candidates, distributions_for
from python_executor.guest.imports import find_imports

TABLE = files("python_executor.environments") / "import_names.tsv"

# --- distributions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("numpy", "numpy"),
        ("numpy.array", "numpy"),
        ("typing_extensions", "typing-extensions"),
        ("IPython.display", "ipython"),
        ("Levenshtein", "levenshtein"),
        ("cv2", "opencv-python-headless"),
        ("PIL.Image", "pillow"),
        ("sklearn.linear_model", "scikit-learn"),
        ("skimage", "scikit-image"),
        ("yaml", "pyyaml"),
        ("bs4.BeautifulSoup", "beautifulsoup4"),
        ("dateutil.parser", "python-dateutil"),
        ("Crypto.Cipher.AES", "pycryptodome"),
        ("dotenv", "python-dotenv"),
        ("jwt", "pyjwt"),
        ("serial", "pyserial"),
        ("docx", "python-docx"),
        ("pptx", "python-pptx"),
        ("fitz", "pymupdf"),
        ("attr", "attrs"),
        ("OpenSSL", "pyopenssl"),
        ("mpl_toolkits.mplot3d", "matplotlib"),
        ("pkg_resources", "setuptools<82"),
        ("psycopg2", "psycopg2-binary"),
        ("git", "gitpython"),
        ("zmq", "pyzmq"),
        ("Bio.SeqIO", "biopython"),
        ("rest_framework", "djangorestframework"),
        ("googleapiclient.discovery", "google-api-python-client"),
        ("google.cloud.storage", "google-cloud-storage"),
        ("google.cloud.storage.Client", "google-cloud-storage"),
        ("google.cloud.secretmanager", "google-cloud-secret-manager"),
        ("google.protobuf.message", "protobuf"),
        ("google.oauth2", "google-auth"),
        ("azure.storage.blob", "azure-storage-blob"),
        ("ruamel.yaml", "ruamel-yaml"),
        ("opentelemetry.trace", "opentelemetry-api"),
        ("opentelemetry.sdk.trace", "opentelemetry-sdk"),
    ],
)
def test_an_import_leads_to_the_distribution_that_provides_it(name, distribution):
    assert distributions_for([name]) == {name: distribution}


@pytest.mark.parametrize(
    "name", ["google", "google.colab", "azure", "größe", "__private", "_", "a" * 101, "", ".", "a b"]
)
def test_what_can_be_no_distribution_leads_to_none(name):
    assert distributions_for([name]) == {name: None}


def test_all_names_are_answered():
    assert distributions_for(iter(["numpy", "yaml", "google"])) == {"numpy": "numpy", "yaml": "pyyaml", "google": None}


def test_every_row_is_a_dotted_name_and_a_normalized_distribution_sorted_and_needed():
    rows = [line.split("\t") for line in TABLE.read_text("ascii").splitlines() if not line.startswith("#")]
    assert rows == sorted(rows)
    assert len({name for name, _ in rows}) == len(rows) > 3000
    for name, distribution in rows:
        assert all(part.isidentifier() for part in name.split(".")), name
        assert distribution == "-" or import_names._PLAUSIBLE.fullmatch(Requirement(distribution).name), name
        assert "." in name or distribution != name.replace("_", "-").lower(), name


# --- candidates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import os", {"os"}),
        ("import a.b.c as d, e, f as g # h", {"a", "e", "f"}),
        ("from a.b import c, d\nfrom e import (\n  f,\n  g\n)", {"a", "e"}),
        ("if x: import a; import b", {"a", "b"}),
        ("import \\\n a \\\r\n . b \\\n , c\nx", {"a", "c"}),
        ("from a \\\n import b", {"a", "b"}),
        ("importlib.import_module('a.b'); __import__(\"c\", x); import_module('.d')", {"a", "c"}),
        ("from . import a\nfrom .b import c\nfrom ... d import e", set()),
        ("import_module(name)", {ANYTHING}),
        ("__import__('a' 'b')", {ANYTHING}),
        ("import größe", {ANYTHING}),
        ("__ｉmport__('a')", {ANYTHING}),
        ("# coding: utf-7\n+AGkAbQBwAG8AcgB0 a", {ANYTHING}),
        ("#\n# vim: set fileencoding=latin-1 :\nimport a", {ANYTHING}),
        ("# -*- coding: UTF-8 -*-\nimport a # ‘größe’, “—”, ™", {"a"}),
        ("# we import data from files, import it from there, and reimport it", set()),
        ("print('important'); x = 'import os'", set()),
        ("", set()),
    ],
)
def test_the_names_that_code_may_import(code, names):
    assert candidates([code.encode()]) == names


def test_the_names_of_all_sources_count():
    assert candidates([b"import a", b"", b"\xef\xbb\xbfimport b"]) == {"a", "b"}


def test_every_character_that_python_takes_for_a_letter_of_import_is_looked_for():
    letters = set("import_module")
    for number in range(0x80, sys.maxunicode + 1):
        character = chr(number)
        if set(unicodedata.normalize("NFKC", character)) <= letters and f"a{character}".isidentifier():
            assert import_names._LOOKALIKE.match(character.encode()), hex(number)


# Programs made of what surrounds imports and what could be taken for them; few of any other kind would parse.
GAPS = st.sampled_from([" ", "  ", "\t", " \\\n", "\\\n ", "\\\r\n", "\\\r", " \f"])
MAYBE_GAPS = st.one_of(st.just(""), GAPS)
NAMES = st.sampled_from(
    ["a", "os", "numpy", "_", "b2", "imports", "fromage", "as_", "é", "importé", "ｎp", "ℯ", "lazy"]
)
TEXTS = st.sampled_from(
    ["from x \\", "import a, \\", "import a as \\", "from .\\", "import", "'", '"', "x", "from a", "coding:x"]
)


@st.composite
def dotted(draw: st.DrawFn) -> str:
    parts = [draw(NAMES), *draw(st.lists(NAMES, max_size=2))]
    return "".join([parts[0], *(f"{draw(MAYBE_GAPS)}.{draw(MAYBE_GAPS)}{part}" for part in parts[1:])])


@st.composite
def aliased(draw: st.DrawFn, what: st.SearchStrategy[str]) -> str:
    name = draw(what)
    return name if draw(st.booleans()) else f"{name}{draw(GAPS)}as{draw(GAPS)}{draw(NAMES)}"


@st.composite
def several(draw: st.DrawFn, what: st.SearchStrategy[str]) -> str:
    first, *others = draw(st.lists(aliased(what), min_size=1, max_size=3))
    return "".join([first, *(f"{draw(MAYBE_GAPS)},{draw(MAYBE_GAPS)}{other}" for other in others)])


@st.composite
def imports(draw: st.DrawFn) -> str:
    return f"import{draw(GAPS)}{draw(several(dotted()))}"


@st.composite
def from_imports(draw: st.DrawFn) -> str:
    module = draw(st.one_of(dotted(), st.sampled_from([".", "..x", ". x.y", "..."])))
    names = draw(several(NAMES))
    listed = draw(st.sampled_from([" *", f" {names}", f"({names})", f" (\n{names},\n)", f"\\\n {names}"]))
    return f"from{draw(GAPS)}{module}{draw(GAPS)}import{listed}"


@st.composite
def calls(draw: st.DrawFn) -> str:
    function = draw(
        st.sampled_from(
            ["__import__", "importlib.import_module", "(import_module)", "__ｉmport__", "il . impºrt_module"]
        )
    )
    literal = draw(
        st.sampled_from(
            ["'x'", '"x.y"', "'x' 'y'", "'''x'''", r"'\x61'", "r'x'", "name='x'", "'x', 'y'", "x", "'.x'", "('x')"]
        )
    )
    return f"{function}{draw(MAYBE_GAPS)}({draw(MAYBE_GAPS)}{literal}{draw(MAYBE_GAPS)})"


@st.composite
def others(draw: st.DrawFn) -> str:
    shape = draw(
        st.sampled_from(
            ["x", "# {}", "'''{}\n{}'''", "x = '{}' \\\n", "pass # {}", "def f():\n yield \\\n 1", "f'{{{}}}'"]
        )
    )
    return shape.replace("{}", draw(TEXTS))


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    head = draw(st.sampled_from(["", "\ufeff", "# coding: utf-8\n", "# coding: latin-1\n", "\n#coding=utf-7\n", "\f"]))
    statements = draw(st.lists(st.one_of(imports(), from_imports(), calls(), others()), min_size=1, max_size=5))
    ends = [
        draw(st.sampled_from(["\n", "\r\n", "\r", ";", " ; ", " #\n", "\nif 1: ", "\ntry:\n  pass\nfinally:  "]))
        for _ in statements
    ]
    return (head + "".join(statement + end for statement, end in zip(statements, ends, strict=True))).encode()


@given(st.one_of(programs(), programs(), st.binary(max_size=60)))
@example(b"# from x \\\nimport numpy")
@example(b"# from . \\\nimport numpy")
@example(b"# import a, \\\nimport numpy")
@example(b"import import\xc3\xa9")
@example(b"# coding: unicode_escape\n\\x69mport numpy")
def test_no_import_that_parsing_finds_is_missing(source):
    try:
        found = find_imports(ast.parse(source))
    except Exception:
        return
    tops = {name.partition(".")[0] for name in found.imports | found.optional if name.replace(".", "").isidentifier()}
    listed = candidates([source])
    assert ANYTHING in listed or tops - {""} <= listed


REPEATED = [
    "import ", "from ", "import a,", "from a.", "from.", "xfrom.", "from .", "import aimport,", "import a as ", "import a as b,",
    "import \\\n", "from a \\\n", "from a\\\n.", "import a\\\n,", "import import_module(", "__import__('a", "éfrom.", "\\\n",
    "coding:", "# coding: ", "\t", "a", "é", "import a\n", "from a import b\n", "import a,from a.",
]  # fmt: skip


@pytest.mark.parametrize("head", ["", "import a", "from a", "# coding:"])
@pytest.mark.parametrize("repeated", REPEATED)
def test_no_text_takes_more_than_linear_time(head, repeated):
    source = (head + repeated * (1024 * 1024 // len(repeated)) + "\nimport a").encode()
    started = time.process_time()
    candidates([source])
    assert time.process_time() - started < 1.0  # some 0.05 s; what is quadratic takes minutes
