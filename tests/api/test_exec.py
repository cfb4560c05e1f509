"""CONTRACT §2, /api/v1/exec/* and /api/v1/executions/*."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api, assert_error
from tests.support.archives import directory, symlink, tar_of
from tests.support.exchange import MULTIPART, multipart
from tests.support.server import ServerProcess

SLEEP = "import time\nprint('started', flush=True)\ntime.sleep(60)"


def test_an_archive_is_run(api: Api) -> None:
    result = api.run({"main.py": "from helper import greet; greet()", "helper.py": "def greet(): print('Hello')"})
    assert (result["stdout"], result["exit_code"]) == ("Hello\n", 0)


def test_everything_that_metadata_can_say_takes_effect(api: Api) -> None:
    code = "import os, sys; print(sys.argv, os.environ['KEY'], input())"
    result = api.run(
        {"app/run.py": code},
        entrypoint="app/run.py",
        stdin="from stdin\n",
        env_vars=["KEY=a=b"],
        script_args=["--verbose", "two words", ""],
        config={"timeout_seconds": 20, "memory_mb": 256, "disk_mb": 64, "cpu_shares": 512, "network_disabled": True},
    )
    assert result["stdout"] == "['app/run.py', '--verbose', 'two words', ''] a=b from stdin\n"


def test_a_module_can_be_what_runs(api: Api) -> None:
    files = {"app/__init__.py": "", "app/__main__.py": "import sys; print(__spec__.name, sys.argv[1:], input())"}
    result = api.run(files, module="app", script_args=["-v"], stdin="typed\n", eval_last_expr=True)
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("app.__main__ ['-v'] typed\n", "", 0)
    assert result["result"] is None
    assert "No module named no_such" in api.run({}, module="no_such")["stderr"]
    sources = [{"name": name, "content": content} for name, content in files.items()]
    assert api.eval(files=sources, module="app", stdin="typed\n")["stdout"] == "app.__main__ [] typed\n"


def test_a_module_that_can_be_none_or_stands_beside_an_entrypoint_is_a_400(api: Api) -> None:
    both = {"entrypoint": "main.py", "module": "main"}
    assert_error(api.post_exec({"main.py": ""}, both), 400, "invalid_request", "entrypoint", "module")
    assert_error(api.post_eval({"code": "1", **both}), 400, "invalid_request", "entrypoint", "module")
    for name in ("-c", "a/b", ".a", "a\0"):
        assert_error(api.post_exec({"main.py": ""}, {"module": name}), 400, "invalid_request", "module")


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["a.py", "__main__.py", "main.py"], "main.py"),
        (["a.py", "__main__.py"], "__main__.py"),
        (["readme.txt", "b.py", "a.py"], "b.py"),
    ],
)
def test_an_entrypoint_is_found(api: Api, names: list[str], runs: str) -> None:
    assert api.run({name: f"print({name!r})" for name in names})["stdout"] == f"{runs}\n"


def test_an_archive_without_an_entrypoint_is_a_400(api: Api) -> None:
    assert_error(api.post_exec({"readme": ""}, {}), 400, "invalid_request", "entrypoint")
    assert_error(api.post_exec(bytes(1024), {}), 400, "invalid_request", "entrypoint")
    assert_error(api.post_exec({"main.py": ""}, {"entrypoint": "x.py"}), 400, "invalid_request", "x.py")
    assert_error(api.post_exec({"d": directory(), "main.py": ""}, {"entrypoint": "d"}), 400, "invalid_request", "d")


def test_a_directory_with_a_main_is_an_entrypoint(api: Api) -> None:
    result = api.run({"app/__main__.py": "import sys; print(sys.argv)"}, entrypoint="app", script_args=["x"])
    assert (result["stdout"], result["exit_code"]) == ("['app', 'x']\n", 0)


def test_a_notebook_is_refused_with_what_to_do(api: Api) -> None:
    assert_error(api.post_exec({"a.ipynb": "{}"}, {"entrypoint": "a.ipynb"}), 400, "invalid_request", "nbconvert")


def test_an_entrypoint_may_be_a_symlink(api: Api) -> None:
    files = {"src/app.py": "import sys; print(sys.argv[0])", "main.py": symlink("src/app.py")}
    assert api.run(files)["stdout"] == "main.py\n"


def test_commands_run_first_in_the_same_sandbox(api: Api) -> None:
    result = api.run(
        "print(open('made').read(), end='')",
        pre_commands=["echo hello > made", 'echo "$KEY"; pwd'],
        env_vars=["KEY=value"],
    )
    assert result["stdout"] == "value\n/work\nhello\n"


def test_a_command_may_make_the_entrypoint(api: Api) -> None:
    result = api.run({"x": ""}, entrypoint="made.py", pre_commands=["echo 'print(1)' > made.py"])
    assert result["stdout"] == "1\n"


def test_the_first_command_that_fails_ends_the_run(api: Api) -> None:
    result = api.run("print('never')", pre_commands=["echo before", "echo why >&2; exit 7", "echo after"])
    assert (result["status"], result["exit_code"]) == ("completed", 7)
    assert (result["stdout"], result["stderr"]) == ("before\n", "why\n")


def test_commands_are_on_the_same_clock(api: Api) -> None:
    result = api.run("print('never')", pre_commands=["echo soon; sleep 60"], config={"timeout_seconds": 1})
    assert (result["termination"], result["exit_code"], result["stdout"]) == ("timeout", 124, "soon\n")


@pytest.mark.names_interpreter
@pytest.mark.parametrize("suffix", ["", "-slim", "-slim-bookworm"])
def test_an_image_name_means_an_interpreter(api: Api, suffix: str) -> None:
    minor = ".".join(api.eval("1")["python"].split(".")[:2])
    assert api.run("print(1)", docker_image=f"python:{minor}{suffix}")["python"].startswith(minor)


def test_an_image_that_cannot_be_had_is_named(api: Api) -> None:
    engine = api.get("/health/ready").json()["engine"]
    for image in ("registry.invalid/python:3.99-slim", "registry.invalid/me/tools"):
        if engine is None or engine["unavailable"]:
            response = api.post_exec({"main.py": ""}, {"docker_image": image})
            assert_error(response, 400, "no_backend_for_image", image)
        else:
            result = api.run("1", docker_image=image)
            assert (result["status"], result["termination"], result["exit_code"]) == ("failed", "image", 125)
            assert image in result["error"]


def test_an_interpreter_that_is_not_here_is_never_replaced_by_another(api: Api) -> None:
    response = api.post_exec({"main.py": ""}, {"docker_image": "python:3.99-slim"})
    assert response.status_code == 400 or response.json()["termination"] == "image", response.text


@pytest.mark.parametrize("image", ["--privileged", "Python:3.11", "python:3.11 --runtime=x", "../python", "a" * 513])
def test_what_is_no_name_of_an_image_is_a_400(api: Api, image: str) -> None:
    response = api.post_exec({"main.py": ""}, {"docker_image": image})
    assert_error(response, 400, "invalid_request", "docker_image", image[:50], "python:3.12-slim")


@pytest.mark.parametrize("runtime", ["runsc", "--privileged", "a b", "x" * 65])
def test_a_runtime_is_the_operators_to_permit(api: Api, runtime: str) -> None:
    for image in ("", "debian:12"):
        response = api.post_exec({"main.py": ""}, {"docker_image": image, "runtime": runtime})
        assert_error(response, 400, "invalid_request", "runtime", runtime)
    assert_error(api.post_eval({"code": "1", "runtime": runtime}), 400, "invalid_request", "runtime", runtime)


def test_a_refused_image_is_no_execution_even_where_nobody_waits(api: Api) -> None:
    response = api.post_exec({"main.py": ""}, {"docker_image": "A b"}, "/api/v1/exec/async")
    assert_error(response, 400, "invalid_request", "docker_image")


def test_the_last_expression_is_there_for_archives_too(api: Api) -> None:
    assert api.run("6 * 7", eval_last_expr=True)["result"] == "42"


@pytest.mark.parametrize("variable", ["KEY", "=x", "K=\0", ""])
def test_a_variable_that_is_none_is_a_400(api: Api, variable: str) -> None:
    assert_error(api.post_exec({"main.py": ""}, {"env_vars": [variable]}), 400, "invalid_request", "env_vars[0]")


def test_arguments_that_no_process_takes_are_a_400(api: Api) -> None:
    for arguments in (["\0"], ["x" * 200_000], ["x" * 100_000] * 20):
        assert_error(api.post_exec({"main.py": ""}, {"script_args": arguments}), 400, "invalid_request", "script_args")


def test_long_arguments_and_variables_are_taken(api: Api) -> None:
    code = "import os, sys; print(len(sys.argv[1]), len(os.environ['LONG']))"
    result = api.run(code, script_args=["x" * 100_000], env_vars=["LONG=" + "y" * 100_000, "PYTHONHASHSEED=1"])
    assert result["stdout"] == "100000 100000\n"


def test_a_submitted_execution_can_be_watched_and_waited_for(api: Api) -> None:
    execution_id = api.submit("import time\nprint('one', flush=True)\ntime.sleep(1)\nprint('two')")
    running = api.until(execution_id, "stdout", "one\n")
    assert (running["status"], running["stdout"], running["exit_code"]) == ("running", "one\n", None)
    assert running["started_at"]
    assert running["finished_at"] is None
    finished = api.finished(execution_id)
    assert (finished["status"], finished["stdout"], finished["exit_code"]) == ("completed", "one\ntwo\n", 0)
    assert api.look(execution_id) == finished


def test_a_synchronous_execution_can_be_looked_at_later(api: Api) -> None:
    result = api.run("print(1)")
    assert api.look(result["execution_id"]) == result


def test_waiting_ends_with_the_execution_or_with_the_seconds(api: Api) -> None:
    execution_id = api.submit("import time; time.sleep(4)")
    began = time.monotonic()
    response = api.get(f"/api/v1/executions/{execution_id}?wait=0.3")
    assert response.headers["Preference-Applied"] == "wait"
    assert response.json()["status"] in ("pending", "running")
    assert 0.2 < time.monotonic() - began < 3.5
    response = api.get(f"/api/v1/executions/{execution_id}?wait=60")
    assert (response.headers["Preference-Applied"], response.json()["status"]) == ("wait", "completed")
    assert time.monotonic() - began < 30
    assert "Preference-Applied" not in api.get(f"/api/v1/executions/{execution_id}").headers


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon"])
def test_a_wait_out_of_bounds_is_a_400(api: Api, wait: str) -> None:
    execution_id = api.run("1")["execution_id"]
    assert_error(api.get(f"/api/v1/executions/{execution_id}?wait={wait}"), 400, "invalid_request", "wait")


def test_a_kill_ends_it_and_keeps_what_was_printed(api: Api) -> None:
    execution_id = api.submit(SLEEP)
    api.until(execution_id, "stdout", "started\n")
    assert api.kill(execution_id) == "killed"
    result = api.look(execution_id)
    assert (result["status"], result["termination"], result["exit_code"]) == ("killed", "killed", 137)
    assert result["stdout"] == "started\n"
    assert result["finished_at"]
    assert api.kill(execution_id) == "killed"


def test_a_kill_changes_nothing_about_a_finished_one(api: Api) -> None:
    result = api.run("print(1)")
    assert api.kill(result["execution_id"]) == "completed"
    assert api.look(result["execution_id"]) == result


def test_someone_who_waits_learns_of_a_kill(api: Api) -> None:
    execution_id = api.submit(SLEEP)
    api.until(execution_id, "stdout", "started\n")
    waiting = Api(api.url)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(waiting.finished, execution_id)
        time.sleep(0.3)
        api.kill(execution_id)
        assert answer.result(10)["status"] == "killed"
    waiting.close()


def test_a_full_queue_is_a_429_with_retry_after(start_server: Callable[..., ServerProcess]) -> None:
    api = Api(start_server(max_concurrent=1, queue_max=1, pool_min=1).url)
    running = api.submit(SLEEP)
    api.until(running, "status", "running")
    waiting = api.submit("print('at last')")
    assert api.look(waiting)["status"] == "pending"
    assert api.look(waiting)["started_at"] is None
    response = api.post_eval({"code": "1"})
    assert_error(response, 429, "queue_full")
    assert int(response.headers["Retry-After"]) > 0
    assert_error(api.post_exec({"main.py": ""}, {}, "/api/v1/exec/async"), 429, "queue_full")
    api.kill(running)
    assert api.finished(waiting)["stdout"] == "at last\n"
    api.close()


def test_a_pending_execution_can_be_killed(start_server: Callable[..., ServerProcess]) -> None:
    api = Api(start_server(max_concurrent=1, pool_min=1).url)
    running, waiting = api.submit(SLEEP), api.submit("print('never')")
    assert api.kill(waiting) == "killed"
    result = api.look(waiting)
    assert (result["status"], result["exit_code"], result["stdout"]) == ("killed", 137, "")
    api.kill(running)
    api.close()


def test_finished_executions_are_forgotten_after_their_time(start_server: Callable[..., ServerProcess]) -> None:
    api = Api(start_server(cleanup_ttl=1, pool_min=1).url)
    execution_id = api.run("print(1)")["execution_id"]
    assert api.look(execution_id)["stdout"] == "1\n"
    time.sleep(1.5)
    assert_error(api.get(f"/api/v1/executions/{execution_id}"), 404, "not_found")
    api.close()


def test_results_outlive_the_server_that_made_them(
    start_server: Callable[..., ServerProcess], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("data")
    first = start_server(data_dir=data, pool_min=1)
    api = Api(first.url)
    finished = api.finished(api.submit("print('kept')"))
    api.close()
    first.stop()
    again = Api(start_server(data_dir=data, pool_min=1).url)
    assert again.look(finished["execution_id"]) == finished
    again.close()


@pytest.mark.parametrize("order", [("tar", "metadata"), ("metadata", "tar")])
def test_parts_come_in_any_order(api: Api, order: tuple[str, str]) -> None:
    parts = {"tar": tar_of({"main.py": "print(1)"}), "metadata": json.dumps({"entrypoint": "main.py"}).encode()}
    body = multipart(*((name, parts[name]) for name in order))
    response = api.request("POST", "/api/v1/exec/sync", data=body, headers=MULTIPART)
    assert response.json()["stdout"] == "1\n"


def test_json_is_a_415(api: Api) -> None:
    for path in ("/api/v1/exec/sync", "/api/v1/exec/async"):
        assert_error(api.request("POST", path, json={"code": "1"}), 415, "unsupported_media_type")


def test_large_uploads_and_large_metadata_are_taken(api: Api) -> None:
    code = "import os, sys; print(os.path.getsize('data'), len(sys.stdin.read()))"
    result = api.run({"main.py": code, "data": bytes(50 << 20)}, stdin="x" * 5_000_000)
    assert result["stdout"] == f"{50 << 20} 5000000\n"


def test_many_at_once_all_get_their_own_answer(api: Api) -> None:
    def one(number: int) -> str:
        own = Api(api.url)
        try:
            return own.eval(f"print({number})")["stdout"]
        finally:
            own.close()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(40))) == [f"{number}\n" for number in range(40)]


def test_a_large_upload_costs_the_server_next_to_no_memory(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server()
    assert server.process is not None
    process = Path(f"/proc/{server.process.pid}")

    def mebibytes(field: str) -> int:
        match = re.search(rf"^{field}:\s+(\d+) kB", (process / "status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) // 1024

    with closing(Api(server.url)) as api:
        api.run("print(1)")  # what a first request brings in is not its own
        (process / "clear_refs").write_text("5")  # the peak begins anew
        before = mebibytes("VmRSS")
        files = {"main.py": "import os; print(os.path.getsize('big'))", "big": bytes(99 * 1024 * 1024)}
        assert api.run(files)["stdout"] == f"{99 * 1024 * 1024}\n"
    assert mebibytes("VmHWM") - before < 64
