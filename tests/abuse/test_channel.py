"""What code says about itself: it may lie about its own result, and about nothing else.

The same as for the other attacks: each is held beside a neighbour that must not notice, and each has a twin without the
boundary. What code says shows in the answer's fields, so that a case here says which it must have, both times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.abuse.attacks import PRELUDE
from tests.abuse.conftest import Neighbour
from tests.abuse.resources import ENDS
from tests.support.api import Api
from tests.support.guarded import Guarded

FRAMES = """
import struct, sys, threading, time
RESULT, RAISED, EXIT = 1, 2, 3
def frame(kind, payload): return struct.pack("!BI", kind, len(payload)) + payload
def flood(head, much):
    'Sends much at once; prints REACHED if somebody takes 4 MiB of it.'
    os.set_blocking(3, False)
    os.write(3, head)
    sent, last = 0, time.monotonic()
    while sent < 4 << 20 and time.monotonic() - last < 0.4:
        try: sent += os.write(3, much)
        except BlockingIOError: time.sleep(0.001)
        else: last = time.monotonic()
    print("REACHED" if sent >= 4 << 20 else "held", flush=True)
    os._exit(0)
"""
CODE = PRELUDE + FRAMES
CHECKS = (  # of what is said: one guard for the twins of all
    "exit-status", "kept-functions", "memory-verdict", "name-cut", "report-checks", "reporters-pid", "result-cut",
)  # fmt: skip
SMALL = {"memory_mb": 48, "timeout_seconds": 20}
EVAL = {"eval_last_expr": True}


@dataclass(frozen=True)
class Lie:
    """Code that says something, the fields of the answer where it is held, and those without the boundary."""

    name: str
    code: str
    held: Mapping[str, Any]
    without: tuple[str, ...]
    twin: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    needs_privilege: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def ends(termination: str, exit_code: int, **fields: Any) -> Mapping[str, Any]:
    """Fields of an answer."""
    return {"termination": termination, "exit_code": exit_code, **fields}


def as_the_kernel_says(name: str, code: str, termination: str = "exited", exit_code: int = 7) -> Lie:
    """An end without a word, or with one that can't be read: what is left is the exit status."""
    return Lie(name, code, ends(termination, exit_code), CHECKS, ends("exited", 0))


