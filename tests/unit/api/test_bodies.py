"""Bodies: strict about types, and every way of saying nothing means the default."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.api.bodies import EvalRequest, Metadata, parse
from python_executor.model.errors import InvalidRequest


@pytest.mark.parametrize("empty", [{}, {"config": None}, {"config": ""}, {"config": {}}])
@pytest.mark.parametrize("nothing", [None, ""])
def test_missing_null_and_empty_are_the_same(empty: dict[str, object], nothing: object) -> None:
    fields = dict.fromkeys(
        ("entrypoint", "docker_image", "runtime", "stdin", "env_vars", "script_args", "eval_last_expr"), nothing
    )
    assert parse(Metadata, json.dumps({**fields, **empty}).encode(), "metadata") == Metadata()


def test_unknown_fields_are_ignored() -> None:
    assert parse(EvalRequest, b'{"code": "1", "colour": [1, {}], "config": {"gpu": true}}', "x").code == "1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "not JSON"),
        (b"code=1", "not JSON"),
        (b'{"code": "1"', "not JSON"),
        (b'{"code": "1"} x', "not JSON"),
        (b'{"code": "\xff"}', "not JSON"),
        (b'{"code": "\\ud800"}', "not JSON"),
        (b'{"stdin": "\\udc00\\ud800", "code": "1"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "the body must be an object"),
        (b"null", "the body must be an object"),
        (b'"code"', "the body must be an object"),
        (b"1", "the body must be an object"),
        (b'{"code": 1}', "code must be a string"),
        (b'{"code": NaN}', "code must be a string"),
        (b'{"files": {}}', "files must be a list"),
        (b'{"files": [1]}', "files[0] must be an object"),
        (b'{"files": [{"content": ""}]}', "files[0].name is missing"),
        (b'{"files": [{"name": "a"}, {"name": 1}]}', "files[1].name must be a string"),
        (b'{"files": [{"name": "a", "content": []}]}', "files[0].content must be a string"),
        (b'{"config": []}', "config must be an object"),
        (b'{"eval_last_expr": 1}', "eval_last_expr must be true or false"),
        (b'{"eval_last_expr": "yes"}', "eval_last_expr must be true or false"),
        (b'{"config": {"network_disabled": 0}}', "config.network_disabled must be true or false"),
    ],
)
def test_what_is_wrong_is_named(text: bytes, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(EvalRequest, text, "the body")
    assert complaint in refusal.value.message


def test_a_list_with_a_million_mistakes_is_refused_for_the_first() -> None:
    with pytest.raises(InvalidRequest, match=r"script_args\[0\]"):
        parse(Metadata, json.dumps({"script_args": [1] * 1_000_000}).encode(), "metadata")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


@given(st.dictionaries(st.sampled_from([*EvalRequest.model_fields, *Metadata.model_fields]), json_values))
def test_any_json_is_taken_or_refused(content: dict[str, object]) -> None:
    for model in (EvalRequest, Metadata):
        try:
            parse(model, json.dumps(content).encode(), "x")
        except InvalidRequest as refusal:
            assert refusal.message
