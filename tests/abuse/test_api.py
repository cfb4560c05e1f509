"""Attacks on the API itself: by what is sent, how it is sent, how much of it, and what is never sent.

`tests/api` has what a careless client sends; here is somebody who means it. Everything happens beside a neighbour, whose
answers all come and are right during each of them; at the end of all, nothing is left behind.
"""

from __future__ import annotations

import io
import json
import re
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from tests.abuse.conftest import Neighbour
from tests.support.api import Api, assert_error
from tests.support.archives import header, padded, tar_of
from tests.support.exchange import BOUNDARY, MULTIPART, Answer, connect, exchange, multipart, read_answer, request
from tests.support.server import ServerProcess
from tests.support.traces import Traces, settled, traces

EVAL, SYNC = "/api/v1/eval", "/api/v1/exec/sync"


@pytest.fixture(scope="module")
def neighbour(attacked: ServerProcess, at_rest: Traces) -> Iterator[Neighbour]:
    """Somebody else, all the time."""
    neighbour = Neighbour(attacked.url)
    yield neighbour
    is_well = neighbour.is_well()
    neighbour.stop()
    assert is_well, neighbour.wrong
    assert settled(lambda: traces(attacked), at_rest, interval=0.02) <= at_rest


@pytest.fixture(autouse=True)
def _undisturbed(neighbour: Neighbour) -> Iterator[None]:
    before = neighbour.answers
    yield
    assert not neighbour.wrong
    assert neighbour.answers > before or neighbour.is_well()


def image_of(api: Api) -> str:
    """The interpreter that evals have, so that no second box is started."""
    return "python:" + ".".join(api.eval("1")["python"].split(".")[:2])


