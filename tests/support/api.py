"""The API as a test wants to speak to it: one short call for each way of running code."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import requests

from .archives import Content, tar_of

TIMEOUT_SECONDS = 60.0


class Api:
    """A server's API. What it answers is checked for its status only."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(headers or {})

    def close(self) -> None:
        """Close its connections."""
        self.session.close()

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Any request."""
        options.setdefault("allow_redirects", False)
        return self.session.request(method, self.url + path, timeout=TIMEOUT_SECONDS, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        """A GET."""
        return self.request("GET", path, **options)

    def post_eval(self, body: Any = None, **options: Any) -> requests.Response:
        """An eval with that body: an object, or bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        options.setdefault("headers", {"Content-Type": "application/json"})
        return self.request("POST", "/api/v1/eval", data=data, **options)

    def eval(self, code: str = "", **fields: Any) -> dict[str, Any]:
        """Run code; its result."""
        body = {"code": code, **fields} if code else fields
        return _content(self.post_eval(body), 200)

    def post_exec(
        self, files: Mapping[str, Content] | bytes, metadata: Any, path: str = "/api/v1/exec/sync"
    ) -> requests.Response:
        """An upload: of files, or of an archive as it is."""
        archive = files if isinstance(files, bytes) else tar_of(files)
        text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
        parts = {"tar": ("code.tar", archive, "application/x-tar"), "metadata": (None, text, "application/json")}
        return self.request("POST", path, files=parts)

    def run(self, files: Mapping[str, Content] | bytes | str, **metadata: Any) -> dict[str, Any]:
        """Upload files, or one main.py, and run them; the result."""
        files = {"main.py": files} if isinstance(files, str) else files
        return _content(self.post_exec(files, metadata), 200)

    def submit(self, files: Mapping[str, Content] | bytes | str, **metadata: Any) -> str:
        """The same without waiting; the id."""
        files = {"main.py": files} if isinstance(files, str) else files
        return _content(self.post_exec(files, metadata, "/api/v1/exec/async"), 202)["execution_id"]

    def look(self, execution_id: str) -> dict[str, Any]:
        """How an execution stands."""
        return _content(self.get(f"/api/v1/executions/{execution_id}"), 200)

    def finished(self, execution_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """Its result, once it has one."""
        deadline = time.monotonic() + seconds
        result = {"finished_at": None, "status": "pending"}
        while not result["finished_at"] and time.monotonic() < deadline:
            result = _content(self.get(f"/api/v1/executions/{execution_id}?wait=50"), 200)
        assert result["finished_at"], f"still {result['status']}"
        return result

    def until(self, execution_id: str, key: str, value: Any, seconds: float = 60.0) -> dict[str, Any]:
        """How it stands as soon as `key` has (or, for text, contains) that value."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            result = self.look(execution_id)
            if result[key] == value or (isinstance(result[key], str) and str(value) in result[key]):
                return result
            time.sleep(0.05)
        raise AssertionError(f"{key} never became {value!r}: {result}")

    def kill(self, execution_id: str) -> str:
        """Kill it; its status then."""
        return _content(self.request("DELETE", f"/api/v1/executions/{execution_id}"), 200)["status"]


def _content(response: requests.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    return response.json()


def assert_error(response: requests.Response, status: int, code: str, *mentions: str) -> None:
    """An error in the one shape: its status, its code, and words that its sentence must have."""
    assert response.status_code == status, response.text[:500]
    content = response.json()
    assert set(content) == {"error", "code"}
    assert content["code"] == code
    for mention in mentions:
        assert mention in content["error"], content["error"]
