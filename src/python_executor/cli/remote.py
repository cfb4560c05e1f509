"""Talking to a server through the client library: what is sent, what is waited for, and failures in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

from python_executor_client import ExecutionResult, PythonExecutorClient

from .errors import Failure
from .flags import Flags
from .program import Program, largest_part
from .waiting import Tell, progress_of

Call = Callable[[PythonExecutorClient], ExecutionResult]

PATIENCE = 30  # seconds for a connection, and for an answer that does not wait for code
TOO_LARGE = 413
LOOK_INTERVAL = 0.5  # seconds
LONGEST_RUN = 3600  # seconds; what code may take on a server whose maximum was not raised
OUR_WORDS = {  # for what a server's sentences name as the wire does
    "config.network_disabled false": "--network",
    "config.timeout_seconds": "--timeout",
    "config.cpu_seconds": "--cpu-seconds",
    "config.memory_mb": "--memory",
    "config.disk_mb": "--disk",
    "config.cpu_shares": "--cpu",
    "config.cpus": "--cpus",
    "environment and requirements_txt": "--environment and --requirements",
    "entrypoint and module": "--entrypoint and --module",
    "docker_image": "--image",
}


class Interrupted(Exception):
    """Ctrl-C ended the execution; `result` is what it had come to."""

    def __init__(self, result: ExecutionResult) -> None:
        super().__init__(result.execution_id)
        self.result = result


@contextmanager
def connected(server: str, api_key: str | None = None) -> Iterator[PythonExecutorClient]:
    """A client of the server. Whatever goes wrong between us and it is a `Failure`, so only its calls go inside."""
    try:
        client = PythonExecutorClient(server, timeout=PATIENCE, api_key=api_key)
        with client.session:
            yield client
    except requests.HTTPError as problem:
        raise Failure(_refusal(server, problem.response)) from problem
    except (InvalidURL, InvalidSchema, MissingSchema) as problem:
        raise Failure("--server is no URL: give one like http://localhost:8080") from problem
    except requests.ConnectionError as problem:
        raise Failure(
            f"can't reach a server at {_shown(server)}: start one with `python-executor serve`, "
            "name another with --server, or run without one with --local"
        ) from problem
    except requests.Timeout as problem:
        raise Failure(f"the server at {_shown(server)} did not answer in time: try again") from problem
    except (requests.RequestException, ValueError, KeyError) as problem:
        raise Failure(_stranger(server)) from problem


def send(client: PythonExecutorClient, program: Program, details: dict[str, Any]) -> str:
    """Submit a program; its id. Raises `Failure` where it is too large, with what takes the most of it."""
    try:
        return client.execute_async(tar_data=program.tar, entrypoint=program.entrypoint, **details)
    except requests.HTTPError as problem:
        part = largest_part(program.tar)
        if problem.response.status_code != TOO_LARGE or not part:
            raise
        raise Failure(f"{_refusal(client.base_url, problem.response)} {part}") from problem


def run(
    client: PythonExecutorClient, program: Program, details: dict[str, Any], tell: Tell | None = None
) -> ExecutionResult:
    """Run a program to its end. It has an id from the start, so that Ctrl-C can kill it."""
    execution_id = send(client, program, details)
    try:
        return wait(client, execution_id, tell)
    except KeyboardInterrupt:
        client.kill(execution_id)
        raise Interrupted(client.get_execution(execution_id)) from None


def wait(client: PythonExecutorClient, execution_id: str, tell: Tell | None) -> ExecutionResult:
    """How an execution ended; until it starts, `tell` learns how far its image or its packages are."""
    is_pending = True
    while tell is not None and is_pending:
        with suppress(TimeoutError):
            return client.wait_for_completion(execution_id, max_wait=LOOK_INTERVAL)
        seen = client.get_execution(execution_id)
        is_pending = seen.status == "pending"
        tell(progress_of(seen.preparing))
    return client.wait_for_completion(execution_id)


def evaluate(client: PythonExecutorClient, request: dict[str, Any], timeout: float | None) -> ExecutionResult:
    """Evaluate code. A server kills it when we hang up, as Ctrl-C does.

    Through the client's session, since its `eval()` has no words for limits other than the time.
    """
    response = client.session.post(
        f"{client.base_url}/api/v1/eval", json=request, timeout=(PATIENCE, PATIENCE + (timeout or LONGEST_RUN))
    )
    if not response.ok:
        raise requests.HTTPError(response=response)
    return ExecutionResult.from_dict(response.json())


def config(flags: Flags) -> dict[str, Any]:
    """The limits that were asked for, as the wire names them."""
    wanted = {
        "timeout_seconds": flags.timeout,
        "cpu_seconds": flags.cpu_seconds,
        "memory_mb": flags.memory,
        "disk_mb": flags.disk,
        "cpu_shares": flags.cpu,
        "cpus": flags.cpus,
        "network_disabled": False if flags.network else None,  # absent: the server's default
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _refusal(server: str, response: requests.Response) -> str:
    try:
        message = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):  # no answer of ours, perhaps a proxy's
        return f"{_stranger(server)} ({response.status_code} {response.reason})"
    if response.status_code == 401 and "Authorization" not in response.request.headers:
        return "the server wants its API key: set PYEXEC_API_KEY to it"
    for theirs, ours in OUR_WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _stranger(server: str) -> str:
    return f"{_shown(server)} does not answer as python-executor does: check --server"


def _shown(server: str) -> str:
    """The URL without the key that it may carry."""
    parts = urlsplit(server)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
