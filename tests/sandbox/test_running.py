"""What code sees is `python main.py`: nothing to learn."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from python_executor.model.errors import BackendError
from python_executor.model.events import Event, Result, Termination
from python_executor.model.spec import FileTree, Interpreter, SymlinkEntry
from python_executor.sandboxes.native.backend import NativeBackend
from tests.sandbox.conftest import INTERPRETERS, LIMITS, NEWEST, Engine, Outcome, make_spec
from tests.support.server import TOLERATED

Run = Callable[..., Outcome]
every_interpreter = pytest.mark.parametrize("interpreter", INTERPRETERS, ids=lambda each: each.minor_version)
oldest_and_newest = pytest.mark.parametrize(  # and those between in `make test-all`
    "interpreter",
    [
        each if each in (INTERPRETERS[0], INTERPRETERS[-1]) else pytest.param(each, marks=pytest.mark.long)
        for each in INTERPRETERS
    ],
    ids=lambda each: each.minor_version,
)


@every_interpreter
def test_every_interpreter_runs_its_own_version(run: Run, interpreter: Interpreter) -> None:
    outcome = run("import platform; platform.python_version()", python=interpreter.minor_version, eval_last_expr=True)
    assert outcome.result == repr(interpreter.version)


def plain_python(interpreter: Interpreter, code: str, directory: Path) -> tuple[str, str, int]:
    """The same code under the interpreter itself, its directory shown as /work."""
    (directory / "main.py").write_text(code)
    return plain(interpreter, directory)


def plain(interpreter: Interpreter, directory: Path, *argv: str) -> tuple[str, str, int]:
    """What is in its main.py, or elsewhere."""
    done = subprocess.run(
        [interpreter.executable, *(argv or ("main.py",))], cwd=directory, input="", capture_output=True, text=True,
        env={"LANG": "C.UTF-8", "PATH": os.defpath, "HOME": str(directory)}, timeout=60,
    )  # fmt: skip
    code_seen = done.returncode if done.returncode >= 0 else 128 - done.returncode
    stderr = done.stderr.replace(str(directory), "/work")
    if interpreter.prefix != "/usr":
        stderr = stderr.replace(f"{interpreter.prefix}/lib", "/python/lib")
    return done.stdout.replace(str(directory), "/work"), shown(stderr), code_seen


def shown(stderr: str) -> str:
    """Addresses differ from run to run."""
    return re.sub(r"0x[0-9a-f]+", "0x…", stderr)


@pytest.mark.parametrize("code", ["x = '\0'", "# -*- coding: no-such -*-", "\ufeffx ="])
def test_source_that_cannot_be_read_is_a_syntax_error(run: Run, code: str) -> None:
    outcome = run(code)
    assert outcome.exit_code == 1 and "SyntaxError" in outcome.stderr and "/guest" not in outcome.stderr


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("2 + 2", "4"),
        ("x = 5\ny = 10\nx + y", "15"),
        ("print('hello')", None),
        ("x = 1", None),
        ("", None),
        ("'only a docstring'", "'only a docstring'"),
        ("for i in range(3): i", None),
        ("from __future__ import annotations\nf = lambda: 1\nf()", "1"),
        ("class A:\n    def __repr__(self): return 'é\\udcff'\nA()", "'é\ufffd'".strip("'")),
    ],
)
def test_the_last_expression_is_the_result(run: Run, code: str, result: str | None) -> None:
    outcome = run(code, eval_last_expr=True)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.result == result or (result and outcome.result and outcome.result.startswith("é"))


def test_without_being_asked_for_there_is_no_result(run: Run) -> None:
    assert run("2 + 2").result is None


def test_nothing_that_is_printed_is_taken_for_a_result(run: Run) -> None:
    outcome = run("import sys\nfor s in (sys.stdout, sys.stderr): s.write('\\x01\\x00\\x00\\x00\\x02\\x00X')\nNone")
    assert outcome.result is None and "X" in outcome.stdout


@oldest_and_newest
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class A:\n    def __repr__(self):\n        raise ValueError('no')\nA()", "ValueError: no"),
        ("class A:\n    def __repr__(self): return 1\nA()", "TypeError: __repr__ returned non-string (type int)"),
        ("x = []\nfor _ in range(10 ** 5): x = [x]\nx", "RecursionError: maximum recursion depth exceeded"),
    ],
    ids=["raises", "is no text", "is too deep"],
)
def test_a_value_that_cannot_be_shown_is_no_failure(run: Run, interpreter: Interpreter, code: str, reason: str) -> None:
    outcome = run(code, eval_last_expr=True, python=interpreter.minor_version)
    assert (outcome.exit_code, outcome.stderr, outcome.result, outcome.raised) == (0, "", None, None)
    assert next(event.unshown for event in outcome.events if isinstance(event, Result)).startswith(reason)


MANY = "x = 3\nif x == 0: pass\n" + "".join(f"elif x == {number}: pass\n" for number in range(9, 1509))


@oldest_and_newest
@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("x = 1\n" + "+".join(["x"] * 1500), "1500"),
        (MANY + "x\n", "3"),
        (MANY, None),
        ("# coding: latin-1\nx = 1\n(" + "+\n".join(["+".join(["x"] * 15)] * 100) + "\n)", "1500"),
    ],
    ids=["terms", "branches", "branches last", "lines"],
)
def test_an_eval_takes_what_plain_python_compiles(
    run: Run, interpreter: Interpreter, code: str, result: str | None
) -> None:
    outcome = run(code, eval_last_expr=True, python=interpreter.minor_version)
    assert (outcome.exit_code, outcome.stderr, outcome.result) == (0, "", result)


@every_interpreter
def test_log_records_count_from_the_programs_start(run: Run, interpreter: Interpreter) -> None:
    code = "import logging\nprint(logging.makeLogRecord({}).relativeCreated)"
    time.sleep(1)
    assert 0 <= float(run(code, python=interpreter.minor_version).stdout) < 900


@oldest_and_newest
@pytest.mark.parametrize("kind", ["archive", "directory", "bytecode", "broken bytecode"])
def test_what_python_runs_beside_scripts_is_run(run: Run, tmp_path: Path, interpreter: Interpreter, kind: str) -> None:
    code = "import sys, helper\nprint(sys.argv, __name__, len(sys.path[0]) > 0, helper.WHO)\n1 / 0"
    (tmp_path / "__main__.py").write_text(code)
    (tmp_path / "helper.py").write_text("WHO = 'mine'")
    if kind == "directory":
        files: dict[str, str | bytes] = {"app/__main__.py": code, "app/helper.py": "WHO = 'mine'"}
        name = "app"
    elif kind == "archive":
        buffer = io.BytesIO(b"")
        with zipfile.ZipFile(buffer, "w") as archive:
            for file in ("__main__.py", "helper.py"):
                archive.write(tmp_path / file, file)
        name, files = "app.pyz", {"app.pyz": b"#!/usr/bin/env python3\n" + buffer.getvalue()}
    else:
        (tmp_path / "m.py").write_text("print('compiled')\nimport sys; sys.exit(3)")
        subprocess.run([interpreter.executable, "-m", "compileall", "-b", "-q", str(tmp_path / "m.py")], check=True)
        data = (tmp_path / "m.pyc").read_bytes()
        name, files = "m.pyc", {"m.pyc": data if kind == "bytecode" else b"\1\2\3\4" + data[4:]}
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    expected = plain(interpreter, tmp_path, name, "x")
    outcome = run("", files=files, python=interpreter.minor_version, entrypoint=name, args=("x",))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == expected


TELLS = "import sys\nprint(__name__, __file__, __package__, __spec__ and __spec__.name, sys.argv, sys.path[0])\n"
PACKAGE = {"app/__init__.py": "print('package', __name__)", "app/near.py": "WHO = 'mine'"}
MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "a module": ("tool", {"tool.py": TELLS}),
    "a package": ("app", {**PACKAGE, "app/__main__.py": TELLS + "from .near import WHO; print(WHO)"}),
    "a module of a package": (
        "app.sub.run",
        {**PACKAGE, "app/sub/__init__.py": "", "app/sub/run.py": TELLS + "from ..near import WHO"},
    ),
    "a namespace package": ("app.run", {"app/run.py": TELLS}),
    "an exception": ("app", {**PACKAGE, "app/__main__.py": "def f():\n    1 / 0\nf()"}),
    "an exception in the package": ("app.near", {**PACKAGE, "app/__init__.py": "1 / 0"}),
    "a syntax error": ("tool", {"tool.py": "x = 1\nif x"}),
    "an exit code": ("tool", {"tool.py": "import sys; sys.exit(7)"}),
    "an interrupt": ("tool", {"tool.py": "raise KeyboardInterrupt"}),
    "no such module": ("no_such_module", {}),
    "no such module of a package": ("app.nothing", PACKAGE),
    "a package without __main__": ("app", PACKAGE),
    "a file's name": ("tool.py", {"tool.py": TELLS}),
    "a name with a dash": ("my-tool", {"my-tool.py": TELLS}),
    "imported already": ("app.near", {**PACKAGE, "app/__init__.py": "import app.near"}),
    "hidden standard library": ("json", {"json.py": TELLS}),
    "standard library": ("json.tool", {}),
    "unittest": (
        "unittest",
        {"test_it.py": "import unittest\nclass T(unittest.TestCase):\n  def test(self): self.assertTrue(0)"},
    ),
    "doctest": ("doctest", {"x": ">>> 1 + 1\n3\n"}),
    "timeit": ("timeit", {}),
    "http.server": ("http.server", {}),
    "spawned process": (
        "tool",
        {
            "tool.py": "import multiprocessing as m\ndef f(x): print(__name__, x)\n"
            "if __name__ == '__main__':\n  p = m.get_context('spawn').Process(target=f, args=(1,)); p.start(); p.join()"
        },
    ),
}
ARGUMENTS = {"unittest": (), "doctest": ("x",), "timeit": ("-n", "1", "-r", "1", "1 / 0"), "http.server": ("--help",)}


def in_sandbox(text: str, interpreter: Interpreter) -> str:
    """What names the interpreter, by its name in a sandbox; times differ from run to run."""
    text = re.sub(r"in \d+\.\d+s", "in …s", text)
    return text.replace(interpreter.executable, interpreter.path_in_sandbox)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_runs_as_with_plain_python(run: Run, tmp_path: Path, name: str) -> None:
    check_module(run, tmp_path, INTERPRETERS[0], name)


FEW = ("a package", "an exception", "no such module")


@oldest_and_newest
@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.long) for name in MODULES]
)
def test_every_version_runs_a_module_as_plainly(run: Run, tmp_path: Path, interpreter: Interpreter, name: str) -> None:
    check_module(run, tmp_path, interpreter, name)


def check_module(run: Run, tmp_path: Path, interpreter: Interpreter, name: str) -> None:
    module, files = MODULES[name]
    arguments = ARGUMENTS.get(name, ("x", "-m", "y") if name != "standard library" else ("--help",))
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(content)
    *streams, code = plain(interpreter, tmp_path, "-m", module, *arguments)
    outcome = run("", files=files, python=interpreter.minor_version, entrypoint="", module=module, args=arguments)
    seen = [in_sandbox(shown(text), interpreter) for text in (outcome.stdout, outcome.stderr)]
    assert seen == [in_sandbox(text, interpreter) for text in streams]
    assert outcome.exit_code == code


def test_a_module_gets_what_a_script_gets(run: Run) -> None:
    code = "import os, sys; print(sys.argv[1:], input(), os.environ['WHO'], os.getcwd(), open('made').read())"
    outcome = run("", files={"tool.py": code}, entrypoint="", module="tool", args=("-v",), stdin=b"typed\n",
                  env=(("WHO", "me"),), pre_commands=("echo by hand > made",), eval_last_expr=True)  # fmt: skip
    assert (outcome.stdout, outcome.stderr) == ("['-v'] typed me /work by hand\n\n", "")


@oldest_and_newest
def test_what_plain_python_does_not_compile_shows_no_frame_of_ours(run: Run, interpreter: Interpreter) -> None:
    for code in ("x = 1\n" + "+".join(["x"] * 20_000), "x = 1\n" + "-" * 20_000 + "x"):
        outcome = run(code, eval_last_expr=True, python=interpreter.minor_version)
        assert "/guest" not in outcome.stderr and "During handling" not in outcome.stderr, outcome.stderr


@oldest_and_newest
@pytest.mark.parametrize(
    "source",
    [
        "# \xe9\nprint(1)".encode("latin-1"),
        "#!/usr/bin/python\n# coding: utf-8\n# \xe9".encode("latin-1"),
        "# coding: latin-1\nprint('\xe9')".encode("latin-1"),
        b"\xef\xbb\xbfprint(1)",
        b"print(1)\n\0",
    ],
    ids=["comment", "cookie that lies", "cookie", "mark", "null"],
)
def test_source_is_decoded_as_the_interpreter_does(
    run: Run, tmp_path: Path, interpreter: Interpreter, source: bytes
) -> None:
    (tmp_path / "main.py").write_bytes(source)
    expected = plain(interpreter, tmp_path)
    outcome = run("", files={"main.py": source}, python=interpreter.minor_version)
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == expected


@pytest.mark.parametrize(
    ("code", "files", "raised"),
    [
        ("x = 1\n\nraise KeyError('k')", {}, ("KeyError", 3)),
        ("import helper\n\nhelper.fail()", {"helper.py": "def fail():\n    raise OSError"}, ("OSError", 3)),
        ("x = 1\nif x\n  pass", {}, ("SyntaxError", 2)),
        ("class Mine(Exception): pass\nraise Mine", {}, ("Mine", 2)),
        ("import sys; sys.exit(3)", {}, None),
    ],
)
def test_the_uncaught_exception_is_told_with_its_line(
    run: Run, code: str, files: dict[str, str], raised: tuple[str, int] | None
) -> None:
    assert run(code, files=files).raised == raised


@pytest.mark.parametrize("module", ["random", "json", "types", "threading", "runner", "frames", "enum", "collections"])
def test_a_file_of_the_request_wins_over_the_standard_library(run: Run, module: str) -> None:
    outcome = run(f"import {module}\nprint({module}.WHO)", files={f"{module}.py": "WHO = 'mine'"})
    assert (outcome.stdout, outcome.stderr) == ("mine\n", "")


def test_a_module_that_uses_a_shadowed_one_gets_the_requests_file(run: Run) -> None:
    outcome = run("import tempfile", files={"random.py": "print('mine')"})
    assert outcome.stdout.startswith("mine\n")


@pytest.mark.parametrize(
    ("variable", "value", "code", "shown"),
    [
        ("PYTHONHASHSEED", "0", "import sys; print(sys.flags.hash_randomization)", "0"),
        ("PYTHONOPTIMIZE", "1", "print(__debug__)", "False"),
        ("PYTHONPATH", "/work/lib", "import sys; print('/work/lib' in sys.path)", "True"),
        ("PYTHONSAFEPATH", "1", "import sys; print('/work' in sys.path)", "False"),
        ("LC_ALL", "POSIX", "import locale; print(locale.setlocale(locale.LC_CTYPE))", "C"),
        ("TZ", "Asia/Tokyo", "import time; print(time.tzname[0])", "JST"),
        ("GREETING", "hei på dig", "import os; print(os.environ['GREETING'])", "hei på dig"),
    ],
)
def test_variables_take_effect(run: Run, variable: str, value: str, code: str, shown: str) -> None:
    if variable == "PYTHONSAFEPATH" and INTERPRETERS[0].minor_version in ("3.9", "3.10"):
        pytest.skip("new in 3.11")
    outcome = run(code, env=((variable, value),))
    assert outcome.stdout.strip() == shown, outcome.stderr


@pytest.mark.parametrize("env", [(), (("PYTHONHASHSEED", "1"),)], ids=["forked", "fresh"])
def test_arguments_stdin_and_directory_are_the_programs(run: Run, env: tuple[tuple[str, str], ...]) -> None:
    code = "import os, sys, json; print(json.dumps([sys.argv, sys.stdin.read(), os.getcwd(), os.environ['HOME']]))"
    outcome = run(code, args=("--verbose", "ö"), stdin="line\n€".encode(), env=env)
    assert json.loads(outcome.stdout) == [["main.py", "--verbose", "ö"], "line\n€", "/work", "/work"]


LARGE = 16 << 20  # bytes, and no request may have more of it
SIZES = (0, 1, 60_000, 70_000, LARGE)


@pytest.mark.parametrize(("size", "env"), [*((size, ()) for size in SIZES), (LARGE, (("PYTHONHASHSEED", "1"),))])
def test_stdin_is_a_pipe_of_any_size_that_arrives_whole(run: Run, size: int, env: tuple[tuple[str, str], ...]) -> None:
    code = """
