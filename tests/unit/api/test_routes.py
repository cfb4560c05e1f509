"""Routes: what they hand on and what they answer."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace

import pytest

from python_executor.api.responses import execution_content
from python_executor.model.engine import Engine
from python_executor.model.environment import Stage
from python_executor.model.errors import Unavailable
from python_executor.model.events import Preparing, Termination
from python_executor.model.execution import Status
from tests.support.api import Api, assert_error
from tests.support.exchange import connect, exchange, read_answer, request
from tests.unit.api.fakes import DONE, ID, KEY, PENDING, FakeExecutions

RESULT = {
    "execution_id": ID,
    "status": "completed",
    "stdout": "hi\n",
    "stderr": "",
    "exit_code": 0,
    "error": None,
    "error_type": None,
    "error_line": None,
    "result": None,
    "started_at": "2026-01-15T10:30:00.000000Z",
    "finished_at": "2026-01-15T10:30:00.012000Z",
    "duration_ms": 12,
    "termination": "exited",
    "stdout_truncated": False,
    "stderr_truncated": False,
    "warnings": [],
    "backend": "fake",
    "python": "3.12.1",
    "isolation": {"seccomp": "ok", "memory": "weaker"},
    "usage": {"cpu_ms": 3, "memory_peak_bytes": 9437184},
    "environment": {"key": KEY, "name": None, "packages": [{"name": "six", "version": "1.17.0"}]},
    "preparing": None,
}


def test_a_result_has_exactly_the_fields_of_the_contract(api: Api) -> None:
    response = api.post_eval({"code": "print('hi')"})
    assert response.json() == RESULT
    assert response.headers["Content-Type"] == "application/json"
    assert api.look(ID) == RESULT


def test_a_pending_execution_has_every_field_too(api: Api, service: FakeExecutions) -> None:
    service.execution = replace(PENDING, preparing=Preparing(Stage.DOWNLOADING, "six.whl", 10, 20))
    content = api.look(ID)
    progress = {"stage": "downloading", "what": "six.whl", "done_bytes": 10, "total_bytes": 20}
    assert content["preparing"] == progress
    assert set(content) == set(RESULT)
    assert (content["status"], content["exit_code"], content["started_at"], content["usage"]) == (
        "pending",
        None,
        None,
        None,
    )


def test_output_that_is_no_text_becomes_text(api: Api, service: FakeExecutions) -> None:
    service.execution = replace(DONE, stdout=b"a\0\xff\xed\xa0\x80\n", result="\ud800", error_type="\udcff")
    content = api.eval("1")
    assert content["stdout"] == "a\0\ufffd\ufffd\ufffd\ufffd\n"
    assert (content["result"], content["error_type"]) == ("?", "?")


def test_every_ending_can_be_said() -> None:
    for termination in Termination:
        assert json.loads(json.dumps(execution_content(replace(DONE, termination=termination))))["termination"]


def test_an_unknown_id_is_a_404_whatever_its_shape(api: Api) -> None:
    for execution_id in ("exe_1", "0", "%20", "exe_" + "0" * 5000, "..%2f..%2fetc%2fpasswd", "%00", "%ff", "a/b", "é"):
        for method in ("GET", "DELETE"):
            assert_error(api.request(method, f"/api/v1/executions/{execution_id}"), 404, "not_found")
    assert_error(api.get("/api/v1/executions/exe_1?wait=1"), 404, "not_found")


def test_a_kill_answers_the_status(api: Api) -> None:
    assert api.kill(ID) == "killed"


@pytest.mark.parametrize("wait", ["0", "1", "0.5", "60", "1e1"])
def test_waiting_is_confirmed(api: Api, wait: str) -> None:
    response = api.get(f"/api/v1/executions/{ID}?wait={wait}")
    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait"


@pytest.mark.parametrize("query", ["", "?wait=", "?other=1"])
def test_not_waiting_is_not_confirmed(api: Api, query: str) -> None:
    assert "Preference-Applied" not in api.get(f"/api/v1/executions/{ID}{query}").headers


@pytest.mark.parametrize("wait", ["-1", "61", "60.1", "nan", "inf", "-inf", "soon", "1s", "0x1", "1e400", "%00"])
def test_a_wait_out_of_bounds_is_refused(api: Api, wait: str) -> None:
    assert_error(api.get(f"/api/v1/executions/{ID}?wait={wait}"), 400, "invalid_request", "wait", "60")


@pytest.mark.parametrize("target", ["/api/v1/eval", f"/api/v1/executions/{ID}?wait=30"])
def test_a_client_that_goes_away_ends_the_work(api: Api, service: FakeExecutions, target: str) -> None:
    service.hanging = True
    body = b'{"code": "1"}'
    with connect(api.url) as connection:
        connection.sendall(request(api.url, "POST" if body and "eval" in target else "GET", target, body))
        assert service.entered.wait(10)
        assert not service.cancelled.is_set()
    assert service.cancelled.wait(10)


def test_a_client_that_resets_its_connection_ends_the_work(api: Api, service: FakeExecutions) -> None:
    service.hanging = True
    connection = connect(api.url)
    connection.sendall(request(api.url, "POST", "/api/v1/eval", b'{"code": "1"}'))
    assert service.entered.wait(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    assert service.cancelled.wait(10)


def test_clients_that_go_away_at_any_moment_are_no_failure_of_ours(
    api: Api, service: FakeExecutions, capfd: pytest.CaptureFixture[str]
) -> None:
    one = request(api.url, "POST", "/api/v1/eval", b'{"code": "1"}')
    for number in range(300):
        with connect(api.url) as connection:
            connection.sendall(one * (1 + number % 3))
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            time.sleep(0.0002 * (number % 10))
    assert api.get("/health").status_code == 200
    printed = capfd.readouterr()
    assert "error" not in printed.out + printed.err


def test_the_first_of_several_pipelined_requests_learns_that_its_client_has_gone(
    api: Api, service: FakeExecutions
) -> None:
    service.hanging = True
    with connect(api.url) as connection:
        connection.sendall(request(api.url, "POST", "/api/v1/eval", b'{"code": "1"}') * 2)
        assert service.entered.wait(10)
        time.sleep(0.1)
    assert service.cancelled.wait(10)


def test_who_asked_is_told_for_the_log(api: Api, service: FakeExecutions) -> None:
    api.eval("1")
    api.submit("1")
    assert service.callers == ["127.0.0.1", "127.0.0.1"]


def test_readiness_follows_the_service(api: Api, service: FakeExecutions) -> None:
    assert api.get("/health/ready").json() == {"status": "ok", "engine": None}
    service.ready = False
    response = api.get("/health/ready")
    assert_error(response, 503, Unavailable.code)
    assert "Retry-After" in response.headers
    assert api.get("/health").json() == {"status": "ok"}


def test_readiness_shows_the_container_engine(api: Api, service: FakeExecutions) -> None:
    service.engine = Engine("unix:///run/docker.sock", None, "Docker Engine 20.10.24", ("runc", "runsc"))
    assert api.get("/health/ready").json()["engine"] == {
        "address": "unix:///run/docker.sock",
        "name": "Docker Engine 20.10.24",
        "runtimes": ["runc", "runsc"],
        "unavailable": None,
    }
    service.engine = Engine("tcp://10.0.0.1:2375", "nothing answers there: start it")
    response = api.get("/health/ready")  # interpreters do without it
    assert (response.status_code, response.json()["engine"]["unavailable"]) == (200, "nothing answers there: start it")


def test_connections_are_kept_and_may_be_pipelined(api: Api) -> None:
    one = request(api.url, "POST", "/api/v1/eval", b'{"code": "1"}')
    with connect(api.url) as connection:
        for _ in range(3):
            connection.sendall(one)
            assert read_answer(connection).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_the_one_shape(api: Api, data: bytes) -> None:
    answer = exchange(api.url, data)
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")


def test_a_head_without_end_is_refused(api: Api) -> None:
    with connect(api.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        try:
            for _ in range(100):
                connection.sendall(b"x" * 10_000)
                time.sleep(0.001)
        except OSError:
            pass  # it has been closed, as it should be
        try:
            answer = read_answer(connection)
        except OSError:
            return
        assert (answer.status, answer.json["code"]) == (431, "too_large")


def test_a_half_closed_body_is_refused_and_a_half_closed_request_is_gone(api: Api, service: FakeExecutions) -> None:
    cut = request(api.url, "POST", "/api/v1/eval", b'{"code"', length=100)
    assert exchange(api.url, cut, half_close=True).status == 400
    service.hanging = True
    with connect(api.url) as connection:
        connection.sendall(request(api.url, "POST", "/api/v1/eval", b'{"code": "1"}'))
        assert service.entered.wait(10)
        connection.shutdown(socket.SHUT_WR)
        assert service.cancelled.wait(10)


def test_a_status_is_always_a_word_of_the_contract() -> None:
    assert {str(status) for status in Status} == {"pending", "running", "completed", "failed", "killed"}


def test_the_named_environments_are_listed(api: Api) -> None:
    described = {"name": "science", "key": KEY, "python": "3.12", "requirements": "six\n", "preload": ["six"]}
    assert api.get("/api/v1/environments").json() == {"environments": [described]}


def test_an_environment_has_a_lock_and_a_bill_of_materials(api: Api) -> None:
    lock = api.get(f"/api/v1/environments/{KEY}/lock")
    assert (lock.text, lock.headers["Content-Type"]) == ("six==1.17.0\n", "text/plain; charset=utf-8")
    bill = api.get(f"/api/v1/environments/{KEY}/sbom")
    assert bill.json() == {"bomFormat": "CycloneDX"}
    assert bill.headers["Content-Type"] == "application/vnd.cyclonedx+json; version=1.6"
    for path in ("env_0/lock", "env_0/sbom", "..%2F../lock"):
        assert_error(api.get(f"/api/v1/environments/{path}"), 404, "not_found")
