"""CONTRACT §2, "The result": how code ended, and whose doing it was."""

from __future__ import annotations

import signal

import pytest

from python_executor.model.isolation import BOUNDARIES
from tests.support.api import Api
from tests.support.machine import lacking, weaker


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("", 0),
        ("pass", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(None)", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit(-1)", 255),
        ("import sys; sys.exit(256)", 0),
        ("import sys; sys.exit(True)", 1),
        ("import os; os._exit(42)", 42),
        ("raise SystemExit(9)", 9),
        ("raise KeyboardInterrupt", 130),
        ("1 / 0", 1),
        ("if", 1),
        ("exit(5)", 5),
    ],
)
def test_exit_codes_are_those_of_plain_python(api: Api, code: str, exit_code: int) -> None:
    result = api.run({"main.py": code})
    assert (result["status"], result["exit_code"]) == ("completed", exit_code), result


def test_an_exit_message_goes_to_stderr(api: Api) -> None:
    result = api.eval("import sys; sys.exit('sorry')")
    assert (result["exit_code"], result["stderr"], result["error_type"]) == (1, "sorry\n", None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1])
def test_a_signal_is_128_and_its_number(api: Api, number: signal.Signals) -> None:
    result = api.eval(f"import os; print('before', flush=True); os.kill(os.getpid(), {int(number)})")
    assert (result["status"], result["termination"]) == ("completed", "signaled")
    assert (result["exit_code"], result["stdout"]) == (128 + number, "before\n")


def test_handlers_of_signals_run(api: Api) -> None:
    code = "import os, signal\nsignal.signal(15, lambda *_: print('caught'))\nos.kill(os.getpid(), 15)"
    assert api.eval(code)["stdout"] == "caught\n"


def test_a_traceback_reads_as_if_python_had_been_called(api: Api) -> None:
    code = "def inner():\n    return 1 / 0\n\ninner()\n"
    result = api.eval(code)
    assert result["stderr"].splitlines()[:5] == [
        "Traceback (most recent call last):",
        '  File "/work/main.py", line 4, in <module>',
        "    inner()",
        *result["stderr"].splitlines()[3:5],
    ]
    assert '  File "/work/main.py", line 2, in inner\n    return 1 / 0\n' in result["stderr"]
    assert result["stderr"].endswith("ZeroDivisionError: division by zero\n")
    assert result["stderr"].count("File ") == 2
    assert (result["status"], result["exit_code"]) == ("completed", 1)
    assert (result["error_type"], result["error_line"], result["error"]) == ("ZeroDivisionError", 2, None)


def test_the_line_is_the_innermost_one_in_the_entrypoint(api: Api) -> None:
    result = api.run(
        {"main.py": "import helper\n\nhelper.fail()\n", "helper.py": "def fail():\n    raise KeyError(1)\n"}
    )
    assert (result["error_type"], result["error_line"]) == ("KeyError", 3)
    assert "/work/helper.py" in result["stderr"]


def test_a_syntax_error_names_its_line(api: Api) -> None:
    result = api.eval("x = 1\nif x\n    print(x)\n")
    assert (result["exit_code"], result["error_type"], result["error_line"]) == (1, "SyntaxError", 2)
    assert 'main.py", line 2' in result["stderr"]
    assert "Traceback" not in result["stderr"]


def test_an_exception_of_ones_own_is_named(api: Api) -> None:
    result = api.eval("class Odd(Exception): pass\n\nraise Odd('text')")
    assert (result["error_type"], result["error_line"]) == ("Odd", 3)
    assert result["stderr"].rstrip().endswith("Odd: text")


def test_an_exception_that_is_caught_is_none(api: Api) -> None:
    result = api.eval("try:\n    1 / 0\nexcept ZeroDivisionError:\n    print('fine')")
    assert (result["exit_code"], result["error_type"], result["error_line"]) == (0, None, None)


def test_a_timeout_keeps_what_was_printed(api: Api) -> None:
    result = api.eval("print('so far', flush=True)\nwhile True: pass", config={"timeout_seconds": 1})
    assert (result["status"], result["termination"], result["exit_code"]) == ("failed", "timeout", 124)
    assert result["error"] == "execution timed out after 1 s"
    assert result["stdout"] == "so far\n"
    assert 900 <= result["duration_ms"] < 3000


def test_a_timeout_may_be_a_fraction_of_a_second(api: Api) -> None:
    result = api.eval("import time; time.sleep(60)", config={"timeout_seconds": 0.25})
    assert (result["status"], result["termination"], result["exit_code"]) == ("failed", "timeout", 124)
    assert result["error"] == "execution timed out after 0.25 s"
    assert 240 <= result["duration_ms"] < 1500


def test_processor_time_is_a_limit_of_its_own_with_its_verdict(api: Api) -> None:
    result = api.eval("print('so far', flush=True)\nwhile True: pass", config={"cpu_seconds": 0.5})
    assert (result["status"], result["termination"], result["exit_code"]) == ("failed", "cpu", 152)
    assert result["error"] == "execution used up its 0.5 s of processor time (cpu_seconds)"
    assert result["stdout"] == "so far\n"
    assert 500 <= result["usage"]["cpu_ms"] < 800


def test_processor_time_of_children_that_have_ended_counts_and_sleep_does_not(api: Api) -> None:
    code = "import os, time\nif os.fork() == 0:\n  while time.process_time() < 0.3: pass\n  os._exit(0)\n"
    result = api.eval(code + "os.wait(); time.sleep(0.5)\nwhile True: pass", config={"cpu_seconds": 0.6})
    assert result["termination"] == "cpu"
    assert 600 <= result["usage"]["cpu_ms"] < 900