def http(*lines: str, body: bytes = b"") -> bytes:
    """A request, line by line."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answers(url: str, data: bytes, seconds: float = 0.5) -> list[int]:
    """The statuses of all answers that come until the server closes or falls silent. (Half a close ends it, too.)"""
    with connect(url) as connection:
        connection.settimeout(seconds)
        received = b""
        try:
            connection.sendall(data)
            while chunk := connection.recv(1 << 16):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


# --- other people's executions ----------------------------------------------------------------------------------------


def test_ids_cannot_be_guessed_from_each_other(attacked_api: Api) -> None:
    ids = [attacked_api.eval("1")["execution_id"] for _ in range(30)]
    assert all(
        re.fullmatch(r"exe_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", each) for each in ids
    )
    for start in range(4, 36, 4):  # not one group of digits that two have in common by more than chance
        assert len({each[start : start + 6] for each in ids}) > 20


@pytest.mark.parametrize(
    "guess",
    [
        lambda known: known[:-1] + ("0" if known[-1] != "0" else "1"),
        lambda known: known.upper(),
        lambda known: known.removeprefix("exe_"),
        lambda known: known[:-4],
        lambda known: "exe_%",
        lambda known: known + "%20",
        lambda known: known + "%00",
        lambda known: known.replace("-", "_"),
        lambda known: "' OR '1'='1",
        lambda known: "exe_*",
    ],
    ids=["next", "upper case", "no prefix", "beginning", "like", "space", "nul", "wildcard", "sql", "glob"],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_nothing_but_the_id_itself_finds_an_execution(
    attacked_api: Api, guess: Callable[[str], str], method: str
) -> None:
    known = attacked_api.eval("1")["execution_id"]
    assert_error(attacked_api.request(method, f"/api/v1/executions/{guess(known)}"), 404, "not_found")
    assert attacked_api.look(known)["status"] == "completed"  # the twin: with the id it is there


# --- never the whole of it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /api/v1/eval HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /api/v1/exec/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n",
    ],
    ids=["nothing", "half a head", "a byte of a body", "half a form"],
)
def test_hundreds_of_half_requests_stop_nobody(attacked_api: Api, neighbour: Neighbour, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(attacked_api.url)).sendall(sent)
        assert neighbour.is_well()
        assert attacked_api.get("/health/ready").status_code == 200


def test_a_body_that_comes_byte_by_byte_stops_nobody_and_is_taken(attacked_api: Api, neighbour: Neighbour) -> None:
    data = request(attacked_api.url, "POST", EVAL, b'{"code": "print(1)"}')
    with connect(attacked_api.url) as connection:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(0.001)
        assert read_answer(connection).json["stdout"] == "1\n"


def test_an_answer_that_nobody_reads_stops_nobody(attacked_api: Api, neighbour: Neighbour) -> None:
    code = json.dumps({"code": "import os\nfor _ in range(8): os.write(1, b'x' * (1 << 20))"}).encode()
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, _, port = attacked_api.url.removeprefix("http://").partition(":")
            connection.connect((host, int(port)))
            connection.sendall(request(attacked_api.url, "POST", EVAL, code))
        time.sleep(0.2)
        assert neighbour.is_well()


def test_many_clients_that_hang_up_in_the_middle_leave_no_code_running(attacked_api: Api) -> None:
    data = request(attacked_api.url, "POST", EVAL, b'{"code": "import time; time.sleep(60)"}')
    with ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(connect(attacked_api.url)).sendall(data)
        time.sleep(0.1)  # at the end it is seen whether anything is left


def test_many_that_wait_for_one_and_hang_up_leave_nothing(attacked_api: Api, neighbour: Neighbour) -> None:
    execution = attacked_api.submit("import time; time.sleep(60)", docker_image=image_of(attacked_api))
    wait = request(attacked_api.url, "GET", f"/api/v1/executions/{execution}?wait=60")
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(attacked_api.url)).sendall(wait)
        assert neighbour.is_well()
    assert attacked_api.kill(execution) == "killed"


# --- more than there should be ----------------------------------------------------------------------------------------


def test_a_body_without_end_is_cut_off(attacked_api: Api, neighbour: Neighbour) -> None:
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with connect(attacked_api.url) as connection:
        connection.sendall(http(f"POST {EVAL} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"))
        for _ in range(24):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection).status == 413


def test_a_chunk_of_many_digits_is_a_400(attacked_api: Api) -> None:
    head = http(f"POST {EVAL} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked")
    assert answers(attacked_api.url, head + b"f" * 20 + b"\r\n") == [400]


def test_a_head_that_never_ends_is_cut_off(attacked_api: Api, neighbour: Neighbour) -> None:
    with connect(attacked_api.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        sent = 0
        try:
            while sent < 8 << 20:
                sent += connection.send(b"X: y\r\n" * 1000)
        except ConnectionError:
            pass
        assert sent < 8 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": "1", "x": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"code": "1", "config": ' + b'{"config": ' * 1000 + b"1" + b"}" * 1001,
        b'{"code": "1", "x": "' + b"\\u0000" * 500_000 + b'"}',
        b'{"code": "1", "x": ' + b"9" * 100_000 + b"}",
        b'{"code": "1", "x": [' + b"0," * 1_000_000 + b"0]}",
        b"{" + b",".join(b'"x%d": 0' % number for number in range(200_000)) + b', "code": "1"}',
    ],
    ids=["a thousand lists", "a thousand objects", "zeros", "a long number", "a long list", "many names"],
)
def test_json_made_to_take_time_or_memory_is_taken_or_refused(
    attacked_api: Api, neighbour: Neighbour, body: bytes
) -> None:
    response = attacked_api.post_eval(body)
    assert response.status_code in (200, 400), response.text
    assert neighbour.is_well()


@pytest.mark.parametrize(
    "field", ['"code": "print(%d)"', '"config": {"timeout_seconds": %d}', '"files": [], "stdin": "%d"']
)
def test_of_a_name_that_comes_twice_the_last_counts(attacked_api: Api, field: str) -> None:
    twice = f"{field % 7}, {field % 3}"
    body = '{"code": "import sys; print(sys.stdin.read() or 3)", ' + twice + "}"
    result = attacked_api.post_eval(body.encode()).json()
    assert result["stdout"].strip() == "3", result


@pytest.mark.parametrize(
    "body",
    [
        b"".join(
            b'--%s\r\nContent-Disposition: form-data; name="x%d"\r\n\r\n\r\n' % (BOUNDARY.encode(), n)
            for n in range(20_000)
        ),
        f"--{BOUNDARY}\r\n".encode() + b"X-Y: " + b"z" * 3_000_000,
        f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * 300_000,
        f"--{BOUNDARY[:-1]}".encode() * 100_000,
        b"--" * 1_000_000,
        multipart(("tar", tar_of({"main.py": "1"})), ('form-data; name="metadata"; ' + "x=y; " * 50_000, b"{}")),
        multipart(("tar", tar_of({"main.py": "1"})), ("metadata", b" " * (17 << 20))),
    ],
    ids=["parts", "a long header", "headers", "nearly boundaries", "dashes", "parameters", "metadata"],
)
def test_a_form_made_to_take_time_or_memory_is_refused(attacked_api: Api, neighbour: Neighbour, body: bytes) -> None:
    answer = exchange(attacked_api.url, request(attacked_api.url, "POST", SYNC, body, MULTIPART), half_close=True)
    assert answer.status in (400, 413)
    assert set(answer.json) == {"error", "code"}


def bomb_of_hard_links() -> bytes:
    first = header(b"a", 1 << 20) + bytes(1 << 20)
    return first + b"".join(header(b"l%d" % number, type=b"1", link_name=b"a") for number in range(5000)) + bytes(1024)


def bomb_of_sparse_files() -> bytes:
    pax = b"GNU.sparse.major=1\n"
    record = b"%d %s" % (len(pax) + 3, pax)
    return header(b"x", len(record), b"x") + padded(record) + header(b"main.py", 0) + bytes(1024)


def bomb_of_directories() -> bytes:
    name = "/".join(f"{number:03}" for number in range(195))
    return tar_of({f"{number}/{name}/f.py": "" for number in range(1000)})


def compressed() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("main.py"))
    return stream.getvalue()


@pytest.mark.parametrize(
    "bomb", [bomb_of_hard_links, bomb_of_sparse_files, bomb_of_directories, compressed], ids=lambda make: make.__name__
)
def test_a_small_archive_that_means_a_large_tree_is_refused(attacked_api: Api, bomb: Callable[[], bytes]) -> None:
    assert_error(attacked_api.post_exec(bomb(), {}), 400, "invalid_request")


# --- one request that is two ------------------------------------------------------------------------------------------

SMUGGLED = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length : 5"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding:\x0bchunked"],
        ["Transfer-Encoding : chunked"],
        [" folded: line"],
        ["X: y\nContent-Length: 5"],
        ["X: y\rContent-Length: 5"],
    ],
    ids=str,
)
def test_a_request_whose_end_is_unclear_is_never_two(attacked_api: Api, headers: list[str]) -> None:
    data = http(f"POST {EVAL} HTTP/1.1", "Host: localhost", *headers, body=b"0\r\n\r\n" + SMUGGLED.encode())
    statuses = answers(attacked_api.url, data)
    assert 200 not in statuses and len(statuses) <= 2, statuses


def test_its_twin_whose_end_is_clear_is_two(attacked_api: Api) -> None:
    data = http(f"POST {EVAL} HTTP/1.1", "Host: localhost", "Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED.encode())
    assert answers(attacked_api.url, data) == [400, 200]


def test_a_hundred_requests_in_one_packet_get_a_hundred_answers(attacked_api: Api) -> None:
    one = request(attacked_api.url, "GET", "/health")
    with connect(attacked_api.url) as connection:
        connection.sendall(one * 100)
        assert [read(connection).status for _ in range(100)] == [200] * 100


def read(connection: socket.socket) -> Answer:
    """One answer and not a byte of the next."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    status = int(head.split()[1])
    length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return Answer(status, None, body)  # type: ignore[arg-type]


