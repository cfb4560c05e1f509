"""Uploads over real HTTP: parts in any order, every way of being cut short, and answers that can be read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

from python_executor.api import uploads
from python_executor.executions.holdings import Holdings
from python_executor.model.errors import InvalidRequest
from tests.support.api import Api, assert_error
from tests.support.archives import header, tar_of
from tests.support.exchange import BOUNDARY, MULTIPART, connect, exchange, multipart, read_answer, request
from tests.unit.api.fakes import ID, FakeExecutions

ARCHIVE = tar_of({"main.py": "print(1)"})
METADATA = b'{"entrypoint": "main.py"}'
SYNC = "/api/v1/exec/sync"


def _send(api: Api, body: bytes, headers: dict[str, str] = MULTIPART, path: str = SYNC) -> None:
    response = api.request("POST", path, data=body, headers=headers)
    assert response.status_code == 200, response.text


def _refused(api: Api, body: bytes, *mentions: str, headers: dict[str, str] = MULTIPART) -> None:
    assert_error(api.request("POST", SYNC, data=body, headers=headers), 400, "invalid_request", *mentions)


def test_an_upload_is_run(api: Api, service: FakeExecutions) -> None:
    assert api.run({"main.py": "print(1)", "x": "y"})["execution_id"] == ID
    assert service.files() == {"main.py": b"print(1)", "x": b"y"}


def test_an_upload_is_taken_without_waiting(api: Api, service: FakeExecutions) -> None:
    assert api.submit({"main.py": "1"}) == ID
    assert service.spec.entrypoint == "main.py"


@pytest.mark.parametrize(
    "metadata", ["metadata", 'form-data; name="metadata"; filename="m.json"', "FORM-DATA;name=metadata"]
)
@pytest.mark.parametrize("tar", ["tar", 'form-data; name="tar"; filename="code.tar"'])
def test_parts_come_in_any_order_and_with_or_without_a_file_name(
    api: Api, service: FakeExecutions, tar: str, metadata: str
) -> None:
    _send(api, multipart((tar, ARCHIVE), (metadata, METADATA)))
    _send(api, multipart((metadata, METADATA), ("colour", b"red"), (tar, ARCHIVE)))
    assert [spec.entrypoint for spec in service.specs] == ["main.py"] * 2


def test_content_types_of_parts_are_not_looked_at(api: Api, service: FakeExecutions) -> None:
    body = multipart(("tar", ARCHIVE), ("metadata", METADATA))
    _send(api, body.replace(b'"tar"\r\n', b'"tar"\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n'))


def test_a_quoted_boundary_a_preamble_and_an_epilogue_are_fine(api: Api, service: FakeExecutions) -> None:
    body = b"\r\n" + multipart(("tar", ARCHIVE), ("metadata", METADATA)) + b"the end"
    _send(api, body, {"Content-Type": f'multipart/form-data; charset=utf-8; boundary="{BOUNDARY}"'})


def test_a_boundary_within_the_archive_is_content(api: Api, service: FakeExecutions) -> None:
    content = f"\r\n--{BOUNDARY}x\r\n--{BOUNDARY[:-1]}\r\n\r".encode()
    _send(api, multipart(("tar", tar_of({"main.py": content})), ("metadata", METADATA)))
    assert service.files() == {"main.py": content}


def test_a_form_has_a_hundred_parts_at_most(api: Api, service: FakeExecutions) -> None:
    used = (("tar", ARCHIVE), ("metadata", METADATA))
    _send(api, multipart(*[("colour", b"red")] * 98, *used))
    _refused(api, multipart(*[("colour", b"red")] * 99, *used), "more than 100 parts")


def test_a_form_of_many_parts_is_refused_at_the_first_that_is_too_many() -> None:
    form = uploads._Form(Holdings(1 << 20, 1 << 20).hold(), None)
    parser = MultipartParser(BOUNDARY.encode(), form.callbacks())
    with pytest.raises(InvalidRequest, match="parts"):
        parser.write(multipart(*[("x", b"")] * 2000))
    assert form._count == 101


@pytest.mark.parametrize("headers", [b"X: y\r\n" * 1000, b"X: " + b"y" * 100_000], ids=["many", "long"])
def test_the_headers_of_a_part_are_bounded(headers: bytes) -> None:
    parser = MultipartParser(BOUNDARY.encode(), uploads._Form(Holdings(1 << 20, 1 << 20).hold(), None).callbacks())
    with pytest.raises(FormParserError, match="Maximum header"):
        parser.write(b"--" + BOUNDARY.encode() + b"\r\n" + headers)


def test_a_large_archive_goes_through_a_file_unchanged(api: Api, service: FakeExecutions) -> None:
    content = bytes(range(256)) * 4096 * 5 + b"\r\n--"
    _send(api, multipart(("tar", tar_of({"data": content, "main.py": "1"})), ("metadata", b"{}")))
    assert service.files()["data"] == content


def test_large_metadata_is_taken(api: Api, service: FakeExecutions) -> None:
    api.run("1", stdin="x" * (10 * 1024 * 1024))
    assert len(service.spec.stdin) == 10 * 1024 * 1024


@pytest.mark.parametrize(
    ("parts", "mention"),
    [
        ([("tar", ARCHIVE)], "metadata is missing"),
        ([("metadata", METADATA)], "tar is missing"),
        ([], "missing"),
        ([("tar", ARCHIVE), ("tar", ARCHIVE), ("metadata", METADATA)], "tar is there twice"),
        ([("tar", ARCHIVE), ("metadata", METADATA), ("metadata", METADATA)], "metadata is there twice"),
        ([("form-data; filename=x", ARCHIVE)], "no name"),
        ([("tar", ARCHIVE), ("metadata", b"")], "not JSON"),
        ([("tar", ARCHIVE), ("metadata", b"entrypoint=main.py")], "not JSON"),
        ([("tar", ARCHIVE), ("metadata", b"[]")], "must be an object"),
        ([("tar", ARCHIVE), ("metadata", b'{"stdin": "\\ud800"}')], "not JSON"),
        ([("tar", b""), ("metadata", b"{}")], "empty"),
    ],
)
def test_parts_that_are_missing_twice_or_wrong_are_named(
    api: Api, service: FakeExecutions, parts: list[tuple[str, bytes]], mention: str
) -> None:
    _refused(api, multipart(*parts), mention)
    assert service.specs == []


WHOLE = multipart(("metadata", METADATA), ("tar", ARCHIVE))


@pytest.mark.parametrize("length", [0, 10, 30, 100, 130, len(WHOLE) - 200, len(WHOLE) - 30, len(WHOLE) - 4])
def test_a_body_that_ends_before_its_closing_boundary_is_refused(
    api: Api, service: FakeExecutions, length: int
) -> None:
    _refused(api, WHOLE[:length], "closing boundary")
    assert service.specs == []


def test_a_client_that_stops_halfway_learns_that(api: Api, service: FakeExecutions) -> None:
    for data in (request(api.url, "POST", SYNC, WHOLE[:700], MULTIPART, length=len(WHOLE)),):
        answer = exchange(api.url, data, half_close=True)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert "cut short" in answer.json["error"]
    assert service.specs == []


@pytest.mark.parametrize(
    "body", [b"no multipart at all", b"--other\r\n\r\n", WHOLE.replace(b"\r\n", b"\n"), b"-" * 5000]
)
def test_a_broken_body_is_refused(api: Api, body: bytes) -> None:
    _refused(api, body, "multipart")


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300],
)
def test_a_boundary_that_is_missing_or_absurd_is_refused(api: Api, content_type: str) -> None:
    _refused(api, WHOLE, "boundary", headers={"Content-Type": content_type})


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "", '\xff;;="'],
)
def test_another_kind_of_body_is_refused(api: Api, content_type: str) -> None:
    response = api.request("POST", SYNC, data=WHOLE, headers={"Content-Type": content_type.encode("latin-1")})
    assert_error(response, 415, "unsupported_media_type", "multipart/form-data")


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", MULTIPART["Content-Type"]])
def test_eval_takes_no_forms(api: Api, content_type: str) -> None:
    response = api.post_eval({"code": "1"}, headers={"Content-Type": content_type})
    assert_error(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream", "nonsense"])
def test_eval_does_not_look_at_other_content_types(api: Api, service: FakeExecutions, content_type: str) -> None:
    assert api.post_eval({"code": "1"}, headers={"Content-Type": content_type}).status_code == 200


def test_bad_archives_are_refused_and_large_ones_leave_no_file_open(api: Api, service: FakeExecutions) -> None:
    _refused(api, multipart(("tar", bytes([1]) * 3_000_000), ("metadata", METADATA)), "no tar")
    assert service.specs == []


def test_an_upload_larger_than_is_taken_is_a_readable_413(api: Api, service: FakeExecutions) -> None:
    assert_error(api.request("POST", SYNC, data=bytes(101 << 20), headers=MULTIPART), 413, "too_large")

    def chunks() -> Iterator[bytes]:
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="tar"\r\n\r\n'.encode()
        yield from (bytes(1 << 20) for _ in range(101))

    assert_error(api.request("POST", SYNC, data=chunks(), headers=MULTIPART), 413, "too_large")
    assert service.specs == []


def test_metadata_larger_than_is_taken_is_a_readable_413(api: Api) -> None:
    response = api.post_exec({"main.py": "1"}, b'{"stdin": "' + b"x" * (16 << 20) + b'"}')
    assert_error(response, 413, "too_large", "metadata")


def test_a_json_body_larger_than_is_taken_is_a_readable_413(api: Api) -> None:
    assert_error(api.post_eval(b'{"code": "1", "stdin": "' + b"x" * (16 << 20) + b'"}'), 413, "too_large")
    assert_error(api.post_eval({"code": "x" * 102_401}), 413, "too_large", "102401 bytes")


def test_a_client_that_asks_first_is_refused_before_it_sends(api: Api) -> None:
    head = request(api.url, "POST", SYNC, b"", MULTIPART | {"Expect": "100-continue"}, length=200 << 20)
    began = time.monotonic()
    answer = exchange(api.url, head)
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    assert time.monotonic() - began < 5


def test_a_client_that_asks_first_is_told_to_go_on(api: Api, service: FakeExecutions) -> None:
    head = request(api.url, "POST", SYNC, b"", MULTIPART | {"Expect": "100-continue"}, length=len(WHOLE))
    with connect(api.url) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(WHOLE)
        assert read_answer(connection).status == 200


def test_an_early_refusal_waits_for_the_whole_body(api: Api) -> None:
    # The client closes its connection after the answer; a server that did so first would reset it.
    data = request(api.url, "POST", "/nowhere", bytes(20 << 20), {"Connection": "close"})
    assert exchange(api.url, data).status == 404


def test_what_go_sends_is_taken(api: Api, service: FakeExecutions) -> None:
    directory = header(b"d", type=b"5", mode=b"\x80\0\0\0\x80\0\x01\xed")
    metadata = {"entrypoint": "main.py", "docker_image": "", "config": {}, "env_vars": None, "pre_commands": None}
    tar = 'form-data; name="tar"; filename="code.tar"'
    _send(api, multipart((tar, directory + ARCHIVE), ("metadata", json.dumps(metadata).encode())))
    assert [entry.path for entry in service.spec.tree.entries] == ["d", "main.py"]
