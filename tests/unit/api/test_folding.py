"""Long JSON: read as the parser would read it, and never parsed beyond a bound."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.api import folding
from python_executor.api.bodies import AnyBody, EvalRequest, Metadata, parse
from python_executor.api.folding import MAX_MARKS, MAX_REST_BYTES, STEP_BYTES, Folding
from python_executor.model.errors import InvalidRequest, Refusal, TooLarge
from tests.support.api import Api, assert_error
from tests.unit.api.fakes import FakeExecutions

LONG = 5_000_000


def read(model: type[AnyBody], text: bytes | bytearray) -> tuple[AnyBody, bytes | None]:
    whole = Folding(text if isinstance(text, bytearray) else bytearray(text), "the body")
    for _ in whole.steps():
        pass
    return whole.parse(model)


def outcome(how: Any, model: type[Any], text: bytes) -> object:
    """What is read, or that it is refused."""
    try:
        body = how(model, text)
    except Refusal:
        return "refused"
    body, stdin = body if isinstance(body, tuple) else (body, None)
    return body.model_copy(update={"stdin": ""}), body.stdin.encode() if stdin is None else stdin


def parsed(model: type[AnyBody], text: bytes) -> AnyBody:
    return parse(model, text, "the body")


characters = st.sampled_from(['"', "\\", "\n", "é", "\N{GRINNING FACE}", "u12", "\x7f", "\0", "[", ",", "{", ":", "x"])
words = st.lists(characters | st.characters(), max_size=40).map("".join)
names = st.sampled_from(["stdin", "requirements_txt", "code", "entrypoint", "nobody's"])
values = words | st.none() | st.integers() | st.lists(words, max_size=3) | st.dictionaries(names, words, max_size=2)
pairs = st.lists(st.tuples(names, values), max_size=5)


def as_json(fields: list[tuple[str, object]], ascii_only: bool, spaced: bool) -> bytes:
    """An object in which names may come twice."""
    colon, comma = (" : ", " ,\n") if spaced else (":", ",")
    parts = [
        json.dumps(name) + colon + json.dumps(value, ensure_ascii=ascii_only, separators=(comma, colon))
        for name, value in fields
    ]
    return ("{" + comma.join(parts) + "}").encode("utf-8", "surrogatepass")


@given(fields=pairs, ascii_only=st.booleans(), spaced=st.booleans(), step=st.integers(12, 40))
def test_long_json_is_read_as_the_parser_reads_it(
    fields: list[tuple[str, object]], ascii_only: bool, spaced: bool, step: int
) -> None:
    text = as_json(fields, ascii_only, spaced)
    with patch.multiple(folding, STEP_BYTES=step, STEP_MARKS=2):
        assert outcome(read, EvalRequest, text) == outcome(parsed, EvalRequest, text)


@given(fields=pairs, ascii_only=st.booleans(), step=st.integers(12, 40), data=st.data())
def test_broken_json_is_refused_as_the_parser_refuses_it(
    fields: list[tuple[str, object]], ascii_only: bool, step: int, data: st.DataObject
) -> None:
    text = as_json(fields, ascii_only, spaced=False)
    at = data.draw(st.integers(0, len(text)))
    wrong = data.draw(st.sampled_from([b"", b'"', b"\\", b"\\u", b"\\ud83d", b"\xff", b"}", b"\n", b",", b'"stdin":"']))
    text = text[:at] + wrong + text[at + data.draw(st.integers(0, 3)) :]
    with patch.multiple(folding, STEP_BYTES=step, STEP_MARKS=2):
        assert outcome(read, EvalRequest, text) == outcome(parsed, EvalRequest, text)


@pytest.mark.parametrize("unit", ["x", ",:{}[]", '"', "\\", "\n", "é", "\N{GRINNING FACE}", "\0", "a,b,c\n"], ids=ascii)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_long_stdin_comes_through_whatever_is_in_it(unit: str, ascii_only: bool) -> None:
    stdin = unit * (1_000_000 // len(unit.encode()))
    text = json.dumps({"code": "1", "stdin": stdin}, ensure_ascii=ascii_only).encode()
    body, given_stdin = read(EvalRequest, text)
    assert (body.code, given_stdin == stdin.encode()) == ("1", True)


def test_long_requirements_come_through() -> None:
    lock = "six==1.17.0 \\\n    --hash=sha256:0\n" * 100_000
    body, stdin = read(Metadata, json.dumps({"requirements_txt": lock, "stdin": "in"}).encode())
    assert (body.requirements_txt == lock, body.stdin, stdin) == (True, "in", None)


@pytest.mark.parametrize("name", [b"stdin", b"st\\u0064in"])
def test_of_a_long_name_that_comes_twice_the_last_counts(name: bytes) -> None:
    long = b'"' + b"x" * 2 * STEP_BYTES + b'"'
    for last, expected in ((b'"y"', b"y"), (b"null", b""), (b'""', b"")):
        body, stdin = read(EvalRequest, b'{"code": "1", "stdin": %b, "%b": %b}' % (long, name, last))
        assert (body.stdin.encode() if stdin is None else stdin) == expected
        assert read(EvalRequest, b'{"%b": %b, "stdin": %b}' % (name, last, long))[1] == long[1:-1]


BOMBS = {
    "lists that nobody reads": b'{"code":"1","x":[' + b"[]," * (LONG // 3) + b"[]]}",
    "numbers": b'{"code":"1","x":[' + b"1," * (LONG // 2) + b"1]}",
    "strings": b'{"code":"1","x":[' + b'"",' * (LONG // 3) + b'""]}',
    "names": b'{"code":"1"' + b"".join(b',"x%d":0' % number for number in range(LONG // 12)) + b"}",
    "files": b'{"files":[' + b'{"name":"a"},' * (LONG // 13) + b'{"name":"a"}]}',
    "arguments": b'{"script_args":[' + b'"",' * (LONG // 3) + b'""]}',
    "closing brackets": b'{"code":"1"}' + b"]" * LONG,
    "quotes": b'{"code":"1","x":' + b'"' * LONG,
    "depth": b'{"code":"1","x":' + b"[" * LONG,
    "spaces": b'{"code":"1"' + b" " * LONG + b"}",
    "a number": b'{"code":"1","x":' + b"9" * LONG + b"}",
    "a string that nobody reads": b'{"code":"1","x":"' + b"\\u0000" * (LONG // 6) + b'"}',
    "a long name": b'{"code":"1","' + b"\\u0000" * (LONG // 6) + b'":1}',
    "code": b'{"code":"' + b"x" * LONG + b'"}',
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_what_would_become_many_objects_or_much_text_is_refused_before_it_does(text: bytes) -> None:
    received = bytearray(text)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="archive"):
            read(EvalRequest, received)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_long_input_is_not_kept_twice() -> None:
    tracemalloc.start()
    try:
        received = bytearray(b'{"code":"1","stdin":"' + b"x" * LONG + b'"}')
        whole = Folding(received, "the body")
        for _ in whole.steps():
            pass
        assert tracemalloc.get_traced_memory()[0] < 1.2 * LONG
    finally:
        tracemalloc.stop()


def test_each_step_is_a_short_one() -> None:
    for text in (*BOMBS.values(), b'{"stdin":"' + b"\\u0000" * 1_000_000, b'{"stdin":"' + b"\\" * 1_000_000):
        before = 0
        try:
            for at in Folding(bytearray(text), "the body").steps():
                assert at - before <= 3 * STEP_BYTES
                before = at
        except Refusal:
            pass


def test_the_bounds_are_said_with_what_to_do() -> None:
    with pytest.raises(TooLarge, match=f"{MAX_REST_BYTES} bytes besides stdin"):
        read(EvalRequest, BOMBS["code"])
    with pytest.raises(InvalidRequest, match=f"more than {MAX_MARKS} strings, brackets"):
        read(EvalRequest, BOMBS["numbers"])


def test_a_string_without_end_is_no_json() -> None:
    for end in (b"", b"\\", b'\\"', b"\\ud83d", b"\xf0\x9f", b'\xff"}', b'\n"}', b'\\ud800"}', b'\\x"}'):
        with pytest.raises(InvalidRequest, match="not JSON"):
            read(EvalRequest, b'{"code":"1","stdin":"' + b"x" * 100_000 + end)


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 60_000, 70_000, 3_000_000])
def test_stdin_of_any_length_arrives(api: Api, service: FakeExecutions, size: int) -> None:
    stdin = ("a,é\0" * size)[:size]
    api.eval("1", stdin=stdin)
    api.run({"main.py": "1"}, stdin=stdin)
    assert [spec.stdin for spec in service.specs] == [stdin.encode()] * 2


def test_a_bomb_is_a_400_in_either_place(api: Api, service: FakeExecutions) -> None:
    assert_error(api.post_eval(BOMBS["lists that nobody reads"]), 400, "invalid_request", "brackets")
    assert_error(api.post_exec({"main.py": "1"}, BOMBS["numbers"]), 400, "invalid_request", "brackets")
    assert_error(api.post_exec({"main.py": "1"}, BOMBS["spaces"]), 413, "too_large", "stdin")
    assert service.specs == []


@pytest.mark.parametrize("field", ["env_vars", "script_args", "pre_commands"])
def test_a_list_has_ten_thousand_items_at_most(api: Api, service: FakeExecutions, field: str) -> None:
    api.run("1", **{field: ["A=1"] * 10_000})
    assert_error(api.post_exec({"main.py": "1"}, {field: ["A=1"] * 10_001}), 400, "invalid_request", field, "10000")


def test_an_eval_has_ten_thousand_files_at_most(api: Api, service: FakeExecutions) -> None:
    files = [{"name": f"{number}.py", "content": ""} for number in range(10_001)]
    api.eval(files=files[:-1])
    assert_error(api.post_eval({"files": files}), 400, "invalid_request", "files", "10000", "archive")