# --- names that are more than names -----------------------------------------------------------------------------------

INJECTED = "main.py\r\nX-Injected: yes\r\n\r\n<script>"


@pytest.mark.parametrize(
    "body",
    [
        {"code": "1", "entrypoint": INJECTED},
        {"files": [{"name": INJECTED, "content": "raise ValueError"}]},
        {"code": "1", "python_version": INJECTED},
        {"code": "1", "requirements_txt": INJECTED},
        {"code": f"raise type({INJECTED!r}, (Exception,), {{}})"},
    ],
    ids=["entrypoint", "file", "version", "requirements", "exception"],
)
def test_no_name_becomes_a_header(attacked_api: Api, body: dict[str, object]) -> None:
    response = attacked_api.post_eval(body)
    assert response.status_code in (200, 400)
    assert "X-Injected" not in response.headers and response.headers["content-type"] == "application/json"
    assert response.json()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../x.py", "..", "./.././main.py", "//etc/passwd", "a\0.py", "x/"]
)
def test_no_name_leads_out_of_the_tree(attacked_api: Api, name: str) -> None:
    for body in ({"code": "1", "entrypoint": name}, {"files": [{"name": name, "content": "1"}]}):
        assert_error(attacked_api.post_eval(body), 400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    ["/docs/../../../etc/passwd", "/docs/%2e%2e/%2e%2e/etc/passwd", "/docs/..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd",
     "/docs//etc/passwd", "/docs/%00", "/docs/static/..%5c..%5c", "/api/v1/../../docs/../etc/passwd"],
)  # fmt: skip
def test_no_path_leads_out_of_the_documentation(attacked_api: Api, path: str) -> None:
    answer = exchange(attacked_api.url, http(f"GET {path} HTTP/1.1", "Host: localhost", "Content-Length: 0"))
    assert answer.status in (400, 404) and b"root:" not in answer.body


