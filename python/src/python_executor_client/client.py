"""Python client for python-executor.

This module provides a Python client library for the python-executor service,
which allows remote execution of Python code in isolation.

Example:
    Basic usage with a simple script:

    >>> from python_executor_client import PythonExecutorClient
    >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
    >>> result = client.execute_sync(
    ...     files={"main.py": "print('Hello, World!')"},
    ...     entrypoint="main.py"
    ... )
    >>> print(result.stdout)
    Hello, World!
    >>> print(result.exit_code)
    0

    Multi-file execution:

    >>> result = client.execute_sync(
    ...     files={
    ...         "main.py": "from helper import greet; greet()",
    ...         "helper.py": "def greet(): print('Hello from helper!')"
    ...     },
    ...     entrypoint="main.py"
    ... )
"""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import suppress
from dataclasses import fields
from typing import Any, Optional
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from .archive import Files, find_entrypoint, pack
from .types import ExecutionConfig, ExecutionResult, ExecutionStatus, Metadata

_UNFINISHED = (ExecutionStatus.PENDING, ExecutionStatus.RUNNING)
_CONFIG_KEYWORDS = [item.name for item in fields(ExecutionConfig)]
_KEYWORDS = [item.name for item in fields(Metadata) if item.name != "config"] + _CONFIG_KEYWORDS

_DEFAULT_LIMIT = 300  # seconds: how long code may run where the caller names no timeout_seconds
_GRACE = 30  # seconds beyond its limit that an execution has for waiting its turn and for its answer's way back
_LONGEST_WAIT = 60  # seconds: what a server accepts as `?wait=`
_POOL_SIZE = 100  # idle connections kept; requests' own 10 are too few for a client that many threads share


