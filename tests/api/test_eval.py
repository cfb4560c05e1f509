"""CONTRACT §2, POST /api/v1/eval."""

from __future__ import annotations

import pytest

from tests.support.api import Api, assert_error


def test_code_is_run(api: Api) -> None:
    assert api.eval("print('Hello, World!')")["stdout"] == "Hello, World!\n"


def test_files_win_over_code_and_the_first_one_is_run(api: Api) -> None:
    files = [
        {"name": "app.py", "content": "from lib.text import TEXT; print(TEXT, __file__)"},
        {"name": "lib/text.py", "content": "TEXT = 'from a file'"},
    ]
    assert api.eval("print('code')", files=files)["stdout"] == "from a file /work/app.py\n"


def test_an_entrypoint_may_be_named(api: Api) -> None:
    files = [{"name": "a.py", "content": "print('a')"}, {"name": "b.py", "content": "print('b')"}]
    assert api.eval(files=files, entrypoint="b.py")["stdout"] == "b\n"
    assert api.eval(files=files, entrypoint="./b.py")["stdout"] == "b\n"
    assert_error(api.post_eval({"files": files, "entrypoint": "c.py"}), 400, "invalid_request", "entrypoint")


def test_neither_code_nor_files_is_a_400(api: Api) -> None:
    for body in ({}, {"code": ""}, {"files": []}, {"code": None, "files": None}):
        assert_error(api.post_eval(body), 400, "invalid_request", "code", "files")


def test_stdin_is_text(api: Api) -> None:
    assert api.eval("print(input()[::-1])", stdin="häß\n")["stdout"] == "ßäh\n"


def test_without_stdin_there_is_nothing_to_read(api: Api) -> None:
    assert api.eval("import sys; print(repr(sys.stdin.read()))")["stdout"] == "''\n"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("2 + 2", "4"),
        ("x = 5\ny = 10\nx + y", "15"),
        ("import math\nmath.sqrt(16)", "4.0"),
        ("'text'", "'text'"),
        ("print('hello')", None),
        ("x = 1", None),
        ("None", None),
        ("if True:\n    7", None),
        ("1; 2; 3", "3"),
        ("'a' 'b'  # comment", "'ab'"),
        ("[i for i in range(3)]\n\n\n", "[0, 1, 2]"),
        ("lambda: 0", None),
    ],
)
def test_the_last_expression_is_the_result(api: Api, code: str, result: str | None) -> None:
    answer = api.eval(code, eval_last_expr=True)
    assert answer["exit_code"] == 0
    if code.startswith("lambda"):
        assert answer["result"].startswith("<function")
    else:
        assert answer["result"] == result
    assert answer["stdout"] == ("hello\n" if "print" in code else "")


def test_the_result_is_left_out_unless_asked_for(api: Api) -> None:
    assert api.eval("2 + 2")["result"] is None
    assert api.eval("2 + 2", eval_last_expr=False)["result"] is None


def test_nothing_printed_is_taken_for_the_result(api: Api) -> None:
    assert api.eval("print('RESULT: 5', '__result__=5', sep='\\n')", eval_last_expr=True)["result"] is None


def test_a_result_is_capped_in_length(api: Api) -> None:
    result = api.eval("'x' * 50_000_000", eval_last_expr=True)
    assert result["exit_code"] == 0
    assert len(result["result"]) < 20_000_000


def test_what_goes_at_the_end_is_seen(api: Api) -> None:
    code = "class A:\n    def __del__(self): print('gone', log)\nlog = [1]\na = A()\nraise SystemExit(3)"
    result = api.eval(code)
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("gone [1]\n", "", 3)


def test_a_repr_that_raises_gives_a_warning(api: Api) -> None:
    code = "class Bad:\n    def __repr__(self):\n        raise ValueError('no')\nBad()"
    result = api.eval(code, eval_last_expr=True)
    assert (result["status"], result["termination"], result["result"]) == ("completed", "exited", None)
    assert (result["exit_code"], result["stderr"]) == (0, "")
    assert result["warnings"] == ["the result can't be shown, its repr() failed: ValueError: no"]


@pytest.mark.names_interpreter
def test_an_interpreter_may_be_chosen(api: Api) -> None:
    document = api.get("/docs/doc.json").json()
    versions = document["components"]["schemas"]["EvalRequest"]["properties"]["python_version"]["enum"]
    for version in filter(None, versions):
        result = api.eval("import sys; print('%d.%d' % sys.version_info[:2])", python_version=version)
        assert result["stdout"] == f"{version}\n"
        assert result["python"].startswith(f"{version}.")


