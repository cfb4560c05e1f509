"""Requirements of strangers: what is taken means the same to everybody, the rest is refused soon and with a sentence."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from python_executor.environments import declared
from python_executor.environments import requirements as limits
from python_executor.environments.declared import Declared, project_dependencies, script_metadata
from python_executor.environments.locks import read_lock
from python_executor.environments.requirements import (
    PackageFilter,
    Requirements,
    read_requirements,
    requirements_file,
)
from python_executor.model.errors import EnvironmentFailed

A, B = "a" * 64, "b" * 64
HASH_A, HASH_B = f"--hash=sha256:{A}", f"--hash=sha256:{B}"
PEP_723 = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


def read(text: str) -> Requirements:
    return read_requirements(text, "requirements_txt")


def refusal(text: str) -> str:
    """Why a text is refused: one printable line that ends as a sentence."""
    with pytest.raises(EnvironmentFailed) as caught:
        read(text)
    message = str(caught.value)
    assert message.isprintable()
    assert message.endswith(".")
    assert len(message) < 500
    return message


# What is taken.


@pytest.mark.parametrize(
    ("line", "canonical"),
    [
        ("requests", "requests"),
        ("Scikit_Learn", "scikit-learn"),
        ("zope.interface", "zope-interface"),
        ("requests >= 2 , < 3", "requests<3,>=2"),
        ("requests (>=2)", "requests>=2"),
        ("requests[socks, Use_Chardet]>=2", "requests[socks,use-chardet]>=2"),
        ("numpy==1.*", "numpy==1.*"),
        ("numpy==v1.0-ALPHA", "numpy==1.0a0"),
        ("torch==2.3.0+CPU", "torch==2.3.0+cpu"),
        ("six===1.16.0", "six===1.16.0"),
        ("tomli ; python_version<'3.11'", 'tomli; python_version < "3.11"'),
        ("a;(os_name=='x')and((os_name=='y'or os_name=='z'))", 'a; os_name == "x" and (os_name == "y" or os_name == "z")'),
        ("a # why", "a"),
        ("a\t#why", "a"),
        ("a;\tos_name == 'x\ty'", 'a; os_name == "x y"'),
        ("\ufeffa", "a"),
        ("a\\\n>=1", "a>=1"),
        ("a \\\r\n  >=1 \\", "a>=1"),
        (f"a==1 {HASH_B} {HASH_A} {HASH_B}", f"a==1 \\\n    {HASH_A} \\\n    {HASH_B}"),
        (f"a==1 --hash=sha256:{A.upper()}", f"a==1 \\\n    {HASH_A}"),
    ],
)  # fmt: skip
def test_a_requirement_has_one_canonical_form(line: str, canonical: str) -> None:
    assert read(line).lines == (canonical,)


def test_lines_are_sorted_and_named_once_and_comments_are_gone() -> None:
    requirements = read("# mine\r\n\r\nb>=1\r\nA\r\na # again\r\n  b>=1\r\nb<2\r\n")
    assert requirements.text == "a\nb<2\nb>=1\n"
    assert requirements.names == ("a", "b")


def test_a_comment_ends_with_its_line_even_after_a_backslash() -> None:
    assert read("a # \\\nb").lines == ("a", "b")
    assert read("a \\\n# b\nc").lines == ("a", "c")


def test_nothing_is_no_requirement() -> None:
    assert read("") == read("\n# only this\n") == Requirements()
    assert Requirements().text == ""


def test_a_file_may_begin_with_a_mark_of_utf_8_but_must_be_utf_8() -> None:
    assert requirements_file(b"\xef\xbb\xbfa\n", "x").lines == ("a",)
    for data in ("a\n".encode("utf-16"), b"a # \xe9\n", b"\xed\xa0\x80"):
        with pytest.raises(EnvironmentFailed, match="x is not UTF-8: save it as UTF-8"):
            requirements_file(data, "x")


# Hashes and locks.


def test_exact_versions_with_hashes_are_a_lock() -> None:
    requirements = read(f"b==2 \\\n    {HASH_B}\na==1.0 \\\n    {HASH_A} \\\n    --hash=sha512:{A}{B}\n")
    assert requirements.is_lock
    assert requirements.has_hashes
    assert read_lock(requirements.text).text == requirements.text


@pytest.mark.parametrize(
    "text",
    [
        "a==1",
        f"a==1; os_name == 'posix' {HASH_A}",
        f"a[x]==1 {HASH_A}",
        f"a==1 --hash=sha384:{A}{'c' * 32}",
        f"a==1 {HASH_A}\na==2 {HASH_B}",
        f"a==1 {HASH_A}\na==1 {HASH_B}",
    ],
)
def test_what_leaves_something_to_resolve_is_no_lock(text: str) -> None:
    assert not read(text).is_lock


def test_hashes_are_for_all_or_none() -> None:
    assert "line 2: 'b==1' has no --hash" in refusal(f"a==1 {HASH_A}\nb==1")


@pytest.mark.parametrize("line", ["a", "a>=1", "a==1.*", "a==1,!=2", "a===1"])
def test_a_hash_needs_an_exact_version(line: str) -> None:
    assert "no exact version: pin it with ==" in refusal(f"{line} {HASH_A}")


@pytest.mark.parametrize(
    "option", ["--hash=md5:" + "0" * 32, "--hash=sha256:12", "--hash", f"--hash='sha256:{A}'", f"{HASH_A}0", "--hash="]
)
def test_only_whole_hashes_of_the_sha_2_family_are_taken(option: str) -> None:
    assert "is not a hash that is taken: write --hash=sha256:" in refusal(f"a==1 {option}")


def test_a_lock_may_be_longer_than_other_text_because_hashes_are() -> None:
    digests = [f"{number:064x}" for number in range(1_900)]
    lines = [
        " \\\n    ".join([f"p{number}==1", *(f"--hash=sha256:{digest}" for digest in digests)]) for number in range(20)
    ]
    text = "\n".join(lines) + "\n"
    assert len(text) > 10 * limits.MAX_TEXT_BESIDES_HASHES
    assert read(text).is_lock
    assert read(text.replace("\n", "\r\n")) == read(text)
    assert "besides hashes" in refusal(text + "#" * 1_999 + ("\n" + "#" * 1_999) * 140)


# What is refused.


@pytest.mark.parametrize(
    ("option", "name", "reason"),
    [
        ("--index-url https://user:secret@x/", "--index-url", "operator chooses the index"),
        ("--index-url=https://user:secret@x/", "--index-url", "operator chooses the index"),
        ("-i https://x/", "-i", "operator chooses the index"),
        ("-ihttps://x/", "-i", "operator chooses the index"),
        ("--extra-index-url x", "--extra-index-url", "operator chooses the index"),
        ("--find-links x", "--find-links", "operator chooses the index"),
        ("-f x", "-f", "operator chooses the index"),
        ("--no-index", "--no-index", "operator chooses the index"),
        ("--trusted-host x", "--trusted-host", "operator chooses the index"),
        ("-r other.txt", "-r", "write its lines here"),
        ("-c other.txt", "-c", "write its lines here"),
        ("-e .", "-e", "path or a URL"),
        ("--editable=.", "--editable", "path or a URL"),
        ("--no-binary :all:", "--no-binary", "only --hash is"),
        ("--config-settings=x=y", "--config-settings", "only --hash is"),
        ("--global-option x", "--global-option", "only --hash is"),
        ("--pre", "--pre", "only --hash is"),
        ("--has=sha256:0", "--has", "only --hash is"),
        ("-", "-", "only --hash is"),
    ],
)
def test_no_option_but_hash_is_taken_on_a_line_or_after_a_requirement(option: str, name: str, reason: str) -> None:
    expected = f"requirements_txt line 3: the option {name} is not taken from a request: "
    for text in (f"\n\n{option}", f"\n\na==1 {option}", f"\n\na==1 {HASH_A} \\\n  {option}\nb"):
        message = refusal(text)
        assert message.startswith(expected)
        assert reason in message
        assert "secret" not in message


@pytest.mark.parametrize(
    "line",
    [
        "requests @ https://example.com/requests.whl",
        "requests@https://example.com/requests.whl",
        "requests[socks] @ git+https://example.com/x",
        "git+https://example.com/x#egg=x",
        "https://example.com/x.whl",
        "file:x",
        "file:///x",
        "./x",
        "../x",
        ".",
        "/x",
        "x/",
        "~/x",
        "x.whl",
        "X.WHL[extra] ; os_name == 'nt'",
        "x-1.0.tar.gz",
        "C:\\x",
        "x\\y",
    ],
)
def test_a_url_or_a_path_is_refused(line: str) -> None:
    message = refusal(f"a\n{line}")
    assert message.startswith("requirements_txt line 2: ")
    assert "is a URL or a path: name a package of the index" in message


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a b", "is not a requirement"),
        ("a_", "is not a requirement"),
        ("a==", "is not a requirement"),
        ("a===-x", "is not a requirement"),
        ("a===foo", "is not a requirement"),
        ("a; os_name == 3", "is not a requirement"),
        ("a[b_]", "is not a requirement"),
        ("n" * 201, "its name is longer than 200 characters"),
        ("ä", "not ASCII"),
        ("a; os_name == '\\x41'", "backslash"),
        ("a; os_name == '${HOME}'", "not expanded"),
        ("${NAME}", "not expanded"),
        ("a==1 ${OPTIONS}", "not expanded"),
        (HASH_A, "stands alone"),
        (f"a==1 {HASH_A} b==2", "comes after an option"),
        ("a; " + "(" * 51 + "os_name == ''" + ")" * 51, "more than 50 parentheses"),
        ("a" * 2_001, "longer than 2000 characters"),
        ("\\\n".join(["a"] * 2_001), "longer than 2000 characters"),
        ("a\0", "the character '\\x00' has no place here"),
        ("a\rb", "the character '\\r'"),
        ("a # \x1b[2J", "the character '\\x1b'"),
        ("a # \x85--pre", "the character '\\x85'"),
        ("a # \u2028--pre", "the character '\\u2028'"),
        ("a # \udcff", "the character '\\udcff'"),
    ],
)
def test_what_is_no_requirement_is_refused_with_its_line(line: str, complaint: str) -> None:
    message = refusal(f"a\n\n{line}")
    assert message.startswith("requirements_txt line 3")
    assert complaint in message


def test_the_line_that_is_named_is_where_a_continued_one_begins() -> None:
    assert "line 2: " in refusal("a\nb \\\n  \\\n  c\n")


@pytest.mark.parametrize(
    ("most", "too_many", "complaint"),
    [
        ("".join(f"p{number}\n" for number in range(1_000)), "p\n", "more than 1000 requirements"),
        ("a\n" * 1_000, "a\n", "more than 1000 requirements"),
        ("\n" * 10_000, "\n", "more than 10000 lines"),
        (("#" * 1_023 + "\n") * 256, "#", "more than 262144 characters"),
        ("n" * 200, "n", "longer than 200"),
    ],
)
def test_the_largest_texts_are_taken_and_no_larger_ones(most: str, too_many: str, complaint: str) -> None:
    read(most)
    assert complaint in refusal(most + too_many)


def test_a_requirement_has_no_more_hashes_than_a_lock_may_have() -> None:
    hashes = "".join(f" \\\n    --hash=sha256:{number:064x}" for number in range(limits.MAX_HASHES))
    assert read(f"a==1{hashes}").is_lock
    assert "more than 2000 hashes" in refusal(f"a==1{hashes} \\\n    {HASH_A}")


# Whatever comes.

WORDS = st.sampled_from([
    "a", "B.c", "x_y", "[x]", "[", "]", "==", "==1", ">=1.0", "===", "~=", "!=2.*", ",", "1", ";", "os_name", "'x'", '"#"',
    " or ", " and ", " in ", " not in ", "(", ")", "extra", " ", "\t", "\n", "\r\n", "\\\n", "\\", " # ", "#", "-", "--",
    " --hash=", f" {HASH_A}", f" \\\n    {HASH_B}", "--index-url", " -r", "${X}", "@", ":", "/", ".whl", "\0", "\ufeff", "é",
])  # fmt: skip
TEXTS = st.lists(WORDS | st.text(max_size=3), max_size=25).map("".join)
MARKERS = st.recursive(
    st.sampled_from(["os_name=='x'", "'3'<=python_version", "extra == 'A_b'", "'x' in extras", "sys.platform not in 'a b'"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(TEXTS)
@example("a;" + "(" * 2_000)
def test_any_text_is_refused_or_becomes_canonical(text: str) -> None:
    try:
        requirements = read(text)
    except EnvironmentFailed as error:
        assert str(error).isprintable()
        assert str(error).endswith(".")
        return
    canonical = requirements.text
    assert read(canonical) == requirements
    assert read(canonical).text == canonical
    assert all(word.startswith("--hash=sha") for word in canonical.split() if word.startswith("-"))
    assert re.fullmatch(r"[\n -~]*", canonical)
    assert not re.search(r"\$\{|(?:^|\s)#", canonical)
    if requirements.is_lock:
        assert read_lock(canonical).text == canonical


@given(MARKERS)
def test_a_marker_read_again_is_itself(marker: str) -> None:
    requirements = read(f"a; {marker}")
    assert read(requirements.text) == requirements


def soon(text: str) -> None:
    for take in (
        lambda: read(text),
        lambda: requirements_file(text.encode("utf-8", "replace"), "x"),
        lambda: script_metadata(b"# /// script\n" + text.encode("utf-8", "replace")),
        lambda: project_dependencies(text.encode("utf-8", "replace")),
    ):
        began = time.process_time()
        with contextlib.suppress(EnvironmentFailed):
            take()
        assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "unit",
    [
        "a", "a\n", "a\\\n", "\\\n", " ", "\t", "\n", " #", "# ", " -", "--hash=", f"{HASH_A} ", f"{HASH_A} \\\n    ", "${",
        "a==1.1\n", " " * 1_990 + "#\n", " " * 1_990 + "-\n", "a" + " " * 1_990 + "b\n", "a==" + "1." * 990 + "1\n",
        "a" + ",".join([">=1"] * 490) + "\n", "a;" + "(" * 50 + "os_name==''" + ")" * 50 + "\n",
        "a;" + " or ".join(["os_name==''"] * 120) + "\n", "a[" + ",".join(["x"] * 900) + "]\n",
        "a.", "[a.", '"a".', '"\\"".', '"', "'", '"""', "'''", '"\\', '\\"', '"""\\', "a={", "a=[", "[[a]]\n", "a.b=1\n",
        "# /// script\n", "# /// script\n# a\n# ///\n", "# ///\n", "# /// a\n# ///\n# ///\n\n", "#\n",
    ],
)  # fmt: skip
def test_hostile_text_takes_no_longer_than_other_text(unit: str) -> None:
    size = 256 * 1024 - 16
    soon((unit * (size // len(unit) + 1))[:size])


# PEP 723.


def script(*lines: str) -> bytes:
    return "".join(
        f"{line}\n" for line in ("import x", "# /// script", *(f"# {line}" for line in lines), "# ///")
    ).encode()


def metadata(source: bytes) -> Declared:
    found = script_metadata(source)
    assert found is not None
    return found


def test_a_script_declares_its_dependencies_and_python() -> None:
    source = script('requires-python = ">=3.11, <4"', "dependencies = [", '  "Requests<3",', '  "rich",', "]")
    assert metadata(source) == Declared(read("requests<3\nrich"), "<4,>=3.11")
    assert metadata(source.replace(b"\n", b"\r\n")) == metadata(source)
    assert metadata(b"\xef\xbb\xbf" + source.removeprefix(b"import x\n")) == metadata(source)


def test_an_empty_block_declares_nothing_and_other_tables_are_ignored() -> None:
    assert metadata(script("")) == Declared(Requirements(), None)
    assert metadata(script("[tool.uv]", 'index-url = "https://x"', "dependencies = 3")) == Declared(
        Requirements(), None
    )


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"print('# /// script')",
        b" # /// script\n# a=1\n# ///\n",
        b"# /// script\n# a=1\n",
        b"# /// script\n# a=1\n\n# ///\n",
        b"# /// script\n#a=1\n# ///\n",
        b"# /// script\n# ///\n",
        b"# /// script \n# a=1\n# ///\n",
        b"# /// script\n# a=1\n# /// \n",
        b"# /// scripts\n# /// script\n# a=1\n# ///\n",
    ],
)
def test_what_is_not_a_whole_block_declares_nothing(source: bytes) -> None:
    assert script_metadata(source) is None


def test_a_block_reaches_to_the_last_closing_line() -> None:
    with pytest.raises(EnvironmentFailed, match="not valid TOML"):
        script_metadata(script("") + b"# ///\n")


@given(
    st.lists(
        st.sampled_from(["# /// script", "# /// x-1", "# ///", "#", "# a", "#a", "", "x", "# /// é"]), max_size=12
    ),
    st.sampled_from(["", "\n", "\r\n"]),
)
def test_blocks_are_those_that_the_expression_of_pep_723_finds(lines: list[str], end: str) -> None:
    text = (end or "\n").join(lines) + end
    expected = [
        (match["type"], "\n".join(line[2:] for line in match["content"].splitlines()))
        for match in PEP_723.finditer(text.replace("\r\n", "\n"))
    ]
    assert [(kind.decode(), content.decode()) for kind, content in declared._blocks(text.encode())] == expected


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (script("") + script(""), "in 2 blocks .* keep one"),
        (script("a ="), "metadata is not valid TOML .*: correct it"),
        (script("a = " + "1" * 5_000), "not valid TOML"),
        (script("a = " + "[" * 20_000), "nested too deeply"),
        (script("a = " + "{a=" * 20_000), "nested too deeply"),
        (script("a." * 33 + "a = 1"), "a key of more than 32 parts"),
        (script("b = {c = '''\"''', " + '\'a\' . "\\"".' * 17 + "a = 1}"), "a key of more than 32 parts"),
        (script('dependencies = "a"'), "dependencies is not a list of strings"),
        (script("dependencies = [1]"), "dependencies is not a list of strings"),
        (script('dependencies = ["a", "--pre"]'), "metadata, dependency 2: the option --pre"),
        (script('dependencies = ["a\\n--pre"]'), "dependency 1: .* unprintable"),
        (script('dependencies = ["a # b"]'), "dependency 1: .* not a requirement"),
        (script('dependencies = ["./a"]'), "URL or a path"),
        (script("dependencies = [" + "'a'," * 1_001 + "]"), "more than 1000 requirements"),
        (script("requires-python = 3.11"), "requires-python is not understood"),
        (script("requires-python = 0x" + "f" * 60_000), "requires-python is not understood"),
        (script("requires-python = 'new'"), "requires-python is not understood"),
        (script("#" * 65_537), "longer than 65536 bytes"),
        (script("").replace(b"# \n", b"# \xff\n"), "not UTF-8"),
        (script("") + b"\n" * declared.MAX_SOURCE, "script is longer than"),
    ],
)
def test_metadata_that_cannot_be_read_is_refused(source: bytes, complaint: str) -> None:
    with pytest.raises(EnvironmentFailed, match=complaint) as caught:
        script_metadata(source)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")