LIES = [
    Lie(
        "says twice what its result is",
        "os.write(3, frame(RESULT, b'\\0first') + frame(RESULT, b'\\0second')); os._exit(0)",
        ends("exited", 0, result="first"),
        CHECKS,
        ends("exited", 0, result="second"),
    ),
    Lie(
        "says twice what it raised",
        "os.write(3, frame(RAISED, bytes(4) + b'First') + frame(RAISED, bytes(4) + b'Second')); os._exit(0)",
        ends("exited", 0, error_type="First"),
        CHECKS,
        ends("exited", 0, error_type="Second"),
    ),
    Lie(
        "goes on to speak after a frame that is broken",
        "os.write(3, frame(9, b'') + frame(RESULT, b'\\0forged') + frame(EXIT, b'\\0')); time.sleep(0.1); os._exit(7)",
        ends("exited", 7, result=None),
        CHECKS,
        ends("exited", 0, result="forged"),
    ),
    Lie(
        "sends a result longer than any may be",
        """
def send():
    data = frame(RESULT, bytes(1) + b"x" * (3 << 19))
    while data: data = data[os.write(3, data):]
sender = threading.Thread(target=send, daemon=True)
sender.start()
sender.join(0.4)
os._exit(0)
""",
        ends("exited", 0, result=None),
        CHECKS,
        ends("exited", 0, result="x" * (3 << 19)),
    ),
    Lie(
        "has the server wait for a frame of 4 GiB",
        "flood(struct.pack('!BI', RESULT, 0xFFFFFFFF), bytes(1 << 15))",
        {"stdout": "held\n"},
        CHECKS,
        {"stdout": "REACHED\n"},
    ),
    Lie(
        "floods its report from eight threads",
        """
for _ in range(7):
    threading.Thread(target=lambda: [os.write(3, frame(9, bytes(4000))) for _ in range(200)], daemon=True).start()
threading.excepthook = lambda *_: None
flood(b"", frame(9, bytes(4000)) * 8)
""",
        {"stdout": "held\n"},
        CHECKS,
        {"stdout": "REACHED\n"},
    ),
    as_the_kernel_says("ends in half a header", "os.write(3, b'\\1\\0'); sys.exit(7)"),
    as_the_kernel_says("ends in half a frame", "os.write(3, frame(RESULT, b'\\0result')[:-2]); os._exit(7)"),
    as_the_kernel_says("closes all that it has, its report too", "for fd in range(4): os.close(fd)\nsys.exit(7)"),
    as_the_kernel_says(
        "ends in a thread", "threading.Thread(target=lambda: (time.sleep(0.05), os._exit(7))).start(); time.sleep(20)"
    ),
    as_the_kernel_says("becomes another program", "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])"),
    as_the_kernel_says("kills itself", "os.kill(os.getpid(), 9)", "signaled", 137),
    as_the_kernel_says(
        "crashes, and has the crash described in its report",
        "import faulthandler\nfaulthandler.enable(3)\nctypes.string_at(0)",
        "signaled",
        139,
    ),
    as_the_kernel_says(
        "overflows its stack",
        """
import resource
resource.setrlimit(resource.RLIMIT_STACK, (1 << 16, 1 << 16))
def deeper(_): return sorted([0], key=deeper)
deeper(0)
""",
        "signaled",
        139,
    ),
    Lie(
        "goes on after its own last frame",
        "os.write(3, frame(EXIT, b'\\x2a'))\ntime.sleep(0.15)\nos.write(1, b'REACHED')\ntime.sleep(20)",
        ends("exited", 42, stdout=""),
        ENDS,
        ends("exited", 42, stdout="REACHED"),
    ),
    Lie(
        "has a child report after its end",
        """
if os.fork() == 0:
    time.sleep(0.15)
    os.write(3, frame(RESULT, b"\\0forged") + frame(EXIT, b"\\0"))
os._exit(7)
""",
        ends("exited", 7, result=None),
        ENDS,
        ends("exited", 0, result="forged"),
    ),
    Lie(
        "has a child come to the end of the file before it",
        "child = os.fork()\nif child: time.sleep(0.2)\n'parent' if child else 'child'",
        ends("exited", 0, result="'parent'"),
        CHECKS,
        ends("exited", 0, result="'child'"),
        request=EVAL,
    ),
    Lie(
        "forks in its repr",
        """
class Forks:
    def __repr__(self):
        child = os.fork()
        if child: time.sleep(0.2)
        return "parent" if child else "child"
Forks()
""",
        ends("exited", 0, result="parent"),
        CHECKS,
        ends("exited", 0, result="child"),
        request=EVAL,
    ),
    Lie(
        "returns more than a result may have",
        "'x' * (3 << 20)",
        ends("exited", 0, result="'" + "x" * ((1 << 20) - 1)),
        CHECKS,
        ends("exited", 0, result="'" + "x" * (3 << 20) + "'"),
        request=EVAL,
    ),
    Lie(
        "raises what has a name without end",
        "raise type('X' * 100_000, (Exception,), {})",
        ends("exited", 1, error_type="X" * 256),
        CHECKS,
        ends("exited", 1, error_type="X" * 100_000),
    ),
    Lie(
        "replaces the functions that its report is made with",
        """
import json, builtins
os.write = lambda fd, data: len(data)
os._exit = lambda code: None
os.getpid = lambda: 1
json.dumps = builtins.open = builtins.print = None
6 * 7
""",
        ends("exited", 0, result="42"),
        CHECKS,
        ends("exited", 0, result=None),
        request=EVAL,
    ),
    Lie(
        "says that all went well where its child was killed for memory",
        """
if os.fork() == 0: x = b"x" * (96 << 20); os._exit(0)
os.wait()
os.write(3, frame(EXIT, b"\\0"))
time.sleep(20)
""",
        ends("memory", 137),
        CHECKS,
        ends("exited", 0),
        config=SMALL,
        needs_privilege=True,
    ),
    Lie(
        "writes to every descriptor that it can find",
        """
found = 0
for fd in range(4, 1024):
    try: os.write(fd, b"x")
    except OSError: continue
    found += 1
os._exit(42 if found else 0)
""",
        ends("exited", 0, stdout=""),
        ("descriptors",),
        ends("exited", 42),
    ),
]


def seen(result: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in expected}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_is_held(lie: Lie, attacked_api: Api, undisturbed: Neighbour, request: pytest.FixtureRequest) -> None:
    if lie.needs_privilege:
        request.getfixturevalue("privilege")
    result = attacked_api.eval(CODE + lie.code, config=dict(lie.config), **lie.request)
    assert seen(result, lie.held) == lie.held, result["stderr"]


@pytest.mark.twin
@pytest.mark.parametrize("lie", sorted(LIES, key=lambda lie: lie.without), ids=str)
def test_its_twin_is_believed(lie: Lie, without: Callable[..., Guarded]) -> None:
    result = without(*lie.without).eval(CODE + lie.code, config=dict(lie.config), **lie.request)
    assert seen(result, lie.twin) == lie.twin, result["stderr"]