import os, stat, sys
print(stat.S_ISFIFO(os.fstat(0).st_mode), sys.stdin.seekable())
try: os.lseek(0, 0, os.SEEK_SET)
except OSError as e: print(e.errno)
print(len(sys.stdin.buffer.read()))
"""
    outcome = run(code, stdin=b"x" * size, env=env)
    assert (outcome.stdout, outcome.stderr) == (f"True False\n29\n{size}\n", "")


@pytest.mark.parametrize(
    "opened", ["'/dev/stdin', 'rb'", "0, 'rb'", "'/proc/self/fd/0', 'rb'", "os.open('/dev/stdin', os.O_RDONLY), 'rb'"]
)
@pytest.mark.parametrize("size", [1 << 10, LARGE])
def test_stdin_can_be_opened_by_name_and_number(run: Run, size: int, opened: str) -> None:
    data = os.urandom(1 << 10) * (size >> 10)
    outcome = run(f"import hashlib, os; print(hashlib.sha256(open({opened}).read()).hexdigest())", stdin=data)
    assert (outcome.stdout, outcome.stderr) == (f"{hashlib.sha256(data).hexdigest()}\n", "")


@pytest.mark.parametrize(
    "code",
    [
        "print('done')",
        "import os; os.close(0); print('done')",
        "import sys; sys.stdin.close(); print('done')",
        "import sys; sys.stdin.readline(); print('done')",
        "import subprocess, sys; subprocess.run(['head', '-c', '100000'], stdout=subprocess.DEVNULL); print('done')",
    ],
    ids=["never", "closed", "stream closed", "a line", "a part, by a child"],
)
def test_stdin_that_is_not_read_holds_nobody_up(run: Run, code: str) -> None:
    before = time.monotonic()
    outcome = run(code, stdin=b"0123456789abcde\n" * (LARGE >> 4))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("done\n", "", 0)
    assert time.monotonic() - before < 5


@pytest.mark.usefixtures("needs_cgroups")
def test_stdin_takes_nothing_of_the_sandbox(run: Run) -> None:
    limits = replace(LIMITS, memory_mb=32, disk_mb=8)
    outcome = run(
        "import os\nn = 0\nwhile data := os.read(0, 65536): n += len(data)\nprint(n)\nprint(os.listdir('/proc/self/fd'))\ntry: os.wait()\nexcept ChildProcessError: print('no child')",
        stdin=bytes(LARGE),
        limits=limits,
    )
    assert outcome.stdout == f"{LARGE}\n['0', '1', '2', '3', '4']\nno child\n"
    assert outcome.exited.usage.memory_peak_bytes < 12 << 20


def test_stdin_that_is_read_slowly_waits_and_ends_with_the_run(run: Run) -> None:
    outcome = run(
        "import os, time\nfor _ in range(5): time.sleep(0.05); print(len(os.read(0, 65536)))", stdin=bytes(LARGE)
    )
    assert outcome.stdout == "65536\n" * 5


def test_files_are_there_with_their_modes_and_can_be_changed(run: Run) -> None:
    code = "import os; print(open('data/a.txt').read()); open('data/a.txt', 'a').write('!'); os.mkdir('new'); " \
        "print(sorted(os.listdir('.')))"  # fmt: skip
    outcome = run(code, files={"data/a.txt": "text"})
    assert outcome.stdout == "text\n['data', 'main.py', 'new']\n"


def test_an_entrypoint_in_a_package_directory_finds_its_neighbours(run: Run) -> None:
    outcome = run("", files={"app/start.py": "import near; print(near.X, __file__)", "app/near.py": "X = 1"},
                  entrypoint="app/start.py")  # fmt: skip
    assert outcome.stdout == "1 /work/app/start.py\n"


def test_pre_commands_run_first_in_the_same_place(run: Run) -> None:
    outcome = run("print(open('made.txt').read())", pre_commands=("echo $NAME > made.txt", "echo second"),
                  env=(("NAME", "by sh"),))  # fmt: skip
    assert outcome.stdout == "second\nby sh\n\n"


def test_the_first_pre_command_that_fails_is_the_end(run: Run) -> None:
    outcome = run("print('never')", pre_commands=("echo so far", "exit 42", "echo never"))
    assert (outcome.stdout, outcome.exit_code, outcome.termination) == ("so far\n", 42, Termination.EXITED)


def test_pre_commands_find_signals_as_a_shell_does(run: Run) -> None:
    outcome = run("", pre_commands=("while :; do echo x; done | head -1",))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("x\n", "", 0)


def test_the_streams_can_be_opened_by_name(run: Run) -> None:
    outcome = run("open('/dev/stderr', 'w').write('by name')", pre_commands=("echo hi >/dev/stdout",))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("hi\n", "by name", 0)


def test_a_coroutine_that_nobody_awaited_is_told_where_it_stands(run: Run) -> None:
    outcome = run("async def f(): ...\n\nf()", eval_last_expr=True)
    assert outcome.stderr.startswith("/work/main.py:3: RuntimeWarning") and "/guest" not in outcome.stderr


@pytest.mark.parametrize("code", ["x = = 1", "  x", "'", "(" * 300])
def test_a_syntax_error_shows_no_frame_of_ours(run: Run, tmp_path: Path, code: str) -> None:
    expected = plain_python(INTERPRETERS[0], code, tmp_path)
    outcome = run(code, eval_last_expr=True)
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == expected


def test_an_interrupt_is_told_as_the_exception_that_it_is(run: Run) -> None:
    outcome = run("\nraise KeyboardInterrupt")
    assert (outcome.exit_code, outcome.raised) == (130, ("KeyboardInterrupt", 2))


def test_what_hides_a_module_beside_a_linked_entrypoint_is_seen(engine: Engine) -> None:
    spec = make_spec("", files={"src/real.py": "import json; print(json.WHO)", "src/json.py": "WHO = 'mine'"})
    tree = FileTree((*spec.tree.entries[1:], SymlinkEntry("main.py", "src/real.py")), spec.tree.content)
    assert engine.wait(engine.run_spec(replace(spec, tree=tree))).stdout == "mine\n"


def test_a_pre_command_killed_by_a_signal_is_seen_as_by_a_shell(run: Run) -> None:
    assert run("", pre_commands=("kill -TERM $$",)).exit_code == 128 + 15


def test_an_entrypoint_that_pre_commands_did_not_make_is_an_error_of_python(run: Run) -> None:
    outcome = run("", entrypoint="other.py", pre_commands=("true",))
    assert outcome.exit_code == 2
    assert "can't open file '/work/other.py': [Errno 2] No such file or directory" in outcome.stderr


def test_what_a_daemon_holds_open_does_not_hold_up_the_answer(run: Run) -> None:
    outcome = run("import subprocess; subprocess.Popen(['sleep', '60']); print('done')")
    assert (outcome.stdout, outcome.exit_code) == ("done\n", 0)


def test_random_state_differs_between_sandboxes(run: Run) -> None:
    code = "import random, os, uuid; print(random.random(), os.urandom(4).hex(), uuid.uuid4())"
    assert len({run(code).stdout for _ in range(4)}) == 4


@every_interpreter
def test_a_thread_and_a_fork_are_what_they_are_in_plain_python(run: Run, interpreter: Interpreter) -> None:
    code = """
