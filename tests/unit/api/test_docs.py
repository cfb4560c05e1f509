"""The documentation: true, readable by Swagger UI, and without any outside host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from python_executor.api.responses import engine_content
from python_executor.model.engine import Engine
from tests.support.api import Api
from tests.unit.api.fakes import FakeExecutions, serving, settings
from tests.unit.api.test_routes import RESULT


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    return api.get("/docs/doc.json").json()


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(child)


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_short_paths_lead_to_the_page(api: Api, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.headers["Location"]) == (307, "/docs/index.html")


def test_the_page_loads_only_what_this_server_has(api: Api) -> None:
    page = api.get("/docs/index.html")
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "://" not in page.text
    assert "<script>" not in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "swagger-ui-bundle.js" in files
    for file in files:
        assert api.get(f"/docs/{file}").status_code == 200


def test_no_file_but_those_is_served(api: Api) -> None:
    for file in ("swagger-ui-bundle.js.map", "../settings.py", "%2e%2e/__init__.py"):
        assert api.get(f"/docs/{file}").status_code == 404


def test_the_document_is_openapi_3_0(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.0.")
    for node in _nodes(document):
        assert node.get("type") != "null"
        assert "const" not in node
        assert "$defs" not in node
        if "$ref" in node:
            name = node["$ref"].removeprefix("#/components/schemas/")
            assert name in document["components"]["schemas"]


def test_every_operation_of_the_contract_is_described(document: dict[str, Any]) -> None:
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert operations == {
        ("POST", "/api/v1/eval"),
        ("POST", "/api/v1/exec/sync"),
        ("POST", "/api/v1/exec/async"),
        ("GET", "/api/v1/executions/{execution_id}"),
        ("DELETE", "/api/v1/executions/{execution_id}"),
        ("GET", "/api/v1/environments"),
        ("GET", "/api/v1/environments/{key}/lock"),
        ("GET", "/api/v1/environments/{key}/sbom"),
        ("GET", "/health"),
        ("GET", "/health/ready"),
    }
    for item in document["paths"].values():
        for operation in item.values():
            assert "422" not in operation["responses"]


def test_the_described_result_is_the_one_that_is_sent(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["ExecutionResult"]
    assert set(schema["properties"]) == set(schema["required"]) == set(RESULT)


def test_bounds_and_versions_are_those_of_this_server(document: dict[str, Any]) -> None:
    request = document["components"]["schemas"]["EvalRequest"]["properties"]
    timeout = request["config"]["anyOf"][0]["properties"]["timeout_seconds"]
    assert (timeout["anyOf"][0]["maximum"], timeout["default"]) == (3600, 300)
    assert request["python_version"]["enum"] == ["3.13", "3.12", "3.11", "", None]
    image = document["components"]["schemas"]["Metadata"]["properties"]["docker_image"]
    assert (image["maxLength"], "pattern" in image) == (512, False)
    assert request["runtime"]["enum"] == ["", None]


def _fields(**given: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an eval and an upload can say, on a server with these settings."""
    with serving(FakeExecutions(), settings(**given)) as url, closing(Api(url)) as api:
        schemas = api.get("/docs/doc.json").json()["components"]["schemas"]
    return schemas["EvalRequest"]["properties"], schemas["Metadata"]["properties"]


def test_without_an_engine_an_image_is_an_interpreter() -> None:
    run, upload = _fields(backend="native", runtime="runsc")
    image = upload["docker_image"]["pattern"]
    assert re.search(image, "python:3.11-slim-bookworm")
    assert re.search(image, "")
    assert not re.search(image, "python:3.10")
    assert run["runtime"]["enum"] == upload["runtime"]["enum"] == ["", None]


def test_in_containers_versions_are_not_those_of_this_machine() -> None:
    run, upload = _fields(backend="docker", runtime="runsc", runtimes_allow="kata")
    assert re.search(run["python_version"]["pattern"], "3.9")
    assert "pattern" not in upload["docker_image"]
    assert run["runtime"]["enum"] == upload["runtime"]["enum"] == ["runsc", "kata", "", None]


def test_the_described_engine_is_the_one_that_is_sent(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["EngineResult"]["properties"]) == set(engine_content(Engine("unix:///run/docker.sock")))
    assert set(schemas["Readiness"]["properties"]) == {"status", "engine"}
    assert "pulling" in schemas["Stage"]["enum"]


def test_a_key_is_part_of_the_document() -> None:
    with serving(FakeExecutions(), settings(api_key="key")) as url:
        api = Api(url, {"Authorization": "Bearer key"})
        document = api.get("/docs/doc.json").json()
        api.close()
    assert document["security"] == [{"bearer": []}, {"basic": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
