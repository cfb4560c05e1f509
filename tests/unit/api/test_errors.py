"""Errors: one shape, one table."""

from __future__ import annotations

import json

import pytest

from python_executor.api.errors import STATUSES, refusal_response
from python_executor.model import errors
from tests.support.api import Api, assert_error
from tests.unit.api.fakes import FakeExecutions


def _subclasses(kind: type) -> set[type]:
    return {kind for child in kind.__subclasses__() for kind in {child, *_subclasses(child)}}


def test_every_refusal_has_a_status() -> None:
    assert _subclasses(errors.Refusal) == set(STATUSES)


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
def test_every_refusal_is_answered_in_the_one_shape(kind: type[errors.Refusal]) -> None:
    response = refusal_response(kind("do something else."))
    assert response.status_code == STATUSES[kind]
    assert json.loads(response.body) == {"error": "do something else.", "code": kind.code}


@pytest.mark.parametrize("kind", [errors.QueueFull, errors.Unavailable])
def test_a_full_or_draining_server_says_when_to_come_back(
    api: Api, service: FakeExecutions, kind: type[errors.Refusal]
) -> None:
    service.failure = kind("come back.")
    response = api.post_eval({"code": "1"})
    assert_error(response, STATUSES[kind], kind.code)
    assert int(response.headers["Retry-After"]) > 0


def test_a_failure_of_ours_tells_its_log_entry_and_nothing_else(
    api: Api, service: FakeExecutions, capfd: pytest.CaptureFixture[str]
) -> None:
    service.failure = ZeroDivisionError("the secret of the code")
    response = api.post_eval({"code": "print('more secrets')"})
    assert_error(response, 500, "internal_error")
    logged = capfd.readouterr().out
    error_id = response.json()["error"].rpartition(" ")[2].rstrip(".")
    assert error_id in logged
    assert "ZeroDivisionError" in logged
    assert "secret" not in logged
    assert "secret" not in response.text


def test_an_unknown_path_is_a_404_in_the_one_shape(api: Api) -> None:
    assert_error(api.get("/api/v2/eval"), 404, "not_found", "/api/v2/eval")


def test_a_trailing_slash_is_another_path(api: Api) -> None:
    assert_error(api.request("POST", "/api/v1/eval/", data=b"{}"), 404, "not_found")


def test_a_wrong_method_is_a_405_that_allows_all_the_right_ones(api: Api) -> None:
    response = api.request("PATCH", "/api/v1/executions/exe_1")
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "DELETE, GET"
