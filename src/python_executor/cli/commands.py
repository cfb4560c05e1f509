"""The words of the command line, and the one place where failures become an exit code and a line on stderr.

What the commands do is in `actions` and `serve`, imported only when one of them runs: the help, the completion and
the version are there at once.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated

import typer

from .. import __version__
from . import env, output
from .errors import OUR_FAILURE, Failure
from .flags import HELP_OPTIONS, LIMITS, Commands, Flags, Packages, ProgramCommand, Source, flattened

NAME = "python-executor"
EXAMPLES = """
\b
Examples:
  python-executor eval '2 + 2'
  python-executor run script.py -- --verbose in.txt
  python-executor run ./project/ --timeout 60 -e DEBUG=1
  echo 'print("hi")' | python-executor run
  python-executor follow $(python-executor submit long_task.py)
  python-executor serve --port 8080
"""

Local = Annotated[bool, typer.Option("--local", help="Run it here, in a server that ends with it.")]
ExecutionId = Annotated[str, typer.Argument(metavar="ID", hidden=True)]

app = typer.Typer(cls=Commands, context_settings=HELP_OPTIONS, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(env.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code to leave with."""
    command = typer.main.get_command(app)
    try:
        return command.main(args=arguments, prog_name=NAME, standalone_mode=False) or 0
    except typer.TyperException as problem:
        path = getattr(getattr(problem, "ctx", None), "command_path", NAME)
        message = problem.format_message().rstrip(".")
        output.say(f"{message}{'' if message.endswith('?') else '.'} See {path} --help")
    except Failure as failure:
        for sentence in failure.args:
            output.say(sentence)
    except Exception:  # a bug of ours: its report needs the traceback, and the exit code is not to be the script's
        traceback.print_exc()
    return OUR_FAILURE


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
@flattened()
def overview(ctx: typer.Context, flags: Flags) -> int:
    """Run Python that nobody trusts, isolated from this machine and from its neighbours.

    The exit code is the script's; 125 means that we failed, not the script.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    return 0


@app.command(cls=ProgramCommand, context_settings=HELP_OPTIONS)
@flattened()
def run(ctx: typer.Context, source: Source, packages: Packages, flags: Flags, local: Local = False) -> int:
    """Run a program and print what it prints.

    A file, a directory, a tar or, without any, the code on stdin. ARGS are the program's own.
    Flags after FILE are ours; the program's go after --.
    """
    from . import actions

    return actions.run(source, packages, ctx.args, flags, local)


@app.command(cls=ProgramCommand, context_settings=HELP_OPTIONS)
@flattened(hidden={"detach", "quiet", "verbose"})
def submit(ctx: typer.Context, source: Source, packages: Packages, flags: Flags) -> int:
    """Start a program and print its id, for follow and kill.

    A file, a directory, a tar or, without any, the code on stdin. ARGS are the program's own.
    Flags after FILE are ours; the program's go after --.
    """
    from . import actions

    return actions.submit(source, packages, ctx.args, flags)


@app.command("eval", context_settings=HELP_OPTIONS)
@flattened(hidden={"image", "detach"})
def evaluate(
    *,
    code: Annotated[str, typer.Argument(metavar="CODE", hidden=True)] = "-",
    python: Annotated[str | None, typer.Option(metavar="X.Y", help="Which Python, e.g. 3.11.")] = None,
    no_result: Annotated[bool, typer.Option("--no-result", help="Don't print the last expression's value.")] = False,
    packages: Packages,
    flags: Flags,
    local: Local = False,
) -> int:
    """Run code and print the value of its last expression.

    Without CODE, or with -, the code is what is on stdin. Its own output comes first.
    """
    from . import actions

    return actions.evaluate(code, python, not no_result, packages, flags, local)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden={*LIMITS, "detach"})
def follow(execution_id: ExecutionId, flags: Flags) -> int:
    """Wait for an execution and print its output.

    As run would have printed it. Ctrl-C ends the waiting, not the execution.
    """
    from . import actions

    return actions.follow(execution_id, flags)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden={*LIMITS, "detach", "verbose"})
def kill(execution_id: ExecutionId, flags: Flags) -> int:
    """End an execution.

    One that has finished stays as it is.
    """
    from . import actions

    return actions.kill(execution_id, flags)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden={field.name for field in fields(Flags)})
def version(flags: Flags) -> int:
    """Print the version of this command line."""
    output.show_line(f"{NAME} {__version__}")
    return 0


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden={field.name for field in fields(Flags)} - {"as_json"})
def doctor(flags: Flags) -> int:
    """Tell whether this machine can keep untrusted code in.

    Every boundary is tried for real. Exit code 1 where a server would not start.
    """
    from .doctor import doctor

    return doctor(flags.as_json)


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def serve(ctx: typer.Context) -> int:
    """Start a server on this machine."""
    from .serve import serve_command  # a parser of its own: its flags are made from the settings

    return serve_command(ctx.args, prog_name=ctx.command_path)
