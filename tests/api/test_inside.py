"""CONTRACT §3: what code sees."""

from __future__ import annotations

import os

import pytest

from tests.support.api import Api


def _printed(api: Api, code: str, **metadata: object) -> str:
    result = api.run(code, **metadata)
    assert result["exit_code"] == 0, result
    return result["stdout"].removesuffix("\n")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("__name__", "__main__"),
        ("__file__", "/work/main.py"),
        ("__import__('os').getcwd()", "/work"),
        ("__import__('os').environ['HOME']", "/work"),
        ("__import__('sys').argv", "['main.py']"),
        ("__import__('sys').path[0]", "/work"),
        ("__import__('sys').stdout.encoding", "utf-8"),
        ("__import__('sys').getfilesystemencoding()", "utf-8"),
        ("__import__('sys').stdin.isatty()", "False"),
        ("__import__('sys').flags.isolated", "0"),
        ("__builtins__.__name__", "builtins"),
        (
            "sorted(set(globals()) - set(dir(__builtins__)) - {'__file__', '__cached__', '__builtins__', '__annotations__'})",
            "[]",
        ),
    ],
)
def test_it_is_python_main_py(api: Api, expression: str, value: str) -> None:
    assert _printed(api, f"print({expression})") == value


def test_it_is_an_unprivileged_user(api: Api) -> None:
    assert (
        _printed(api, "import os; print(os.getuid() != 0 and os.geteuid() != 0 and 0 not in os.getgroups())") == "True"
    )
    assert _printed(api, "import os; print(os.getpid() != 1)") == "True"


@pytest.mark.parametrize("place", ["/work", "/tmp", "/dev/shm"])
def test_these_places_are_writable(api: Api, place: str) -> None:
    assert _printed(api, f"open('{place}/x', 'w').write('y'); print(open('{place}/x').read())") == "y"


