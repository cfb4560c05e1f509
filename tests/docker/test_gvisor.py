"""The escape group of the abuse suite in containers, under runc and under gVisor; and what else holds under gVisor.

What an attack prints where it is held is the native sandbox's own: in a container another boundary may answer first, and
gVisor's kernel has errors of its own. What counts here is that nothing is reached. Each runs in a fork of one execution
of each runtime; `make test-all` runs each in a container of its own as well. `IN_A_CONTAINER` has what differs because
a container has another shape, and why that is no way out.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.abuse import escape
from tests.abuse.attacks import PRELUDE, Attack
from tests.support.api import assert_error
from tests.support.engine import Engine

from .serving import WELL, Served, ending, long, serving

RUNTIMES = ("runc", "runsc")
gvisor = pytest.mark.needs("gvisor")
EACH_RUNTIME = (RUNTIMES[0], pytest.param(RUNTIMES[1], marks=gvisor))
IMAGE = "with-setuid:latest"  # has programs that make their caller root elsewhere
IN_A_CONTAINER: dict[str, tuple[str, str]] = {  # what of an attack's code becomes what
    # /guest is a file system of the execution's own, whose programs have no more rights than its code.
    "changes the box's own files": ("/guest", "/usr"),
    "makes a file in any mount that is not its own": ("'/proc')", "'/proc', '/guest')"),
    # PID 1 has the rights of the code and none beyond, as a test below says; it is the code's own to harm.
    "opens /proc/1/oom_score_adj for writing": ("/proc/1/", "/proc/2/../1/../sys/kernel/"),
    "opens /proc/1/mem for writing": ("/proc/1/mem", "/proc/kcore"),
    "looks through the root of PID 1": ("reach(os.listdir, '/proc/1/root/')", "print('REACHED' * (os.path.exists('/proc/1/root/') and not os.path.samefile('/proc/1/root', '/')))"),
    # runc's own filter answers ENOSYS, whatever the kernel has, to calls that are newer than those of the profile.
    "asks who it is to the kernel's modules of security": (", 'ENOSYS'", ""),
}  # fmt: skip
IN_GVISOR: dict[str, tuple[str, str]] = {  # likewise
    # Its kernel takes any mark and makes any node, for itself alone: there is no network to mark for, no device behind.
    "marks its packets, which rules of the machine's may trust": ("reach(", "('nowhere', "),
    **{
        f"makes the device node of {name}": ("reach(os.mknod,", "reach(lambda *of: os.open(os.mknod(*of) or of[0], 0),")
        for name in ("the machine's memory", "a disk", "the kernel's log")
    },
}
# What our seccomp filter holds elsewhere: gVisor does not ask it (unless run with --oci-seccomp, and then release 20221219
# answers EPERM where the filter says ENOSYS, and no thread starts). What is reached is gVisor's kernel, in its sandbox.
GVISORS_OWN = frozenset({
    "makes a user namespace of its own by unshare",
    "makes a user and a mount namespace of its own by unshare",
    "makes a user and a PID namespace of its own by unshare",
    "makes a user and a network namespace of its own by unshare",
    "makes a user and a cgroup namespace of its own by unshare",
    "makes a user and a time namespace of its own by unshare",
    "makes a mount namespace with the rights it has",
    "makes a child in a user namespace by a flag of clone",
    "traces a child of its own",
    "lets a filter of its own allow what ours refuses",
    "runs sitecustomize of its own in a fresh interpreter, without the filter",
    "sets up io_uring",
    "reads the kernel's log",
    "changes which memory node it gets",
    "takes the machine's contexts of asynchronous I/O",
    "offers a page to be merged",
    "opens a socket of any other family",
    "opens a socket of the kernel's device events",
    "takes over a terminal by TIOCSTI",
    "takes over a terminal by TIOCLINUX",
    "takes over a terminal by TIOCSETD",
})  # fmt: skip
IN_FORKS = """
import json, os, shutil, signal, sys, traceback
before = set(os.listdir())
def run(code, output):
    os.dup2(output, 1), os.dup2(output, 2)
    os.setsid()  # as each has it in a container of its own
    signal.alarm(20)
    status = 0
    try: exec(compile(code, "attack", "exec"), {"__name__": "__main__"})
    except SystemExit: pass
    except OSError as error: print(error)
    except BaseException: traceback.print_exc(); status = 1
    sys.stdout.flush()
    os._exit(status)
said = {}
for name, code in json.load(open("attacks.json")).items():
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0: run(code, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as file: text = file.read().decode(errors="replace")
    for left in set(os.listdir()) - before: shutil.rmtree(left) if os.path.isdir(left) and not os.path.islink(left) else os.unlink(left)
    said[name] = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text]
print(json.dumps(said))
"""


def contained(attack: Attack, runtime: str) -> str:
    """The attack's code as it makes sense in a container."""
    code = attack.code
    for forms in (IN_A_CONTAINER, IN_GVISOR if runtime == "runsc" else {}):
        old, new = forms.get(attack.name, ("", ""))
        assert old in code
        code = code.replace(old, new) if old else code
    return PRELUDE + code


