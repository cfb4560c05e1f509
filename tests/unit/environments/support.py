"""A build sandbox as far as the package indexes see it: uv, and a client that asks for anything."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uv

from python_executor.environments.index import PackageIndex
from python_executor.environments.index.settings import IndexSettings, Proxies
from python_executor.environments.index.visit import Visit
from tests.support.index import JSON, make_wheel

MEBIBYTE = 1024 * 1024
NO_PROXIES = Proxies()
PATIENCE = 0.4  # seconds, where timeouts are shortened
DEMO = "demo-1.0-py3-none-any.whl"
DEMO_WHEEL = make_wheel("demo", "1.0", {"demo.py": "answer = 42\n"})


@dataclass
class Guest:
    """What is in the sandbox: it sees `url`, and nothing else."""

    url: str
    visit: Visit
    directory: Path
    told: list[tuple[str, int, int]] = field(default_factory=list)

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        """An answer's status, headers and body."""
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(method, self.url + path, headers=headers, allow_redirects=False) as response,
        ):
            return response.status, response.headers, await response.read()

    async def files(self, name: str, index: int = 0) -> list[dict[str, Any]]:
        """The files on a project's page."""
        status, headers, body = await self.get(f"/{index}/simple/{name}/")
        assert (status, headers["Content-Type"]) == (200, JSON)
        files: list[dict[str, Any]] = json.loads(body)["files"]
        return files

    async def download(self, name: str = "demo", suffix: str = "", **headers: str) -> tuple[int, Any, bytes]:
        """The first file on a project's page."""
        return await self.get((await self.files(name))[0]["url"] + suffix, **headers)

    async def compile(self, *requirements: str, indexes: int = 1, python: str = sys.executable) -> tuple[int, str]:
        """`uv pip compile` into `locked`: its status and what it said."""
        (self.directory / "wanted").write_text("\n".join(requirements))
        arguments = ["--generate-hashes", "-o", "locked", "--no-header", "--only-binary", ":all:", "--python", python]
        return await self._uv("pip", "compile", "wanted", *arguments, indexes=indexes)

    async def install(self, *, indexes: int = 1) -> tuple[int, str]:
        """`uv pip install` of what is in `locked` into `target`."""
        arguments = ["--require-hashes", "--only-binary", ":all:", "--python", sys.executable, "--target", "target"]
        return await self._uv("pip", "install", "-r", "locked", *arguments, indexes=indexes)

    async def _uv(self, *arguments: str, indexes: int) -> tuple[int, str]:
        extra = [option for n in range(1, indexes) for option in ("--index", f"{self.url}/{n}/simple")]
        where = ["--default-index", f"{self.url}/0/simple", *extra, "--cache-dir", "cache", "--no-config"]
        environment = {"PATH": os.defpath, "HOME": str(self.directory), "UV_HTTP_RETRIES": "0"}
        process = await asyncio.create_subprocess_exec(
            uv.find_uv_bin(), *arguments, *where, cwd=self.directory, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    def read(self, path: str) -> str:
        """A file that uv left."""
        return (self.directory / path).read_text()


Act = Callable[[Guest], Awaitable[None]]
Serve = Callable[..., Visit]


@asynccontextmanager
async def visiting(settings: IndexSettings, directory: Path, **rules: Any) -> AsyncIterator[Guest]:
    """The sandbox's side of a visit; by default it gets whatever wheels it wants, up to 100 MiB."""
    listener = socket.create_server(("127.0.0.1", 0))
    told: list[tuple[str, int, int]] = []
    defaults = {"wheels_only": True, "allows": lambda name: True, "download_max": 100 * MEBIBYTE}
    package_index = PackageIndex(settings)
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        tell = lambda *words: told.append(words)  # noqa: E731
        async with package_index.serving(listener, tell=tell, **{**defaults, **rules}) as visit:
            yield Guest(url, visit, directory, told)
        assert listener.fileno() == -1
    finally:
        await package_index.close()
