"""`--local`: the real server inside this process, for one call.

The server has the main thread: the kernel kills what the native backend starts when the *thread* that started it ends
(PR_SET_PDEATHSIG), and signals come here. The call, which blocks, has a thread of its own. It reaches the server over
a loopback port with a key that nobody else knows, so there is no second way of running code.

    call returns           the server is cancelled; it kills and gives up what it has
    SIGINT, SIGTERM        the server ends the execution and answers the call with what it had come to (`lost`)
    server can't start     its failure is ours; the call is never made
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any

from ..api import serve
from ..api.server import new_event_loop
from ..assembly import build
from ..settings import MEBIBYTE, Settings
from ..storage.memory import MemoryStore
from . import remote
from .engine import engine_failures, load_settings, log_to_stderr

if TYPE_CHECKING:
    from python_executor_client import ExecutionResult


def call_here(call: remote.Call) -> ExecutionResult:
    """Make one call to a server of our own. Raises `Failure` and `Interrupted`."""
    key = secrets.token_urlsafe()
    settings = load_settings(
        {"host": "127.0.0.1", "port": 0, "api_key": key, "pool_max": 0, "shutdown_grace": 0, "log_level": "error"}
    )
    log_to_stderr(settings.log_level)
    with engine_failures(settings), asyncio.Runner(loop_factory=new_event_loop) as runner:
        result = runner.run(_served(call, key, settings))
    if _was_stopped(result):
        raise remote.Interrupted(result)
    return result


async def _served(call: remote.Call, key: str, settings: Settings) -> ExecutionResult:
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    executions = build(settings, store=MemoryStore(settings.store_max_mb * MEBIBYTE))
    serving = asyncio.create_task(serve(executions, settings, listening.set_result))
    result = None
    try:
        first: list[asyncio.Future[Any]] = [serving, listening]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            await serving  # raises
        result = await asyncio.to_thread(_call, call, listening.result(), key)
    finally:
        if not _was_stopped(result):  # else it is about to end by itself
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    return result


def _was_stopped(result: ExecutionResult | None) -> bool:
    """Only a signal stops a server of our own before its one call is over."""
    return result is not None and result.termination == "lost"


def _call(call: remote.Call, url: str, key: str) -> ExecutionResult:
    with remote.connected(url, key) as client:
        return call(client)
