"""CONTRACT §1: what holds for every request."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests

from tests.support.api import Api, assert_error
from tests.support.exchange import connect, exchange, read_answer, request
from tests.support.server import ServerProcess

FIELDS = {
    "execution_id",
    "status",
    "stdout",
    "stderr",
    "exit_code",
    "error",
    "error_type",
    "error_line",
    "result",
    "started_at",
    "finished_at",
    "duration_ms",
    "termination",
    "stdout_truncated",
    "stderr_truncated",
    "warnings",
    "backend",
    "python",
    "usage",
    "isolation",
    "environment",
    "preparing",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_health_and_readiness(api: Api) -> None:
    assert api.get("/health").json() == {"status": "ok"}
    assert api.get("/health/ready").status_code == 200


def test_a_result_has_every_field_with_its_type(api: Api, backend: str) -> None:
    result = api.eval("print('hi')")
    assert set(result) == FIELDS
    assert result["execution_id"].startswith("exe_")
    assert UUID(result["execution_id"].removeprefix("exe_")).version == 4
    assert (result["status"], result["termination"], result["exit_code"]) == ("completed", "exited", 0)
    assert (result["stdout"], result["stderr"], result["error"], result["result"]) == ("hi\n", "", None, None)
    assert (result["stdout_truncated"], result["stderr_truncated"], result["warnings"]) == (False, False, [])
    assert result["backend"] == backend
    assert re.fullmatch(r"3\.\d+\.\d+\S*", result["python"])
    assert set(result["usage"]) == {"cpu_ms", "memory_peak_bytes"}
    for number in (result["exit_code"], result["duration_ms"], *result["usage"].values()):
        assert type(number) is int
        assert number >= 0


def test_times_are_utc_with_six_digits_and_fit_the_duration(api: Api) -> None:
    result = api.eval("import time; time.sleep(0.2)")
    assert TIME.fullmatch(result["started_at"])
    assert TIME.fullmatch(result["finished_at"])
    started, finished = (datetime.fromisoformat(result[key]) for key in ("started_at", "finished_at"))
    assert abs((finished - started).total_seconds() * 1000 - result["duration_ms"]) <= 1
    assert 200 <= result["duration_ms"] < 5000


@pytest.mark.parametrize("nothing", [None, "", 0])
def test_nothing_for_a_limit_means_the_default(api: Api, nothing: object) -> None:
    names = ("timeout_seconds", "cpu_seconds", "memory_mb", "disk_mb", "cpu_shares", "cpus")
    assert api.eval("print(1)", config=dict.fromkeys(names, nothing))["stdout"] == "1\n"


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_for_any_other_field_means_the_default(api: Api, nothing: object) -> None:
    names = (
        "files",
        "entrypoint",
        "stdin",
        "python_version",
        "eval_last_expr",
        "config",
        "requirements_txt",
        "runtime",
    )
    assert api.eval("print(1)", **dict.fromkeys(names, nothing))["stdout"] == "1\n"
    names = (
        "entrypoint",
        "docker_image",
        "requirements_txt",
        "pre_commands",
        "env_vars",
        "script_args",
        "config",
        "runtime",
    )
    assert api.run("print(1)", **dict.fromkeys(names, nothing))["stdout"] == "1\n"


def test_unknown_fields_are_ignored(api: Api) -> None:
    assert api.eval("print(1)", colour="red", config={"gpu": 1})["stdout"] == "1\n"
    assert api.run("print(1)", colour=["red"])["stdout"] == "1\n"


@pytest.mark.parametrize("field", ["timeout_seconds", "memory_mb", "disk_mb"])
@pytest.mark.parametrize("value", [-1, 10**9, 3600.5, "30", True, [], {}])
def test_a_limit_out_of_bounds_is_a_400_that_names_it(api: Api, field: str, value: object) -> None:
    assert_error(api.post_eval({"code": "1", "config": {field: value}}), 400, "invalid_request", f"config.{field}")
    assert_error(api.post_exec({"main.py": "1"}, {"config": {field: value}}), 400, "invalid_request", f"config.{field}")


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_what_is_no_number_is_a_400(api: Api, value: bytes) -> None:
    body = b'{"code": "1", "config": {"timeout_seconds": %s}}' % value
    assert_error(api.post_eval(body), 400, "invalid_request")


def test_the_maximum_is_named(api: Api) -> None:
    assert_error(
        api.post_eval({"code": "1", "config": {"timeout_seconds": 3601}}),
        400,
        "invalid_request",
        "config.timeout_seconds",
        "3600",
    )


def test_output_that_is_no_text_never_breaks_the_json(api: Api) -> None:
    code = r"import sys; sys.stdout.buffer.write(b'a\0\xff\xed\xa0\x80z'); sys.stderr.buffer.write(bytes(range(256)))"
    result = api.eval(code)
    assert result["stdout"] == b"a\0\xff\xed\xa0\x80z".decode("utf-8", "replace")
    assert result["stderr"] == bytes(range(256)).decode("utf-8", "replace")


def test_lone_surrogates_come_out_replaced(api: Api) -> None:
    result = api.eval(r"'\ud800x'", eval_last_expr=True)
    assert "x" in result["result"]
    result["result"].encode()
    raised = api.eval("raise type('E\\udc80', (Exception,), {})")
    assert raised["exit_code"] == 1
    (raised["error_type"] or "").encode()


def test_an_unknown_path_and_a_wrong_method_have_the_one_shape(api: Api) -> None:
    assert_error(api.get("/api/v1/nothing"), 404, "not_found")
    response = api.get("/api/v1/eval")
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("execution_id", ["exe_00000000-0000-4000-8000-000000000000", "1", "../x", "%00", "é" * 300])
def test_an_unknown_id_is_a_404_whatever_its_shape(api: Api, execution_id: str) -> None:
    for method in ("GET", "DELETE"):
        assert_error(api.request(method, f"/api/v1/executions/{execution_id}"), 404, "not_found")


def test_a_foreign_page_cannot_use_a_loopback_server(api: Api) -> None:
    assert_error(api.get("/health/ready", headers={"Origin": "https://evil.example"}), 403, "forbidden")
    assert_error(api.get("/health/ready", headers={"Host": "rebound.example"}), 403, "forbidden")


def test_a_key_is_needed_where_one_is_set(start_server: Callable[..., ServerProcess]) -> None:
    url = start_server(api_key="s3cret", pool_min=1).url
    api = Api(url)
    assert api.get("/health").status_code == 200
    assert_error(api.post_eval({"code": "1"}), 401, "unauthorized")
    assert_error(api.get("/health/ready", headers={"Authorization": "Bearer wrong"}), 401, "unauthorized")
    api.close()
    bearer = Api(url, {"Authorization": "Bearer s3cret"})
    assert bearer.eval("print(1)")["stdout"] == "1\n"
    bearer.close()
    in_the_url = Api(url.replace("://", "://:s3cret@"))
    assert in_the_url.eval("print(1)")["stdout"] == "1\n"
    in_the_url.close()


def test_a_413_can_be_read(api: Api) -> None:
    assert_error(api.post_eval({"code": "#" * 102_401}), 413, "too_large")
    assert_error(api.post_eval(b'{"code": "1", "x": "' + b"x" * (17 << 20) + b'"}'), 413, "too_large")
    assert_error(api.post_exec(bytes(101 << 20), {}), 413, "too_large")


def test_connections_are_kept_open(api: Api) -> None:
    with connect(api.url) as connection:
        for _ in range(3):
            connection.sendall(request(api.url, "GET", "/health"))
            answer = read_answer(connection)
            assert answer.status == 200
            assert answer.headers.get("Connection", "keep-alive") == "keep-alive"
            connection.settimeout(1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(30)


def test_a_body_cut_short_is_a_400(api: Api) -> None:
    data = request(api.url, "POST", "/api/v1/eval", b'{"code": "pri', length=200)
    answer = exchange(api.url, data, half_close=True)
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")


def test_chunked_bodies_are_taken(api: Api) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield b'{"code": "pri'
        yield b'nt(1)"}'

    assert api.request("POST", "/api/v1/eval", data=chunks()).json()["stdout"] == "1\n"


def test_a_client_that_goes_away_does_not_hurt(api: Api) -> None:
    body = b'{"code": "import time; time.sleep(60)"}'
    for _ in range(3):
        with connect(api.url) as connection:
            connection.sendall(request(api.url, "POST", "/api/v1/eval", body))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert api.eval("print(1)")["stdout"] == "1\n"


def test_the_documentation_is_served_without_any_other_host(api: Api) -> None:
    for path in ("/docs", "/docs/"):
        assert api.get(path).headers["Location"].endswith("/docs/index.html")
    page = api.get("/docs/index.html")
    assert page.status_code == 200
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert not urlsplit(link).netloc
        assert api.get(f"/docs/{link}").status_code == 200
    document = api.get("/docs/doc.json").json()
    assert document["openapi"].startswith("3.")
    assert "/api/v1/eval" in document["paths"]


def test_redirects_work_in_a_browser(server_url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        assert "swagger" in session.get(f"{server_url}/docs", timeout=10).text


def test_a_head_request_is_answered_on_a_connection_that_stays(server_url: str) -> None:
    with closing(http.client.HTTPConnection(server_url.removeprefix("http://"), timeout=5)) as connection:
        for _ in range(2):
            connection.request("HEAD", "/health")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (405, b"")
            connection.request("GET", "/health")
            assert json.loads(connection.getresponse().read()) == {"status": "ok"}
