"""Many sandboxes on one machine: what each takes of its memory, and whether an eval gets slower beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from load import sentence, sequential
from server import Server, ServerFailed, available_bytes, private_bytes
from ways import CODE, EVAL, EXPECTED, eval_body, evaluated, in_result

from python_executor.model.spec import Interpreter
from python_executor_client import PythonExecutorClient

POOL = 4  # sandboxes whose memory is looked at, waiting and running
LEAST_FREE_MEBIBYTES = 8  # for each sandbox, or we don't begin
START_SECONDS = 120.0
SETTLE_SECONDS = 1.0
SLEEPING = f"import time\n{CODE}time.sleep(60)\n"


@dataclass(frozen=True, slots=True)
class Density:
    """A server with so many sandboxes that wait."""

    sandboxes: int
    made_seconds: float  # from the server's start until all were there
    evals_ms: list[float]
    private_bytes: int  # of all sandboxes together
    machine_bytes: int  # of all of the machine's memory that was free before the server's start
    server_bytes: int  # resident


@dataclass(frozen=True, slots=True)
class SandboxMemory:
    """Private bytes of one sandbox, its `pause` included, on average over a few."""

    waiting: int
    sleeping: int


def dense(interpreter: Interpreter, sandboxes: int, turns: int, advance: Callable[[], None]) -> Density | str:
    """Measure one density; a sentence where this machine can't have it."""
    free = available_bytes()
    if free < sandboxes * LEAST_FREE_MEBIBYTES << 20:
        return f"not tried: {free >> 20:,} MiB are free here, which is too close"
    try:
        with Server(interpreter, pool=sandboxes) as server:
            made_seconds = server.wait_for_sandboxes(sandboxes, START_SECONDS)
            time.sleep(SETTLE_SECONDS)
            taken = free - available_bytes()
            private = sum(map(private_bytes, server.sandbox_processes()))
            way = evaluated(server, eval_body(CODE), in_result(EXPECTED), EVAL)
            times = sequential([way], turns, warm_up=3, advance=advance)[EVAL]
            return Density(sandboxes, made_seconds, times, private, taken, server.resident_bytes())
    except ServerFailed as failure:
        return f"not reached: {sentence(failure)}"
    except PermissionError:
        return "only root may look at a sandbox's memory"


def memory_of_sandboxes(interpreter: Interpreter) -> SandboxMemory | str:
    """The same sandboxes twice: while they wait, and then with a program in them that sleeps."""
    try:
        with Server(interpreter, pool=POOL) as server:
            server.wait_for_sandboxes(POOL, START_SECONDS)
            time.sleep(SETTLE_SECONDS)
            sandboxes = server.sandbox_processes()
            waiting = sum(map(private_bytes, sandboxes))
            client = PythonExecutorClient(server.url)
            executions = [client.execute_async(files={"main.py": SLEEPING}) for _ in range(POOL)]
            time.sleep(SETTLE_SECONDS)
            sleeping = sum(map(private_bytes, sandboxes))
            for execution_id in executions:
                client.kill(execution_id)
                answer = client.wait_for_completion(execution_id)
                assert answer.stdout == EXPECTED.decode(), answer
            time.sleep(SETTLE_SECONDS)
            if alive := set(sandboxes) & set(server.sandbox_processes()):
                return (
                    f"not told: the program ran in other sandboxes than those that had waited ({len(alive)} still do)"
                )
            return SandboxMemory(waiting // POOL, sleeping // POOL)
    except ServerFailed as failure:
        return f"not reached: {sentence(failure)}"
    except PermissionError:
        return "only root may look at a sandbox's memory"
