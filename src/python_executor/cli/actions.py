"""What the client commands do: gather what is sent, make one call, print what comes back. Each returns an exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from python_executor_client import ExecutionResult, PythonExecutorClient

from . import output, program, remote
from .errors import INTERRUPTED, Failure
from .flags import Flags, Packages, Source
from .waiting import Tell, waiting

Call = Callable[[PythonExecutorClient, Tell | None], ExecutionResult]  # which tells how its image or its packages are


def run(source: Source, packages: Packages, arguments: Sequence[str], flags: Flags, local: bool) -> int:
    """Run a program to its end; with `--async` only submit it."""
    if flags.detach and local:
        raise Failure("a --local server ends with this command, so nothing could follow: leave --async out")
    if flags.detach:
        return submit(source, packages, arguments, flags)
    packed, details = _request(source, packages, arguments, flags)
    return _show(lambda client, tell: remote.run(client, packed, details, tell), "running", flags, local)


def submit(source: Source, packages: Packages, arguments: Sequence[str], flags: Flags) -> int:
    """Start a program and print its id."""
    packed, details = _request(source, packages, arguments, flags)
    with remote.connected(flags.server) as client:
        execution_id = remote.send(client, packed, details)
    if flags.as_json:
        output.show_json({"execution_id": execution_id})
    else:
        output.show_line(execution_id)
    return 0


def evaluate(code: str, python: str | None, wants_value: bool, packages: Packages, flags: Flags, local: bool) -> int:
    """Run code and print the value of its last expression."""
    if flags.image:
        raise Failure("eval takes no image: choose a Python with --python 3.11, or use run --image")
    if flags.detach:
        raise Failure("eval waits for its value: leave --async out, or use submit")
    code = program.read_stdin() if code == "-" else code
    if not code:
        raise Failure("no code: give it as an argument or on stdin")
    request = {
        "code": code,
        "python_version": python,
        "eval_last_expr": wants_value,
        "config": remote.config(flags),
        "runtime": flags.runtime,
        **_asked_for(packages),
    }
    return _show(lambda client, _: remote.evaluate(client, request, flags.timeout), "running", flags, local)


def follow(execution_id: str, flags: Flags) -> int:
    """Wait for an execution and print it as `run` does."""
    try:
        words = f"waiting for {execution_id}"
        return _show(lambda client, tell: remote.wait(client, execution_id, tell), words, flags)
    except KeyboardInterrupt:
        output.say(f"it goes on; `python-executor kill {execution_id}` ends it")
        return INTERRUPTED


def kill(execution_id: str, flags: Flags) -> int:
    """End an execution and tell how it ended, which may have been earlier and of its own accord."""
    with remote.connected(flags.server) as client:
        client.kill(execution_id)
        result = client.get_execution(execution_id)
    if flags.as_json:
        output.show_json(output.as_dict(result))
    elif not flags.quiet:
        output.show_line(f"{execution_id} {result.status}")
    return 0


def _request(
    source: Source, packages: Packages, arguments: Sequence[str], flags: Flags
) -> tuple[program.Program, dict[str, Any]]:
    """The files and the details to send with them."""
    if source.stdin and not source.module and program.is_stdin(source.target, source.extra or ()):
        raise Failure("--stdin needs a FILE: without one, stdin is the code")
    details = {
        **remote.config(flags),
        **_asked_for(packages),
        "module": source.module,
        "docker_image": flags.image,
        "runtime": flags.runtime,
        "env_vars": program.environment(source.env or ()),
        "script_args": list(arguments),
        "stdin": program.read_stdin() if source.stdin else None,
    }
    return program.load(source.target, source.extra or (), source.entrypoint, source.module), details


def _asked_for(packages: Packages) -> dict[str, Any]:
    """The packages, as the wire names them."""
    return {
        "requirements_txt": program.read_text(packages.requirements) if packages.requirements else None,
        "environment": packages.environment,
        "detect_imports": packages.detect_imports,
    }


def _show(call: Call, words: str, flags: Flags, local: bool = False) -> int:
    """Make the call, to a server of our own where it is local, and print the result."""
    try:
        with waiting(words, silent=flags.quiet) as tell:
            result = _make(lambda client: call(client, tell), flags.server, local)
    except remote.Interrupted as stop:
        output.show(stop.result, flags)
        return INTERRUPTED
    return output.show(result, flags)


def _make(call: remote.Call, server: str, local: bool) -> ExecutionResult:
    if local:
        from .local import call_here  # the whole engine, which other commands do without

        return call_here(call)
    with remote.connected(server) as client:
        return call(client)
