"""What comes in as JSON: the shapes of the requests, checked for type alone.

Missing, null and "" all mean "the server's choice" and come out as the field's default here; so does 0 for a limit.
What is in range, and what the server has, is for `specs` to decide. Each annotation spells out what is really
taken, for the OpenAPI document, which `docs` completes with the numbers and versions of this server.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, WithJsonSchema, model_validator

from ..model.errors import InvalidRequest

NO_NUL = "^[^\\x00]*$"
ENV_VAR = "^[^=\\x00]+=[^\\x00]*$"
MODULE_NAME = "^\\w[\\w-]*(\\.[\\w-]+)*$"
MAX_MODULE = 255  # characters
MAX_ITEMS = 10_000  # of each list; an archive can hold more files


def _or_empty(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"type": "string", "enum": [""]}], "nullable": True})


def _strings(pattern: str) -> WithJsonSchema:
    return _or_empty({"type": "array", "items": {"type": "string", "pattern": pattern}, "maxItems": MAX_ITEMS})


# Any type: `specs` tells the type and the range that it must have in one sentence.
Limit = Annotated[object, _or_empty({"type": "integer", "minimum": 0})]
Number = Annotated[object, _or_empty({"type": "number", "minimum": 0})]
Flag = Annotated[bool, _or_empty({"type": "boolean"})]
OptionalFlag = Annotated[bool | None, _or_empty({"type": "boolean"})]
Text = Annotated[str, WithJsonSchema({"type": "string", "nullable": True})]
Module = Annotated[str, _or_empty({"type": "string", "maxLength": MAX_MODULE, "pattern": MODULE_NAME})]
# Fail fast: one wrong item is enough to tell, and a body can hold millions.
Strings = Annotated[list[str], FailFast(), Field(max_length=MAX_ITEMS), _strings(NO_NUL)]
EnvVars = Annotated[list[str], FailFast(), Field(max_length=MAX_ITEMS), _strings(ENV_VAR)]


class Body(BaseModel):
    """An object of a request: strict types, unknown fields ignored, empty fields as if they were missing."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None and value != ""}


class Config(Body):
    """Limits; 0 or nothing takes the server's default."""

    timeout_seconds: Number = Field(default=0, description="Seconds that it may run; 0.25 is a quarter of one.")
    cpu_seconds: Number = Field(
        default=0, description="Seconds of processor time, of all its processes together; no such limit by default."
    )
    memory_mb: Limit = Field(default=0, description="MiB of memory, files and shared memory together.")
    disk_mb: Limit = Field(default=0, description="MiB of memory_mb that files may take.")
    cpu_shares: Limit = Field(default=0, description="Relative weight; 1024 is one share.")
    cpus: Number = Field(default=0, description="Processors' worth of time at most; 0.5 is half of one.")
    network_disabled: OptionalFlag = Field(
        default=None, description="Whether it has no network but a loopback of its own."
    )


class CodeFile(Body):
    """A file of an eval."""

    name: Annotated[str, Field(json_schema_extra={"pattern": "^[^/\\x00]"})]
    content: Text = ""


Files = Annotated[
    list[CodeFile],
    FailFast(),
    Field(max_length=MAX_ITEMS),
    _or_empty({"type": "array", "items": CodeFile.model_json_schema(), "maxItems": MAX_ITEMS}),
]
ConfigField = Annotated[Config, _or_empty(Config.model_json_schema())]


REQUIREMENTS = Field(
    default="",
    description="A requirements.txt: packages that it gets. Without it, its files may say so (PEP 723 metadata of the "
    'entrypoint, requirements.txt, pyproject.toml); "-" means none at all.',
)
ENVIRONMENT = Field(default="", description="Name of an environment of this server's, in place of requirements.")
RUNTIME = Field(
    default="",
    description="Runtime of the container engine, such as runsc, where the operator permits it; asks for a container.",
)


MODULE = Field(
    default="",
    description="Module or package to run as `python -m` does, in place of an entrypoint; there is no `result` then.",
)


class EvalRequest(Body):
    """`code` or `files`, and how to run them."""

    code: Text = Field(default="", description="The program; becomes main.py.")
    files: Files = Field(default=[], description="Files instead of `code`, which they win over.")
    entrypoint: Text = Field(default="", description="File to run; by default the first of `files`, or main.py.")
    module: Module = MODULE
    stdin: Text = ""
    python_version: Text = Field(default="", description="Minor version of an interpreter that the server has.")
    eval_last_expr: Flag = Field(default=False, description="Answer repr() of the last expression in `result`.")
    config: ConfigField = Config()
    requirements_txt: Text = REQUIREMENTS
    detect_imports: OptionalFlag = Field(
        default=None, description="Whether it gets the packages that it imports; null takes the server's default."
    )
    environment: Text = ENVIRONMENT
    runtime: Text = RUNTIME


class Metadata(Body):
    """How to run an uploaded archive."""

    entrypoint: Text = Field(
        default="", description="File to run; by default main.py, __main__.py or the first .py file."
    )
    module: Module = MODULE
    docker_image: Text = Field(
        default="",
        description="What it runs in: `python:X.Y` or `python:X.Y-slim` with a version that the server has is an "
        "interpreter of its own, any other image a container, as far as the server has an engine for them. It needs a "
        "Python 3.8 or later, and nothing is installed into it.",
    )
    requirements_txt: Text = REQUIREMENTS
    detect_imports: OptionalFlag = Field(
        default=None, description="Whether it gets the packages that it imports, where nothing else says what it needs."
    )
    environment: Text = ENVIRONMENT
    runtime: Text = RUNTIME
    pre_commands: Strings = Field(default=[], description="Run first, each with `sh -c` in the same sandbox.")
    stdin: Text = ""
    env_vars: EnvVars = Field(default=[], description='"KEY=value"')
    script_args: Strings = []
    eval_last_expr: Flag = Field(default=False, description="Answer repr() of the last expression in `result`.")
    config: ConfigField = Config()


AnyBody = TypeVar("AnyBody", bound=Body)

_MUST_BE = {
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "missing": "is missing: give it",
    "too_long": f"must have at most {MAX_ITEMS} items: put them into an archive",
}


def parse(model: type[AnyBody], text: bytes | bytearray, what: str) -> AnyBody:
    """The body as the model has it. Raises `InvalidRequest` that names the field; `what` names the whole."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=True)[0]
    if first["type"] == "json_invalid":
        raise InvalidRequest(f"{what} is not JSON: {first['ctx']['error']}.")
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    raise InvalidRequest(f"{field.lstrip('.') or what} {_MUST_BE.get(first['type'], first['msg'])}.")
