"""What a stranger sends, or does not read, so that the server pays: its memory, its descriptors, its event loop.

Each is a function of the server's URL that runs in a process of its own, lasts a few seconds, and is bounded: where the
server takes all of it, that costs a few hundred MiB. The server may close the connection or answer with a refusal.
"""

from __future__ import annotations

import multiprocessing
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.api import Api

HELD_SECONDS = 1.5  # that it holds on to what it has made the server keep
EVAL = "/api/v1/eval"
LARGE = "import os\nfor fd in (1, 2):\n  for _ in range(160): os.write(fd, b'\\x01' * 65536)\nprint(flush=True)"


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    """The head of a request, with JSON as its type."""
    usual = (f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join((*usual, *lines, "", "")).encode()


def connect(url: str, buffer: int = 0) -> socket.socket:
    """A connection, with a receive buffer of that size where one is given."""
    place = urlsplit(url)
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(5)
    made.connect((place.hostname, place.port))
    return made


def send(connection: socket.socket, data: bytes, times: int = 1) -> None:
    """As often as the server takes it."""
    with suppress(OSError):
        for _ in range(times):
            connection.sendall(data)


def hold(url: str, number: int, data: bytes, times: int = 1) -> None:
    """Send the same on many connections, and keep them open."""
    with ExitStack() as stack:
        for _ in range(number):
            with suppress(OSError):
                send(stack.enter_context(connect(url)), data, times)
        time.sleep(HELD_SECONDS)


def trailers(url: str) -> None:
    """Header lines after the body, without end."""
    lines = b"".join(b"x%d: %s\r\n" % (number, bytes(40).hex().encode()) for number in range(700))
    chunked = head(EVAL, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n"
    with closing(connect(url)) as connection:
        send(connection, chunked)
        send(connection, lines, 1000)  # 90 MiB
        time.sleep(HELD_SECONDS)


def many_headers(url: str) -> None:
    """As many header fields as 60 kB have, on many connections."""
    hold(url, 250, head(EVAL)[:-2] + b"a:\r\n" * 15_000)


def chunk_extensions(url: str) -> None:
    """A chunk's extension, without end."""
    chunked = head(EVAL, "Transfer-Encoding: chunked") + b"2;"
    with closing(connect(url)) as connection:
        send(connection, chunked)
        send(connection, b"x" * 65536, 3000)


def small_chunks(url: str) -> None:
    """A body in chunks of a byte."""
    with closing(connect(url)) as connection:
        send(connection, head(EVAL, "Transfer-Encoding: chunked") + b'1\r\n"\r\n')
        send(connection, b"1\r\nx\r\n" * 10_000, 150)


def half_bodies(url: str) -> None:
    """Bodies of 15 MiB of which the last byte does not come, on many connections."""
    hold(url, 16, head(EVAL, f"Content-Length: {15 << 20}") + b" " * ((15 << 20) - 1))


def many_objects(url: str) -> None:
    """A million objects in a body."""
    with closing(Api(url)) as api:
        api.post_eval(b'{"code":"1","files":[' + b'{"name":"a"},' * 999_999 + b'{"name":"a"}]}')


def unknown_lists(url: str) -> None:
    """Five million lists in a field that nobody knows."""
    with closing(Api(url)) as api:
        api.post_eval(b'{"code":"1","x":[' + b"[]," * 4_999_999 + b"[]]}")


def large_answer(api: Api) -> str:
    """An execution with as much output as is kept, of bytes that take six in JSON; its path."""
    version = ".".join(api.eval("1")["python"].split(".")[:2])
    execution = api.submit(LARGE, docker_image=f"python:{version}")
    api.finished(execution)
    return f"/api/v1/executions/{execution}"


def unread_answers(url: str) -> None:
    """Large answers, asked for on some connections and never read."""
    with closing(Api(url)) as api, ExitStack() as stack:
        path = large_answer(api)
        for _ in range(4):
            send(stack.enter_context(connect(url, buffer=4096)), head(path, method="GET"))
        time.sleep(HELD_SECONDS)


def read_answers(url: str) -> None:
    """Large answers, read at once, again and again."""
    with closing(Api(url)) as api:
        path = large_answer(api)
        for _ in range(5):
            api.get(path)


def idle_connections(url: str) -> None:
    """More connections than the server has descriptors, and new ones for those that it closes."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 8192), limit))
    with ExitStack() as stack:
        end = time.monotonic() + 2 * HELD_SECONDS
        number = 0
        while time.monotonic() < end and number < 7000:
            number += 1
            with suppress(OSError):
                stack.enter_context(connect(url))
            if number > 2300:
                time.sleep(0.001)


def pipelined(url: str) -> None:
    """Thousands of requests at once, whose answers are not read."""
    with closing(connect(url, buffer=4096)) as connection:
        connection.settimeout(1)
        send(connection, head("/health", method="GET") * 1000, 200)
        time.sleep(HELD_SECONDS)


def large_promise(url: str) -> None:
    """An execution that may have more memory than is ever given away together."""
    body = {"code": "import time; time.sleep(2)", "config": {"memory_mb": 4096, "timeout_seconds": 3}}
    with closing(Api(url)) as api:
        api.post_eval(body)


def waiting_input(url: str) -> None:
    """Executions with much input, waiting for memory that others have."""
    sleep = {"code": "import time; time.sleep(2)", "config": {"memory_mb": 500, "timeout_seconds": 3}}
    bodies = [sleep] * 2 + [{**sleep, "code": "1", "stdin": "x" * (15 << 20)}] * 12
    with ThreadPoolExecutor(len(bodies)) as pool, closing(Api(url)) as api:
        list(pool.map(api.post_eval, bodies))


def import_readers(url: str) -> None:
    """Much Python whose imports are to be found before it runs, several at once."""
    source = "x = [" + "1,\n" * 1_300_000 + "]\n"
    with ThreadPoolExecutor(6) as pool, closing(Api(url)) as api:
        files = {"main.py": source}
        list(pool.map(lambda _: api.post_exec(files, {"detect_imports": True}), range(6)))


def kills(url: str) -> None:
    """Executions killed as soon as they are there."""
    with closing(Api(url)) as api:
        version = ".".join(api.eval("1")["python"].split(".")[:2])
        end = time.monotonic() + HELD_SECONDS
        while time.monotonic() < end:
            api.request(
                "DELETE", "/api/v1/executions/" + api.submit("while True: pass", docker_image=f"python:{version}")
            )


def uncollected(url: str) -> None:
    """Executions with much output that nobody asks for."""
    with closing(Api(url)) as api:
        version = ".".join(api.eval("1")["python"].split(".")[:2])
        for _ in range(12):
            api.submit(LARGE, docker_image=f"python:{version}")
        time.sleep(HELD_SECONDS)


def waits(url: str) -> None:
    """Hundreds that wait for one."""
    with closing(Api(url)) as api:
        version = ".".join(api.eval("1")["python"].split(".")[:2])
        execution = api.submit("import time; time.sleep(3)", docker_image=f"python:{version}")
        hold(url, 500, head(f"/api/v1/executions/{execution}?wait=20", method="GET"))


def many_parts(url: str) -> None:
    """A form of hundreds of thousands of parts."""
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    body = part * 300_000 + b"--b--\r\n"
    with closing(Api(url)) as api:
        api.request("POST", "/api/v1/exec/sync", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})


def many_requirements(url: str) -> None:
    """A hundred thousand requirements, by every name but one."""
    with closing(Api(url)) as api:
        api.post_exec({"main.py": "1", "requirements.txt": "".join(f"x{number}\n" for number in range(100_000))}, {})


def many_files(url: str) -> None:
    """A tree of sixty thousand files."""
    with closing(Api(url)) as api:
        api.post_exec({"main.py": "1", **{f"d/{number}": "" for number in range(60_000)}}, {})


@dataclass(frozen=True, eq=False)
class Stranger:
    """What is done, and the least that a server without bounds pays for it (MiB of its memory; 0: not that)."""

    attack: Callable[[str], None]
    row: str = ""
    naive_mb: int = 0

    def __str__(self) -> str:
        return self.attack.__name__.replace("_", "-")

    @property
    def name(self) -> str:
        """What the function says of itself."""
        return str(self.attack.__doc__).rstrip(".").lower()

    @contextmanager
    def at_work(self, url: str) -> Iterator[multiprocessing.process.BaseProcess]:
        """Its process, which has ended at the end of the block."""
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(self.attack, url))
        process.start()
        try:
            yield process
        finally:
            process.kill()
            process.join()


def _work(attack: Callable[[str], None], url: str) -> None:
    with suppress(Exception):  # it is the server that is looked at
        attack(url)


STRANGERS = [
    Stranger(trailers, "1", naive_mb=80),
    Stranger(many_headers, "8", naive_mb=80),
    Stranger(chunk_extensions),
    Stranger(small_chunks),
    Stranger(half_bodies, naive_mb=80),
    Stranger(many_objects, "7", naive_mb=80),
    Stranger(unknown_lists, "7", naive_mb=80),
    Stranger(unread_answers, "4", naive_mb=80),
    Stranger(read_answers, "4"),
    Stranger(idle_connections, "11"),
    Stranger(pipelined),
    Stranger(large_promise, "5"),
    Stranger(waiting_input, "5"),
    Stranger(import_readers, "6"),
    Stranger(kills),
    Stranger(uncollected),
    Stranger(waits),
    Stranger(many_parts),
    Stranger(many_requirements),
    Stranger(many_files),
]