import logging, os, random, threading
print(threading.main_thread().native_id == threading.get_native_id() == os.getpid())
lock = logging._lock if hasattr(logging, '_lock') else threading.RLock()
lock.acquire()  # as if another thread held it in the moment of the fork
threading.Thread(target=threading.Event().wait, daemon=True).start()
before = random.getstate()
if os.fork() == 0:
    logging.getLogger('a child').warning('said')
    print(threading.active_count(), random.getstate() != before)
    os._exit(0)
os.wait()
"""
    outcome = run(code, python=interpreter.minor_version)
    assert outcome.stdout == "True\n1 True\n"
    assert "said" in outcome.stderr


def preloading(engine: Engine, *modules: str) -> Outcome:
    """Which of the modules wait to be given to the code; in a box of its own."""

    async def run_there() -> Outcome:
        other = NativeBackend(
            INTERPRETERS, default_python=NEWEST, default_limits=LIMITS, pool_min=0, pool_max=0, preload=modules,
            insecure_allow=frozenset(TOLERATED.split(",")),
        )  # fmt: skip
        try:
            sandbox = await other.acquire(spec)
            events: list[Event] = []
            await sandbox.run(spec, events.append)
            return Outcome(events)
        finally:
            await other.close()

    spec = make_spec(f"import sys; print([name for name in {modules!r} if sys.meta_path[-1].ahead.is_waiting(name)])")
    return engine.wait(run_there())


def test_modules_are_preloaded_as_asked_and_those_that_an_interpreter_lacks_are_left_out(engine: Engine) -> None:
    assert preloading(engine, "xml.dom.minidom", "no_such_module", "wave").stdout == "['xml.dom.minidom', 'wave']\n"
    assert preloading(engine).stdout == "[]\n"


def test_a_module_that_cannot_be_preloaded_is_named_with_the_reason(engine: Engine) -> None:
    reason = "the module asyncio.windows_events can't be imported ahead (PRELOAD): ImportError: win32 only"
    with pytest.raises(BackendError, match=re.escape(reason)):
        preloading(engine, "asyncio.windows_events")


LINES = """
import threading
def tell(name):
    for n in range(500): print(name * 20, n)
