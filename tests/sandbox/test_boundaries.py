"""What a sandbox cannot see or do: a direct probe of each boundary."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from python_executor.model.errors import BackendError
from python_executor.model.events import Termination
from python_executor.model.spec import Limits
from python_executor.sandboxes.native import backend
from python_executor.sandboxes.native.backend import NativeBackend
from python_executor.sandboxes.native.sandbox import NativeSandbox
from python_executor.sandboxes.native.selftest import _host_uids
from tests.sandbox.conftest import INTERPRETERS, LIMITS, NEWEST, Engine, Outcome, make_spec

Run = Callable[..., Outcome]


def status_field(run: Run, name: str) -> str:
    lines = run("print(open('/proc/self/status').read())").stdout.splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name + ":"))


@pytest.mark.parametrize("name", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_no_capability_is_left(run: Run, name: str) -> None:
    assert int(status_field(run, name), 16) == 0


def test_no_new_privileges_and_a_filter_are_on(run: Run) -> None:
    assert (status_field(run, "NoNewPrivs"), status_field(run, "Seccomp")) == ("1", "2")


def test_the_user_is_an_ordinary_one(run: Run) -> None:
    code = "import os, getpass, pwd; print(os.getresuid(), os.getresgid(), os.getgroups(), pwd.getpwuid(os.getuid()).pw_dir)"
    assert run(code).stdout.startswith("(1000, 1000, 1000) (1000, 1000, 1000) [")


def test_each_kind_of_namespace_is_the_sandboxes_own(run: Run) -> None:
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    inside = run(f"import os\nfor kind in {kinds}: print(os.readlink('/proc/self/ns/' + kind))").stdout.split()
    assert not set(inside) & {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}


def test_two_sandboxes_share_no_namespace_that_holds_anything(engine: Engine) -> None:
    code = "import os\nfor kind in ('ipc', 'mnt', 'net', 'pid', 'user'): print(os.readlink('/proc/self/ns/' + kind))"

    async def both() -> list[Outcome]:
        return await asyncio.gather(
            *(engine.run_spec(make_spec(code + "\nimport time; time.sleep(0.2)")) for _ in "ab")
        )

    first, second = engine.wait(both())
    assert not set(first.stdout.split()) & set(second.stdout.split())


def test_the_root_holds_nothing_of_the_hosts_but_libraries(run: Run) -> None:
    seen = set(json.loads(run("import json, os; print(json.dumps(os.listdir('/')))").stdout))
    assert seen <= {"bin", "dev", "etc", "guest", "lib", "lib32", "lib64", "libx32", "proc", "python", "root", "run", "sbin",
                    "store", "tmp", "usr", "var", "venv", "work"}  # fmt: skip
    assert run("import os; print(os.listdir('/usr'))").stdout.count("local") == 0
    assert (
        run("import os; print(*map(os.listdir, ['/root', '/run', '/store', '/tmp', '/venv']))").stdout
        == "[] [] [] [] []\n"
    )


@pytest.mark.parametrize("path", ["/etc/shadow", "/sys", "/proc/sys", "/proc/kcore", "/proc/1/environ", "/home", "/boot",
                                  "/var/run/docker.sock", "/usr/local"])  # fmt: skip
def test_what_could_hurt_is_not_there(run: Run, path: str) -> None:
    assert run(f"import os; print(os.path.exists({path!r}))").stdout == "False\n"


@pytest.mark.parametrize(
    "path", ["/x", "/etc/passwd", "/usr/bin/x", "/usr/lib/x", "/dev/x", "/root/x", "/guest/runner.py"]
)
def test_everything_but_work_and_tmp_is_read_only(run: Run, path: str) -> None:
    outcome = run(f"open({path!r}, 'w')")
    assert outcome.raised is not None and outcome.raised[0] in ("OSError", "PermissionError")


@pytest.mark.parametrize("directory", ["/work", "/tmp", "/dev/shm"])
def test_work_and_tmp_are_writable(run: Run, directory: str) -> None:
    assert run(f"open({directory!r} + '/x', 'w').write('x'); print('ok')").stdout == "ok\n"


def test_only_its_own_processes_are_seen(run: Run) -> None:
    assert run("import os; print([p for p in os.listdir('/proc') if p.isdigit()], os.getpid())").stdout == "['2'] 2\n"


def test_the_codes_descriptors_are_the_four_that_it_needs(run: Run) -> None:
    code = "import os\nfor fd in range(64):\n  try: os.fstat(fd); print(fd, os.readlink(f'/proc/self/fd/{fd}').split(':')[0])\n" \
        "  except OSError: pass"  # fmt: skip
    assert run(code).stdout == "0 pipe\n1 pipe\n2 pipe\n3 pipe\n"


def test_the_servers_environment_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    shown = run("import os; print(sorted(os.environ), open('/proc/self/environ').read().split(chr(0)))").stdout
    assert "SECRET" not in shown and shown.startswith("['HOME', 'LANG', 'PATH']")


def test_there_is_no_terminal_and_a_session_of_its_own(run: Run) -> None:
    outcome = run("import os; print(os.getsid(0) == os.getpid())\nopen('/dev/tty')")
    assert outcome.stdout == "True\n" and outcome.raised is not None


def test_terminals_of_its_own_work(run: Run) -> None:
    assert run("import pty, os; m, s = pty.openpty(); print(os.ttyname(s))").stdout == "/dev/pts/0\n"


def test_there_is_no_network_but_its_own_loopback(run: Run) -> None:
    code = """
