"""The OpenAPI document and Swagger UI, both served from here: no outside host is asked for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from swagger_ui_bundle import swagger_ui_path  # type: ignore[import-untyped]

from .. import __version__
from ..model.environment import NamedEnvironment
from ..model.image import MAX_LENGTH
from ..model.spec import Interpreter
from ..settings import DEBIAN_RELEASES, PYTHON, Settings
from .bodies import EvalRequest, Metadata
from .responses import Error, json_response

ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
CONTENT_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>python-executor</title>
<link rel="stylesheet" href="swagger-ui.css">
<link rel="icon" type="image/png" href="favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="start.js"></script>
</body>
</html>
"""
# Swagger UI would ask a validator on the internet about the document; null keeps it from that.
START = 'SwaggerUIBundle({url: "doc.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'


_ERRORS = {
    400: "The request breaks a rule.",
    401: "No API key, or a wrong one.",
    403: "A foreign Origin or an unknown Host.",
    404: "No such execution.",
    413: "Too many bytes.",
    415: "A body of the wrong kind.",
    429: "Too many executions wait; see Retry-After.",
    503: "The server takes no work, or sends too many large results; see Retry-After.",
}


class Operation(NamedTuple):
    """A route with its description: nobody can see what a function takes from its request and puts in its answer."""

    method: str
    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    answer: type[BaseModel] | type[str]  # a string is plain text
    errors: tuple[int, ...]
    more: Mapping[str, Any] = {}  # of what OpenAPI says of an operation
    status: int = 200


def docs_routes(
    operations: Sequence[Operation],
    settings: Settings,
    interpreters: Sequence[Interpreter],
    named: Callable[[], Sequence[NamedEnvironment]],
) -> list[Route]:
    """Swagger UI, its files, and the document that it shows, which is made when somebody first asks for it."""

    @cache
    def made_document() -> dict[str, Any]:
        return make_document(operations, settings, interpreters)

    async def index(_request: Request) -> Response:
        return HTMLResponse(INDEX, headers={"Content-Security-Policy": CONTENT_POLICY})

    async def start(_request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    def document_of_now() -> dict[str, Any]:
        schemas = made_document()["components"]["schemas"]
        names = () if settings.backend == "docker" else [each.name for each in named()]
        for model in (EvalRequest, Metadata):
            choice = [*names, "", None]
            schemas[model.__name__]["properties"]["environment"]["enum"] = choice
        return made_document()

    async def document(_request: Request) -> Response:
        return json_response(await asyncio.to_thread(document_of_now))

    async def to_index(_request: Request) -> Response:
        return RedirectResponse("/docs/index.html")

    return [
        Route("/docs", to_index),
        Route("/docs/", to_index),
        Route("/docs/index.html", index),
        Route("/docs/start.js", start),
        Route("/docs/doc.json", document),
        *(Route(f"/docs/{name}", _asset(name)) for name in ASSETS),
    ]


def _asset(name: str) -> Any:
    path = Path(str(swagger_ui_path)) / name

    async def asset(_request: Request) -> Response:
        return FileResponse(path, headers={"Cache-Control": "max-age=86400"})

    return asset


def make_document(
    operations: Sequence[Operation], settings: Settings, interpreters: Sequence[Interpreter]
) -> dict[str, Any]:
    """The OpenAPI document of these operations on this server."""
    from fastapi.openapi.utils import get_openapi  # most servers are never asked, and it takes long to import

    document = get_openapi(
        title="python-executor",
        version=__version__,
        openapi_version="3.0.3",
        description="Runs Python that nobody trusts, each execution in a sandbox of its own.",
        routes=[_described(operation) for operation in operations],
    )
    _complete(document, settings, interpreters)
    return document


def _described(operation: Operation) -> BaseRoute:
    from fastapi.routing import APIRoute

    status, errors = operation.status, operation.errors
    if operation.path != "/health":
        errors = (*errors, 401, 403)
    return APIRoute(
        operation.path,
        operation.endpoint,
        methods=[operation.method],
        status_code=status,
        response_model=None,
        responses={
            status: {"model": operation.answer, "description": "Done." if status == 200 else "Taken."},
            **{code: {"model": Error, "description": _ERRORS[code]} for code in errors},
        },
        operation_id=operation.endpoint.__name__,
        openapi_extra=dict(operation.more),
    )


def _complete(document: dict[str, Any], settings: Settings, interpreters: Sequence[Interpreter]) -> None:
    """Add what FastAPI can't know: the requests' bodies, this server's bounds and versions, its key."""
    schemas = document["components"]["schemas"]
    for model in (EvalRequest, Metadata):
        schema = schemas[model.__name__] = model.model_json_schema()
        _add_bounds(schema["properties"]["config"]["anyOf"][0]["properties"], settings)
    _add_versions(schemas, settings, [interpreter.minor_version for interpreter in interpreters])
    _add_runtimes(schemas, settings)
    schemas["EvalRequest"]["anyOf"] = [
        {"required": ["code"], "properties": {"code": {"type": "string", "minLength": 1}}},
        {"required": ["files"], "properties": {"files": {"type": "array", "items": {}, "minItems": 1}}},
    ]
    if settings.api_key:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
        }
        document["security"] = [{"bearer": []}, {"basic": []}]
        document["paths"]["/health"]["get"]["security"] = []
    _to_openapi_3_0(document)