def is_gvisors_own(attack: Attack, runtime: str) -> bool:
    """Whether what it reaches is nothing of the machine's."""
    return runtime == "runsc" and attack.name in GVISORS_OWN


@pytest.fixture(scope="module")
def both(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that lets requests choose the runtime."""
    with serving(engine, tmp_path_factory.mktemp("both"), runtimes_allow="runc,runsc") as served:
        yield served


@pytest.fixture(scope="module", params=EACH_RUNTIME)
def answers(request: pytest.FixtureRequest, both: Served) -> dict[str, tuple[int, str]]:
    """Exit code and output of every attack under a runtime."""
    codes = json.dumps({attack.name: contained(attack, request.param) for attack in escape.ATTACKS})
    result = both.api.run({"main.py": IN_FORKS, "attacks.json": codes}, docker_image=IMAGE, runtime=request.param)
    assert ending(result) == WELL, result
    return {**json.loads(result["stdout"]), "runtime": (0, request.param)}


@pytest.mark.parametrize("attack", escape.ATTACKS, ids=str)
def test_an_attack_is_held(answers: dict[str, tuple[int, str]], attack: Attack) -> None:
    code, said = answers[attack.name]
    assert "REACHED" not in said or is_gvisors_own(attack, answers["runtime"][1]), said
    assert code in (0, -signal.SIGSYS), said  # which a filter of the engine's answers to another architecture


@long
@pytest.mark.parametrize("attack", escape.ATTACKS, ids=str)
@pytest.mark.parametrize("runtime", EACH_RUNTIME)
def test_an_attack_is_held_in_a_container_of_its_own(both: Served, runtime: str, attack: Attack) -> None:
    result = both.api.run(contained(attack, runtime), config=dict(attack.config), docker_image=IMAGE, runtime=runtime)
    assert "REACHED" not in result["stdout"] or is_gvisors_own(attack, runtime), result
    assert is_gvisors_own(attack, runtime) or result["exit_code"] in (0, 128 + signal.SIGSYS), result


def test_process_1_has_the_rights_of_the_code_and_none_beyond(both: Served) -> None:
    code = """
names = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
for pid in (1, "self"): print([line.split() for line in open(f"/proc/{pid}/status") if line.split(":")[0] in names])
"""
    of_1, of_code = both.api.eval(code)["stdout"].splitlines()
    assert of_1 == of_code
    assert "['CapBnd:', '0000000000000000']" in of_1
    assert "['Seccomp:', '2']" in of_1


@gvisor
def test_runsc_is_another_kernel(both: Served) -> None:
    ours, its = (both.api.eval("print(open('/proc/version').read())", runtime=runtime) for runtime in RUNTIMES)
    assert ours["stdout"].strip() == Path("/proc/version").read_text().strip()
    assert its["stdout"].startswith("Linux version")
    assert ours["stdout"] != its["stdout"]


@gvisor
def test_a_kill_ends_all_of_it_under_runsc_too(both: Served) -> None:
    execution_id = both.begin(
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nif os.fork() == 0: time.sleep(60)\n"
        "print('up', flush=True)\ntime.sleep(60)",
        runtime="runsc",
    )
    start = time.monotonic()
    assert both.api.kill(execution_id) == "killed"
    assert time.monotonic() - start < 10
    assert both.api.look(execution_id)["stdout"] == "up\n"


@gvisor
def test_its_time_ends_it_under_runsc_too(both: Served) -> None:
    result = both.api.eval("while True: pass", runtime="runsc", config={"timeout_seconds": 1})
    assert ending(result) == ("failed", "timeout", 124)
    assert result["duration_ms"] < 10_000


@gvisor
def test_memory_is_bounded_under_runsc_too(both: Served) -> None:
    code = "print('before', flush=True)\nx = []\nwhile True: x.append(bytearray(b'x' * (1 << 20)))"
    result = both.api.eval(code, runtime="runsc", config={"memory_mb": 128, "timeout_seconds": 30})
    assert ending(result) == ("completed", "memory", 137), result
    assert result["stdout"] == "before\n"


@gvisor
def test_code_gets_through_runsc_what_it_gets_through_runc(both: Served) -> None:
    code = "import os, sys\nprint(sys.stdin.read(), open('a/b').read(), os.getuid(), os.environ['X'], sys.argv)\nsys.exit(3)"
    made = {"main.py": code, "a/b": "content"}
    fields = {"stdin": "in", "env_vars": ["X=1"], "script_args": ["one"], "pre_commands": ["echo first"]}
    results = [both.api.run(made, runtime=runtime, **fields) for runtime in RUNTIMES]
    assert [(each["stdout"], each["exit_code"]) for each in results] == [
        ("first\nin content 1000 1 ['main.py', 'one']\n", 3)
    ] * 2


@gvisor
def test_the_network_is_refused_under_runsc(both: Served) -> None:
    answer = both.api.post_eval({"code": "1", "runtime": "runsc", "config": {"network_disabled": False}})
    assert_error(answer, 400, "network_unavailable", "runsc")