class PythonExecutorClient:
    """Client for the python-executor remote code execution service.

    This client handles all the complexity of the python-executor API, including:
    - Creating tar archives from files, directories, or dicts
    - Encoding metadata as JSON
    - Managing multipart/form-data requests
    - Parsing execution results

    One client may be used by many threads at once; they share its pool of connections.

    Attributes:
        base_url: The base URL of the python-executor server.
        timeout: HTTP request timeout in seconds.
        session: The underlying requests Session object.

    Example:
        >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
        >>> result = client.execute_sync(
        ...     files={"main.py": "print('Hello!')"},
        ...     entrypoint="main.py"
        ... )
        >>> result.exit_code
        0
    """

    def __init__(self, base_url: str, timeout: int = 300, *, api_key: Optional[str] = None) -> None:
        """Initialize the Python executor client.

        Args:
            base_url: Base URL of the python-executor server (e.g., "http://pyexec.cluster:9999/").
                It may carry a key as its password: "http://:KEY@pyexec.cluster:9999/".
            timeout: HTTP request timeout in seconds. Default is 300 (5 minutes). execute_sync() and eval() wait
                longer for their answer where it is less than the code may run (300 seconds if not said) plus 30.
            api_key: Key for a server that asks for one. Default is the key in base_url, or else the environment
                variable PYEXEC_API_KEY.

        Example:
            >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
            >>> client = PythonExecutorClient("http://localhost:8080", timeout=60)
        """
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=_POOL_SIZE))
        if api_key is None and "@" not in urlsplit(base_url).netloc:
            api_key = os.environ.get("PYEXEC_API_KEY")
        if api_key:
            self.session.auth = _BearerAuth(api_key)

    def execute_sync(
        self,
        files: Optional[Files] = None,
        tar_data: Optional[bytes] = None,
        metadata: Optional[Metadata] = None,
        **kwargs: Any,
    ) -> ExecutionResult:
        """Execute Python code synchronously and wait for the result.

        This method submits code for execution and blocks until completion.
        Use this for short-running scripts where you need the result immediately.

        Args:
            files: Python files to execute. Can be:
                - dict[str, str]: Mapping of filename to content (e.g., {"main.py": "print('hi')"});
                  a content may also be bytes
                - Path: Path to a file or directory
                - str: String path to a file or directory
                A directory is sent with all that is below it, without __pycache__; symbolic links stay links.
            tar_data: Pre-built tar archive bytes (alternative to files).
                If provided, files parameter is ignored.
            metadata: Full Metadata object for advanced configuration.
                If provided, kwargs are ignored.
            **kwargs: Shorthand for metadata fields; for those left out, the server's defaults hold:
                - entrypoint (str): Script to run (auto-detected if not specified)
                - module (str): Module or package to run in place of a script, as `python -m` does
                - docker_image (str): Docker image (default: python:3.11-slim)
                - requirements_txt (str): Contents of requirements.txt
                - pre_commands (list[str]): Shell commands to run before execution
                - stdin (str): Data to provide on stdin
                - env_vars (list[str]): Environment variables as "KEY=value"
                - script_args (list[str]): Arguments of the script (sys.argv)
                - eval_last_expr (bool): Return the value of the last expression, as eval() does
                - detect_imports (bool): Have the packages that the code imports, where nothing else says which it
                  needs: neither requirements_txt nor its files (here the server's default is not to)
                - environment (str): Name of an environment of the server's, in place of requirements_txt
                - runtime (str): Runtime of the server's container engine, such as "runsc", where that is permitted
                - timeout_seconds (float): Execution timeout
                - network_disabled (bool): Disable network access
                - memory_mb (int): Memory limit in MB
                - disk_mb (int): Disk limit in MB
                - cpu_shares (int): CPU shares
                - cpus (float): Processors' worth of time at most
                - cpu_seconds (float): Processor time at most, of all processes together

        Returns:
            ExecutionResult: Object containing stdout, stderr, exit_code, and execution metadata.

        Raises:
            ValueError: If neither files nor tar_data is provided.
            FileNotFoundError: If files is a path that does not exist.
            TypeError: If a keyword argument is none of the above.
            requests.HTTPError: If the server returns an error response.

        Example:
            Simple execution:

            >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
            >>> result = client.execute_sync(
            ...     files={"main.py": "print('Hello, World!')"},
            ...     entrypoint="main.py"
            ... )
            >>> result.exit_code
            0
            >>> result.stdout
            'Hello, World!\\n'

            Execution with dependencies:

            >>> result = client.execute_sync(
            ...     files={"main.py": "import numpy; print(numpy.__version__)"},
            ...     requirements_txt="numpy",
            ...     network_disabled=False
            ... )

            Execution from a directory:

            >>> result = client.execute_sync(files=Path("./myproject/"))
        """
        archive = _archive(files, tar_data)
        described = _described(archive, metadata, kwargs)
        patience = self._patience(described.get("config", {}).get("timeout_seconds"))
        response = self._request("POST", "exec/sync", read_timeout=patience, files=_parts(archive, described))
        return ExecutionResult.from_dict(response.json())

    def execute_async(
        self,
        files: Optional[Files] = None,
        tar_data: Optional[bytes] = None,
        metadata: Optional[Metadata] = None,
        **kwargs: Any,
    ) -> str:
        """Submit Python code for asynchronous execution.

        This method submits code and returns immediately with an execution ID.
        Use this for long-running scripts or when you need to run multiple
        scripts concurrently.

        Args:
            files: Python files to execute. Same options as execute_sync().
            tar_data: Pre-built tar archive bytes (alternative to files).
            metadata: Full Metadata object for advanced configuration.
            **kwargs: Shorthand for metadata fields. See execute_sync() for options.

        Returns:
            str: Execution ID that can be used with get_execution() and wait_for_completion().

        Raises:
            ValueError: If neither files nor tar_data is provided.
            FileNotFoundError: If files is a path that does not exist.
            TypeError: If a keyword argument is none of execute_sync()'s.
            requests.HTTPError: If the server returns an error response.

        Example:
            >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
            >>> exec_id = client.execute_async(
            ...     files={"main.py": "import time; time.sleep(60); print('done')"}
            ... )
            >>> print(f"Submitted: {exec_id}")
            Submitted: exe_550e8400-e29b-41d4-a716-446655440000

            >>> # Later, check status or wait for completion
            >>> result = client.wait_for_completion(exec_id)
        """
        archive = _archive(files, tar_data)
        parts = _parts(archive, _described(archive, metadata, kwargs))
        execution_id: str = self._request("POST", "exec/async", files=parts).json()["execution_id"]
        return execution_id

    def get_execution(self, execution_id: str) -> ExecutionResult:
        """Get the current status and result of an execution.

        Args:
            execution_id: The execution ID returned by execute_async().

        Returns:
            ExecutionResult: Current status and any available output.
                The status field indicates whether the execution is still running.

        Raises:
            requests.HTTPError: If the execution is not found (404) or server error.

        Example:
            >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
            >>> result = client.get_execution("exe_550e8400-e29b-41d4-a716-446655440000")
            >>> print(result.status)
            running
        """
        return ExecutionResult.from_dict(self._request("GET", _execution_path(execution_id)).json())

    def kill(self, execution_id: str) -> None:
        """Terminate a running execution.

        Forcefully stops all of its processes; what it printed until then is kept. A finished execution
        stays as it is.

        Args:
            execution_id: The execution ID to kill.

        Raises:
            requests.HTTPError: If the execution is not found (404) or server error.

        Example:
            >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
            >>> exec_id = client.execute_async(files={"main.py": "import time; time.sleep(3600)"})
            >>> client.kill(exec_id)
        """
        self._request("DELETE", _execution_path(execution_id))

    def wait_for_completion(
        self,
        execution_id: str,
        poll_interval: float = 2.0,
        max_wait: Optional[float] = None,
    ) -> ExecutionResult:
        """Wait for an asynchronous execution to complete.

        Asks the server to answer as soon as the execution finishes. A server that can't do that
        is polled periodically until the execution finishes.

        Args:
            execution_id: The execution ID returned by execute_async().
            poll_interval: Seconds between status checks, where the server has to be polled. Default is 2.0.
            max_wait: Maximum seconds to wait before raising TimeoutError.
                None means wait indefinitely. Default is None.

        Returns:
            ExecutionResult: Final result with stdout, stderr, and exit_code.

        Raises:
            TimeoutError: If max_wait is exceeded before completion; the execution goes on.
            requests.HTTPError: If the server returns an error.

        Example:
            >>> client = PythonExecutorClient("http://pyexec.cluster:9999/")
            >>> exec_id = client.execute_async(
            ...     files={"main.py": "import time; time.sleep(5); print('done')"}
            ... )
            >>> result = client.wait_for_completion(exec_id, poll_interval=1.0)
            >>> print(result.stdout)
            done

            With timeout:

            >>> try:
            ...     result = client.wait_for_completion(exec_id, max_wait=10.0)
            ... except TimeoutError:
            ...     client.kill(exec_id)
        """
        path = _execution_path(execution_id)
        deadline = math.inf if max_wait is None else time.monotonic() + max_wait
        while True:
            wait = max(0, min(_LONGEST_WAIT, self.timeout / 2, deadline - time.monotonic()))
            response = self._request("GET", path, params={"wait": round(wait, 3)})
            result = ExecutionResult.from_dict(response.json())
            if result.status not in _UNFINISHED:
                return result
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"execution {execution_id} did not finish within {max_wait} seconds")
            if "Preference-Applied" not in response.headers:
                time.sleep(min(poll_interval, left))

    def eval(
        self,
        code: str,
        *,
        files: Optional[list[dict[str, str]]] = None,
        entrypoint: Optional[str] = None,
        stdin: Optional[str] = None,
        python_version: Optional[str] = None,
        timeout_seconds: Optional[float] = None,
        eval_last_expr: bool = True,
        requirements_txt: Optional[str] = None,
        detect_imports: Optional[bool] = None,
        environment: Optional[str] = None,
        runtime: Optional[str] = None,
        cpu_seconds: Optional[float] = None,
        module: Optional[str] = None,
    ) -> ExecutionResult:
        """Execute code with REPL-style expression evaluation.

        This method uses the simplified /api/v1/eval endpoint which accepts JSON
        and automatically evaluates the last expression in the code, returning
        its value in the result field.

        Args:
            code: Python code to execute. Creates a main.py with this content.
            files: Optional list of file dicts with "name" and "content" keys.
                Takes precedence over code if provided.
            entrypoint: File to execute. Defaults to "main.py" or first file.
            stdin: Standard input to provide to the script.
            python_version: Python version to use ("3.10", "3.11", "3.12", "3.13").
                Defaults to server default (typically 3.12).
            timeout_seconds: Maximum execution time in seconds, such as 0.5.
            eval_last_expr: If True (default), evaluate the last expression and
                return its value in result. If False, behave like normal execution.
            requirements_txt: Contents of requirements.txt: the packages that it gets.
            detect_imports: Have the packages that the code imports, where nothing else says which it needs.
                Defaults to server default (typically True here).
            environment: Name of an environment of the server's, in place of requirements_txt.
            runtime: Runtime of the server's container engine, such as "runsc", where its operator permits it;
                the code then runs in a container.
            cpu_seconds: Processor time at most, in seconds, of all of its processes together.
            module: Module or package to run in place of entrypoint, as `python -m` does; result is None then.

        Returns:
            ExecutionResult: Object containing stdout, stderr, exit_code, and result.
                The result field contains the repr() of the last expression's value,
                or None if the last statement was not an expression.

        Raises:
            requests.HTTPError: If the server returns an error response.

        Example:
            Simple expression:

            >>> result = client.eval("2 + 2")
            >>> print(result.result)
            4

            Multi-line code:

            >>> result = client.eval("x = 5\\ny = 10\\nx + y")
            >>> print(result.result)
            15

            Using imports:

            >>> result = client.eval("import math\\nmath.sqrt(16)")
            >>> print(result.result)
            4.0

            With print (result is None):

            >>> result = client.eval("print('hello')")
            >>> print(result.stdout)
            hello
            >>> print(result.result)
            None
        """
        request = _given(
            code=None if files else code,
            files=files or None,
            entrypoint=entrypoint,
            module=module,
            stdin=stdin,
            python_version=python_version,
            config=_given(timeout_seconds=timeout_seconds, cpu_seconds=cpu_seconds) or None,
            eval_last_expr=eval_last_expr,
            requirements_txt=requirements_txt,
            detect_imports=detect_imports,
            environment=environment,
            runtime=runtime,
        )
        response = self._request("POST", "eval", read_timeout=self._patience(timeout_seconds), json=request)
        return ExecutionResult.from_dict(response.json())

    def _patience(self, limit: Optional[float]) -> float:
        """Seconds to wait for the answer to a call that runs code; 0 and None mean the default limit."""
        return max(self.timeout, (limit or _DEFAULT_LIMIT) + _GRACE)

    def _request(
        self, method: str, path: str, *, read_timeout: Optional[float] = None, **options: Any
    ) -> requests.Response:
        """Send one request and return the answer; an error answer raises requests.HTTPError."""
        response = self.session.request(
            method, f"{self.base_url}/api/v1/{path}", timeout=(self.timeout, read_timeout or self.timeout), **options
        )
        if not response.ok:
            raise _http_error(response)
        return response