def test_dots_in_strings_comments_and_numbers_do_not_make_a_key_long() -> None:
    dots = "a." * 40
    assert metadata(script(f"a = '{dots}' # {dots}", f'b = """\n# {dots}"""', f"c = [{'1.5, ' * 40}]"))


# pyproject.toml.


def test_a_project_declares_its_dependencies_and_nothing_else_counts() -> None:
    declared = project_dependencies(
        b'[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = ["b", "A>=1"]\n'
        b'[project.optional-dependencies]\ndev = ["-r x"]\n[tool.poetry.dependencies]\nc = "*"\n'
    )
    assert declared == Declared(read("a>=1\nb"), ">=3.9")


@pytest.mark.parametrize(
    "pyproject",
    [
        b"",
        b"[tool.x]\n",
        b"project = 3\n",
        b'[project]\nname = "x"\nrequires-python = ">=3.9"\n',
        b'[project]\ndynamic = ["dependencies"]\n',
        b'[project]\ndynamic = ["dependencies"]\ndependencies = ["a"]\n',
    ],
)
def test_a_project_without_dependencies_of_its_own_declares_nothing(pyproject: bytes) -> None:
    assert project_dependencies(pyproject) is None


@pytest.mark.parametrize(
    ("pyproject", "complaint"),
    [
        (b"[project", "pyproject.toml is not valid TOML"),
        (b"\xff", "pyproject.toml is not UTF-8"),
        (b"#" * (256 * 1024 + 1), "longer than 262144 bytes"),
        (b"[" + b"a." * 100_000 + b"a]\n", "more than 32 parts"),
        (b"[project]\ndependencies = {}\n", "not a list of strings"),
        (b'[project]\ndependencies = ["a @ file:///x"]\n', "pyproject.toml, dependency 1: .* URL or a path"),
    ],
)
def test_a_project_that_cannot_be_read_is_refused(pyproject: bytes, complaint: str) -> None:
    with pytest.raises(EnvironmentFailed, match=complaint):
        project_dependencies(pyproject)


