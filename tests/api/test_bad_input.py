"""Whatever comes in: never a 500, and the server is as healthy afterwards as before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.api import Api, assert_error
from tests.support.archives import header, padded, symlink, tar_of
from tests.support.exchange import BOUNDARY, MULTIPART, connect, exchange, multipart, request
from tests.support.server import ServerProcess

ARCHIVE = tar_of({"main.py": "print(1)"})
WHOLE = multipart(("tar", ARCHIVE), ("metadata", b"{}"))
SYNC = "/api/v1/exec/sync"


@pytest.fixture(autouse=True)
def _healthy(api: Api) -> Iterator[None]:
    yield
    assert api.get("/health/ready").status_code == 200
    assert api.eval("print('still here')")["stdout"] == "still here\n"


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"entrypoint=main.py",
        b"[]",
        b"null",
        b'"main.py"',
        b"1",
        b"{",
        b"\xff\xfe",
        b'{"entrypoint": 1}',
        b'{"entrypoint": ["main.py"]}',
        b'{"entrypoint": "\\ud800.py"}',
        b'{"entrypoint": "a\\u0000b"}',
        b'{"entrypoint": "/work/main.py"}',
        b'{"entrypoint": "../main.py"}',
        b'{"entrypoint": "gone.py"}',
        b'{"stdin": 1}',
        b'{"stdin": "\\udfff"}',
        b'{"env_vars": "KEY=value"}',
        b'{"env_vars": {"KEY": "value"}}',
        b'{"env_vars": [1]}',
        b'{"env_vars": [null]}',
        b'{"env_vars": ["KEY=\\u0000"]}',
        b'{"script_args": [["x"]]}',
        b'{"pre_commands": "true"}',
        b'{"pre_commands": ["\\u0000"]}',
        b'{"config": 1}',
        b'{"config": {"timeout_seconds": {}}}',
        b'{"config": {"memory_mb": NaN}}',
        b'{"config": {"memory_mb": 99999999999999999999999999}}',
        b'{"config": {"cpu_shares": -1}}',
        b'{"config": {"network_disabled": "no"}}',
        b'{"docker_image": 3}',
        b'{"docker_image": "\\u0000"}',
        b'{"docker_image": ["ubuntu"]}',
        b'{"runtime": 1}',
        b'{"runtime": "\\u0000"}',
        b'{"requirements_txt": {}}',
        b'{"eval_last_expr": "maybe"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
    ids=lambda value: value[:40].decode("latin-1"),
)
def test_bad_metadata_is_a_400(api: Api, metadata: bytes) -> None:
    response = api.post_exec({"main.py": "print(1)"}, metadata)
    assert response.status_code == 400, response.text
    assert set(response.json()) == {"error", "code"}


@pytest.mark.parametrize(
    "body",
    [
        multipart(("tar", ARCHIVE)),
        multipart(("metadata", b"{}")),
        multipart(("tar", ARCHIVE), ("tar", ARCHIVE), ("metadata", b"{}")),
        multipart(("tar", ARCHIVE), ("metadata", b"{}"), ("metadata", b"{}")),
        multipart(("form-data; filename=x", ARCHIVE), ("metadata", b"{}")),
        multipart(("tar", ARCHIVE), ("metadata", b"{}"), end=False),
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:20],
        b"",
        b"no multipart",
        b"\r\n" * 1000,
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"Content-Disposition", b"\0\1\2"),
        f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * 10_000,
        f"--{BOUNDARY}\r\nX: ".encode() + b"y" * 100_000,
    ],
    ids=[
        "no metadata",
        "no tar",
        "tar twice",
        "metadata twice",
        "no name",
        "no closing boundary",
        "half",
        "20 bytes",
        "nothing",
        "text",
        "newlines",
        "wrong newlines",
        "broken header",
        "many headers",
        "long header",
    ],
)
def test_a_bad_form_is_a_400(api: Api, body: bytes) -> None:
    assert_error(api.request("POST", SYNC, data=body, headers=MULTIPART), 400, "invalid_request")


@pytest.mark.parametrize("length", [1, 100, 1000, len(WHOLE) - 1])
def test_an_upload_cut_short_on_the_wire_is_a_400(api: Api, length: int) -> None:
    data = request(api.url, "POST", SYNC, WHOLE[:length], MULTIPART, length=len(WHOLE))
    assert exchange(api.url, data, half_close=True).status == 400


def test_an_upload_that_breaks_off_leaves_nothing_behind(api: Api, server: ServerProcess) -> None:
    def open_files() -> int:
        assert server.process is not None
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    before = open_files()
    body = multipart(("tar", bytes(5 << 20)), end=False)
    for _ in range(5):
        with connect(api.url) as connection:
            connection.sendall(request(api.url, "POST", SYNC, body, MULTIPART, length=50 << 20))
    deadline = time.monotonic() + 10
    while open_files() > before + 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert open_files() <= before + 5


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="',
        "multipart/form-data; boundary=" + "x" * 5000,
    ],
)
def test_a_form_without_a_usable_boundary_is_a_400(api: Api, content_type: str) -> None:
    response = api.request("POST", SYNC, data=WHOLE, headers={"Content-Type": content_type})
    assert_error(response, 400, "invalid_request")


def test_names_that_are_not_utf_8_are_a_400(api: Api) -> None:
    for archive in (
        header(b"\xff\xfe.py"),
        header(b"pax", 11, b"x") + padded(b"11 path=\xff\xfe\n") + header(b"main.py"),
        header(b"long", 3, b"L") + padded(b"\xff\xfe\0") + header(b"main.py"),
        header(b"link", type=b"2", link_name=b"\xff"),
    ):
        assert_error(api.post_exec(archive + bytes(1024), {}), 400, "invalid_request")


@pytest.mark.parametrize(
    "archive",
    [
        header(b"main.py", b"\x80" + (2**63).to_bytes(11, "big")),
        header(b"long", b"\x80" + (2**63).to_bytes(11, "big"), b"L"),
        header(b"pax", b"\x80" + (2**63).to_bytes(11, "big"), b"x"),
        header(b"pax", 29, b"x") + padded(b"29 size=9223372036854775807\n") + header(b"main.py"),
        header(b"dir/", b"\x80" + (2**63).to_bytes(11, "big"), b"0"),
    ],
    ids=["file", "long name", "pax header", "size in a pax header", "directory"],
)
def test_a_header_that_claims_8_eib_is_a_400(api: Api, archive: bytes) -> None:
    assert_error(api.post_exec(archive + bytes(1024), {}), 400, "invalid_request")


def test_an_archive_made_to_take_time_is_refused_soon(api: Api) -> None:
    digits = b"1" * (1 << 20)
    began = time.monotonic()
    for archive in (
        header(b"pax", len(digits), b"x") + padded(digits) + header(b"main.py"),
        (header(b"long", 3, b"L") + padded(b"abc")) * 10_000,
        tar_of({f"l{n}": symlink("a/../" * 700 + f"l{n + 1}") for n in range(2000)}),
    ):
        assert_error(api.post_exec(archive, {}), 400, "invalid_request")
    assert time.monotonic() - began < 20


def test_health_answers_while_a_large_archive_is_read(api: Api) -> None:
    archive = b"".join(header(b"f%d" % number) for number in range(90_000))
    with connect(api.url) as connection:
        connection.sendall(request(api.url, "POST", SYNC, multipart(("tar", archive), ("metadata", b"{}")), MULTIPART))
        began = time.monotonic()
        assert api.get("/health").status_code == 200
        assert time.monotonic() - began < 1
        assert b"400" in connection.recv(100)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"GET /health HTTP/1.1\r\n\r\n\r\n"[:5] + b"\r\n\r\n",
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 500_000 + b"\r\n\r\n",
    ],
    ids=["zeros", "no target", "negative length", "bad chunk", "path that is no ASCII", "huge header"],
)
def test_what_is_no_http_is_a_4xx(api: Api, data: bytes) -> None:
    try:
        answer = exchange(api.url, data)
    except ConnectionError:
        return  # closed before all of it was read
    assert 400 <= answer.status < 500
    assert set(answer.json) == {"error", "code"}


def test_a_server_on_all_addresses_without_a_key_does_not_start(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    process = ServerProcess(tmp_path, host="0.0.0.0")
    with pytest.raises(AssertionError, match="no-api-key"):
        process.start()
    assert "Traceback" not in process.output