def _add_bounds(properties: dict[str, Any], settings: Settings) -> None:
    for name, default, maximum in (
        ("timeout_seconds", settings.default_timeout, settings.max_timeout),
        ("memory_mb", settings.default_memory_mb, settings.max_memory_mb),
        ("disk_mb", settings.default_disk_mb, settings.max_disk_mb),
        ("cpu_shares", settings.default_cpu_shares, settings.max_cpu_shares),
    ):
        properties[name]["anyOf"][0]["maximum"] = maximum
        properties[name]["default"] = default
    properties["cpus"]["anyOf"][0]["maximum"] = settings.max_cpus
    properties["cpu_seconds"]["anyOf"][0]["maximum"] = settings.max_cpu_seconds
    properties["network_disabled"]["default"] = not settings.default_network


def _add_versions(schemas: dict[str, Any], settings: Settings, versions: list[str]) -> None:
    """What names a Python here: of images that a container engine may have, no document can tell which."""
    version, image = (
        schemas[model]["properties"][field]
        for model, field in (("EvalRequest", "python_version"), ("Metadata", "docker_image"))
    )
    if settings.backend == "docker":
        version["pattern"] = f"^({PYTHON.pattern})?$"
    else:
        version["enum"] = [*versions, "", None]
    if settings.backend == "native":
        choice = "|".join(version.replace(".", "\\.") for version in versions)
        image["pattern"] = f"^(python:({choice})(-slim(-({'|'.join(DEBIAN_RELEASES)}))?)?)?$"
    else:
        image["maxLength"] = MAX_LENGTH
        image["examples"] = ["python:3.12-slim"]


def _add_runtimes(schemas: dict[str, Any], settings: Settings) -> None:
    names = () if settings.backend == "native" else settings.nameable_runtimes
    for model in (EvalRequest, Metadata):
        schemas[model.__name__]["properties"]["runtime"]["enum"] = [*names, "", None]


def _to_openapi_3_0(node: Any) -> None:
    """FastAPI writes OpenAPI 3.1, which this Swagger UI can't show: 3.0 has `nullable` in place of a null type."""
    if isinstance(node, list):
        for item in node:
            _to_openapi_3_0(item)
    if not isinstance(node, dict):
        return
    for value in node.values():
        _to_openapi_3_0(value)
    kinds = node.get("anyOf")
    if isinstance(kinds, list) and {"type": "null"} in kinds:
        kinds.remove({"type": "null"})
        node["nullable"] = True
        if len(kinds) == 1:
            (kind,) = node.pop("anyOf")
            # A $ref stands alone in 3.0; whatever is beside it goes unread.
            node.update({"allOf": [kind]} if "$ref" in kind else kind)
    if isinstance(node.get("examples"), list):
        node["example"] = node.pop("examples")[0]
