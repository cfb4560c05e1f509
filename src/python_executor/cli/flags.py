"""Flags that several commands share: declared once as a record, taken before and after every command.

A command that is `flattened` takes such records as parameters; the parser sees their fields, the command the records.
Global flags before the command are read as if they stood right after it (`Commands`), so of two the later one wins
by the parser's own rule.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from typer import Argument, BadParameter, Option
from typer.core import TyperCommand, TyperGroup

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
LIMITS = frozenset({"timeout", "cpu_seconds", "memory", "disk", "cpu", "cpus", "network", "image", "runtime"})


def whole_number(text: str) -> int:
    """A parser of its own for its sentence."""
    try:
        return int(text)
    except ValueError:
        raise BadParameter("must be a whole number") from None


def number(text: str) -> float:
    """Likewise; one without a fraction is sent as it was typed."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise BadParameter("must be a number") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The global flags; None leaves the choice to the server."""

    timeout: Annotated[
        float | None, Option(parser=number, metavar="SECONDS", help="Stop it after that long; 0.5 is half a second.")
    ] = None
    cpu_seconds: Annotated[
        float | None,
        Option(parser=number, metavar="SECONDS", help="Stop it when it has used that much processor time."),
    ] = None
    memory: Annotated[
        int | None, Option(parser=whole_number, metavar="MIB", help="Memory it may use, its files included.")
    ] = None
    disk: Annotated[
        int | None, Option(parser=whole_number, metavar="MIB", help="How much of that its files may take.")
    ] = None
    cpu: Annotated[
        int | None, Option(parser=whole_number, metavar="SHARES", help="Its weight among others; 1024 is one share.")
    ] = None
    cpus: Annotated[
        float | None, Option(metavar="N", help="Processors' worth of time it gets at most; 0.5 is half of one.")
    ] = None
    network: Annotated[bool, Option("--network", help="Let it use the network.")] = False
    image: Annotated[str | None, Option(metavar="NAME", help="What to run it in, e.g. python:3.12-slim.")] = None
    runtime: Annotated[
        str | None, Option(metavar="NAME", help="Which runtime of the server's container engine, e.g. runsc.")
    ] = None
    quiet: Annotated[bool, Option("--quiet", "-q", help="Only its stdout, and only on success.")] = False
    verbose: Annotated[bool, Option("--verbose", "-v", help="Tell on stderr how it went.")] = False
    as_json: Annotated[bool, Option("--json", help="Print the whole answer as JSON.")] = False
    detach: Annotated[bool, Option("--async", help="Don't wait: print the id, for follow and kill.")] = False
    server: Annotated[str, Option(metavar="URL", envvar="PYEXEC_SERVER", help="The server that runs it.")] = (
        "http://localhost:8080"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to run, for `run` and `submit`."""

    target: Annotated[Path | None, Argument(metavar="FILE|DIR|TAR", hidden=True)] = None
    extra: Annotated[
        list[Path] | None,
        Option(
            "--file",
            metavar="FILE",
            help="One more file to have there; repeatable. Without FILE|DIR|TAR, these are the program.",
        ),
    ] = None
    entrypoint: Annotated[
        str | None, Option(metavar="NAME", help="Which file to start; else main.py, __main__.py or the first .py.")
    ] = None
    module: Annotated[
        str | None, Option("--module", "-m", metavar="NAME", help="Run a module, as python -m does; needs no file.")
    ] = None
    env: Annotated[
        list[str] | None,
        Option("--env", "-e", metavar="VAR[=VALUE]", help="A variable for it; VAR alone as it is here. Repeatable."),
    ] = None
    stdin: Annotated[bool, Option("--stdin", help="Pass our stdin on to it.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Which packages it gets, for `run`, `submit` and `eval`; None leaves the choice to the server."""

    requirements: Annotated[Path | None, Option(metavar="FILE", help="A requirements.txt: packages it needs.")] = None
    environment: Annotated[
        str | None, Option(metavar="NAME", help="An environment of the server's that has them: see env.")
    ] = None
    detect_imports: Annotated[
        bool | None,
        Option(
            "--detect-imports/--no-detect-imports",
            help="Have what it imports, where nothing else names packages; if not said, eval does and run does not.",
        ),
    ] = None


def flattened(*, hidden: Collection[str] = ()) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Let a command take whole records of flags; those that are `hidden` work, but its help is silent on them."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(command, eval_str=True)
        records: dict[str, Any] = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if is_dataclass(parameter.annotation)
        }

        @functools.wraps(command)
        def flat(**values: Any) -> int:
            for name, record in records.items():
                values[name] = record(**{field.name: values.pop(field.name) for field in fields(record)})
            return command(**values)

        seen = [
            flag
            for name, parameter in signature.parameters.items()
            for flag in (_flags_of(records[name], hidden) if name in records else [parameter])
        ]
        flat.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[flag.replace(kind=inspect.Parameter.KEYWORD_ONLY) for flag in seen]
        )
        return flat

    return decorate


def _flags_of(record: type[Any], hidden: Collection[str]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        kind, option = hints[field.name].__origin__, copy(hints[field.name].__metadata__[0])
        option.hidden = option.hidden or field.name in hidden
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[kind, option],
        )


class Commands(TyperGroup):
    """Reads global flags before the command as if they stood right after it."""

    _BEFORE = f"{__name__}.before"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: the parser's types are private to typer
        given = list(args)
        rest = super().parse_args(ctx, args)  # stops at the command: what is gone then are the flags before it
        ctx.meta[self._BEFORE] = [word for word in given[: len(given) - len(rest) - 1] if word != "--"]
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, [*ctx.meta[self._BEFORE], *rest]


class ProgramCommand(TyperCommand):
    """A command that runs a program: what follows `--` is the program's and ends up in `ctx.args`."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        mark = args.index("--") if "--" in args else len(args)
        if extra := super().parse_args(ctx, args[:mark]):
            ctx.fail(f"Arguments of the program go after --, as in: {ctx.command_path} FILE -- {' '.join(extra)}")
        ctx.args = args[mark + 1 :]
        return args[mark + 1 :]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS]"]