@pytest.mark.parametrize(
    "variables",
    [["LD_PRELOAD=/work/main.py"], ["PYTHONHOME=/nowhere"], ["BASH_ENV=/work/x", "ENV=/work/x"], ["IFS=\n/", "PS4=$(id)"],
     ["PATH="], ["a\nb=c"], ["\u202e=\u202e"], ["PYTHONINSPECT=1"], ["LD_AUDIT=/work/x.so", "GLIBC_TUNABLES=x"],
     ["__PYVENV_LAUNCHER__=/x"], ["X=" + "x" * (128 * 1024 - 3)]],
    ids=lambda variables: variables[0][:20].encode("unicode_escape").decode(),
)  # fmt: skip
def test_variables_change_nothing_but_the_run_that_they_are_of(attacked_api: Api, variables: list[str]) -> None:
    result = attacked_api.run("print('ran')", env_vars=variables, docker_image=image_of(attacked_api))
    assert result["status"] == "completed" and result["termination"] in ("exited", "signaled"), result


@pytest.mark.parametrize("size", [128 * 1024 - 1, 128 * 1024])
def test_an_argument_is_one_that_a_process_can_have_or_a_400(attacked_api: Api, size: int) -> None:
    metadata = {"script_args": ["x" * size], "docker_image": image_of(attacked_api)}
    response = attacked_api.post_exec({"main.py": "import sys; print(len(sys.argv[1]))"}, metadata)
    if size < 128 * 1024:
        assert response.json()["stdout"] == f"{size}\n"
    else:
        assert_error(response, 400, "invalid_request", "script_args[0]")


# --- more of them than there is room for ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a key, for few at a time."""
    process = ServerProcess(
        tmp_path_factory.mktemp("small"), api_key="secret", max_concurrent=2, queue_max=5, pool_min=1
    )
    process.start()
    yield process
    process.stop()


WITH_KEY = {"Authorization": "Bearer secret"}