TOML = st.lists(
    st.sampled_from([
        "[project]\n", "dependencies", "requires-python", "dynamic", " = ", "[", "]", "{", "}", '"', "'", '"""', "'''", "a", ".",
        ",", "\n", "#", "\\", "1", "1979-05-27", "T07:32:00", "0x", "_", "inf", "true", "\r", "\0", "'a'", '["b>=1"]\n',
    ]) | st.text(max_size=3),
    max_size=20,
).map("".join)  # fmt: skip


@given(TOML | st.binary(max_size=30).map(lambda data: data.decode("latin-1")))
def test_any_toml_is_read_or_refused(text: str) -> None:
    data = text.encode("latin-1", "replace")
    for take in (project_dependencies, lambda data: script_metadata(script(*data.decode("latin-1").split("\n")))):
        try:
            take(data)
        except EnvironmentFailed as error:
            assert str(error).isprintable()


# The operator's word.


def test_without_patterns_every_package_is_allowed() -> None:
    assert PackageFilter([], []).allows("anything")


def test_names_are_compared_in_their_normalized_form() -> None:
    only = PackageFilter(["Scikit_Learn", "zope.*", "py[._-]x"], [])
    assert all(only.allows(name) for name in ("scikit-learn", "SCIKIT.LEARN", "zope-interface", "py_x"))
    assert not any(only.allows(name) for name in ("scikit", "zope", "scikit-learn-extra"))


def test_what_is_denied_is_so_even_where_it_is_allowed() -> None:
    packages = PackageFilter(["requests", "tor*"], ["torch*"])
    assert packages.allows("tornado")
    assert not packages.allows("torchvision")
    assert packages.refusal("torchvision") == (
        "the package 'torchvision' is not allowed on this server (PACKAGES_DENY): leave it out or ask its operator."
    )
    assert "(PACKAGES_ALLOW)" in packages.refusal("flask")
