"""`serve`: every setting is a flag of the same name, made from the one record that the setting has."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import structlog
import typer
from pydantic.fields import FieldInfo

from ..settings import LOOPBACK_HOSTS, Settings
from . import output
from .engine import engine_failures, load_settings, log_to_stderr
from .errors import Failure
from .flags import HELP_OPTIONS

log = structlog.get_logger()

METAVARS: dict[object, str] = {bool: "true|false", int: "N", float: "SECONDS", Path: "DIR"}
EPILOG = "Each flag has a variable of its name: --port is PYEXEC_PORT. The flag wins."


def serve_command(arguments: Sequence[str], prog_name: str) -> int:
    """Parse the arguments of `serve` and run the server until it is told to stop; the exit code."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(epilog=EPILOG, context_settings=HELP_OPTIONS)(_with_a_flag_for_each_setting())
    command = typer.main.get_command(app)
    code: int = command.main(args=list(arguments), prog_name=prog_name, standalone_mode=False) or 0
    return code


def _with_a_flag_for_each_setting() -> Any:
    def serve(**flags: str | None) -> None:
        """Start a server on this machine; Ctrl-C or SIGTERM stops it."""
        _serve(load_settings({name: value for name, value in flags.items() if value is not None}))

    serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_flag(name, field) for name, field in Settings.model_fields.items()]
    )
    return serve


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    """Text, whatever the setting's type: values are checked in one place, the settings themselves."""
    option = typer.Option(f"--{name.replace('_', '-')}", metavar=_metavar(field), help=_help(field))
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return METAVARS.get(field.annotation, "TEXT")


def _help(field: FieldInfo) -> str:
    if field.default_factory or field.default in (None, "", frozenset(), ()):
        return field.description or ""  # which tells the default where there is one
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"{field.description} (default: {default})"


def _serve(settings: Settings) -> None:
    from ..api import run
    from ..assembly import build

    log_to_stderr(settings.log_level)
    with engine_failures(settings):
        run(build(settings), settings, lambda url: _announce(url, settings))


def _announce(url: str, settings: Settings) -> None:
    key = "PYEXEC_API_KEY=… " if settings.api_key and "PYEXEC_API_KEY" not in os.environ else ""
    near = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")  # a wildcard is no destination
    server = "" if near == "http://127.0.0.1:8080" else f" --server {near}"
    listening, next_line = f"python-executor is listening on {url}", f"{key}python-executor{server} eval '2 + 2'"
    if settings.log_level in ("debug", "info") and _is_part_of_the_log():
        log.info(listening, url=url, try_it=next_line)
        return
    lines = [listening, f"Try it: {next_line}"]
    if settings.host not in LOOPBACK_HOSTS and not settings.api_key:
        lines.append("Other host names than localhost it answers to only if PYEXEC_ALLOWED_HOSTS has them.")
    with contextlib.suppress(typer.Exit, Failure):  # nobody listens to us: no reason to stop
        output.show_line("\n".join(lines))


def _is_part_of_the_log() -> bool:
    """Return whether stdout is one file with stderr, and no terminal: the log that is written there is JSON."""
    try:
        return not sys.stderr.isatty() and os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:  # one of them is closed
        return False