@pytest.mark.parametrize("place", ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/root", "/home", "/proc", "/var/tmp"])
def test_everything_else_is_not(api: Api, place: str) -> None:
    code = f"try:\n    open('{place}/x', 'w')\nexcept OSError:\n    print('refused')"
    assert _printed(api, code) == "refused"


@pytest.mark.parametrize(("cpus", "count"), [(0.5, "1"), (1, "1"), (0, str(len(os.sched_getaffinity(0))))])
def test_it_is_held_to_as_many_processors_as_it_may_use(api: Api, cpus: float, count: str) -> None:
    code = "import os; print(len(os.sched_getaffinity(0)))"
    assert _printed(api, code, config={"cpus": cpus}) == count


def test_the_servers_environment_does_not_reach_it(api: Api) -> None:
    code = "import os; print(any(name.startswith('PYEXEC') for name in os.environ), len(os.environ) < 12)"
    assert _printed(api, code) == "False True"


def test_variables_are_there(api: Api) -> None:
    env = ["KEY=value", "EMPTY=", "WITH=a=b", "SPACE= x ", "ÜMLAUT=ß", "HOME=/tmp"]
    code = "import os; print([os.environ[k] for k in ('KEY', 'EMPTY', 'WITH', 'SPACE', 'ÜMLAUT', 'HOME')])"
    assert _printed(api, code, env_vars=env) == "['value', '', 'a=b', ' x ', 'ß', '/tmp']"


@pytest.mark.parametrize(
    ("variable", "expression", "value"),
    [
        ("PYTHONOPTIMIZE=2", "__import__('sys').flags.optimize", "2"),
        ("PYTHONUTF8=1", "__import__('sys').flags.utf8_mode", "1"),
        ("PYTHONDONTWRITEBYTECODE=1", "__import__('sys').dont_write_bytecode", "True"),
        ("PYTHONPATH=/work/lib", "'/work/lib' in __import__('sys').path", "True"),
        ("PYTHONIOENCODING=latin-1", "__import__('sys').stdout.encoding", "iso8859-1"),
        ("PYTHONUNBUFFERED=1", "__import__('sys').stdout.write_through", "True"),
        ("LC_ALL=C", "__import__('locale').setlocale(0)", "C"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in str(value) else "",
)
def test_variables_that_a_starting_interpreter_reads_take_effect(
    api: Api, variable: str, expression: str, value: str
) -> None:
    assert _printed(api, f"print({expression})", env_vars=[variable]) == value


def test_a_hash_seed_fixes_the_hashes(api: Api) -> None:
    hashes = {_printed(api, "print(hash('x'))", env_vars=["PYTHONHASHSEED=7"]) for _ in range(3)}
    assert len(hashes) == 1


def test_a_fresh_interpreter_looks_the_same(api: Api) -> None:
    code = "import os, sys; print(__name__, __file__, sys.argv, os.getcwd(), sys.path[0]); sys.exit(3)"
    result = api.run(code, env_vars=["PYTHONDONTWRITEBYTECODE=1"], script_args=["a"])
    assert result["stdout"] == "__main__ /work/main.py ['main.py', 'a'] /work /work\n"
    assert result["exit_code"] == 3
    failed = api.run("1\n1 / 0", env_vars=["PYTHONDONTWRITEBYTECODE=1"])
    assert (failed["error_type"], failed["error_line"]) == ("ZeroDivisionError", 2)
    assert failed["stderr"].count("File ") == 1
    assert api.run("40 + 2", env_vars=["PYTHONHASHSEED=1"], eval_last_expr=True)["result"] == "42"


@pytest.mark.parametrize("name", ["random", "json", "typing", "collections", "asyncio", "traceback", "ast", "helper"])
def test_its_own_modules_win_as_they_do_there(api: Api, name: str) -> None:
    files = {"main.py": f"import {name}; print({name}.OWN, {name}.__file__)", f"{name}.py": "OWN = 'mine'"}
    assert api.run(files)["stdout"] == f"mine /work/{name}.py\n"


def test_a_package_of_its_own_wins_too(api: Api) -> None:
    files = {"main.py": "import json.tool; print(json.tool.OWN)", "json/__init__.py": "", "json/tool.py": "OWN = 1"}
    assert api.run(files)["stdout"] == "1\n"


def test_hostile_names_do_nothing_before_it(api: Api) -> None:
    trap = "open('/work/trapped', 'w').close()"
    files = {
        "main.py": "import os; print(os.path.exists('/work/trapped'))",
        "sitecustomize.py": trap,
        "usercustomize.py": trap,
    }
    assert api.run(files)["stdout"] == "False\n"


def test_the_entrypoint_may_be_in_a_folder(api: Api) -> None:
    files = {"app/main.py": "import os, sys, near; print(os.getcwd(), sys.path[0], __file__)", "app/near.py": ""}
    assert api.run(files, entrypoint="app/main.py")["stdout"] == "/work /work/app /work/app/main.py\n"


def test_localhost_works_inside(api: Api) -> None:
    code = """
import socket, threading
server = socket.create_server(("localhost", 8080))
threading.Thread(target=lambda: server.accept()[0].sendall(b"hello")).start()
print(socket.create_connection(("127.0.0.1", 8080)).recv(10).decode())
"""
    assert _printed(api, code) == "hello"


def test_a_server_on_every_address_of_localhost_works_inside(api: Api) -> None:
    code = """
import asyncio
async def main():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "localhost", 8080):
        for address in ("localhost", "127.0.0.1"):
            print(await (await asyncio.open_connection(address, 8080))[0].read())
asyncio.run(main())
"""
    assert _printed(api, code) == "b''\nb''"


@pytest.mark.parametrize(
    "address", ["('1.1.1.1', 80)", "('8.8.8.8', 53)", "('169.254.169.254', 80)", "('10.0.0.1', 22)"]
)
def test_there_is_no_network(api: Api, address: str) -> None:
    code = f"import socket\ntry:\n    socket.create_connection({address}, 3)\nexcept OSError as e:\n    print('none')"
    assert _printed(api, code) == "none"


def test_the_server_itself_cannot_be_reached(api: Api) -> None:
    port = api.url.rpartition(":")[2]
    code = f"import socket\ntry:\n    socket.create_connection(('127.0.0.1', {port}), 3)\nexcept OSError:\n    print('none')"
    assert _printed(api, code) == "none"


def test_nothing_of_one_execution_is_there_for_the_next(api: Api) -> None:
    leave = """
import os, subprocess
for place in ("/work", "/tmp", "/dev/shm"):
    open(place + "/left", "w").write("secret")
subprocess.Popen(["sleep", "3579"], start_new_session=True)
import builtins, json
builtins.left = json.left = 1
os.environ["LEFT"] = "1"
"""
    look = """
import builtins, json, os, subprocess
print([os.path.exists(place + "/left") for place in ("/work", "/tmp", "/dev/shm")])
print(hasattr(builtins, "left"), hasattr(json, "left"), "LEFT" in os.environ)
print(any("3579" in open(f"/proc/{pid}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()))
"""
    for _ in range(3):
        api.run(leave)
        assert _printed(api, look) == "[False, False, False]\nFalse False False\nFalse"


def test_random_numbers_differ_between_executions(api: Api) -> None:
    numbers = {_printed(api, "import random, uuid; print(random.random(), uuid.uuid4())") for _ in range(4)}
    assert len(numbers) == 4


def test_processes_threads_and_pipes_work(api: Api) -> None:
    code = """
import concurrent.futures, multiprocessing, subprocess, sys
with concurrent.futures.ThreadPoolExecutor() as pool:
    print(list(pool.map(abs, [-1, -2])))
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(abs, [-3, -4]))
print(subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True, text=True).stdout.strip())
print(subprocess.getoutput("echo six"))
"""
    assert _printed(api, code) == "[1, 2]\n[3, 4]\n5\nsix"


def test_asyncio_and_sqlite_work(api: Api) -> None:
    code = "import asyncio, sqlite3\nasync def f(): await asyncio.sleep(0.01); return 1\nprint(asyncio.run(f()))\n"
    code += "print(sqlite3.connect('/work/x.db').execute('select 2').fetchone()[0])"
    assert _printed(api, code) == "1\n2"


def test_pickling_what_main_defines_works(api: Api) -> None:
    code = "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)"
    assert _printed(api, code) == "True"


def test_source_can_be_inspected(api: Api) -> None:
    assert _printed(api, "import inspect\ndef f(): return 1\nprint(inspect.getsource(f))") == "def f(): return 1\n"
