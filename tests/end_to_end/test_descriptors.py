"""A server with few open files still runs code, however many strangers hold connections."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.support.api import Api
from tests.support.exchange import connect
from tests.support.server import ServerProcess

KEY = {"Authorization": "Bearer k"}


def with_open_files(count: int) -> list[str]:
    return ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh"]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: "], ids=["silent", "half a head"])
def test_idle_connections_without_a_key_leave_descriptors_for_runs(
    start_server: Callable[..., ServerProcess], sent: bytes
) -> None:
    server = start_server(api_key="k", prefix=with_open_files(1100), max_concurrent=16, pool_min=1)
    with ExitStack() as stack, ThreadPoolExecutor(16) as threads:
        for _ in range(1300):
            connection = stack.enter_context(connect(server.url))
            with suppress(OSError):  # it may have been closed for another by now
                connection.send(sent, socket.MSG_NOSIGNAL)

        def run(number: int) -> str:
            api = Api(server.url, KEY)
            try:
                return api.eval(f"print({number})")["stdout"]
            finally:
                api.close()

        assert list(threads.map(run, range(48))) == [f"{number}\n" for number in range(48)]


def test_a_server_with_few_open_files_runs_code(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server(prefix=with_open_files(600), pool_min=1)
    api = Api(server.url)
    assert api.eval("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))")["stdout"] == "(600, 600)\n"
    api.close()