def test_a_flood_of_submissions_is_told_to_come_back_and_stops_nobody(small: ServerProcess) -> None:
    def submit(_: int) -> tuple[int, str, str]:
        with closing(Api(small.url, WITH_KEY)) as api:
            files, metadata = {"main.py": "import time; time.sleep(0.3)"}, {"docker_image": image}
            response = api.post_exec(files, metadata, "/api/v1/exec/async")
            return (
                response.status_code,
                response.headers.get("Retry-After", ""),
                response.json().get("execution_id", ""),
            )

    with closing(Api(small.url, WITH_KEY)) as api, ThreadPoolExecutor(20) as pool:
        image = image_of(api)
        flood = [pool.submit(submit, number) for number in range(40)]
        assert api.get("/health/ready").status_code == 200
        came = [each.result() for each in flood]
        taken = [execution for status, _, execution in came if status == 202]
        refused = [retry for status, retry, _ in came if status == 429]
        assert len(taken) + len(refused) == 40 and len(refused) >= 30
        assert all(int(retry) > 0 for retry in refused)
        assert {api.finished(each)["exit_code"] for each in taken} == {0}
        assert api.eval("print('in')")["stdout"] == "in\n"


# --- who may speak at all ---------------------------------------------------------------------------------------------


def status_of(url: str, *headers: str, path: str = EVAL) -> int:
    """Of an eval with just these headers."""
    body = b'{"code": "1"}'
    return exchange(url, http(f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", *headers, body=body)).status


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer SECRET", "Bearer secret\0", "Basic c2VjcmV0", "secret",
     "Bearer secret, Bearer x", "Digest secret", "Bearer \xff", "Basic " + "=" * 40, "Bearer " + "x" * 50_000],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_without_the_key_nothing_is_run(small: ServerProcess, authorization: str) -> None:
    assert status_of(small.url, "Host: localhost", f"Authorization: {authorization}") in (400, 401, 431)
    assert status_of(small.url, "Host: localhost", "Authorization: Bearer secret") == 200


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/docs",
        "/health/ready",
        "/docs/openapi.json",
        "/api/v1/executions/x",
        "/%68ealth/../docs/",
        "/health/",
    ],
)
def test_without_the_key_nothing_is_shown_but_that_it_lives(small: ServerProcess, path: str) -> None:
    assert exchange(small.url, http(f"GET {path} HTTP/1.1", "Host: localhost", "Content-Length: 0")).status == 401


def test_its_twin_without_a_key_runs_and_shows_all(attacked_api: Api) -> None:
    assert status_of(attacked_api.url, "Host: localhost") == 200
    assert attacked_api.get("/docs/index.html").status_code == 200


PAGES = [  # what a page in a browser on this machine can make the browser send
    ["Host: evil.example"],
    ["Host: evil.example:80", "Origin: http://evil.example:80"],
    ["Host: localhost.evil.example"],
    ["Host: 127.0.0.1.nip.io"],
    ["Host: localhost@evil.example"],
    ["Host: evil.example", "X-Forwarded-Host: localhost"],
    ["Host: localhost", "Host: evil.example"],
    ["Host: localhost", "Origin: http://evil.example"],
    ["Host: localhost", "Origin: null"],
    ["Host: localhost", "Origin: https://localhost.evil.example"],
    ["Host: localhost", "Origin: file://"],
    ["Host: localhost", "Origin: http://localhost", "Origin: http://evil.example"],
]


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_a_page_of_another_site_gets_nothing(attacked_api: Api, headers: list[str]) -> None:
    assert status_of(attacked_api.url, *headers) in (400, 403)


def test_its_twin_on_a_server_that_answers_to_that_name_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    process = ServerProcess(tmp_path_factory.mktemp("named"), allowed_hosts="evil.example", pool_max=0)
    process.start()
    try:
        assert status_of(process.url, "Host: evil.example") == 200
        assert status_of(process.url, "Host: evil.example", "Origin: http://evil.example") == 200
        assert status_of(process.url, "Host: localhost", "Origin: http://evil.example") == 403
    finally:
        process.stop()


@pytest.mark.parametrize(
    "headers",
    [["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"],
     ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"],
     ["X-HTTP-Method-Override: DELETE"], ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"],
     ["Expect: 200-ok"], ["Range: bytes=0-1"], ["Content-Encoding: gzip"]],
    ids=str,
)  # fmt: skip
def test_no_header_makes_it_speak_otherwise(attacked_api: Api, headers: list[str]) -> None:
    assert status_of(attacked_api.url, "Host: localhost", *headers) in (200, 400, 415, 417)
