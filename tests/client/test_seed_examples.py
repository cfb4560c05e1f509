"""Every example of the client's documentation, run against a live server.

The examples are taken out of the docstrings, where they stand as the reference of the library has them: neither can
drift from the other. `STAGES` is the one place that says what had to be different for them to run here.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import python_executor_client
from tests.support.machine import lacking


@dataclass(frozen=True)
class Stage:
    """How one docstring's examples are put on.

    `swaps` replaces pieces of their code. `prints` says what the example that holds a piece of code prints, where
    the documented output is absent or can't come twice. `before` and `after` are code of ours around them.
    """

    examples: int  # how many the docstring has
    before: str = ""
    swaps: dict[str, str] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)
    after: str = ""
    wants_packages: bool = False  # which images are not given


WANTS_NETWORK = "network_disabled=False"  # what the code of an example has that asks for one
REFUSAL = "config.network_disabled false can't be had from this server"  # where there is none, with the reason
ADDRESSES = ["http://pyexec.cluster:9999/", "http://localhost:8080"]  # of the documentation: ours stands in

STAGES = {
    "python_executor_client": Stage(5),
    "python_executor_client.client": Stage(6, after="assert result.stdout == 'Hello from helper!\\n'"),
    "PythonExecutorClient": Stage(3),
    "PythonExecutorClient.__init__": Stage(2),
    "PythonExecutorClient.execute_async": Stage(
        4,
        swaps={"time.sleep(60)": "time.sleep(0.1)"},
        prints={"print(f": "Submitted: exe_..."},
        after="assert result.stdout == 'done\\n'",
    ),
    "PythonExecutorClient.execute_sync": Stage(
        6,
        before="Path('myproject').mkdir(); Path('myproject/main.py').write_text('print(2)')",
        swaps={"network_disabled=False\n)": "network_disabled=False\n); print(result.exit_code)"},
        prints={"import numpy": "0"},
        after="assert result.stdout == '2\\n'",
        wants_packages=True,
    ),
    "PythonExecutorClient.get_execution": Stage(
        3,
        before="exec_id = submit_and_see_running()",
        swaps={'"exe_550e8400-e29b-41d4-a716-446655440000"': "exec_id"},
        after="client.kill(exec_id)",
    ),
    "PythonExecutorClient.kill": Stage(
        3, after="assert client.wait_for_completion(exec_id, max_wait=10).status == ExecutionStatus.KILLED"
    ),
    "PythonExecutorClient.wait_for_completion": Stage(5, swaps={"time.sleep(5)": "time.sleep(0.2)"}),
    "PythonExecutorClient.eval": Stage(9),
    "ExecutionStatus": Stage(
        2,
        before="exec_id = client.execute_sync(files={'main.py': 'print(2)'}).execution_id",
        prints={"if result.status": "2"},
    ),
    "ExecutionConfig": Stage(2, after="assert metadata.to_dict()['config']['memory_mb'] == 2048"),
    "Metadata": Stage(1, after="assert metadata.requirements_txt == 'requests\\nnumpy'"),
    "ExecutionResult": Stage(6),
}


def documentation() -> dict[str, str]:
    """The docstrings of the package, its client module, and every public class and method, by name."""
    objects = {module.__name__: module for module in (python_executor_client, python_executor_client.client)}
    for name in python_executor_client.__all__:
        documented = getattr(python_executor_client, name)
        methods = {f"{name}.{key}": value for key, value in vars(documented).items() if inspect.isfunction(value)}
        objects.update({name: documented, **methods})
    return {name: inspect.getdoc(documented) or "" for name, documented in objects.items()}


def examples_of(text: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(text) or script_examples(text)


def script_examples(text: str) -> list[doctest.Example]:
    """The statements of an example without prompts; a comment behind a statement is what that prints."""
    script = textwrap.dedent(text.partition("Example:\n")[2])
    lines = script.splitlines()
    return [
        doctest.Example(
            ast.get_source_segment(script, statement),
            lines[statement.end_lineno - 1][statement.end_col_offset :].partition("# ")[2],
        )
        for statement in ast.parse(script).body
    ]


def staged(example: doctest.Example, stage: Stage, server_url: str) -> doctest.Example:
    source = example.source
    for written, here in {**dict.fromkeys(ADDRESSES, f"{server_url}/"), **stage.swaps}.items():
        source = source.replace(written, here)
    prints = [output for code, output in stage.prints.items() if code in source]
    if WANTS_NETWORK in source and (reason := lacking("network")):
        return doctest.Example(source, "", exc_msg=f"requests.exceptions.HTTPError: 400 ...: {REFUSAL}: {reason}.\n")
    return doctest.Example(source, prints[0] if prints else example.want)


def helpers(client: python_executor_client.PythonExecutorClient) -> dict[str, object]:
    """What `before`, `swaps` and `after` may call."""

    def submit_and_see_running():
        """The id of an execution that has started and goes on."""
        execution_id = client.execute_async(files={"main.py": "import time; time.sleep(60)"})
        deadline = time.monotonic() + 30
        while client.get_execution(execution_id).status == "pending" and time.monotonic() < deadline:
            time.sleep(0.02)
        return execution_id

    return {"submit_and_see_running": submit_and_see_running}


def test_no_example_is_left_out():
    found = {name: len(examples_of(text)) for name, text in documentation().items()}

    assert {name: count for name, count in found.items() if count} == {
        name: stage.examples for name, stage in STAGES.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.names_interpreter] if stage.wants_packages else [])
        for name, stage in STAGES.items()
    ],
)
def test_the_documented_examples_do_what_they_say(name, server_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = python_executor_client.PythonExecutorClient(server_url)
    public = {word: getattr(python_executor_client, word) for word in python_executor_client.__all__}
    names = {"client": client, "Path": Path, **public, **helpers(client)}
    stage = STAGES[name]
    examples = [staged(example, stage, server_url) for example in examples_of(documentation()[name])]
    test = doctest.DocTest(examples, names, name, None, 0, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report: list[str] = []

    exec(stage.before, test.globs)
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)
    exec(stage.after, test.globs)