import socket, threading
server = socket.create_server(("localhost", 0))
threading.Thread(target=lambda: server.accept()[0].sendall(b"hello")).start()
print([line.partition(":")[0].strip() for line in open("/proc/self/net/dev") if ":" in line], socket.create_connection(server.getsockname()).recv(5), socket.if_nametoindex("lo"))
try: socket.create_connection(("10.0.0.1", 80), timeout=1)
except OSError as e: print(e.errno)
"""
    assert run(code).stdout == "['lo'] b'hello' 1\n101\n"


@pytest.mark.parametrize(
    ("call", "number"),
    [("unshare(0x10000000)", 1), ("unshare(0x20000)", 1), ("mount(b'x', b'/tmp', b'tmpfs', 0, None)", 1),
     ("setns(0, 0)", 1), ("ptrace(0, 0, 0, 0)", 1), ("sethostname(b'x', 1)", 1), ("chroot(b'/tmp')", 1),
     ("syscall(435, 0, 0)", 38), ("syscall(321, 0, 0, 0)", 1), ("syscall(425, 1, 0)", 1), ("syscall(9999)", 38),
     ("syscall(56, 0x8000 | 17, 0, 0, 0, 0)", 1)],
)  # fmt: skip
def test_calls_that_are_not_on_the_list_fail_with_an_errno(run: Run, call: str, number: int) -> None:
    outcome = run(f"import ctypes; c = ctypes.CDLL(None, use_errno=True); c.{call}; print(ctypes.get_errno())")
    assert outcome.stdout == f"{number}\n", outcome.stderr


def test_32_bit_calls_do_not_get_past_the_filter(run: Run) -> None:
    code = """
import ctypes, mmap, platform
if platform.machine() != "x86_64": print(-1); raise SystemExit
code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid of i386); int 0x80; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    assert run(code).stdout == "-1\n"


def test_nothing_of_one_execution_is_there_for_the_next(run: Run) -> None:
    run("open('/work/a', 'w'); open('/tmp/a', 'w'); open('/dev/shm/a', 'w'); import os; os.environ['X'] = '1'; "
        "import json; json.dumps = None")  # fmt: skip
    code = "import os, json; print(os.listdir('/work'), os.listdir('/tmp'), os.listdir('/dev/shm'), json.dumps('X' in os.environ))"
    assert run(code).stdout == "['main.py'] [] [] false\n"


def test_a_forged_last_frame_ends_only_its_own_run(run: Run) -> None:
    outcome = run("import os, time; os.write(3, b'\\x03\\0\\0\\0\\x01\\x2a'); time.sleep(20)")
    assert (outcome.exit_code, outcome.termination) == (42, Termination.EXITED)