threads = [threading.Thread(target=tell, args=(name,)) for name in "abcdefgh"]
for each in threads: each.start()
for each in threads: each.join()
"""


@oldest_and_newest
def test_lines_of_threads_are_as_whole_as_plainly(run: Run, interpreter: Interpreter) -> None:
    lines = run(LINES, python=interpreter.minor_version).stdout.splitlines()
    assert sorted(lines) == sorted(f"{name * 20} {n}" for name in "abcdefgh" for n in range(500))


@oldest_and_newest
@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 11)"])
def test_what_was_printed_before_a_sudden_end_is_kept(run: Run, interpreter: Interpreter, end: str) -> None:
    outcome = run(f"import os\nprint('on', 'my', end=' way')\n{end}", python=interpreter.minor_version)
    assert outcome.stdout == "on my way"
    outcome = run(f"import os\nfor n in range(5000): print(n)\n{end}", python=interpreter.minor_version)
    assert outcome.stdout == "".join(f"{n}\n" for n in range(5000))


@oldest_and_newest
def test_streams_that_print_much_may_be_replaced_and_detached(run: Run, interpreter: Interpreter) -> None:
    code = (
        "import io, sys\nfor n in range(1000): print(n)\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8', line_buffering=True)\n"
        "for n in range(3000): print(n)\n"
    )
    outcome = run(code, python=interpreter.minor_version)
    assert (outcome.stdout, outcome.stderr) == ("".join(f"{n}\n" for n in (*range(1000), *range(3000))), "")


SEARCHED = {
    "a path of one's own": "import sys; sys.path.insert(0, 'src'); import random; print(random.WHO, random.__file__)",
    "for a module of the library": "import sys; sys.path.insert(0, 'src'); import tempfile; print(tempfile._Random)",
    "after an import": "import tempfile, sys; sys.path.insert(0, 'src'); import random; print(random.randint(3, 3))",
    "an archive in the path": "import zipfile, sys\nwith zipfile.ZipFile('mods', 'w') as z: z.writestr('random.py', 'WHO = 2')\n"
    "sys.path.insert(0, 'mods'); import random; print(random.WHO)\nimport tempfile",
    "a finder of one's own": "import importlib.machinery, importlib.util, sys\nclass Mine:\n"
    "    def find_spec(name, path, target=None):\n"
    "        if name == 'random': return importlib.util.spec_from_file_location(name, 'src/random.py')\n"
    "sys.meta_path.insert(0, Mine); import tempfile; print(tempfile._Random)",
    "entries that are no text": "import sys; sys.path[:0] = [None, 7]; import random; print(random.randint(3, 3))",
    "no finder at all": "import sys; sys.meta_path.clear()\ntry: import random\nexcept ImportError as e: print(e)",
    "written by the program": "open('json.py', 'w').write('WHO = 1'); import importlib; importlib.invalidate_caches();"
    "import json; print(json.WHO)",
    "at the end of the path": "import sys; sys.path.append('src'); import random; print(random.randint(3, 3))",
    "an import of all": "import json, re, random, tempfile, logging, threading, collections.abc, concurrent.futures,"
    "asyncio; from json import *; print(json.loads('[1]'), collections.abc.Mapping, concurrent.futures.Future)",
    "what there is": "import sys; print([name for name in ('json', 'random', 're', 'threading', 'logging', 'typing',"
    "'dataclasses', 'datetime', 'collections', 'warnings', 'traceback', 'ast') if name in sys.modules])",
    "what came along": "import logging, sys; print([name for name in ('logging', 'threading', 'string', 're',"
    "'traceback', 'json', 'random', 'asyncio') if name in sys.modules])",
    "a module again": "import json, sys; first = json; del sys.modules['json']; import json; print(json is first)",
    "a module reloaded": "import json, importlib; importlib.reload(json); print(json.__spec__, json.__spec__.loader)",
    "a spec": "import importlib.util; print(importlib.util.find_spec('json')); import json; print(json.__spec__)",
    "modules of a directory": "import pkgutil, json; print(sorted(each.name for each in pkgutil.iter_modules())[:99]);"
    "print([each.name for each in pkgutil.iter_modules(json.__path__)])",
    "threads that are waited for": "import concurrent.futures, time\npool = concurrent.futures.ThreadPoolExecutor()\n"
    "pool.submit(lambda: (time.sleep(0.1), print('done')))",
}


@oldest_and_newest
@pytest.mark.parametrize("name", SEARCHED)
def test_imports_find_what_they_find_plainly(run: Run, tmp_path: Path, interpreter: Interpreter, name: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/random.py").write_text("WHO = 'mine'\nRandom = 'my own'\n")
    (tmp_path / "main.py").write_text(SEARCHED[name])
    expected = plain(interpreter, tmp_path, "-S", "main.py")  # without packages of this machine
    outcome = run(SEARCHED[name], files={"src/random.py": "WHO = 'mine'\nRandom = 'my own'\n"},
                  python=interpreter.minor_version)  # fmt: skip
    stdout = outcome.stdout.replace("/python/lib", f"{interpreter.prefix}/lib")
    assert (shown(stdout), shown(outcome.stderr), outcome.exit_code) == (shown(expected[0]), *expected[1:])


LOOKING = {
    "the stack": "import sys, inspect, traceback; print(sys._getframe().f_back, len(inspect.stack()));"
    "traceback.print_stack(); print(len(traceback.extract_stack()), sys._current_frames().keys().__len__())",
    "modules of ours": "import sys; print([name for name in ('ctypes', 'runner', 'frames', 'ahead') if name in sys.modules])",
    "a warning for the caller": "import warnings; warnings.warn('x', stacklevel=2); warnings.warn('y', stacklevel=9)",
    "a dump": "import faulthandler, sys; faulthandler.dump_traceback(all_threads=False)",
    "in a function": "import inspect\ndef f(): print(len(inspect.stack()), inspect.currentframe().f_back.f_back)\nf()",
    "at exit": "import atexit, inspect\natexit.register(lambda: print(len(inspect.stack())))",
    "in a hook": "import sys, inspect\nsys.excepthook = lambda *_: print(len(inspect.stack()))\n1 / 0",
    "in a thread": "import threading, inspect\nt = threading.Thread(target=lambda: print(len(inspect.stack())))\n"
    "t.start(); t.join()",
    "too deep a stack": "import sys\nsys._getframe(1)",
    "from a handler": "import signal, inspect, os\nsignal.signal(2, lambda *_: print(len(inspect.stack())))\n"
    "os.kill(os.getpid(), 2)",
}


@oldest_and_newest
@pytest.mark.parametrize("fresh", [(), (("PYTHONHASHSEED", "0"),)], ids=["fork", "fresh"])
@pytest.mark.parametrize("name", LOOKING)
def test_no_frame_of_ours_is_below_a_programs(
    run: Run, tmp_path: Path, interpreter: Interpreter, fresh: tuple[tuple[str, str], ...], name: str
) -> None:
    stdout, stderr, exit_code = plain_python(interpreter, LOOKING[name], tmp_path)
    outcome = run(LOOKING[name], python=interpreter.minor_version, env=fresh)
    stderr = stderr.replace('File "main.py"', 'File "/work/main.py"')
    assert (outcome.stdout, shown(outcome.stderr), outcome.exit_code) == (stdout, stderr, exit_code)
