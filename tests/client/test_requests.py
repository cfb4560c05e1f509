"""What the client puts on the wire."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading

import pytest

from python_executor_client import ExecutionConfig, Metadata, PythonExecutorClient

MAIN = {"main.py": "print('hi')"}


def sent_metadata(loopback):
    return json.loads(loopback.last.parts[1].content)


def test_sync_uploads_an_uncompressed_tar_and_its_metadata_as_two_parts(client, loopback):
    client.execute_sync(files=MAIN, entrypoint="main.py")

    assert (loopback.last.method, loopback.last.target) == ("POST", "/api/v1/exec/sync")
    assert loopback.last.headers.get_content_type() == "multipart/form-data"
    tar, metadata = loopback.last.parts
    assert tar.headers == (
        'Content-Disposition: form-data; name="tar"; filename="code.tar"\r\nContent-Type: application/x-tar'
    )
    assert metadata.headers == ('Content-Disposition: form-data; name="metadata"\r\nContent-Type: application/json')
    assert metadata.content == b'{"entrypoint": "main.py"}'
    with tarfile.open(fileobj=io.BytesIO(tar.content), mode="r:") as archive:
        assert archive.getnames() == ["main.py"]


def test_async_uploads_the_same_and_returns_the_id(client, loopback, answer):
    loopback.script = [answer({"execution_id": "exe_7"}, status=202)]

    assert client.execute_async(files=MAIN) == "exe_7"
    assert (loopback.last.method, loopback.last.target) == ("POST", "/api/v1/exec/async")
    assert [part.headers.split(";")[1] for part in loopback.last.parts] == [
        ' name="tar"',
        ' name="metadata"\r\nContent-Type: application/json',
    ]


def test_keywords_become_metadata_and_a_config_of_only_the_limits_given(client, loopback):
    client.execute_sync(
        files=MAIN,
        docker_image="python:3.12-slim",
        requirements_txt="numpy",
        pre_commands=["echo hi"],
        stdin="in",
        env_vars=["A=1"],
        script_args=["-v"],
        eval_last_expr=True,
        detect_imports=False,
        environment="data",
        runtime="runsc",
        timeout_seconds=5,
        network_disabled=False,
    )

    assert sent_metadata(loopback) == {
        "entrypoint": "main.py",
        "docker_image": "python:3.12-slim",
        "requirements_txt": "numpy",
        "pre_commands": ["echo hi"],
        "stdin": "in",
        "env_vars": ["A=1"],
        "script_args": ["-v"],
        "eval_last_expr": True,
        "detect_imports": False,
        "environment": "data",
        "runtime": "runsc",
        "config": {"timeout_seconds": 5, "network_disabled": False},
    }


def test_all_limits_can_be_keywords(client, loopback):
    limits = ExecutionConfig(
        timeout_seconds=1, network_disabled=True, memory_mb=2, disk_mb=3, cpu_shares=4, cpus=0.5, cpu_seconds=0.25
    ).to_dict()

    client.execute_sync(files=MAIN, **limits)

    assert sent_metadata(loopback)["config"] == limits


def test_keywords_that_are_none_are_not_sent(client, loopback):
    client.execute_async(files=MAIN, entrypoint=None, stdin=None, memory_mb=None)

    assert sent_metadata(loopback) == {"entrypoint": "main.py"}


def test_a_metadata_object_wins_over_all_keywords(client, loopback):
    metadata = Metadata(entrypoint="run.py", config=ExecutionConfig(timeout_seconds=7))

    client.execute_sync(files=MAIN, metadata=metadata, entrypoint="main.py", timeout_seconds=1, nonsense=1)

    assert sent_metadata(loopback) == {
        "entrypoint": "run.py",
        "config": {
            "timeout_seconds": 7,
            "network_disabled": True,
            "memory_mb": 1024,
            "disk_mb": 2048,
            "cpu_shares": 1024,
        },
    }


@pytest.mark.parametrize("method", ["execute_sync", "execute_async"])
def test_an_unknown_keyword_is_named_and_nothing_is_sent(client, loopback, method):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'timeout'; known are .*timeout_seconds"):
        getattr(client, method)(files=MAIN, timeout=5)
    assert loopback.asked == []


@pytest.mark.parametrize("method", ["execute_sync", "execute_async"])
@pytest.mark.parametrize("nothing", [{}, {"files": None}, {"files": {}}, {"files": ""}])
def test_without_files_or_tar_data_there_is_a_value_error(client, loopback, method, nothing):
    with pytest.raises(ValueError, match="Either files or tar_data must be provided"):
        getattr(client, method)(**nothing)
    assert loopback.asked == []


def test_tar_data_goes_out_as_it_is_and_wins_over_files(client, loopback):
    tar_data = b"whatever \r\n\r\n the caller made"

    client.execute_sync(files=MAIN, tar_data=tar_data, entrypoint="x.py")

    assert loopback.last.parts[0].content == tar_data


def test_what_is_no_tar_is_left_for_the_server_to_refuse(client, loopback):
    client.execute_sync(tar_data=b"no tar")

    assert sent_metadata(loopback) == {}


def test_eval_sends_code_and_asks_for_the_value_of_the_last_expression(client, loopback):
    client.eval("1 + 1")

    assert (loopback.last.method, loopback.last.target) == ("POST", "/api/v1/eval")
    assert loopback.last.headers["Content-Type"] == "application/json"
    assert loopback.last.json == {"code": "1 + 1", "eval_last_expr": True}


def test_eval_sends_what_is_given_and_files_instead_of_code(client, loopback):
    files = [{"name": "a.py", "content": "x = 'ä'"}]

    client.eval("ignored", files=files, entrypoint="a.py", stdin="", python_version="3.11", timeout_seconds=9)

    assert loopback.last.json == {
        "files": files,
        "entrypoint": "a.py",
        "stdin": "",
        "python_version": "3.11",
        "config": {"timeout_seconds": 9},
        "eval_last_expr": True,
    }


def test_a_module_is_sent_in_place_of_an_entrypoint(client, loopback):
    client.execute_sync(files=MAIN, module="app", script_args=["-v"])
    assert sent_metadata(loopback) == {"module": "app", "script_args": ["-v"]}

    client.eval("1", module="main", cpu_seconds=0.5)
    assert loopback.last.json == {
        "code": "1",
        "module": "main",
        "config": {"cpu_seconds": 0.5},
        "eval_last_expr": True,
    }


def test_eval_can_say_which_packages_it_needs(client, loopback):
    client.eval("1", requirements_txt="numpy\n", detect_imports=False)
    assert loopback.last.json == {
        "code": "1",
        "eval_last_expr": True,
        "requirements_txt": "numpy\n",
        "detect_imports": False,
    }

    client.eval("1", environment="data")
    assert loopback.last.json == {"code": "1", "eval_last_expr": True, "environment": "data"}

    client.eval("1", runtime="runsc")
    assert loopback.last.json == {"code": "1", "eval_last_expr": True, "runtime": "runsc"}


def test_eval_can_run_code_as_usual(client, loopback):
    client.eval("1 + 1", eval_last_expr=False)

    assert loopback.last.json == {"code": "1 + 1", "eval_last_expr": False}


def test_get_execution_asks_without_waiting(client, loopback):
    assert client.get_execution("exe_1").execution_id == "exe_1"
    assert (loopback.last.method, loopback.last.target) == ("GET", "/api/v1/executions/exe_1")


def test_kill_deletes_the_execution(client, loopback, answer):
    loopback.script = [answer({"status": "killed"})]

    client.kill("exe_1")

    assert (loopback.last.method, loopback.last.target) == ("DELETE", "/api/v1/executions/exe_1")


def test_an_id_can_not_leave_its_place_in_the_path(client, loopback):
    client.kill("../eval?a=b")

    assert loopback.last.target == "/api/v1/executions/..%2Feval%3Fa%3Db"


def test_the_base_url_may_have_a_path_and_a_slash_at_its_end(connect, loopback):
    client = connect(loopback.url + "/gateway/")

    client.get_execution("exe_1")

    assert client.base_url == loopback.url + "/gateway"
    assert loopback.last.target == "/gateway/api/v1/executions/exe_1"


def test_no_key_means_no_authorization_header(client, loopback):
    client.get_execution("exe_1")

    assert "Authorization" not in loopback.last.headers


def test_a_key_goes_out_as_bearer_token(connect, loopback):
    connect(api_key="s3cret").get_execution("exe_1")

    assert loopback.last.headers["Authorization"] == "Bearer s3cret"


def test_the_key_may_come_from_the_environment(connect, loopback, monkeypatch):
    monkeypatch.setenv("PYEXEC_API_KEY", "from-env")
    connect().get_execution("exe_1")

    assert loopback.last.headers["Authorization"] == "Bearer from-env"


def test_a_key_in_the_url_goes_out_as_basic_and_wins_over_the_environment(connect, loopback, monkeypatch):
    monkeypatch.setenv("PYEXEC_API_KEY", "from-env")
    connect(loopback.url.replace("://", "://:s3cret@")).get_execution("exe_1")

    assert loopback.last.headers["Authorization"] == "Basic OnMzY3JldA=="  # base64 of ":s3cret"


def test_api_key_wins_over_the_environment_and_the_url(connect, loopback, monkeypatch):
    monkeypatch.setenv("PYEXEC_API_KEY", "from-env")
    connect(loopback.url.replace("://", "://:other@"), api_key="s3cret").get_execution("exe_1")

    assert loopback.last.headers["Authorization"] == "Bearer s3cret"


def test_a_netrc_entry_does_not_replace_the_key(connect, loopback, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    client = connect(api_key="s3cret")
    monkeypatch.setenv("NETRC", os.fspath(netrc))

    client.get_execution("exe_1")

    assert loopback.last.headers["Authorization"] == "Bearer s3cret"


def test_api_key_is_keyword_only():
    with pytest.raises(TypeError):
        PythonExecutorClient("http://localhost", 60, "key")


def test_one_connection_serves_calls_that_follow_each_other(client, loopback):
    for _ in range(3):
        client.execute_sync(files=MAIN)

    assert len({asked.connection for asked in loopback.asked}) == 1


def test_twenty_threads_share_a_client_and_its_connections_are_kept(client, loopback, answer):
    together = threading.Barrier(20)

    def echo_once_all_are_here(asked):
        together.wait(10)
        return answer({"execution_id": asked.target.rpartition("/")[2], "status": "completed"})

    loopback.script = [echo_once_all_are_here]
    seen = {}

    def ask(name):
        seen[name] = client.get_execution(name).execution_id

    for _ in range(2):
        threads = [threading.Thread(target=ask, args=(f"exe_{number}",)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert seen == {f"exe_{number}": f"exe_{number}" for number in range(20)}
    assert len({asked.connection for asked in loopback.asked}) == 20  # the second round opened none
