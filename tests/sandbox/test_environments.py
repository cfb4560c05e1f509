"""What a sandbox can be shown beside its interpreter: an environment at /venv, or the tool that makes them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uv

from python_executor.model.environment import Environment
from python_executor.model.errors import BackendError
from python_executor.sandboxes.native.plan import PackageStore
from tests.sandbox.conftest import INTERPRETERS, LIMITS, NEWEST, Engine, Outcome, make_spec

MODULE = "import os\nvalue = 41\nmode = os.environ.get('MODE', 'none')\n"
ADDED, OTHER = Environment("env_" + "a" * 32, ()), Environment("env_" + "b" * 32, ())


COUNTING = Environment("env_" + "e" * 32, ())
COUNTS = "import ctypes, os; ctypes.CDLL(__file__[:-2] + 'so.1'); count = os.cpu_count()\n"


def make_venv(directory: Path, name: str) -> None:
    """What the server keeps of an environment that has one module."""
    packages = directory / "lib" / f"python{NEWEST}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / f"{name}.py").write_text(MODULE)
    (packages / "notes.pth").write_text("import os; os.environ['FROM_PTH'] = 'yes'\n")
    (directory / "bin").mkdir()
    python = INTERPRETERS[0].path_in_sandbox
    (directory / "bin/python").symlink_to(python)
    (directory / "bin/tool").write_text("#!/venv/bin/python\nprint('a tool')\n")
    (directory / "bin/tool").chmod(0o755)
    (directory / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    store = tmp_path_factory.mktemp("data") / "environments"
    for environment, name in ((ADDED, "added"), (OTHER, "other")):
        make_venv(store / environment.key / "venv", name)
    for directory in (store, *store.parents[:3]):
        os.chmod(directory, 0o755)
    make_venv(store / COUNTING.key / "venv", "counting")
    packages = store / COUNTING.key / "venv" / "lib" / f"python{NEWEST}" / "site-packages"
    (packages / "counting.py").write_text(COUNTS)
    shutil.copy(
        next(path for path in Path("/proc/self/maps").read_text().split() if "/libm" in path),
        packages / "counting.so.1",
    )
    engine = Engine(store=PackageStore(str(store), uv.find_uv_bin()))
    yield engine
    engine.close()


def run(engine: Engine, code: str, environment: Environment | None = ADDED, **fields: object) -> Outcome:
    return engine.wait(engine.run_spec(make_spec(code, **fields), environment=environment))


def test_packages_are_imported_from_the_environment_and_their_pth_files_run(packed: Engine) -> None:
    outcome = run(packed, "import added, os; print(added.value, added.__file__, os.environ['FROM_PTH'])")
    assert outcome.stdout == f"41 /venv/lib/python{NEWEST}/site-packages/added.py yes\n", outcome.stderr


def test_code_sees_a_virtual_environment_and_so_do_the_interpreters_that_it_starts(packed: Engine) -> None:
    question = "import sys; print(sys.prefix, sys.executable, sys.prefix != sys.base_prefix)"
    outcome = run(packed, f"{question}\nimport subprocess; subprocess.run([sys.executable, '-c', {question!r}])")
    assert outcome.stdout == "/venv /venv/bin/python True\n" * 2


@pytest.mark.parametrize("argv", [["python", "-m", "added"], ["tool"]])
def test_modules_and_entry_points_run_by_name(packed: Engine, argv: list[str]) -> None:
    assert run(packed, f"import subprocess; raise SystemExit(subprocess.run({argv}).returncode)").exit_code == 0


def test_a_module_of_the_environment_can_be_what_runs(packed: Engine) -> None:
    for environment in (ADDED, Environment(ADDED.key, (), "mine", ("added",))):
        code = "import added, sys; print(added.value, sys.prefix, sys.path[0])"
        outcome = run(packed, code, environment, entrypoint="", module="main")
        assert outcome.stdout == "41 /venv /work\n", outcome.stderr
        assert run(packed, "", environment, entrypoint="", module="added").exit_code == 0


def test_pre_commands_and_a_fresh_interpreter_have_it_too(packed: Engine) -> None:
    fresh = run(packed, "import added; print(added.value)", env=(("PYTHONHASHSEED", "1"),), pre_commands=("tool",))
    assert fresh.stdout == "a tool\n41\n"


def test_a_variable_of_the_request_goes_before_the_environments_own(packed: Engine) -> None:
    assert run(packed, "import os; print(os.environ['PATH'])", env=(("PATH", "/mine"),)).stdout == "/mine\n"


def test_nobody_else_sees_an_environment_or_that_there_is_one(packed: Engine) -> None:
    run(packed, "import added")
    look = (
        "import os; print(os.listdir('/venv'), os.listdir('/store'), open('/proc/self/mountinfo').read().count('venv'))"
    )
    assert run(packed, look, None).stdout == "[] [] 0\n"
    assert run(packed, "import added", OTHER).raised == ("ModuleNotFoundError", 1)
    assert run(packed, "import other; print(other.value)", OTHER).stdout == "41\n"


def test_an_environment_cannot_be_written_and_tells_no_path_of_the_host(packed: Engine) -> None:
    assert "Read-only" in run(packed, "open('/venv/x', 'w')").stderr
    assert "data" not in run(packed, "print(open('/proc/self/mountinfo').read())").stdout


def test_a_named_environment_has_its_modules_imported_before_any_code_comes(packed: Engine) -> None:
    named = Environment(ADDED.key, (), "mine", ("added",))
    assert run(packed, "import sys; print('added' in sys.modules, sys.prefix)", named).stdout == "False /venv\n"
    assert run(packed, "import sys; print(sys.meta_path[-1].ahead.is_waiting('added'))", named).stdout == "True\n"
    assert run(packed, "import added; print(added.value)", named).stdout == "41\n"


@pytest.mark.parametrize("env", [(), (("OTHER", "x"),), (("MODE", "fast"),), (("OMP_NUM_THREADS", "1"),)])
def test_a_variable_that_a_module_read_when_it_was_imported_ahead_counts(packed: Engine, env: object) -> None:
    named = Environment(ADDED.key, (), "mine", ("added",))
    code = "import sys; print(hasattr(sys.meta_path[-1], 'ahead'))\nimport added; print(added.mode)"
    is_read = env in ((("MODE", "fast"),), (("OMP_NUM_THREADS", "1"),))
    assert run(packed, code, named, env=env).stdout == f"{not is_read}\n{'fast' if 'MODE' in str(env) else 'none'}\n"


def test_a_file_of_the_request_hides_what_was_imported_ahead(packed: Engine) -> None:
    named = Environment(ADDED.key, (), "mine", ("added",))
    assert run(packed, "import added; print(added.WHO)", named, files={"added.py": "WHO = 'mine'"}).stdout == "mine\n"


@pytest.mark.parametrize("cpus", [None, 1])
def test_what_was_imported_ahead_has_counted_the_processors_of_the_run(packed: Engine, cpus: float | None) -> None:
    named = Environment(COUNTING.key, (), "counting", ("counting",))
    code = "import counting, os; print(counting.count, len(os.sched_getaffinity(0)))"
    count = cpus or len(os.sched_getaffinity(0))
    assert run(packed, code, named, limits=replace(LIMITS, cpus=cpus)).stdout == f"{count} {count}\n"


def test_a_named_environment_that_was_forgotten_closes_its_box(packed: Engine) -> None:
    named = Environment(OTHER.key, (), "brief", ())
    assert run(packed, "import other", named).exit_code == 0
    supply = packed.backend._named["brief"][1]
    packed.wait(packed.backend.forget(named))
    deadline = time.monotonic() + 10
    while supply.started is not None and supply.started.is_alive and time.monotonic() < deadline:
        time.sleep(0.05)
    assert supply.started is not None and not supply.started.is_alive


def test_an_environment_that_is_forgotten_can_be_removed_and_come_again(packed: Engine) -> None:
    assert run(packed, "import other", OTHER).exit_code == 0
    packed.wait(packed.backend.forget(OTHER))
    assert run(packed, "import other", OTHER).exit_code == 0


@pytest.mark.parametrize("name", [None, "again"])
def test_an_environment_that_somebody_else_removed_and_made_again_is_shown_as_it_is_now(
    packed: Engine, name: str | None
) -> None:
    place = Path(packed.backend._store.environments or "") / OTHER.key / "venv"
    environment = Environment(OTHER.key, (), name)
    assert run(packed, "import other", environment).exit_code == 0
    shutil.rmtree(place)
    make_venv(place, "other")
    assert run(packed, "import other", environment).exit_code == 0


def test_the_sandbox_of_a_build_has_uv_and_one_way_out_which_the_server_holds(packed: Engine) -> None:
    code = (
        "import socket, subprocess\n"
        "assert subprocess.run(['/venv/uv', '--version'], stdout=subprocess.DEVNULL).returncode == 0\n"
        "with socket.create_connection(('127.0.0.1', 3141)) as connection:\n"
        "    connection.sendall(b'from inside'); print(connection.recv(99))\n"
        "open('/venv/x', 'w')"
    )

    async def build() -> tuple[Outcome, bytes]:
        spec = make_spec(code)
        sandbox, listener = await packed.backend.acquire_to_build(spec, 3141)
        with listener:
            listener.setblocking(False)
            outcome = asyncio.create_task(packed.run_in(sandbox, spec))
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with connection:
                said = await asyncio.get_running_loop().sock_recv(connection, 99)
                connection.send(b"from us")
                return await outcome, said

    outcome, said = packed.wait(build())
    assert said == b"from inside" and outcome.stdout == "b'from us'\n"
    assert "Read-only" in outcome.stderr


def test_a_socket_that_was_lent_leads_nowhere_once_its_sandbox_is_gone(packed: Engine) -> None:
    async def lend() -> socket.socket:
        sandbox, listener = await packed.backend.acquire_to_build(make_spec(""), 3141)
        await sandbox.destroy()
        return listener

    with packed.wait(lend()) as listener:
        assert listener.getsockname() == ("127.0.0.1", 3141)
    assert run(packed, "import socket; socket.create_server(('127.0.0.1', 3141))", None).exit_code == 0


# --- what a zygote has imported ---

THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"  # whose packages we have here
SCIENCE = Environment("env_" + "c" * 32, (), "science", ("numpy", "numpy.random", "ssl", "busy"))
BUSY = """
import random, ssl, threading, time
own = random.Random()
ssl.RAND_bytes(1)
thread = threading.Thread(target=time.sleep, args=(86400,), daemon=True)
thread.start()
open("/work/cache", "w").write("kept for later")
open("/tmp/cache", "w").write("kept for later")
"""


@pytest.fixture(scope="module")
def science(packed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine, with an environment that has the numpy of these tests, and a module that is hard to fork."""
    venv = Path(packed.store.environments or "") / SCIENCE.key / "venv"
    packages = venv / "lib" / f"python{THIS_PYTHON}" / "site-packages"
    packages.mkdir(parents=True)
    for file in importlib.metadata.files("numpy") or []:
        if ".." not in file.parts:
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)
    (packages / "busy.py").write_text(BUSY)
    for directory in (venv.parent, *venv.rglob("*/")):
        directory.chmod(0o755)
    return packed