# --- its time: all at once, since each takes a second -----------------------------------------------------------------

OVERTIME = {
    "ignores every signal": """
import signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
print("up")
time.sleep(1.5)
print("REACHED")
""",
    "stops itself": """
import signal
own = os.getpid()
if os.fork() == 0:
    time.sleep(1.5)
    os.kill(own, signal.SIGCONT)
    os._exit(0)
print("up")
os.kill(own, signal.SIGSTOP)
print("REACHED")
""",
    "waits for a child of vfork, deaf to all": """
print("up")
if libc.syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x4000 | 17, 0, 0, 0, 0) == 0:
    time.sleep(1.5)
    os._exit(0)
print("REACHED")
""",
    "never ends in its repr": """
class Slow:
    def __repr__(self): time.sleep(1.5); print("REACHED"); return ""
print("up")
Slow()
""",
    "hangs in the words of its exception": """
class Slow(Exception):
    def __str__(self): time.sleep(1.5); print("REACHED"); return ""
print("up")
raise Slow
""",
    "hangs in an exit handler": """
import atexit
atexit.register(lambda: (time.sleep(1.5), print("REACHED")))
print("up")
""",
    "waits for a thread that does not end": """
threading.Thread(target=lambda: (time.sleep(1.5), print("REACHED"))).start()
print("up")
""",
    "has reported its result, but not its end": """
print("up")
os.write(3, frame(RESULT, b"\\0forged"))
time.sleep(1.5)
print("REACHED")
""",
}
OVERTIME_REQUEST = {"config": {"timeout_seconds": 1, "memory_mb": 64}, "eval_last_expr": True}


@pytest.fixture(scope="module")
def out_of_time(attacked_api: Api, attacked: Any) -> dict[str, dict[str, Any]]:
    """All of them, beside a neighbour."""

    def run(code: str) -> dict[str, Any]:
        api = Api(attacked.url)
        try:
            return api.eval(CODE + code, **OVERTIME_REQUEST)
        finally:
            api.close()

    neighbour = Neighbour(attacked.url)
    try:
        with ThreadPoolExecutor(len(OVERTIME)) as pool:
            results = dict(zip(OVERTIME, pool.map(run, OVERTIME.values()), strict=True))
        assert neighbour.is_well(), neighbour.wrong
        return results
    finally:
        neighbour.stop()


@pytest.mark.parametrize("name", OVERTIME)
def test_nothing_gets_more_than_its_time(name: str, out_of_time: dict[str, dict[str, Any]]) -> None:
    result = out_of_time[name]
    held = ends("timeout", 124, status="failed", stdout="up\n")
    assert seen(result, held) == held, result["stderr"]


@pytest.fixture(scope="module")
def without_a_clock(without: Callable[..., Guarded]) -> dict[str, dict[str, Any]]:
    guarded = without(*ENDS)
    running = {name: guarded.start("eval", CODE + code, **OVERTIME_REQUEST) for name, code in OVERTIME.items()}
    return {name: each.result(60) for name, each in running.items()}


@pytest.mark.twin
@pytest.mark.parametrize("name", OVERTIME)
def test_its_twin_gets_more(name: str, without_a_clock: dict[str, dict[str, Any]]) -> None:
    result = without_a_clock[name]
    assert "REACHED" in result["stdout"] and result["termination"] == "exited", result


# --- what takes more than one call ------------------------------------------------------------------------------------


def image_of(api: Api | Guarded) -> dict[str, str]:
    """The interpreter that evals have, so that no second box is started."""
    return {"docker_image": "python:" + ".".join(api.eval("1")["python"].split(".")[:2])}


def with_a_daemon(api: Api | Guarded) -> str:
    return api.run("print('ends')", pre_commands=["(sleep 0.15; echo REACHED) &"], **image_of(api))["stdout"]


def test_a_daemon_of_a_command_ends_with_the_run(attacked_api: Api, undisturbed: Neighbour) -> None:
    assert with_a_daemon(attacked_api) == "ends\n"


@pytest.mark.twin
def test_its_twin_lives_on(without: Callable[..., Guarded]) -> None:
    assert with_a_daemon(without(*ENDS)) == "ends\nREACHED\n"


def killed(api: Api | Guarded) -> tuple[str, str]:
    code = "os.write(3, frame(RESULT, b'\\0forged'))\nprint('up')\ntime.sleep(20)"
    execution = api.submit(CODE + code, **image_of(api))
    api.until(execution, "stdout", "up\n")
    api.kill(execution)
    result = api.finished(execution)
    return result["status"], result["termination"]


