"""The application: routes, what stands before them, and the document that describes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from .. import __version__
from ..settings import Settings
from .docs import complete_document, docs_routes
from .endpoints import MAX_WAIT_SECONDS, Endpoints
from .errors import EXCEPTION_HANDLERS
from .middleware import BodyDrain, ErrorBoundary, Guard
from .responses import Accepted, Error, ExecutionResult, Health, StatusResult
from .specs import SpecBuilder

if TYPE_CHECKING:
    from ..executions.service import Executions

_ERRORS = {
    400: "The request breaks a rule.",
    401: "No API key, or a wrong one.",
    403: "A foreign Origin or an unknown Host.",
    404: "No such execution.",
    413: "Too many bytes.",
    415: "A body of the wrong kind.",
    429: "Too many executions wait; see Retry-After.",
    503: "The server takes no work; see Retry-After.",
}
_JSON_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/EvalRequest"}}},
}
_UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["tar", "metadata"],
                "properties": {
                    "tar": {"type": "string", "format": "binary", "description": "An uncompressed tar archive."},
                    "metadata": {"$ref": "#/components/schemas/Metadata"},
                },
            },
            "encoding": {"metadata": {"contentType": "application/json"}},
        }
    },
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "allowEmptyValue": True,  # as if it were not there
    "description": "Seconds to wait for the end of the execution.",
    "schema": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
}
_ID = {"name": "execution_id", "in": "path", "required": True, "schema": {"type": "string"}}


class _App(FastAPI):
    """FastAPI with a document that is completed by `docs`, once, when somebody first asks for it."""

    def __init__(self, executions: Executions, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._executions = executions
        self._settings = settings
        self._document: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        if self._document is None:
            self._document = super().openapi()
            complete_document(self._document, self._settings, self._executions.interpreters)
        return self._document


def create_app(executions: Executions, settings: Settings) -> FastAPI:
    """The service over HTTP. Starting and closing `executions` is for `server.serve`, which owns their life."""
    app = _App(
        executions,
        settings,
        title="python-executor",
        version=__version__,
        description="Runs Python that nobody trusts, each execution in a sandbox of its own.",
        openapi_url=None,  # served below /docs, see `docs`
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.openapi_version = "3.0.3"
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(BodyDrain)
    app.add_middleware(ErrorBoundary)  # the last one added is the outermost
    _add_routes(
        app, Endpoints(executions, SpecBuilder(settings, executions.interpreters, executions.network_unavailable))
    )
    app.routes.extend(docs_routes(app))
    return app


def _add_routes(app: FastAPI, endpoints: Endpoints) -> None:
    run, execution = (400, 413, 415, 429, 503), "/api/v1/executions/{execution_id}"
    _add(app, "POST /api/v1/eval", endpoints.eval, ExecutionResult, run, requestBody=_JSON_BODY)
    _add(app, "POST /api/v1/exec/sync", endpoints.exec_sync, ExecutionResult, run, requestBody=_UPLOAD_BODY)
    _add(app, "POST /api/v1/exec/async", endpoints.exec_async, Accepted, run, status=202, requestBody=_UPLOAD_BODY)
    _add(app, f"GET {execution}", endpoints.get_execution, ExecutionResult, (400, 404), parameters=[_ID, _WAIT])
    _add(app, f"DELETE {execution}", endpoints.kill_execution, StatusResult, (404,), parameters=[_ID])
    _add(app, "GET /health", endpoints.health, Health, ())
    _add(app, "GET /health/ready", endpoints.ready, Health, (503,))


def _add(
    app: FastAPI,
    route: str,
    endpoint: Callable[[Request], Awaitable[Response]],
    answer: type[BaseModel],
    errors: tuple[int, ...],
    status: int = 200,
    **operation: Any,
) -> None:
    """A route with its description: FastAPI can't see what a function takes from its request and puts in its answer."""
    method, path = route.split()
    if path != "/health":
        errors = (*errors, 401, 403)
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        status_code=status,
        response_model=None,
        responses={
            status: {"model": answer, "description": "Done." if status == 200 else "Taken."},
            **{code: {"model": Error, "description": _ERRORS[code]} for code in errors},
        },
        operation_id=endpoint.__name__,
        openapi_extra=operation,
    )