def test_a_timeout_ends_processes_that_hide(api: Api) -> None:
    code = """
import os, signal, time
for number in (1, 2, 15):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    os.fork()
time.sleep(60)
"""
    result = api.eval(code, config={"timeout_seconds": 1})
    assert (result["termination"], result["exit_code"]) == ("timeout", 124)
    assert result["duration_ms"] < 5000


def test_a_child_that_keeps_the_output_open_delays_nothing(api: Api) -> None:
    code = "import subprocess\nsubprocess.Popen(['sleep', '60'])\nprint('done')"
    result = api.eval(code)
    assert (result["exit_code"], result["stdout"]) == (0, "done\n")
    assert result["duration_ms"] < 10_000


def test_too_much_memory_ends_it_and_keeps_what_was_printed(api: Api) -> None:
    code = "print('so far', flush=True)\nx = []\nwhile True: x.append(bytearray(10_000_000))"
    result = api.eval(code, config={"memory_mb": 100})
    assert (result["status"], result["stdout"]) == ("completed", "so far\n")
    if lacking("cgroups") is None or result["termination"] == "memory":
        assert (result["termination"], result["exit_code"]) == ("memory", 137)
        assert "100" in result["error"]
    else:
        assert (result["error_type"], result["exit_code"]) == ("MemoryError", 1)


@pytest.mark.needs("cgroups")
def test_the_memory_of_children_counts(api: Api) -> None:
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'x = bytearray(500_000_000)'])\nprint('survived')"
    result = api.eval(code, config={"memory_mb": 100})
    assert (result["termination"], result["exit_code"]) == ("memory", 137)


@pytest.mark.parametrize("config", [{"memory_mb": 1}, {"disk_mb": 1}, {"memory_mb": 5, "disk_mb": 3}])
def test_limits_that_leave_next_to_nothing_are_no_failure_of_ours(api: Api, config: dict[str, int]) -> None:
    assert api.eval("print(1)", config=config)["termination"] in ("exited", "memory")


def test_a_full_disk_is_enospc_and_nothing_else(api: Api) -> None:
    code = """
import errno
try:
    with open('big', 'wb') as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    result = api.eval(code, config={"disk_mb": 5})
    assert (result["stdout"], result["exit_code"], result["termination"]) == ("ENOSPC\n", 0, "exited")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_past_the_cap_is_cut_and_the_run_goes_on(api: Api, stream: str) -> None:
    code = f"import sys\nfor _ in range(300): sys.{stream}.write('x' * 40_000)\nopen('end', 'w').close()\nsys.exit(4)"
    result = api.eval(code)
    assert result["exit_code"] == 4
    assert result[stream] == "x" * (10 << 20)
    other = "stderr" if stream == "stdout" else "stdout"
    assert (result[f"{stream}_truncated"], result[f"{other}_truncated"]) == (True, False)


def test_output_up_to_the_cap_is_whole(api: Api) -> None:
    result = api.eval(f"print('x' * {(10 << 20) - 1})")
    assert (len(result["stdout"]), result["stdout_truncated"]) == (10 << 20, False)


def test_output_without_a_flush_is_kept(api: Api) -> None:
    assert api.eval("import sys; sys.stdout.write('no newline')")["stdout"] == "no newline"


def test_the_order_of_both_streams_is_kept_in_each(api: Api) -> None:
    code = "import sys\nfor i in range(1000):\n    print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)"
    result = api.eval(code)
    assert result["stdout"].split() == [str(i) for i in range(0, 1000, 2)]
    assert result["stderr"].split() == [str(i) for i in range(1, 1000, 2)]


WEAKER_IN_DOCKER = {"user-namespace", "host-uid", "host-paths", "memory"}  # as Debian installs it


def test_every_result_tells_how_each_boundary_stood(api: Api, backend: str) -> None:
    isolation = api.eval("1")["isolation"]
    assert list(isolation) == [boundary.name for boundary in BOUNDARIES]
    short = {name: state for name, state in isolation.items() if state != "ok"}
    assert short == dict.fromkeys(weaker() if backend == "native" else WEAKER_IN_DOCKER, "weaker")


def test_a_result_that_comes_later_tells_it_too(api: Api) -> None:
    done = api.finished(api.submit("print(1)"))
    assert done["isolation"] == api.eval("1")["isolation"]


def test_a_file_of_the_machines_that_is_not_there_is_explained(api: Api, backend: str) -> None:
    result = api.run("import subprocess\nsubprocess.run(['cat', '/proc/meminfo'])")
    expected = "/proc/meminfo is not there: " if backend == "native" else ""
    assert "".join(result["warnings"]).startswith(expected), result
    assert bool(result["warnings"]) == bool(expected)


def test_usage_counts_what_was_used(api: Api) -> None:
    result = api.eval("x = b'x' * 50_000_000\nfor i in range(3_000_000): pass")
    assert result["usage"]["cpu_ms"] >= 10
    assert result["usage"]["memory_peak_bytes"] >= 50_000_000


def test_who_asks_for_no_network_and_no_packages_is_told_how_to(api: Api) -> None:
    result = api.eval("import socket; socket.create_connection(('192.0.2.1', 80))")
    assert [word for word in result["warnings"] if "(--network)" in word]
    result = api.eval("import no_such_package", detect_imports=False)
    assert [word for word in result["warnings"] if "(--detect-imports)" in word]
    assert api.eval("import sys; sys.exit('import no_such_package')", detect_imports=False)["warnings"] == []