def run_science(engine: Engine, code: str) -> Outcome:
    return run(engine, code, SCIENCE, python=THIS_PYTHON)


def test_random_states_of_what_was_imported_ahead_differ_in_each_sandbox(science: Engine) -> None:
    code = "import numpy, random, ssl; print(numpy.random.rand(), random.random(), ssl.RAND_bytes(8).hex())"
    drawn = [run_science(science, code).stdout.split() for _ in range(6)]
    for kind in zip(*drawn, strict=True):
        assert len(set(kind)) == len(drawn)


def test_libraries_that_use_threads_work_in_a_fork_of_where_they_were_imported(science: Engine) -> None:
    code = (
        "import numpy as np\na = np.ones((700, 700))\nprint((a @ a).sum(), round(np.linalg.svd(np.eye(300))[1].sum()))"
    )
    for _ in range(4):
        assert run_science(science, code).stdout == "343000000.0 300\n"


def test_a_thread_of_what_was_imported_ahead_is_gone_and_new_ones_can_be_had(science: Engine) -> None:
    code = (
        "import busy, os, threading\n"
        "print('busy' in __import__('sys').modules, len(os.listdir('/proc/self/task')), threading.active_count())\n"
        "threading.Thread(target=print, args=('a thread',)).start()"
    )
    assert run_science(science, code).stdout.splitlines() == ["True 1 1", "a thread"]