@pytest.mark.names_interpreter
@pytest.mark.parametrize("version", ["2.7", "3", "3.99", "python3", "3.12.1.0"])
def test_an_interpreter_that_is_not_there_is_a_400_that_lists_those_that_are(api: Api, version: str) -> None:
    there = api.eval("1")["python"]
    minor = ".".join(there.split(".")[:2])
    assert_error(api.post_eval({"code": "1", "python_version": version}), 400, "unsupported_python", minor)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_is_a_415(api: Api, content_type: str) -> None:
    response = api.post_eval({"code": "1"}, headers={"Content-Type": content_type})
    assert_error(response, 415, "unsupported_media_type")


def test_other_content_types_are_not_looked_at(api: Api) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=latin-1"}, {}):
        assert api.post_eval({"code": "print('ä')"}, headers=headers).json()["stdout"] == "ä\n"


@pytest.mark.parametrize("body", [b"", b"print(1)", b"[1]", b"null", b'"code"', b"{", b"\xff", b'{"code": "\\ud800"}'])
def test_what_is_no_json_object_is_a_400(api: Api, body: bytes) -> None:
    assert_error(api.post_eval(body), 400, "invalid_request")


@pytest.mark.parametrize(
    "name",
    ["/etc/x.py", "../x.py", "a/../../x.py", "", "a\0b.py", "x" * 300, "a/", None, 1],
    ids=lambda name: repr(name)[:20],
)
def test_a_file_with_an_impossible_name_is_a_400(api: Api, name: object) -> None:
    assert_error(api.post_eval({"files": [{"name": name, "content": "1"}]}), 400, "invalid_request")


def test_a_file_inside_of_a_file_is_a_400(api: Api) -> None:
    files = [{"name": "a.py", "content": ""}, {"name": "a.py/b.py", "content": ""}]
    assert_error(api.post_eval({"files": files}), 400, "invalid_request", "a.py")


def test_100_kib_of_code_are_taken_and_one_byte_more_is_a_413(api: Api) -> None:
    code = "print(1)#".ljust(102_400, "x")
    assert api.eval(code)["stdout"] == "1\n"
    assert_error(api.post_eval({"code": code + "x"}), 413, "too_large")
    files = [{"name": "a.py", "content": code}, {"name": "b.py", "content": "x"}]
    assert_error(api.post_eval({"files": files}), 413, "too_large")


@pytest.mark.parametrize("size", [0, 1, 70_000, 10_000_000])
def test_stdin_is_a_pipe_whatever_its_size_and_can_be_opened_by_name(api: Api, size: int) -> None:
    code = "import os, stat; print(stat.S_ISFIFO(os.fstat(0).st_mode), len(open('/dev/stdin', 'rb').read()))"
    assert api.eval(code, stdin="x" * size)["stdout"] == f"True {size}\n"


@pytest.mark.parametrize("reads", ["", "import os; os.close(0)", "input()", "import os; os.read(0, 100_000)"])
def test_stdin_that_is_not_read_to_its_end_holds_nobody_up(api: Api, reads: str) -> None:
    result = api.eval(f"{reads}\nprint('done')", stdin="0123456789abcde\n" * (10 << 16), config={"timeout_seconds": 10})
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("done\n", "", 0)


def test_stdin_that_is_read_slowly_arrives_whole(api: Api) -> None:
    code = "import os, time\ntotal = 0\nwhile data := os.read(0, 50_000):\n  total += len(data); time.sleep(0.001)\n"
    assert api.eval(code + "print(total)", stdin="x" * 3_000_000)["stdout"] == "3000000\n"


def test_megabytes_of_stdin_are_taken(api: Api) -> None:
    code = "import sys; print(len(sys.stdin.read()))"
    assert api.eval(code, stdin="x" * 10_000_000)["stdout"] == "10000000\n"


@pytest.mark.parametrize("requirements", ["-", "", "\n"])
def test_no_requirements_are_fine(api: Api, requirements: str) -> None:
    assert api.eval("print(1)", requirements_txt=requirements)["stdout"] == "1\n"


def test_an_import_that_is_not_there_fails_as_it_does_anywhere(api: Api) -> None:
    result = api.eval("import nothing_of_that_name")
    assert (result["exit_code"], result["error_type"], result["error_line"]) == (1, "ModuleNotFoundError", 1)
