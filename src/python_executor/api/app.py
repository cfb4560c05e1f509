"""The application: routes and what stands before them.

The routes are Starlette's own. FastAPI makes the document that describes them (`docs`) and serves nothing: what it puts
around an endpoint, for parameters and answers that it does not see here, costs more than all the rest of HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..settings import Settings
from .docs import Operation, docs_routes
from .endpoints import MAX_WAIT_SECONDS, Endpoints
from .errors import EXCEPTION_HANDLERS
from .intake import Intake
from .middleware import BodyDrain, ErrorBoundary, Guard
from .responses import Accepted, BillOfMaterials, ExecutionResult, Health, NamedEnvironments, Readiness, StatusResult
from .specs import SpecBuilder
from .uploads import spool_of

if TYPE_CHECKING:
    from ..executions.service import Executions

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
_KEY = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
_ID = {"name": "execution_id", "in": "path", "required": True, "schema": {"type": "string"}}


def create_app(executions: Executions, settings: Settings) -> Starlette:
    """The service over HTTP. Starting and closing `executions` is for `server.serve`, which owns their life."""
    specs = SpecBuilder(
        settings, executions.interpreters, executions.network_unavailable, executions.named_environments
    )
    operations = _operations(Endpoints(executions, specs, spool_of(settings)))
    app = Starlette(
        routes=[
            *map(_route, operations),
            *docs_routes(operations, settings, executions.interpreters, executions.named_environments),
        ],
        middleware=[
            Middleware(ErrorBoundary),
            Middleware(BodyDrain),
            Middleware(Guard, settings=settings),
            Middleware(Intake, holdings=executions.holdings),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.router.redirect_slashes = False
    return app


def _operations(endpoints: Endpoints) -> list[Operation]:
    run, execution = (400, 413, 415, 429, 503), "/api/v1/executions/{execution_id}"
    environment = "/api/v1/environments/{key}"
    return [
        Operation("POST", "/api/v1/eval", endpoints.eval, ExecutionResult, run, {"requestBody": _JSON_BODY}),
        Operation(
            "POST", "/api/v1/exec/sync", endpoints.exec_sync, ExecutionResult, run, {"requestBody": _UPLOAD_BODY}
        ),
        Operation(
            "POST", "/api/v1/exec/async", endpoints.exec_async, Accepted, run, {"requestBody": _UPLOAD_BODY}, 202
        ),
        Operation(
            "GET", execution, endpoints.get_execution, ExecutionResult, (400, 404, 503), {"parameters": [_ID, _WAIT]}
        ),
        Operation("DELETE", execution, endpoints.kill_execution, StatusResult, (404,), {"parameters": [_ID]}),
        Operation("GET", "/api/v1/environments", endpoints.environments, NamedEnvironments, ()),
        Operation("GET", f"{environment}/lock", endpoints.environment_lock, str, (404,), {"parameters": [_KEY]}),
        Operation(
            "GET", f"{environment}/sbom", endpoints.environment_sbom, BillOfMaterials, (404,), {"parameters": [_KEY]}
        ),
        Operation("GET", "/health", endpoints.health, Health, ()),
        Operation("GET", "/health/ready", endpoints.ready, Readiness, (503,)),
    ]


def _route(operation: Operation) -> Route:
    route = Route(operation.path, _Answering(operation.endpoint))
    route.methods = {operation.method}  # Starlette itself would add HEAD to GET
    return route


class _Answering:
    """An endpoint as Starlette's own wrapper would have it, without an exception handler of its own around each."""

    def __init__(self, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive))
        await response(scope, receive, send)
