"""What the client makes of a server's answers: results, errors, time-outs and waits."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

import pytest
import requests

from python_executor_client import ExecutionResult, ExecutionStatus
from python_executor_client import client as client_module

UNFINISHED = {"execution_id": "exe_1", "status": "running", "exit_code": 0}
FINISHED = {"execution_id": "exe_1", "status": "completed", "exit_code": 0}
ENVIRONMENT = {"key": "env_1", "name": None, "packages": [{"name": "numpy", "version": "2.1.0"}]}
PREPARING = {"stage": "downloading", "what": "numpy-2.1.0.whl", "done_bytes": 3, "total_bytes": None}


# Results


def test_a_status_prints_as_its_bare_word():
    assert str(ExecutionStatus.RUNNING) == f"{ExecutionStatus.RUNNING}" == "running"
    assert ExecutionStatus.RUNNING == "running"


def test_every_field_of_an_answer_becomes_an_attribute(client, loopback, answer):
    loopback.script = [
        answer(
            {
                "execution_id": "exe_1",
                "status": "failed",
                "stdout": "out",
                "stderr": "err",
                "exit_code": 124,
                "error": "execution timed out after 1 s",
                "error_type": "ValueError",
                "error_line": 3,
                "result": "4",
                "started_at": "2026-01-15T10:30:00.000000Z",
                "finished_at": "2026-01-15T10:30:01.000000Z",
                "duration_ms": 1000,
                "termination": "timeout",
                "stdout_truncated": True,
                "stderr_truncated": True,
                "warnings": ["left out a link"],
                "backend": "native",
                "python": "3.12.1",
                "usage": {"cpu_ms": 3, "memory_peak_bytes": 9437184},
                "environment": ENVIRONMENT,
                "preparing": PREPARING,
            }
        )
    ]

    assert client.execute_sync(files={"main.py": ""}) == ExecutionResult(
        execution_id="exe_1",
        status=ExecutionStatus.FAILED,
        stdout="out",
        stderr="err",
        exit_code=124,
        error="execution timed out after 1 s",
        error_type="ValueError",
        error_line=3,
        result="4",
        started_at=datetime(2026, 1, 15, 10, 30, 0, tzinfo=timezone.utc),
        finished_at=datetime(2026, 1, 15, 10, 30, 1, tzinfo=timezone.utc),
        duration_ms=1000,
        termination="timeout",
        stdout_truncated=True,
        stderr_truncated=True,
        warnings=["left out a link"],
        backend="native",
        python="3.12.1",
        usage={"cpu_ms": 3, "memory_peak_bytes": 9437184},
        environment=ENVIRONMENT,
        preparing=PREPARING,
    )


def test_an_older_servers_answer_leaves_the_newer_attributes_at_their_defaults():
    result = ExecutionResult.from_dict({"execution_id": "exe_1", "status": "pending"})

    assert result == ExecutionResult("exe_1", ExecutionStatus.PENDING)
    assert (result.termination, result.warnings, result.stdout_truncated, result.usage) == (None, [], False, None)
    assert (result.environment, result.preparing) == (None, None)


def test_null_fields_read_as_missing_ones():
    nothing = {"warnings": None, "stdout_truncated": None, "started_at": None, "usage": None}

    assert ExecutionResult.from_dict({**FINISHED, **nothing}) == ExecutionResult.from_dict(FINISHED)


def test_unknown_fields_and_unknown_terminations_are_taken():
    result = ExecutionResult.from_dict({**FINISHED, "termination": "eclipse", "colour": "blue"})

    assert result.termination == "eclipse"


def test_an_unknown_status_is_an_error():
    with pytest.raises(ValueError, match="dormant"):
        ExecutionResult.from_dict({"execution_id": "exe_1", "status": "dormant"})


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("", 0)]
    + [(f".{digits}", int(digits[:6].ljust(6, "0"))) for digits in ("123456789"[:n] for n in range(1, 10))]
    + [(".000001", 1), (".999999999", 999999), (".", 0)],
)
def test_times_may_have_any_number_of_fraction_digits(text, microsecond):
    result = ExecutionResult.from_dict({**FINISHED, "started_at": f"2026-01-15T10:30:00{text}Z"})

    assert result.started_at == datetime(2026, 1, 15, 10, 30, 0, microsecond, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("offset", "hour", "minute"),
    [("Z", 10, 30), ("+00:00", 10, 30), ("-00:00", 10, 30), ("+02:00", 8, 30), ("-0530", 16, 0), ("", 10, 30)],
)
def test_times_of_any_offset_become_aware_and_utc(offset, hour, minute):
    result = ExecutionResult.from_dict({**FINISHED, "finished_at": f"2026-01-15T10:30:00.123{offset}"})

    assert result.finished_at == datetime(2026, 1, 15, hour, minute, 0, 123000, tzinfo=timezone.utc)
    assert result.finished_at.tzinfo is timezone.utc


@pytest.mark.parametrize("text", ["yesterday", "2026-01-15", "2026-01-15T10:30:00Z and more", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_an_error(text):
    with pytest.raises(ValueError):
        ExecutionResult.from_dict({**FINISHED, "started_at": text})


def test_a_result_survives_the_way_to_json_and_back():
    result = ExecutionResult.from_dict(
        {**FINISHED, "started_at": "2026-01-15T12:30:00.5+02:00", "usage": {"cpu_ms": 1}}
    )

    data = json.loads(json.dumps(result.to_dict()))

    assert ExecutionResult.from_dict(data) == result
    assert (data["status"], data["started_at"]) == ("completed", "2026-01-15T10:30:00.500000Z")


# Errors


def test_an_error_answer_raises_http_error_with_the_servers_sentence(client, loopback, answer):
    loopback.script = [answer({"error": "There is no execution exe_9.", "code": "not_found"}, status=404)]

    with pytest.raises(requests.HTTPError) as caught:
        client.get_execution("exe_9")

    assert str(caught.value) == "404 Not Found for GET /api/v1/executions/exe_9: There is no execution exe_9."
    assert caught.value.response.json()["code"] == "not_found"
    assert caught.value.request.method == "GET"


@pytest.mark.parametrize("body", [b"<h1>Bad Gateway</h1>", b"", b'"text"', b"[]", b"{}"])
def test_an_error_answer_that_is_not_the_services_own_raises_http_error_too(client, loopback, answer, body):
    loopback.script = [answer(body, status=502)]

    with pytest.raises(requests.HTTPError, match=r"^502 Bad Gateway for POST /api/v1/eval$"):
        client.eval("1")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.execute_sync(files={"main.py": ""}),
        lambda client: client.execute_async(files={"main.py": ""}),
        lambda client: client.get_execution("exe_1"),
        lambda client: client.kill("exe_1"),
        lambda client: client.wait_for_completion("exe_1"),
        lambda client: client.eval("1"),
    ],
)
def test_every_call_raises_http_error(client, loopback, answer, call):
    loopback.script = [answer({"error": "Come back later."}, status=503)]

    with pytest.raises(requests.HTTPError, match="Come back later"):
        call(client)


def test_an_error_does_not_show_the_key_in_the_url(connect, loopback, answer):
    loopback.script = [answer({"error": "No."}, status=401)]

    with pytest.raises(requests.HTTPError) as caught:
        connect(loopback.url.replace("://", "://:s3cret@")).get_execution("exe_1")

    assert "s3cret" not in str(caught.value)


# Time-outs


@pytest.fixture
def timeouts(client, monkeypatch):
    """The (connect, read) time-outs, in seconds, of the requests that `client` made so far."""
    seen = []
    send = client.session.send

    def spy(request, **options):
        seen.append(options["timeout"])
        return send(request, **options)

    monkeypatch.setattr(client.session, "send", spy)
    return seen


@pytest.mark.parametrize(
    ("timeout", "limit", "expected"),
    [(300, None, 330), (60, None, 330), (60, 5, 60), (60, 100, 130), (300, 300, 330), (1000, 300, 1000), (60, 0, 330)],
)
def test_sync_calls_wait_at_least_for_the_executions_limit_and_thirty_seconds(
    client, timeouts, timeout, limit, expected
):
    client.timeout = timeout

    client.execute_sync(files={"main.py": ""}, timeout_seconds=limit)
    client.eval("1", timeout_seconds=limit)

    assert timeouts == [(timeout, expected)] * 2


def test_calls_that_run_nothing_wait_as_long_as_the_clients_timeout(client, timeouts):
    client.timeout = 60

    client.execute_async(files={"main.py": ""}, timeout_seconds=1000)
    client.get_execution("exe_1")
    client.kill("exe_1")
    client.wait_for_completion("exe_1")

    assert timeouts == [(60, 60)] * 4


def test_a_server_that_does_not_answer_in_time_raises_requests_timeout(connect, loopback, answer):
    def late(asked):
        time.sleep(0.3)
        return answer(FINISHED)

    loopback.script = [late]

    with pytest.raises(requests.Timeout):
        connect(timeout=0.1).get_execution("exe_1")


# Waiting


class Clock:
    """Stands in for the module `time`: sleeping takes no time, and is remembered."""

    def __init__(self):
        self.now = 1000.0
        self.sleeps = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(client_module, "time", clock)
    return clock


def asked_waits(loopback):
    """The `wait` of each request, which is nothing but GETs of one execution."""
    prefix = "/api/v1/executions/exe_1?wait="
    assert all(asked.method == "GET" and asked.target.startswith(prefix) for asked in loopback.asked)
    return [float(asked.target[len(prefix) :]) for asked in loopback.asked]


def patient(clock, answer, body):
    """An answer of a server that waits as long as it is asked to."""

    def wait(asked):
        clock.now += float(asked.target.rpartition("=")[2])
        return answer(body, headers={"Preference-Applied": "wait"})

    return wait


def test_waiting_lets_the_server_wait_and_asks_again_at_once(client, loopback, answer, clock):
    unfinished = patient(clock, answer, UNFINISHED)
    loopback.script = [unfinished, unfinished, patient(clock, answer, FINISHED)]

    result = client.wait_for_completion("exe_1", poll_interval=1.0)

    assert result.status == ExecutionStatus.COMPLETED
    assert asked_waits(loopback) == [60, 60, 60]
    assert clock.sleeps == []


def test_waiting_for_whole_seconds_is_asked_for_in_whole_numbers(client, loopback):
    client.wait_for_completion("exe_1")

    assert loopback.last.target == "/api/v1/executions/exe_1?wait=60"


def test_each_wait_is_shorter_than_the_clients_timeout(client, loopback):
    client.timeout = 10

    client.wait_for_completion("exe_1")

    assert asked_waits(loopback) == [5]


def test_waits_end_with_max_wait_and_then_there_is_a_timeout_error(client, loopback, answer, clock):
    loopback.script = [patient(clock, answer, UNFINISHED)]

    with pytest.raises(TimeoutError, match=r"exe_1 did not finish within 130\.5 seconds"):
        client.wait_for_completion("exe_1", max_wait=130.5)

    assert asked_waits(loopback) == [60, 60, 10.5]


def test_a_server_that_can_not_wait_is_polled(client, loopback, answer, clock):
    loopback.script = [answer(UNFINISHED)] * 3 + [answer(FINISHED)]

    assert client.wait_for_completion("exe_1").status == ExecutionStatus.COMPLETED
    assert clock.sleeps == [2.0, 2.0, 2.0]


def test_polling_keeps_to_poll_interval_and_looks_once_more_at_the_end(client, loopback, answer, clock):
    loopback.script = [answer(UNFINISHED)]

    with pytest.raises(TimeoutError):
        client.wait_for_completion("exe_1", poll_interval=4, max_wait=10)

    assert clock.sleeps == [4, 4, 2]
    assert len(loopback.asked) == 4


def test_max_wait_zero_looks_once(client, loopback, answer, clock):
    loopback.script = [answer(UNFINISHED)]

    with pytest.raises(TimeoutError):
        client.wait_for_completion("exe_1", max_wait=0)

    assert asked_waits(loopback) == [0]


@pytest.mark.parametrize("status", ["completed", "failed", "killed"])
def test_every_final_status_ends_the_wait(client, loopback, answer, status):
    loopback.script = [answer({"execution_id": "exe_1", "status": status})]

    assert client.wait_for_completion("exe_1").status == status


def test_a_pending_execution_is_waited_for(client, loopback, answer, clock):
    loopback.script = [answer({"execution_id": "exe_1", "status": "pending"}), answer(FINISHED)]

    assert client.wait_for_completion("exe_1").status == ExecutionStatus.COMPLETED
