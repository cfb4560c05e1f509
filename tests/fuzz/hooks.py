"""What Schemathesis can't know from our document; loaded into its process by `test_api.py`.

No schema can say that an upload is a tar, that the entrypoint is one of the files, or which executions there are. So
that requests get further than to their first refusal, those parts are made right here, except where being wrong was
the point. Each answer's operation and status are noted in a file.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import schemathesis
from schemathesis.core.jsonschema import make_validator
from schemathesis.core.parameters import ParameterLocation
from schemathesis.transport.requests import REQUESTS_TRANSPORT, multipart_serializer
from schemathesis.transport.serialization import Binary

from tests.support.archives import tar_of
from tests.support.machine import lacking

ARCHIVE = tar_of({"main.py": "import sys\nprint(sys.argv, sys.stdin.read(9))", "tool.py": "x = 1"})
NOTES = os.environ["FUZZ_NOTES"]
HAS_NETWORK = lacking("network") is None
known: list[str] = []  # ids of executions


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]) -> None:
    """Make right what a schema can't say, of an eval and of an id."""
    if case.meta is None:
        return
    if case.path == "/api/v1/eval" and not case.meta.is_negative_at(ParameterLocation.BODY):
        make_runnable(case.body)
    elif case.method != "POST" and known and not case.meta.is_negative_at(ParameterLocation.PATH):
        case.path_parameters["execution_id"] = known[-1]


@REQUESTS_TRANSPORT.serializer("multipart/form-data")
def write_upload(context: schemathesis.SerializationContext, value: Any) -> dict[str, Any]:
    """The same of an upload, as it is written: a body with bytes in it counts as a wrong one once it was changed."""
    if isinstance(value, dict):
        value = copy.deepcopy(value)
        is_right = context.case.meta is None or not context.case.meta.is_negative_at(ParameterLocation.BODY)
        if is_right:
            make_runnable(value.get("metadata"))
        if "tar" in value and (is_right or not metadata_is_right(context.case)):
            value["tar"] = Binary(ARCHIVE)  # else nothing but the archive would be looked at
    return multipart_serializer(context, value)


def make_runnable(fields: Any) -> None:
    """Take away an entrypoint that names none of the files, names that can't be files beside each other, and a network.

    The last only where there can be none: there every second request would meet that refusal, and no other one.
    """
    if not isinstance(fields, dict):
        return
    fields.pop("entrypoint", None)
    if not HAS_NETWORK and isinstance(fields.get("config"), dict):
        fields["config"].pop("network_disabled", None)
    if isinstance(fields.get("files"), list):
        fields["files"] = [{**file, "name": f"file{number}.py"} for number, file in enumerate(fields["files"])]


def metadata_is_right(case: schemathesis.Case) -> bool:
    """Whether the metadata of an upload are what the document asks for."""
    upload: Any = case.operation.get_body_for_media_type(case.media_type)
    validator = make_validator(upload.optimized_schema, case.operation.schema.adapter.jsonschema_validator_cls)
    return validator.is_valid({"tar": "", "metadata": case.body.get("metadata")})


@schemathesis.hook
def after_call(_context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """Note it, and the execution that it made."""
    with open(NOTES, "a") as notes:
        notes.write(f"{case.operation.label} {response.status_code}\n")
    if case.method == "POST" and response.status_code in (200, 202):
        known.append(response.json()["execution_id"])
