"""A running server against its own OpenAPI document: whatever is sent, it answers as it says it does.

Schemathesis runs as its command, in a process of its own; what no schema can say it learns from `hooks.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz.conftest import FACTOR
from tests.support.api import Api
from tests.support.server import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 10  # of each operation, besides some 600 that follow from the document's bounds
SECONDS = 240.0
KEY = "a-key"
BOUNDS = {
    "max_timeout": 3, "default_timeout": 3, "max_memory_mb": 512, "default_memory_mb": 64, "memory_budget": 1024,
    "max_disk_mb": 512, "default_disk_mb": 32, "max_concurrent": 4, "pool_min": 2, "cleanup_ttl": 3600,
    "backend": "native",  # no document can say which images an engine can have
}  # fmt: skip
RUNS = ("POST /api/v1/eval", "POST /api/v1/exec/sync", "POST /api/v1/exec/async")


@dataclass
class Attack:
    """How it went."""

    server: ServerProcess
    status: int
    report: str
    answers: Counter[tuple[str, int]]  # by operation and status


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    """Everything is sent, to a server that wants a key and lets nothing run for long."""
    server = ServerProcess(tmp_path_factory.mktemp("server"), api_key=KEY, **BOUNDS)
    server.start()
    try:
        yield _attack(server, tmp_path_factory.mktemp("attack"))
    finally:
        server.stop()


def _attack(server: ServerProcess, directory: Path) -> Attack:
    notes = directory / "notes"
    own = {
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "FUZZ_NOTES": str(notes),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/docs/doc.json",
            "--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--phases", "coverage,fuzzing",
            "--max-examples", str(EXAMPLES * FACTOR), "--generation-deterministic", "--suppress-health-check", "all",
            "--warnings", "off", "--no-color",
        ],
        cwd=directory, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=SECONDS * FACTOR, check=False,
    )  # fmt: skip
    report = "\n".join(line[:1000] for line in done.stdout.splitlines())
    lines = notes.read_text().splitlines() if notes.exists() else []
    answers = Counter((operation, int(status)) for operation, _, status in (line.rpartition(" ") for line in lines))
    return Attack(server, done.returncode, report, answers)


def test_every_answer_is_one_that_the_document_has(attack: Attack) -> None:
    assert attack.status == 0, attack.report
    assert not [answer for answer in attack.answers if answer[1] >= 500]


@pytest.mark.parametrize("operation", RUNS)
def test_as_many_requests_are_run_as_refused(attack: Attack, operation: str) -> None:
    run = attack.answers[operation, 200] + attack.answers[operation, 202]
    assert run >= 50, attack.answers
    assert attack.answers[operation, 400] >= 50, attack.answers


def test_afterwards_the_server_runs_code_as_before(attack: Attack) -> None:
    api = Api(attack.server.url, {"Authorization": f"Bearer {KEY}"})
    try:
        assert api.get("/health/ready").status_code == 200
        result = api.eval("print('out')\n6 * 7", eval_last_expr=True)
        assert (result["stdout"], result["result"], result["termination"]) == ("out\n", "42", "exited")
        assert api.run("import sys; print(sys.argv[1:])", script_args=["x"])["stdout"] == "['x']\n"
    finally:
        api.close()
