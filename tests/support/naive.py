"""A server without any bound of its own: uvicorn and a few lines, as one writes them first. What the twins attack.

It answers the paths that attacks and the prober use, and keeps nothing from being read, parsed, made or kept. The
`--limit-concurrency` and other settings of uvicorn that bound something are at their defaults.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

START_SECONDS = 30.0
ANSWER = {"execution_id": "1", "python": "3.12.0", "stdout": "1\n", "finished_at": 1, "status": "completed"}


async def run(request: Request) -> Response:
    """Read everything, parse everything."""
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        json.loads(body)
    return JSONResponse(ANSWER, 202 if request.url.path.endswith("async") else 200)


async def look(request: Request) -> Response:
    """A large answer, for those who ask without waiting."""
    size = 0 if "wait" in request.query_params else 10 << 20
    return JSONResponse({**ANSWER, "stdout": "\x01" * size, "stderr": "\x01" * size})


async def health(_request: Request) -> Response:
    """It lives."""
    return JSONResponse({"status": "ok"})


PATHS = ("/api/v1/eval", "/api/v1/exec/sync", "/api/v1/exec/async")
app = Starlette(
    routes=[
        Route("/health", health),
        Route("/api/v1/executions/{execution}", look),
        *(Route(path, run, methods=["POST"]) for path in PATHS),
    ]
)


@contextmanager
def naive_server() -> Iterator[tuple[str, int]]:
    """Such a server: its URL, and its process."""
    code = "import uvicorn; uvicorn.run('tests.support.naive:app', port=0, access_log=False)"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=log)
        try:
            yield _announced(log), process.pid
        finally:
            process.kill()
            process.wait()


def _announced(log: IO[str]) -> str:
    """The URL that it says it listens at."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        log.seek(0)
        if found := re.search(r"running on (http://\S+)", log.read()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError("the naive server did not start")
