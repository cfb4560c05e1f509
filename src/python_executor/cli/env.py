"""The words of `env …`. What they do is in `environments`, imported only when one of them runs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from .flags import HELP_OPTIONS, Commands, Flags, flattened, whole_number

GLOBAL = {field.name for field in fields(Flags)}
EXAMPLES = """
\b
Examples:
  python-executor env add data -r requirements.txt --preload numpy,pandas
  python-executor eval --environment data "import numpy; numpy.__version__"
"""

Name = Annotated[str, typer.Argument(metavar="NAME", hidden=True)]
DataDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The server's data directory (default: what serve has).")
]

app = typer.Typer(name="env", cls=Commands, context_settings=HELP_OPTIONS, rich_markup_mode=None)


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
@flattened(hidden=GLOBAL)
def overview(ctx: typer.Context, flags: Flags) -> int:
    """Make environments: packages that runs can ask for by name.

    On this machine's data directory, whether a server runs there or not; one that does sees what changes.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    return 0


@app.command("list", context_settings=HELP_OPTIONS)
@flattened(hidden=GLOBAL - {"as_json"})
def list_all(*, data_dir: DataDir = None, flags: Flags) -> int:
    """List environments.

    Those that have a name come first, then those that runs have had made.
    """
    from . import environments

    return environments.show_all(data_dir, flags.as_json)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden=GLOBAL)
def add(
    *,
    name: Name,
    requirements: Annotated[
        Path, typer.Option("--requirements", "-r", metavar="FILE", help="A requirements.txt: the packages.")
    ],
    python: Annotated[
        str | None, typer.Option(metavar="X.Y", help="For which Python (default: the one of eval).")
    ] = None,
    preload: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Modules to have imported before any code comes, as in numpy,pandas."),
    ] = "",
    data_dir: DataDir = None,
    flags: Flags,
) -> int:
    """Make an environment and name it.

    One that has the name already gives way. The name is given once all is there and every module could be imported.
    """
    from . import environments

    return environments.add(name, requirements, python, preload, data_dir, flags.quiet)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden=GLOBAL)
def remove(*, name: Name, data_dir: DataDir = None, flags: Flags) -> int:
    """Take a name away.

    Its packages stay until room is needed, or until prune.
    """
    from . import environments

    return environments.remove(name, data_dir)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden=GLOBAL)
def rebuild(*, name: Name, data_dir: DataDir = None, flags: Flags) -> int:
    """Make a named environment anew.

    With the newest versions, from the requirements and for the Python that it was made with. Until it is there the
    name stands for the old one.
    """
    from . import environments

    return environments.rebuild(name, data_dir, flags.quiet)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden=GLOBAL)
def prune(
    *,
    keep_mb: Annotated[
        int,
        typer.Option(parser=whole_number, metavar="N", help="MiB that may stay; the longest unused go first."),
    ] = 0,
    data_dir: DataDir = None,
    flags: Flags,
) -> int:
    """Remove environments that nobody uses.

    And that have no name. A server may run: what it uses stays.
    """
    from . import environments

    return environments.prune(keep_mb, data_dir)


@app.command(context_settings=HELP_OPTIONS)
@flattened(hidden=GLOBAL)
def lock(
    *, name: Annotated[str, typer.Argument(metavar="NAME|KEY", hidden=True)], data_dir: DataDir = None, flags: Flags
) -> int:
    """Print the lock of an environment.

    A requirements.txt with exact versions and hashes, from which anybody can make the same one again.
    """
    from . import environments

    return environments.show_lock(name, data_dir)
