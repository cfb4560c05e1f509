"""What `serve` and `--local` share: settings, logs and the failures of an engine in this process."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError

from ..model.errors import BackendError, StoreError
from ..settings import Settings
from .errors import Failure

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


MESSAGES = {  # for values of the wrong type, in words of people
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
}
UNBINDABLE = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})


def load_settings(given: Mapping[str, Any]) -> Settings:
    """The settings that are given, and the environment's for the rest. Raises `Failure`, one line a problem."""
    try:
        settings = Settings(**given)
    except ValidationError as problem:
        raise Failure(*map(_told, problem.errors(include_url=False))) from problem
    if not (settings.api_key or "").isascii():
        raise Failure("API_KEY has characters beyond ASCII, which many clients can't send: choose another")
    return settings


def log_to_stderr(level: str) -> None:
    """Readable on a terminal, JSON else. Tracebacks without local variables: those hold code and secrets."""
    stream = sys.stderr or open(os.devnull, "w")  # noqa: SIM115  # None: it was closed when we started
    readable = stream.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if readable else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if readable
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


@contextmanager
def engine_failures(settings: Settings) -> Iterator[None]:
    """Tell in one line why the engine could not start or go on."""
    try:
        yield
    except (BackendError, StoreError) as problem:
        raise Failure(str(problem)) from problem
    except OSError as problem:
        if not isinstance(problem, socket.gaierror) and problem.errno not in UNBINDABLE:
            raise Failure(f"the server can't go on: {problem}") from problem
        place = f"{settings.host} port {settings.port} ({problem.strerror})"
        raise Failure(f"can't listen on {place}: choose another with --host and --port") from problem


def _told(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message  # of settings that don't fit together; names them itself
    message = MESSAGES.get(problem["type"], message)
    name = str(problem["loc"][0])
    return f"--{name.replace('_', '-')} (PYEXEC_{name.upper()}) is {problem['input']!r}: {message}"
