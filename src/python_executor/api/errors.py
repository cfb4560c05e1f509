"""Every error as the one shape `{"error", "code"}`, and the one table that gives our refusals their statuses."""

from __future__ import annotations

import traceback
from http import HTTPStatus
from uuid import uuid4

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ExceptionHandler

from ..model import errors
from .responses import json_response

log = structlog.get_logger(__name__)

STATUSES: dict[type[errors.Refusal], int] = {
    errors.InvalidRequest: 400,
    errors.UnsupportedPython: 400,
    errors.NotSupportedYet: 400,
    errors.NoBackendForImage: 400,
    errors.NetworkUnavailable: 400,
    errors.NetworkForbidden: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.QueueFull: 429,
    errors.Unavailable: 503,
}

_CLOSE = ("Connection", "close")  # a stranger's connection costs us no more than one request
_HEADERS: dict[type[errors.Refusal], tuple[tuple[str, str], ...]] = {
    errors.Unauthorized: (
        ("WWW-Authenticate", 'Basic realm="python-executor", charset="UTF-8"'),
        ("WWW-Authenticate", "Bearer"),  # a line of its own: browsers do not ask for a key where one line has both
        _CLOSE,
    ),
    errors.Forbidden: (_CLOSE,),
    errors.QueueFull: (("Retry-After", "1"),),  # a place comes free as soon as any execution ends
    errors.Unavailable: (("Retry-After", "5"),),  # a restart takes about that long
}


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in the one shape that all of them have."""
    return json_response({"error": message, "code": code}, status, headers)


def refusal_response(refusal: errors.Refusal) -> Response:
    """The answer to a request that can't be taken."""
    kind = type(refusal)
    response = error_response(STATUSES[kind], refusal.code, refusal.message)
    for name, value in _HEADERS.get(kind, ()):
        response.headers.append(name, value)
    return response


def internal_error_response(error: Exception) -> Response:
    """A 500 that tells its reader nothing but where the operator finds the rest."""
    error_id = uuid4().hex
    # Where, but neither its message nor the variables around it: both may quote the request's code.
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("internal error", error_id=error_id, failure=type(error).__name__, where=where)
    message = f"The server failed; its log has the reason under {error_id}."
    return error_response(500, "internal_error", message)


async def _on_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.Refusal)  # noqa: S101 - what we registered it for
    return refusal_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: a path that nobody serves, a method that it doesn't have."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what we registered it for
    path, method = request.url.path, request.method
    if error.status_code == 404:
        return error_response(404, errors.NotFound.code, f"Nothing is served at {path}; see /docs/index.html.")
    if error.status_code == 405:
        allow = ", ".join(_allowed_methods(request))
        message = f"{path} takes {allow}, not {method}."
        return error_response(405, "method_not_allowed", message, {"Allow": allow})
    code = HTTPStatus(error.status_code).name.lower()
    return error_response(error.status_code, code, str(error.detail), dict(error.headers or {}))


def _allowed_methods(request: Request) -> list[str]:
    # The framework names the methods of the first route alone, and one path may have several.
    allowed: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            allowed.update(route.methods or ())
    return sorted(allowed)


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    # Nobody reads it, except in a test; it keeps a body that was cut short from looking like our failure.
    return error_response(400, errors.InvalidRequest.code, "The connection ended before the request did.")


EXCEPTION_HANDLERS: dict[type[Exception], ExceptionHandler] = {
    errors.Refusal: _on_refusal,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
}
