"""The client and a live server together, beyond the documented examples."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timezone

import pytest
import requests

from python_executor_client import ExecutionConfig, ExecutionStatus, Metadata, PythonExecutorClient
from python_executor_client.archive import pack

SLEEPER = {"main.py": "import time; print('begun', flush=True); time.sleep(60)"}


@pytest.fixture
def client(server_url):
    client = PythonExecutorClient(server_url)
    yield client
    client.session.close()


def test_a_failing_script_is_a_result_and_no_error(client):
    result = client.execute_sync(files={"main.py": "print('so far')\nraise ValueError('no')"})

    assert (result.status, result.exit_code, result.termination) == (ExecutionStatus.COMPLETED, 1, "exited")
    assert (result.error_type, result.error_line, result.stdout) == ("ValueError", 2, "so far\n")
    assert result.stderr.endswith("ValueError: no\n")


def test_an_async_execution_has_the_same_result_and_times_that_are_aware(client):
    execution_id = client.execute_async(files={"main.py": "import sys; print(sys.stdin.read())"}, stdin="grüße")

    result = client.wait_for_completion(execution_id)

    assert (result.execution_id, result.stdout) == (execution_id, "grüße\n")
    assert result.started_at.tzinfo is result.finished_at.tzinfo is timezone.utc
    assert abs((result.finished_at - result.started_at).total_seconds() * 1000 - result.duration_ms) <= 1


def test_waiting_ends_with_the_execution_and_not_at_the_next_poll(client):
    execution_id = client.execute_async(files={"main.py": "import time; time.sleep(0.3)"})

    begun = time.monotonic()
    client.wait_for_completion(execution_id, poll_interval=60)

    assert time.monotonic() - begun < 30


def test_waiting_gives_up_after_max_wait_and_the_execution_goes_on_until_killed(client):
    execution_id = client.execute_async(files=SLEEPER)

    with pytest.raises(TimeoutError, match=execution_id):
        client.wait_for_completion(execution_id, max_wait=0.5)
    client.kill(execution_id)
    result = client.wait_for_completion(execution_id, max_wait=30)

    assert (result.status, result.exit_code, result.termination) == (ExecutionStatus.KILLED, 137, "killed")


def test_killing_what_has_finished_changes_nothing(client):
    finished = client.execute_sync(files={"main.py": "print(1)"})

    client.kill(finished.execution_id)

    assert client.get_execution(finished.execution_id) == finished


def test_a_timeout_is_a_result_with_the_output_so_far(client):
    result = client.execute_sync(files=SLEEPER, timeout_seconds=1)

    assert (result.status, result.exit_code, result.termination) == (ExecutionStatus.FAILED, 124, "timeout")
    assert result.stdout == "begun\n"


def test_a_sync_call_outlives_the_clients_timeout_where_the_execution_may(server_url):
    client = PythonExecutorClient(server_url, timeout=1)

    assert client.eval("import time\ntime.sleep(1.5)\n7", timeout_seconds=10).result == "7"
    client.session.close()


def test_eval_takes_files_and_can_leave_the_value_alone(client):
    files = [{"name": "run.py", "content": "from lib import x\nx + 1"}, {"name": "lib.py", "content": "x = 41"}]

    assert client.eval("", files=files).result == "42"
    assert client.eval("", files=files, eval_last_expr=False).result is None


def test_uploads_can_be_evaluated_too(client):
    assert client.execute_sync(files={"main.py": "6 * 7"}, eval_last_expr=True).result == "42"


def test_env_vars_and_script_args_reach_the_script(client):
    files = {"main.py": "import os, sys; print(os.environ['GREETING'], sys.argv[1:])"}

    by_keywords = client.execute_sync(files=files, env_vars=["GREETING=hi=there"], script_args=["--verbose", "a b"])
    by_metadata = client.execute_sync(
        files=files,
        metadata=Metadata(
            "main.py", env_vars=["GREETING=hi=there"], script_args=["--verbose", "a b"], config=ExecutionConfig()
        ),
    )

    assert by_keywords.stdout == by_metadata.stdout == "hi=there ['--verbose', 'a b']\n"


def test_bytes_arrive_as_they_are(client):
    content = bytes(range(256)) + b"\r\n--boundary\r\n"

    result = client.execute_sync(files={"main.py": "print(open('data/b', 'rb').read().hex())", "data/b": content})

    assert result.stdout == content.hex() + "\n"


def test_a_directory_arrives_with_its_packages_links_and_empty_directories(client, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("x = 'package'")
    (tmp_path / "empty").mkdir()
    (tmp_path / "alias").symlink_to("package")
    (tmp_path / "main.py").write_text("import os, alias; print(alias.x, os.readlink('alias'), os.listdir('empty'))")

    assert client.execute_sync(files=tmp_path).stdout == "package package []\n"


def test_a_single_file_runs_under_its_own_name(client, tmp_path):
    (tmp_path / "tool.py").write_text("import os; print(__file__, os.listdir())")

    assert client.execute_sync(files=str(tmp_path / "tool.py")).stdout.endswith("tool.py ['tool.py']\n")


def test_a_tar_made_elsewhere_runs(client):
    assert client.execute_sync(tar_data=pack({"main.py": "print(1)"})).stdout == "1\n"


def test_an_unknown_id_is_a_404_with_a_sentence(client):
    for call in (client.get_execution, client.kill, client.wait_for_completion):
        with pytest.raises(requests.HTTPError, match=r"404 .*: .+") as caught:
            call("exe_nobody")
        assert caught.value.response.json()["code"] == "not_found"


def test_what_is_no_tar_is_a_400_with_a_sentence(client):
    with pytest.raises(requests.HTTPError, match=r"400 .*: .+"):
        client.execute_sync(tar_data=b"not a tar")


def test_many_threads_may_use_one_client(client):
    def double(number):
        if number % 2:
            return client.eval(f"{number} * 2").result
        execution_id = client.execute_async(files={"main.py": f"print({number} * 2)"})
        return client.wait_for_completion(execution_id).stdout.strip()

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(double, range(32))) == [str(number * 2) for number in range(32)]