def test_what_a_module_wrote_when_it_was_imported_ahead_is_in_no_sandbox(science: Engine) -> None:
    code = "import busy, os; print(os.listdir('/work'), os.listdir('/tmp'), os.listdir('/dev/shm'))"
    assert run_science(science, code).stdout == "['main.py'] [] []\n"


def test_a_module_that_cannot_be_imported_ahead_is_named(packed: Engine) -> None:
    broken = Environment(ADDED.key, (), "broken", ("added", "no_such_thing"))
    sentence = r"the module no_such_thing can't be imported ahead \(PRELOAD\): ModuleNotFoundError: No module named"
    with pytest.raises(BackendError, match=sentence):
        run(packed, "", broken)


def test_paths_for_packages_are_those_of_the_virtual_environment(packed: Engine) -> None:
    question = "import site, sysconfig; print(site.getsitepackages(), sysconfig.get_path('purelib'), sysconfig.get_path('scripts'))"
    shown = f"['/venv/lib/python{NEWEST}/site-packages'] /venv/lib/python{NEWEST}/site-packages /venv/bin\n"
    outcome = run(packed, f"{question}\nimport subprocess, sys; subprocess.run([sys.executable, '-c', {question!r}])")
    forked, started = outcome.stdout.splitlines(keepends=True)
    assert forked == started
    assert forked.endswith(shown.split("] ")[1])