class _BearerAuth(AuthBase):
    """Sends the key with each request. As a plain header of the session, a ~/.netrc entry would replace it."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


def _given(**values: Any) -> dict[str, Any]:
    """Drop what is None: a field that is not sent is left to the server."""
    return {name: value for name, value in values.items() if value is not None}


def _archive(files: Optional[Files], tar_data: Optional[bytes]) -> bytes:
    if tar_data is not None:
        return tar_data
    if not files:  # "" too: as a path it would mean the whole current directory
        raise ValueError("Either files or tar_data must be provided")
    return pack(files)


def _described(archive: bytes, metadata: Optional[Metadata], keywords: dict[str, Any]) -> dict[str, Any]:
    """Build the metadata as JSON will carry it: from the object, or else from the keywords and the archive.

    Raises:
        TypeError: If a keyword is unknown.
    """
    if metadata is not None:
        return metadata.to_dict()
    for name in keywords:
        if name not in _KEYWORDS:
            raise TypeError(f"unexpected keyword argument {name!r}; known are {', '.join(_KEYWORDS)}")
    given = _given(**keywords)
    if "entrypoint" not in given and "module" not in given:
        given["entrypoint"] = find_entrypoint(archive)
    config = {name: given.pop(name) for name in _CONFIG_KEYWORDS if name in given}
    return _given(**given, config=config or None)


def _parts(archive: bytes, described: dict[str, Any]) -> dict[str, tuple[Optional[str], Any, str]]:
    """Lay out the two parts of the upload, which requests then encodes as multipart/form-data."""
    return {
        "tar": ("code.tar", archive, "application/x-tar"),
        "metadata": (None, json.dumps(described), "application/json"),
    }


def _execution_path(execution_id: str) -> str:
    return f"executions/{quote(execution_id, safe='')}"


def _http_error(response: requests.Response) -> requests.HTTPError:
    """Make the error that tells what the server said. Not raise_for_status(): it shows the URL, with the key in it."""
    message = f"{response.status_code} {response.reason} for {response.request.method} {response.request.path_url}"
    with suppress(ValueError, TypeError, KeyError):  # not the service's own answer, perhaps a proxy's
        message += f": {response.json()['error']}"
    return requests.HTTPError(message, response=response)