def test_what_is_killed_is_told_as_killed(attacked_api: Api, undisturbed: Neighbour) -> None:
    assert killed(attacked_api) == ("killed", "killed")


@pytest.mark.twin
def test_its_twin_is_told_as_something_else(without: Callable[..., Guarded]) -> None:
    assert killed(without(*ENDS)) == ("completed", "signaled")


KILLS_ALL = CODE + "time.sleep(0.1)\nos.kill(-1, 9)\nprint('alone')"
VICTIM = "import time\nprint('up', flush=True)\ntime.sleep(0.6)\nprint('lives')"


def victim_of(api: Api | Guarded) -> dict[str, Any]:
    victim = api.submit(VICTIM, **image_of(api))
    api.until(victim, "stdout", "up\n")
    api.eval(KILLS_ALL, config={"timeout_seconds": 2})
    return api.finished(victim)


def test_killing_all_that_there_is_kills_nobody_else(attacked_api: Api, undisturbed: Neighbour) -> None:
    assert victim_of(attacked_api)["stdout"] == "up\nlives\n"


@pytest.mark.twin
def test_its_twin_kills_a_neighbour(without: Callable[..., Guarded]) -> None:
    victim = victim_of(without("pid-namespace", "shared-uid"))
    assert (victim["stdout"], victim["exit_code"]) == ("up\n", 137)


# --- direct probes: what no twin can show -----------------------------------------------------------------------------

PROBES = {  # code, fields of the answer
    # The kernel lets nobody inside of a PID namespace kill its init; and who has the zygote as parent sees none.
    "kills its init": (
        "try: os.kill(1, 9)\nexcept OSError: pass\ntime.sleep(0.1); print('on')",
        ends("exited", 0, stdout="on\n"),
    ),
    "has no parent to kill": ("print(os.getppid())", ends("exited", 0, stdout="0\n")),
    # Its own result, to lie about as it likes: there is no boundary.
    "says what it likes of itself": (
        "os.write(3, frame(RESULT, b'\\0forged') + frame(RAISED, bytes(4) + b'Forged') + frame(EXIT, b'\\x09'))\ntime.sleep(20)",
        ends("exited", 9, result="forged", error_type="Forged", stdout="", status="completed"),
    ),
    "names what is no text": (
        "os.write(3, frame(RAISED, bytes(4) + b'\\xed\\xa0\\x80\\0\\n\\xff') + frame(EXIT, b'\\1'))\ntime.sleep(20)",
        ends("exited", 1, error_type="\ufffd\ufffd\ufffd\0\n\ufffd"),
    ),
    # Plain Python's own behaviour, which must not become ours.
    "raises what cannot be shown": (
        "class Bad(Exception):\n  def __str__(self): raise SystemExit(3)\n  __repr__ = __str__\nraise Bad",
        ends("exited", 1, error_type="Bad", error_line=PRELUDE.count("\n") + FRAMES.count("\n") + 4),
    ),
    "has an exit handler that raises": (
        "import atexit\natexit.register(lambda: 1 / 0)\nprint('x')",
        ends("exited", 0, stdout="x\n", error_type=None),
    ),
    "replaces its streams": (
        "class Odd:\n  closed = False\n  def write(self, text): raise OSError\n  def flush(self): raise OSError\n"
        "sys.stdout = sys.stderr = Odd()",
        ends("exited", 120),
    ),
    "leaves its report full": (
        "os.set_blocking(3, False)\ntry:\n  while True: os.write(3, b'\\1' + bytes(1 << 15))\nexcept OSError: pass",
        ends("exited", 0, result=None),
    ),
}


@pytest.mark.parametrize("name", PROBES)
def test_an_odd_end_is_told_as_it_was(name: str, attacked_api: Api, undisturbed: Neighbour) -> None:
    code, expected = PROBES[name]
    result = attacked_api.eval(CODE + code)
    assert seen(result, expected) == expected, result["stderr"]


def test_no_frame_changes_what_was_used(attacked_api: Api, undisturbed: Neighbour) -> None:
    code = "while time.process_time() < 0.2: pass\nos.write(3, frame(RESULT, b'\\0') + frame(EXIT, b'\\0'))\ntime.sleep(20)"
    assert attacked_api.eval(CODE + code)["usage"]["cpu_ms"] >= 190


@pytest.fixture(autouse=True)
def _at_rest(at_rest: object) -> Iterator[None]:
    """The server is looked at before the first attack."""
    yield
