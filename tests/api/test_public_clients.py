"""Requests byte for byte as the public clients of v1 send them, and what they look at in the answers.

The Python client is `requests` with `tar` as a file and `metadata` without a file name; the Go client is
`mime/multipart` with a field. Both put the archive first.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from tests.support.api import Api
from tests.support.archives import header, padded, tar_of
from tests.support.exchange import Answer, exchange

PYTHON_BOUNDARY = "0f2c8d9e7b6a5f4e3d2c1b0a99887766"
GO_BOUNDARY = "5e1bd9c9a7f04f2b8d9f0c5a77d1e1f2e8b7a6c5d4e3f201918273645566"


def _from_python(api: Api, archive: bytes, metadata: dict[str, Any], path: str = "/api/v1/exec/sync") -> Answer:
    dashes = f"--{PYTHON_BOUNDARY}".encode()
    body = b"\r\n".join(
        [
            dashes,
            b'Content-Disposition: form-data; name="tar"; filename="code.tar"',
            b"Content-Type: application/octet-stream",
            b"",
            archive,
            dashes,
            b'Content-Disposition: form-data; name="metadata"',
            b"Content-Type: application/json",
            b"",
            json.dumps(metadata).encode(),
            dashes + b"--",
            b"",
        ]
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(api.url).netloc}\r\nUser-Agent: python-requests/2.31.0\r\n"
        f"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={PYTHON_BOUNDARY}\r\n\r\n"
    )
    return exchange(api.url, head.encode() + body)


def _from_go(api: Api, archive: bytes, metadata: bytes, path: str = "/api/v1/exec/sync") -> Answer:
    dashes = f"--{GO_BOUNDARY}".encode()
    body = b"\r\n".join(
        [
            dashes,
            b'Content-Disposition: form-data; name="tar"; filename="code.tar"',
            b"Content-Type: application/octet-stream",
            b"",
            archive,
            dashes,
            b'Content-Disposition: form-data; name="metadata"',
            b"",
            metadata,
            dashes + b"--",
            b"",
        ]
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(api.url).netloc}\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\nContent-Type: multipart/form-data; boundary={GO_BOUNDARY}\r\n"
        "Accept-Encoding: gzip\r\n\r\n"
    )
    return exchange(api.url, head.encode() + body)


def _go_archive(files: dict[bytes, bytes]) -> bytes:
    # archive/tar: a directory's mode carries Go's own type bit, too large for octal, so GNU's base 256 it is.
    directory = bytearray(header(b"pkg/", type=b"5", mode=b"\x80\0\0\0\x80\0\x01\xed"))
    directory[257:265] = b"ustar  \0"
    directory[148:156] = b" " * 8
    directory[148:156] = b"%06o\0 " % sum(directory)
    entries = b"".join(header(name, len(content)) + padded(content) for name, content in files.items())
    return bytes(directory) + entries + bytes(1024)


def _as_the_python_client_reads(content: dict[str, Any]) -> None:
    for key in ("started_at", "finished_at"):
        if content.get(key):
            assert datetime.fromisoformat(content[key].rstrip("Z")).microsecond >= 0
    assert content["status"] in ("pending", "running", "completed", "failed", "killed")


def test_the_python_client_runs_code(api: Api) -> None:
    metadata = {
        "entrypoint": "main.py",
        "config": {
            "timeout_seconds": 300,
            "network_disabled": True,
            "memory_mb": 1024,
            "disk_mb": 2048,
            "cpu_shares": 1024,
        },
        "env_vars": ["KEY=value"],
        "script_args": ["--verbose"],
    }
    answer = _from_python(api, tar_of({"main.py": "import os, sys; print(os.environ['KEY'], sys.argv[1])"}), metadata)
    assert answer.status == 200
    assert answer.json["stdout"] == "value --verbose\n"
    _as_the_python_client_reads(answer.json)


def test_the_python_client_submits_polls_and_kills(api: Api) -> None:
    archive = tar_of({"main.py": "import time; time.sleep(60)"})
    answer = _from_python(api, archive, {"entrypoint": "main.py"}, "/api/v1/exec/async")
    assert answer.status == 202
    path = f"/api/v1/executions/{answer.json['execution_id']}"
    _as_the_python_client_reads(api.get(path).json())
    assert api.request("DELETE", path).json() == {"status": "killed"}
    _as_the_python_client_reads(api.get(path).json())


def test_the_python_client_evaluates(api: Api) -> None:
    body = b'{"eval_last_expr": true, "code": "x = 5\\ny = 10\\nx + y", "config": {"timeout_seconds": 30}}'
    response = api.post_eval(body)
    assert response.json()["result"] == "15"
    _as_the_python_client_reads(response.json())
    body = b'{"eval_last_expr": false, "files": [{"name": "a.py", "content": "print(1)"}], "stdin": "x"}'
    assert api.post_eval(body).json()["stdout"] == "1\n"


def test_the_go_client_runs_a_directory(api: Api) -> None:
    archive = _go_archive({b"pkg/__init__.py": b"NAME = 'go'", b"main.py": b"import pkg; print(pkg.NAME)"})
    answer = _from_go(api, archive, b'{"entrypoint":"main.py","config":{}}')
    assert answer.status == 200
    assert answer.json["stdout"] == "go\n"


def test_the_go_client_may_send_nulls_and_no_entrypoint(api: Api) -> None:
    metadata = (
        b'{"entrypoint":"","docker_image":"","pre_commands":null,"env_vars":null,"script_args":null,"config":null}'
    )
    answer = _from_go(api, _go_archive({b"main.py": b"print('found')"}), metadata)
    assert answer.json["stdout"] == "found\n"


def test_what_the_go_client_decodes_has_its_types(api: Api) -> None:
    content = _from_go(api, _go_archive({b"main.py": b"1 / 0"}), b'{"entrypoint":"main.py"}').json
    for key in ("execution_id", "status", "stdout", "stderr", "error_type", "started_at", "finished_at"):
        assert isinstance(content[key], str), key
    for key in ("exit_code", "error_line", "duration_ms"):
        assert type(content[key]) is int, key
    assert content["error"] is None
    assert content["result"] is None


def test_the_go_client_submits(api: Api) -> None:
    answer = _from_go(api, _go_archive({b"main.py": b"print(1)"}), b'{"entrypoint":"main.py"}', "/api/v1/exec/async")
    assert answer.status == 202
    assert api.finished(answer.json["execution_id"])["stdout"] == "1\n"