@pytest.mark.parametrize(
    "bytes_written",
    ["b'\\xff' * 100_000", "b'\\x01\\xff\\xff\\xff\\xff' + b'x' * 100_000", "b'\\x01\\0'", "b'\\x03\\0\\0\\0\\0'"],
    ids=["noise", "huge length", "half a header", "empty exit"],
)
def test_noise_on_the_report_pipe_hurts_only_the_noisemakers_report(run: Run, bytes_written: str) -> None:
    outcome = run(f"import os\nos.write(3, {bytes_written})\nprint('on')\nos._exit(5)")
    assert (outcome.stdout, outcome.exit_code, outcome.termination) == ("on\n", 5, Termination.EXITED)


def test_a_closed_report_pipe_leaves_the_kernels_exit_status(run: Run) -> None:
    outcome = run("import os, sys\nos.close(3)\nsys.exit(6)")
    assert (outcome.exit_code, outcome.termination) == (6, Termination.EXITED)


def test_a_kill_takes_everything_that_the_code_started(engine: Engine) -> None:
    code = "import os, signal, time\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n" \
        "for _ in range(3):\n  if os.fork() == 0: os.setsid(); os.fork(); time.sleep(60)\nprint('up'); time.sleep(60)"  # fmt: skip
    outcome = engine.wait(engine.run_spec(make_spec(code), during=NativeSandbox.kill))
    assert (outcome.stdout.strip(), outcome.exit_code, outcome.termination) == ("up", 137, Termination.SIGNALED)


def test_code_cannot_leave_children_to_the_zygote(run: Run) -> None:
    """A child of the zygote's that it does not know would never be reaped, and its sandbox never be gone."""
    clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    code = (
        f"import ctypes, os\npid = ctypes.CDLL(None).syscall({clone}, 0x8000 | 17, 0, 0, 0, 0)\nprint(pid)\nos._exit(0)"
    )
    assert run(code).stdout == "-1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has just one, and results say so")
def test_sandboxes_that_live_together_have_different_uids(engine: Engine) -> None:
    async def uids() -> list[set[int]]:
        sandboxes = [await engine.backend.acquire(make_spec("")) for _ in range(3)]
        try:
            return [_host_uids(sandbox) for sandbox in sandboxes]
        finally:
            await asyncio.gather(*(sandbox.destroy() for sandbox in sandboxes))

    found = engine.wait(uids())
    assert [len(each) for each in found] == [1, 1, 1]
    assert len(set.union(*found)) == 3 and not set.union(*found) & {0, os.geteuid()}


def test_a_box_whose_probe_failed_is_not_used_by_the_next_request(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    async def fail(*_: object, **__: object) -> None:
        tried.append(1)
        raise BackendError("the probe failed")

    async def ask_twice() -> None:
        other = NativeBackend(INTERPRETERS, default_python=NEWEST, default_limits=LIMITS, pool_min=0, pool_max=0)
        try:
            for _ in range(2):
                with pytest.raises(BackendError, match="the probe failed"):
                    await other.acquire(make_spec(""))
        finally:
            await other.close()

    monkeypatch.setattr(backend, "examine", fail)
    engine.wait(ask_twice())
    assert len(tried) >= 2


def test_a_fork_that_user_code_has_broken_never_goes_on_as_a_zygote(run: Run) -> None:
    outcome = run("import os, sys\nos._exit = os.abort\nsys.modules.clear()\nprint('broken')")
    assert (outcome.stdout, outcome.exit_code) == ("broken\n", 0)
    assert "zygote.py" not in outcome.stderr


def test_pause_has_no_descriptor_of_ours(engine: Engine) -> None:
    sandbox = engine.wait(engine.backend.acquire(make_spec("")))
    lines = Path(f"/proc/self/fdinfo/{sandbox._pidfd}").read_text().splitlines()
    pid = next(line.split()[1] for line in lines if line.startswith("Pid:"))
    try:
        assert os.listdir(f"/proc/{pid}/fd") == []
    finally:
        engine.wait(sandbox.destroy())


def test_an_acquisition_that_is_given_up_leaves_no_sandbox(engine: Engine) -> None:
    async def give_up_often() -> tuple[int, int]:
        box = await engine.backend._supplies[make_spec("").python].box()
        await asyncio.sleep(0.3)
        before = len(box._sandboxes)
        for delay in range(20):
            task = asyncio.create_task(engine.run_spec(make_spec("", limits=Limits(30, 128, 32, 1024))))
            await asyncio.sleep(delay / 4000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.5)
        return before, len(box._sandboxes)

    before, after = engine.wait(give_up_often())
    assert after == before
