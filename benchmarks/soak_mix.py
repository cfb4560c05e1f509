"""What the soak runs: kinds of executions, each with the one answer that is right.

A kind is a function that speaks to the server and raises `Wrong` where an answer is not what it must be. Each gets a
number that no other execution has, which is part of the answer where that is possible: one that was meant for somebody
else shows. Sizes and choices come from the random generator that it gets, which is the same in each tenth of the run.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from contextlib import closing
from random import Random
from typing import Any

from soak_clients import JSON, TIMEOUT_SECONDS, Client, Kind, Wrong, check

from tests.support.archives import Content, tar_of
from tests.support.exchange import MULTIPART, connect, multipart, request

LONG = {"timeout_seconds": 3600}  # of what must end by itself: if it does not, it is still there at the end
SHORT = {"timeout_seconds": 1}
TIMED_OUT: dict[str, Any] = {"termination": "timeout", "exit_code": 124, "error": "execution timed out after 1 s"}
MAX_OUTPUT_MB = 2  # the server's setting: floods come to so much of each stream


# --- code that ends by itself -----------------------------------------------------------------------------------------


def print_something(client: Client, number: int, chance: Random) -> None:
    check(client.eval(f"print({number} * 7919)"), f"{number * 7919}\n")


def evaluate(client: Client, number: int, chance: Random) -> None:
    answer = client.eval(f"x = {number}\nx * 7919", eval_last_expr=True)
    check(answer, result=str(number * 7919))


IMPORTS = (
    "import asyncio\nasync def f():\n  await asyncio.sleep(0)\n  return {}\nprint(asyncio.run(f()))",
    "from decimal import Decimal\nprint(Decimal('{}.5') // 1)",
    "import xml.etree.ElementTree as tree\nprint(tree.fromstring('<a>{}</a>').text)",
    "import email\nprint(email.message_from_string('Subject: {}\\n\\n')['Subject'])",
    "import concurrent.futures as f\nwith f.ThreadPoolExecutor(4) as p: print(list(p.map(int, ['{}']))[0])",
    "import json, urllib.parse, zipfile, http.client\nprint(json.loads('{}'))",
)


def import_modules(client: Client, number: int, chance: Random) -> None:
    check(client.eval(chance.choice(IMPORTS).format(number)), f"{number}\n")


FAILURES = (
    ("def f():\n  return 1 / 0\n\nf()", "ZeroDivisionError", 2),
    ("x = (", "SyntaxError", 1),
    ("import no_such_module", "ModuleNotFoundError", 1),
    ("class Odd(Exception): pass\n\nraise Odd('so')", "Odd", 3),
    ("def f(): f()\nf()", "RecursionError", 1),
)


def raise_exceptions(client: Client, number: int, chance: Random) -> None:
    code, error_type, line = chance.choice(FAILURES)
    check(client.eval(code), exit_code=1, error_type=error_type, error_line=line)


def exit_with_a_code(client: Client, number: int, chance: Random) -> None:
    code = number % 256
    check(client.eval(f"import sys; sys.exit({code})"), exit_code=code)


def die_of_a_signal(client: Client, number: int, chance: Random) -> None:
    signal = chance.choice((6, 9, 11, 15))
    answer = client.eval(f"import os; print({number}); os.kill(os.getpid(), {signal})")
    check(answer, f"{number}\n", termination="signaled", exit_code=128 + signal)


def upload(client: Client, number: int, chance: Random) -> None:
    files: dict[str, Content] = {
        "main.py": "import package.inner\nprint(open('data/number').read(), package.inner.answer())",
        "package/__init__.py": "",
        "package/inner.py": "def answer(): return 42\n",
        "data/number": str(number),
    }
    check(client.execute(files, entrypoint="main.py"), f"{number} 42\n")


def upload_with_everything(client: Client, number: int, chance: Random) -> None:
    code = "import os, sys\nprint(sys.argv[1:], os.environ['NUMBER'], sys.stdin.read(), open('made').read(), end='')"
    text = chance.choice("abc") * chance.randrange(10_000)
    answer = client.execute(
        code, stdin=text, script_args=["--number", str(number)], env_vars=[f"NUMBER={number}"],
        pre_commands=[f"echo {number} > made"], eval_last_expr=True,
    )  # fmt: skip
    check(answer, f"['--number', '{number}'] {number} {text} {number}\n")


def upload_megabytes(client: Client, number: int, chance: Random) -> None:
    size = chance.randrange(1 << 20, 3 << 20)
    files: dict[str, Content] = {"main.py": "print(len(open('data', 'rb').read()))", "data": b"\1" * size}
    check(client.execute(files), f"{size}\n")


def write_much(client: Client, number: int, chance: Random) -> None:
    letter, size = chance.choice("abcdef"), chance.randrange(100 << 10, 1 << 20)
    code = f"import sys; sys.stdout.write('{letter}' * {size}); sys.stderr.write('{number}')"
    check(client.eval(code), letter * size, stderr=str(number))


def write_files(client: Client, number: int, chance: Random) -> None:
    size = chance.randrange(1 << 16, 4 << 20)
    code = (
        f"import os\nos.mkdir('d')\nfor name in ('/tmp/f', '/work/d/f', '/dev/shm/f'):\n"
        f"  open(name, 'wb').write(b'x' * {size})\n"
        f"for i in range(50): open(f'd/{{i}}', 'w').write('{number}')\n"
        "print(len(os.listdir('d')), os.path.getsize('/dev/shm/f'), open('d/49').read())"
    )
    check(client.eval(code), f"51 {size} {number}\n")


SUBPROCESSES = (
    "import subprocess\nprint(subprocess.run(['sh', '-c', 'echo {}; cat'], input='', text=True,"
    " capture_output=True).stdout, end='')",
    "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print({})'], check=True)",
    "import os\npids = []\nfor _ in range(8):\n  pid = os.fork()\n  if pid == 0: os._exit(7)\n  pids.append(pid)\n"
    "assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7 for pid in pids)\nprint({})",
    "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n"
    "  print(pool.map(int, '1')[0] * {})",
)


def start_processes(client: Client, number: int, chance: Random) -> None:
    check(client.eval(chance.choice(SUBPROCESSES).format(number)), f"{number}\n")


DAEMONS = (
    "import subprocess\nfor _ in range(3): subprocess.Popen(['sleep', '600'], start_new_session=True)\nprint({})",
    "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    while True: time.sleep(0.01)\n"
    "  os._exit(0)\nprint({})",
    "import signal, os, time\nif os.fork() == 0:\n  for n in range(1, 32):\n"
    "    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\n"
    "  open('/tmp/held', 'w').write('x' * 1000000)\n  time.sleep(600)\nprint({})",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\nprint({})",
)


def leave_daemons(client: Client, number: int, chance: Random) -> None:
    check(client.eval(chance.choice(DAEMONS).format(number), config=LONG), f"{number}\n")


SOCKETS = (
    "import socket\nserver = socket.create_server(('127.0.0.1', 8080))\n"
    "client = socket.create_connection(('localhost', 8080))\nserver.accept()[0].sendall(b'{}')\n"
    "print(client.recv(100).decode())",
    "import socket\nours, theirs = socket.socketpair()\nours.send(b'{}')\n"
    "held = [socket.socket() for _ in range(100)]\nprint(theirs.recv(100).decode())",
    "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('127.0.0.1', 0))\n"
    "for _ in range(200): s.sendto(b'{}', s.getsockname())\nprint(s.recv(100).decode())",
)


def use_sockets(client: Client, number: int, chance: Random) -> None:
    check(client.eval(chance.choice(SOCKETS).format(number)), f"{number}\n")


def use_the_network(client: Client, number: int, chance: Random) -> None:
    code = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    code += f"s.connect(('1.1.1.1', 9))  # a route is all that this needs: nothing is sent\nprint({number})"
    check(client.eval(code, config={"network_disabled": False}), f"{number}\n")


# --- asked for in two steps -------------------------------------------------------------------------------------------


def submit_and_wait(client: Client, number: int, chance: Random) -> None:
    path = client.submit(f"import time; time.sleep({chance.random() / 10}); print({number})")
    check(client.ask("GET", path + "?wait=60"), f"{number}\n")


def submit_and_poll(client: Client, number: int, chance: Random) -> None:
    path = client.submit(f"print({number})")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (answer := client.ask("GET", path))["finished_at"] is None:
        if time.monotonic() > deadline:
            raise Wrong(f"still {answer['status']} after {TIMEOUT_SECONDS:g} s")
        time.sleep(0.01)
    check(answer, f"{number}\n")


def kill(client: Client, number: int, chance: Random) -> None:
    path = client.submit("import os, time\nos.fork()\ntime.sleep(600)", config=LONG)
    time.sleep(chance.random() / 20)  # it may be waiting, on its way, or running
    status, answer = client.send("DELETE", path)
    if (status, answer) != (200, {"status": "killed"}):
        raise Wrong(f"the kill was answered {status} {answer}")
    check(client.ask("GET", path), termination="killed", exit_code=137)


def go_away(client: Client, number: int, chance: Random) -> None:
    """A client that closes, or resets, its connection in mid-run. Nobody sees the end; a run left over is counted."""
    body = json.dumps({"code": "import time\ntime.sleep(600)", "config": LONG}).encode()
    with closing(connect(client.url)) as connection:
        connection.sendall(request(client.url, "POST", "/api/v1/eval", body, JSON))
        time.sleep(chance.random() / 10)
        if chance.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.setblocking(False)
        try:
            raise Wrong(f"an answer came to what sleeps: {connection.recv(1000)!r}")
        except BlockingIOError:
            pass


# --- refused ----------------------------------------------------------------------------------------------------------

REFUSED = (
    ("/eval", b"{", JSON),
    ("/eval", b"{}", JSON),
    ("/eval", b'{"code": "1", "python_version": "2.7"}', JSON),
    ("/eval", b'{"code": "1", "config": {"timeout_seconds": -1}}', JSON),
    ("/eval", json.dumps({"files": [{"name": "../x.py", "content": ""}]}).encode(), JSON),
    ("/exec/sync", multipart(("tar", b"no tar"), ("metadata", b"{}")), MULTIPART),
    ("/exec/sync", multipart(("tar", tar_of({"/etc/x": "1"})), ("metadata", b"{}")), MULTIPART),
    ("/exec/async", multipart(("tar", tar_of({"x": b"1" * (2 << 20)})), end=False), MULTIPART),
)


def be_refused(client: Client, number: int, chance: Random) -> None:
    status, answer = client.send("POST", *chance.choice(REFUSED))
    if status != 400 or set(answer) != {"error", "code"}:
        raise Wrong(f"not refused, or not well: {status} {answer}")


# --- code that must be ended ------------------------------------------------------------------------------------------


def sleep_too_long(client: Client, number: int, chance: Random) -> None:
    answer = client.eval(f"import time\nprint({number})\ntime.sleep(600)", config=SHORT)
    check(answer, f"{number}\n", **TIMED_OUT)


def loop_for_ever(client: Client, number: int, chance: Random) -> None:
    check(client.eval(f"print({number})\nwhile True: pass", config=SHORT), f"{number}\n", **TIMED_OUT)


def fork_bomb(client: Client, number: int, chance: Random) -> None:
    code = f"import os\nprint({number})\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    check(client.eval(code, config=SHORT), f"{number}\n", **TIMED_OUT)


def memory_bomb(client: Client, number: int, chance: Random) -> None:
    code = f"import os\nprint({number})\nos.fork()\nx = []\nwhile True: x.append(b'x' * (4 << 20))"
    answer = client.eval(code, config={"memory_mb": 64})
    check(
        answer,
        f"{number}\n",
        termination="memory",
        exit_code=137,
        error="out of memory: the limit is 64 MiB (memory_mb)",
    )


def output_flood(client: Client, number: int, chance: Random) -> None:
    code = "import os, threading\ndef flood(fd):\n  while True: os.write(fd, b'y' * 65536)\n"
    code += "threading.Thread(target=flood, args=(2,)).start()\nflood(1)"
    full = "y" * (MAX_OUTPUT_MB << 20)
    answer = client.eval(code, config=SHORT)
    check(answer, full, stderr=full, stdout_truncated=True, stderr_truncated=True, **TIMED_OUT)


KINDS = (
    Kind("eval of print", 0, print_something),  # what is left of the thousand, about a quarter
    Kind("eval of an expression", 200, evaluate),
    Kind("imports", 60, import_modules),
    Kind("uncaught exceptions", 60, raise_exceptions),
    Kind("exit codes", 20, exit_with_a_code),
    Kind("deaths of a signal", 10, die_of_a_signal),
    Kind("exec/sync of a tree", 80, upload),
    Kind("exec/sync with stdin, arguments, variables, pre_commands", 50, upload_with_everything),
    Kind("exec/sync of 1 to 3 MiB", 5, upload_megabytes),
    Kind("exec/async, waited for", 40, submit_and_wait),
    Kind("exec/async, polled", 20, submit_and_poll),
    Kind("output of 100 KiB to 1 MiB", 30, write_much),
    Kind("files written", 40, write_files),
    Kind("subprocesses", 30, start_processes),
    Kind("daemons left behind", 20, leave_daemons),
    Kind("sockets on localhost", 20, use_sockets),
    Kind("kills in mid-run", 20, kill),
    Kind("clients that go away", 10, go_away),
    Kind("requests refused", 20, be_refused),
    Kind("timeouts asleep", 8, sleep_too_long),
    Kind("timeouts in a loop", 2, loop_for_ever),
    Kind("fork bombs", 1.5, fork_bomb),
    Kind("memory bombs", 2, memory_bomb),
    Kind("output floods", 1.5, output_flood),
)
NETWORK = Kind("with the network", 3, use_the_network)  # where the server can give it
