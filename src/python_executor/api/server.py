"""Serving until a signal comes, and stopping in the right order.

uvicorn, told to exit, first closes its listening sockets and then waits for its requests: whoever asks in the
meantime sees a refused connection, and nobody ends the executions. So the signals are ours:

    SIGTERM, SIGINT    `executions.close(grace)` begins: /health/ready and new work answer 503, what runs may finish
                       and its requests get their answers, what is left after the grace is killed and recorded
    then               uvicorn is told to exit; all requests have what they waited for
    SIGINT ignored     by who started us, as shells do for what is in the background: it stays ignored
    SIGINT again       no more waiting: requests are answered 503 and the process ends; its sandboxes end with it, and
                       the next start records what was lost
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import structlog
import uvicorn

from ..settings import Settings
from .app import create_app
from .connections import Connections
from .protocol import connection_factory

if TYPE_CHECKING:
    from ..executions.service import Executions

log = structlog.get_logger(__name__)

KEEP_ALIVE_SECONDS = 75
ANSWER_SECONDS = 5  # that the last answers may take to reach their clients
BACKLOG = 2048
M_MMAP_THRESHOLD = -3  # of <malloc.h>
LARGE_BLOCK_BYTES = 256 * 1024  # as output is kept
SWITCH_SECONDS = 0.0005  # that one thread keeps the interpreter while another waits for it
UNSENT_BYTES = 128 * 1024  # of each answer, in the kernel
STRANGERS = 1024  # connections, beyond those that executions can have; each may cost some 40 KiB
FILES_OF_A_RUN = 20  # descriptors, with its cgroups
FILES_SPARED = 128  # for the store, uploads, an engine and package indexes


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The event loop to serve on: uvloop's, or asyncio's own where that can't be had."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(executions: Executions, settings: Settings, announce: Callable[[str], None]) -> None:
    """`serve`, on an event loop of its own; for callers that have none."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(executions, settings, announce))


async def serve(executions: Executions, settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the URL once it answers.

    Raises `OSError` where the address can't be listened on, and what `executions.start()` raises.
    """
    listener = bind(settings.host, settings.port)  # first: a port in use should cost no engine start
    try:
        await executions.start()
        server = Server(configure(executions, settings), lambda: announce(url_of(listener)))
        tune_interpreter()
        give_memory_back()
        stop = _Stop(executions, server, settings.shutdown_grace)
        with stop.on_signals():
            await server.serve(sockets=[listener])
        await stop.finished()
    finally:
        listener.close()
        await executions.close(0)


def configure(executions: Executions, settings: Settings) -> uvicorn.Config:
    """uvicorn, set up for us: quiet, without its own signals, proxies and upgrades."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of every broken body
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # the same, and tells its own life
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = Connections(connections_max(settings, files, len(executions.interpreters)))
    return uvicorn.Config(
        create_app(executions, settings),
        http=connection_factory(connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ANSWER_SECONDS,
    )


def connections_max(settings: Settings, files: int, interpreters: int) -> int:
    """Return how many connections there may be: as many as leave enough open files, and memory, for what runs."""
    waiting = min(settings.pool_max * interpreters * FILES_OF_A_RUN, files // 2)  # the backend keeps its pools to that
    left = files - settings.max_concurrent * FILES_OF_A_RUN - waiting - FILES_SPARED
    wanted = STRANGERS + settings.max_concurrent + settings.queue_max  # whoever waits for a run has one
    return min(wanted, max(left, files // 8))


def tune_interpreter() -> None:
    """Collect garbage seldom, since requests leave no cycles behind; and let the event loop wait little for threads.

    It gives up the interpreter's lock at each system call, a dozen times in an execution, and gets it back only when a
    thread that parses something large is made to give it up.
    """
    gc.collect()
    gc.freeze()  # what is there by now stays
    gc.set_threshold(10_000, 10, 10)
    sys.setswitchinterval(SWITCH_SECONDS)


def give_memory_back() -> None:
    """Have glibc take large blocks from the kernel each by itself, and give them back when they are free.

    It stops doing so for sizes that were once freed. Then each 20 MiB of output that pass through are kept for good,
    in one of the threads' arenas.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, which does not listen yet. Raises `OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Handed on to each connection. Megabytes of answers that nobody reads would else wait in the kernel, where
        # nothing of ours counts them.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers and with a word when it listens."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Stop:
    """What a signal sets off."""

    def __init__(self, executions: Executions, server: Server, grace: float) -> None:
        self._executions = executions
        self._server = server
        self._grace = grace
        self._draining: asyncio.Task[None] | None = None
        self._hurry: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def on_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            numbers.append(signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def finished(self) -> None:
        """Wait for what a signal has set off."""
        if self._draining is not None:
            await self._draining

    def _on_signal(self, number: signal.Signals) -> None:
        if self._draining is None:
            log.info("draining", signal=number.name, grace=self._grace)
            self._draining = asyncio.ensure_future(self._drain())
        elif number == signal.SIGINT and self._hurry is None:
            log.warning("not waiting for what still runs")
            self._hurry = asyncio.ensure_future(self._executions.close(0))

    async def _drain(self) -> None:
        try:
            await self._executions.close(self._grace)
        finally:
            self._server.should_exit = True
