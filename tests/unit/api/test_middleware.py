"""Who may speak to the server."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from python_executor.api.middleware import REFUSALS_AT_ONCE
from tests.support.api import Api, assert_error
from tests.support.exchange import connect, exchange, read_answer, request
from tests.unit.api.fakes import FakeExecutions, serving, settings

PATHS = ["/health/ready", "/docs/index.html", "/docs/doc.json", "/api/v1/executions/exe_1", "/nowhere"]


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def locked() -> Iterator[Api]:
    with serving(FakeExecutions(), settings(api_key="s3cret:ö")) as url:
        api = Api(url)
        yield api
        api.close()


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_asked_for_everywhere_but_at_health(locked: Api, path: str) -> None:
    response = locked.get(path)
    assert_error(response, 401, "unauthorized", "Authorization: Bearer")
    assert "WWW-Authenticate" in response.headers
    assert locked.get("/health").status_code == 200


@pytest.mark.parametrize(
    "authorization", ["Bearer s3cret:ö", "bearer  s3cret:ö ", _basic("", "s3cret:ö"), _basic("me", "s3cret:ö")]
)
def test_the_key_is_taken_as_bearer_or_as_a_password(locked: Api, authorization: str) -> None:
    headers = {"Authorization": authorization.encode()}
    assert locked.get("/health/ready", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer s3cret:ö2",
        "s3cret:ö",
        "Token s3cret:ö",
        "Basic ",
        "Basic !!!",
        "Basic czNjcmV0",
        _basic("s3cret:ö", ""),
        _basic("", "s3cret"),
    ],
)
def test_anything_else_is_refused(locked: Api, authorization: str) -> None:
    assert_error(locked.get("/health/ready", headers={"Authorization": authorization.encode()}), 401, "unauthorized")


def test_the_key_works_in_the_url(locked: Api) -> None:
    api = Api(locked.url.replace("http://", "http://:s3cret%3A%C3%B6@"))
    assert api.get("/health/ready").status_code == 200
    api.close()


def test_a_key_in_any_script_is_that_key_and_no_other() -> None:
    with serving(FakeExecutions(), settings(api_key="鍵")) as url:
        api = Api(url)
        for authorization, status in (
            ("Bearer 鍵", 200),
            (_basic("", "鍵"), 200),
            (_basic("", ""), 401),
            ("Bearer ?", 401),
        ):
            assert api.get("/health/ready", headers={"Authorization": authorization.encode()}).status_code == status
        api.close()


def test_with_a_key_any_host_and_origin_may_use_it(locked: Api) -> None:
    headers = {"Authorization": "Bearer s3cret:ö".encode(), "Host": "api.example", "Origin": "https://app.example"}
    assert locked.get("/health/ready", headers=headers).status_code == 200


def test_a_password_that_a_browser_remembers_is_not_taken_from_foreign_pages(locked: Api) -> None:
    headers = {"Authorization": _basic("", "s3cret:ö"), "Origin": "https://evil.example"}
    assert_error(locked.get("/health/ready", headers=headers), 403, "forbidden")


def test_a_refused_upload_can_be_read(locked: Api) -> None:
    data = request(locked.url, "POST", "/api/v1/eval", bytes(5 << 20), {"Connection": "close"})
    assert exchange(locked.url, data).status == 401


def test_a_browser_is_asked_for_the_key(locked: Api) -> None:
    # One line that has both challenges is not understood by browsers, which then show the error instead.
    answer = exchange(locked.url, request(locked.url, "GET", "/docs/"))
    basic, bearer = answer.headers.get_all("WWW-Authenticate")
    assert (basic, bearer) == ('Basic realm="python-executor", charset="UTF-8"', "Bearer")


def test_a_wrong_key_is_told_apart_from_none(locked: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Token x"}):
        assert_error(locked.get("/health/ready", headers=headers), 401, "unauthorized", "wants its API key")
    for wrong in ("Bearer wrong", _basic("", "wrong"), "Basic !!!"):
        response = locked.get("/health/ready", headers={"Authorization": wrong})
        assert_error(response, 401, "unauthorized", "this key was refused")


def test_who_has_no_key_has_one_request(locked: Api) -> None:
    with connect(locked.url) as connection:
        connection.sendall(request(locked.url, "GET", "/health/ready") * 1000)
        answer = read_answer(connection)
        assert (answer.status, answer.headers["Connection"]) == (401, "close")
        assert connection.recv(1) == b""


def test_the_body_of_a_refused_request_is_neither_parsed_nor_awaited(locked: Api) -> None:
    head = request(locked.url, "POST", "/api/v1/eval", length=1 << 30)
    chunked = head.replace(b"Content-Length: 1073741824", b"Transfer-Encoding: chunked") + b"no chunk\r\n"
    for sent in (head, chunked):
        assert exchange(locked.url, sent).status == 401


def test_a_body_that_nobody_asked_for_is_not_awaited_from_strangers(locked: Api) -> None:
    with connect(locked.url) as connection:
        connection.settimeout(10)
        connection.sendall(request(locked.url, "GET", "/health", length=1 << 30))
        answer = read_answer(connection)
        assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_refused_keys_are_logged_but_a_flood_of_them_does_not_fill_the_log(locked: Api) -> None:
    with serving(FakeExecutions(), settings(api_key="s3cret")) as url, capture_logs() as logs:
        api = Api(url)
        for _ in range(REFUSALS_AT_ONCE + 30):
            api.get("/health/ready", headers={"Authorization": "Bearer kee"})
        api.close()
    lines = [line for line in logs if line["event"] == "request refused"]
    assert REFUSALS_AT_ONCE <= len(lines) < REFUSALS_AT_ONCE + 20
    assert (lines[0]["caller"], lines[0]["code"]) == ("127.0.0.1", "unauthorized")
    assert "refused" in lines[0]["reason"]
    assert "kee" not in str(logs).replace("/keep", "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"])
def test_without_a_key_loopback_names_are_answered(api: Api, host: str) -> None:
    assert api.get("/health/ready", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "10.0.0.1:8080",
        "[::2]",
        "localhost:80.evil.example",
        "localhost:80:80",
        "[::1]evil.example",
        "[::1",
        "::1",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost/",
    ],
)
def test_without_a_key_other_names_are_refused(api: Api, host: str) -> None:
    assert_error(api.get("/health/ready", headers={"Host": host}), 403, "forbidden", "ALLOWED_HOSTS")
    assert api.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/health/ready", "localhost", 403),
        ("http://localhost@evil.example/health/ready", "localhost", 403),
        ("http://localhost:80/health/ready", "evil.example", 200),
    ],
)
def test_the_request_line_says_more_than_the_host(api: Api, target: str, host: str, status: int) -> None:
    data = request(api.url, "GET", target, headers={"Host": host})
    assert exchange(api.url, data).status == status


def test_two_hosts_are_none(api: Api) -> None:
    data = request(api.url, "GET", "/health/ready").replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n")
    assert exchange(api.url, data).status in (400, 403)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "file://"]
)
def test_without_a_key_pages_of_other_sites_are_refused(api: Api, service: FakeExecutions, origin: str) -> None:
    response = api.post_eval({"code": "1"}, headers={"Origin": origin, "Content-Type": "text/plain"})
    assert_error(response, 403, "forbidden")
    assert service.specs == []


def test_our_own_page_may_try_things_out(api: Api, service: FakeExecutions) -> None:
    assert api.post_eval({"code": "1"}, headers={"Origin": f"http://{urlsplit(api.url).netloc}"}).status_code == 200


def test_names_that_the_operator_allows_are_answered() -> None:
    given = settings(host="0.0.0.0", insecure_allow="no-api-key", allowed_hosts="runner.lan, Box")
    with serving(FakeExecutions(), given) as url:
        api = Api(url.replace("0.0.0.0", "127.0.0.1"))
        for host, status in (("runner.lan:8080", 200), ("box", 200), ("localhost", 200), ("0.0.0.0", 403), ("x", 403)):
            assert api.get("/health/ready", headers={"Host": host}).status_code == status
        api.close()
