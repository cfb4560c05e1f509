"""Specs: every default filled in, every bound named."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from python_executor.api.bodies import CodeFile, Config, EvalRequest, Metadata
from python_executor.api.specs import SpecBuilder
from python_executor.model.environment import NamedEnvironment
from python_executor.model.errors import (
    InvalidRequest,
    NetworkForbidden,
    NetworkUnavailable,
    Refusal,
    TooLarge,
    Unavailable,
    UnsupportedPython,
)
from python_executor.model.spec import ExecutionSpec, Limits
from tests.support.archives import Content, directory, symlink, tar_of
from tests.unit.api.fakes import INTERPRETERS, settings


def _builder(**given: Any) -> SpecBuilder:
    return SpecBuilder(settings(**given), INTERPRETERS)


def _eval(builder: SpecBuilder | None = None, **fields: Any) -> ExecutionSpec:
    if "code" not in fields and "files" not in fields:
        fields["code"] = "1"
    return (builder or _builder()).from_eval(EvalRequest(**fields))


def _exec(files: dict[str, Content], builder: SpecBuilder | None = None, **fields: Any) -> ExecutionSpec:
    return (builder or _builder()).from_archive(tar_of(files), Metadata(**fields))


MAIN: dict[str, Content] = {"main.py": "1"}


def test_code_becomes_main_py() -> None:
    spec = _eval(code="print(1)", stdin="ä", eval_last_expr=True)
    assert spec.entrypoint == "main.py"
    assert spec.tree.content == b"print(1)"
    assert (spec.stdin, spec.eval_last_expr) == ("ä".encode(), True)


def test_files_win_over_code_and_the_first_is_run() -> None:
    spec = _eval(code="0", files=[CodeFile(name="./b.py", content="1"), CodeFile(name="a.py", content="2")])
    assert spec.entrypoint == "b.py"
    assert [entry.path for entry in spec.tree.entries] == ["b.py", "a.py"]
    assert spec.tree.content == b"12"


def test_an_eval_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="code and files"):
        _eval(code="")


@pytest.mark.parametrize("module", ["pytest", "a.b.c", "http.server", "my-tool", "main.py", "módulo", "_x", "m" * 255])
def test_a_module_runs_in_place_of_an_entrypoint(module: str) -> None:
    for spec in (_eval(module=module), _exec(MAIN, module=module), _exec({}, module=module)):
        assert (spec.module, spec.entrypoint) == (module, "")
    assert (_eval(module="").module, _eval(module="").entrypoint) == ("", "main.py")


@pytest.mark.parametrize(
    "module", ["-c", ".a", "a.", "a..b", "a/b", "a b", "a\n", "a\0", "../a", "a;b", "m" * 256, "\udcff", "."]
)
def test_what_can_be_no_module_is_refused(module: str) -> None:
    for run in (_eval, partial(_exec, MAIN)):
        with pytest.raises(InvalidRequest, match="is no name of a module: give one"):
            run(module=module)


def test_an_entrypoint_beside_a_module_is_refused_and_both_are_named() -> None:
    for run in (_eval, partial(_exec, MAIN)):
        with pytest.raises(InvalidRequest, match="entrypoint and module exclude each other"):
            run(module="app", entrypoint="main.py")


@pytest.mark.parametrize("name", ["/a.py", "../a.py", "a\0.py", "a/", "."])
def test_files_have_the_same_names_as_in_archives(name: str) -> None:
    with pytest.raises(InvalidRequest):
        _eval(files=[CodeFile(name=name)])


def test_code_is_bounded_in_all() -> None:
    half = "x" * (50 * 1024)
    assert _eval(files=[CodeFile(name="a", content=half), CodeFile(name="b", content=half)])
    with pytest.raises(TooLarge, match="102401 bytes"):
        _eval(files=[CodeFile(name="a", content=half), CodeFile(name="b", content=half + "y")])
    with pytest.raises(TooLarge):
        _eval(code="ä" * 51_201)


def test_limits_left_out_are_the_defaults() -> None:
    given = {"default_timeout": 7, "default_memory_mb": 512, "default_disk_mb": 256, "default_cpu_shares": 99}
    assert _eval(_builder(**given)).limits == Limits(7, 512, 256, 99)
    zeros = Config(timeout_seconds=0, memory_mb=0, disk_mb=0, cpu_shares=0)
    assert _eval(_builder(**given), config=zeros).limits == Limits(7, 512, 256, 99)


def test_limits_up_to_the_maximum_are_taken() -> None:
    config = Config(timeout_seconds=3600, memory_mb=4096, disk_mb=4096, cpu_shares=1024)
    assert _eval(config=config).limits == Limits(3600, 4096, 4096, 1024)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.25, "0.25"), (5, "5"), (5.0, "5"), (1e-3, "0.001"), (3600, "3600"), (0, "300"), (0.0, "300")],
)
def test_a_time_may_have_a_fraction_and_is_shown_without_one_where_it_has_none(value: float, shown: str) -> None:
    limits = _eval(config=Config(timeout_seconds=value, cpu_seconds=value)).limits
    assert str(limits.timeout_seconds) == shown
    assert str(limits.cpu_seconds) == (shown if value else "None")


@pytest.mark.parametrize("value", [-1, -0.01, "above", True, False, "30", float("nan"), float("inf"), 10**400, [], {}])
@pytest.mark.parametrize(
    ("field", "maximum", "default"), [("timeout_seconds", 3600, "300"), ("cpu_seconds", 28800, "none")]
)
def test_a_time_out_of_bounds_is_refused_by_name_and_bound(field: str, maximum: int, default: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _eval(_builder(max_cpus=8), config=Config(**{field: maximum + 0.5 if value == "above" else value}))
    sentence = f"config.{field} must be a number from 0 to {maximum}, or left out for {default}."
    assert refusal.value.message == sentence


def test_processors_are_a_number_that_may_be_a_part_of_one() -> None:
    builder = _builder(max_cpus=8, default_cpus=2)
    assert [_eval(builder, config=Config(cpus=value)).limits.cpus for value in (0, 0.25, 3, 8.0)] == [2, 0.25, 3, 8]
    assert _eval(_builder()).limits.cpus is None


@pytest.mark.parametrize("value", [-0.5, 8.01, True, "1", float("nan"), float("inf"), [], {}])
def test_processors_out_of_bounds_are_refused_by_name_and_bound(value: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _eval(_builder(max_cpus=8), config=Config(cpus=value))
    assert refusal.value.message == "config.cpus must be a number from 0 to 8, or left out for all."


def test_files_may_not_take_more_than_the_memory() -> None:
    assert _eval(config=Config(memory_mb=100, disk_mb=4096)).limits.disk_mb == 100


@pytest.mark.parametrize(("field", "maximum"), [("memory_mb", 4096), ("disk_mb", 4096), ("cpu_shares", 1024)])
@pytest.mark.parametrize("value", [-1, "above", 1.5, 30.0, True, False, "30", float("nan"), float("inf"), [], {}])
def test_a_limit_out_of_bounds_is_refused_by_name_and_bound(field: str, maximum: int, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _eval(config=Config(**{field: maximum + 1 if value == "above" else value}))
    assert f"config.{field} " in refusal.value.message
    assert f" {maximum}," in refusal.value.message


@pytest.mark.parametrize(
    ("disabled", "default", "network"),
    [(None, False, False), (None, True, True), (True, True, False), (False, False, True)],
)
def test_the_network_is_what_was_asked_for_or_else_the_servers_default(
    disabled: bool | None, default: bool, network: bool
) -> None:
    config, builder = Config(network_disabled=disabled), _builder(default_network=default)
    assert _eval(builder, config=config).network is network
    assert _exec(MAIN, builder, config=config).network is network


def test_where_the_operator_forbids_the_network_no_request_has_it() -> None:
    forbidding = _builder(allow_network=False)
    for run in (partial(_eval, forbidding), partial(_exec, MAIN, forbidding)):
        with pytest.raises(NetworkForbidden, match=r"this server gives no code the network \(ALLOW_NETWORK false\)"):
            run(config=Config(network_disabled=False))
        assert not run(config=Config(network_disabled=True)).network
        assert not run().network


def test_an_image_gets_no_network_either_where_the_operator_forbids_it() -> None:
    with pytest.raises(NetworkForbidden):
        _exec(MAIN, _builder(allow_network=False), docker_image="tools:1", config=Config(network_disabled=False))


def test_a_network_that_this_server_cannot_give_is_refused_with_the_reason() -> None:
    without = SpecBuilder(settings(), INTERPRETERS, "its machine lacks slirp4netns: install it")
    sentence = "config.network_disabled false can't be had from this server: its machine lacks slirp4netns: install it."
    with pytest.raises(NetworkUnavailable) as refusal:
        _eval(without, config=Config(network_disabled=False))
    assert refusal.value.message == sentence
    with pytest.raises(NetworkUnavailable):
        _eval(SpecBuilder(settings(default_network=True), INTERPRETERS, "no"))
    assert not _eval(without).network


@pytest.mark.parametrize("text", ["", "-", "  \n", " - \n"])
def test_no_requirements_are_fine(text: str) -> None:
    assert _eval(requirements_txt=text)
    assert _exec(MAIN, requirements_txt=text)


def test_requirements_are_taken_as_they_were_sent_and_are_not_looked_at_here() -> None:
    for spec in (_eval(requirements_txt=" numpy\n--no "), _exec(MAIN, requirements_txt=" numpy\n--no ")):
        assert (spec.requirements, spec.finds_requirements, spec.detects_imports) == (" numpy\n--no ", False, False)


def test_files_and_imports_tell_what_is_needed_where_the_request_does_not() -> None:
    assert (_eval().finds_requirements, _eval().detects_imports) == (True, True)
    assert (_exec(MAIN).finds_requirements, _exec(MAIN).detects_imports) == (True, False)
    assert _exec(MAIN, detect_imports=True).detects_imports and not _eval(detect_imports=False).detects_imports


def test_neither_does_where_the_request_or_the_server_says_so() -> None:
    for spec in (_eval(requirements_txt=" - "), _exec(MAIN, requirements_txt="-", detect_imports=True)):
        assert (spec.requirements, spec.finds_requirements, spec.detects_imports) == ("", False, False)
    assert not _eval(_builder(auto_detect_imports=False), detect_imports=True).detects_imports


NAMED = NamedEnvironment("science", "3.11", "numpy", (), "env_" + "0" * 32)


def _with_named() -> SpecBuilder:
    return SpecBuilder(settings(), INTERPRETERS, named=lambda: [NAMED])


def test_a_named_environment_brings_its_interpreter_and_nothing_is_added_to_it() -> None:
    spec = _eval(_with_named(), environment="science")
    assert (spec.environment, spec.python, spec.finds_requirements, spec.detects_imports) == (
        "science",
        "3.11",
        False,
        False,
    )
    assert _eval(_with_named(), environment="science", python_version="3.11").python == "3.11"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"environment": "nowhere"}, "environment 'nowhere' is not here: use one of science."),
        (
            {"environment": "science", "python_version": "3.12"},
            "python_version '3.12' is not what environment science has",
        ),
        ({"environment": "science", "requirements_txt": "six"}, "environment and requirements_txt exclude each other"),
    ],
)
def test_an_environment_that_cannot_be_meant_is_refused(fields: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(told)):
        _eval(_with_named(), **fields)


def test_a_version_that_is_here_is_taken() -> None:
    assert _eval(python_version="3.11").python == "3.11"


def test_no_version_means_the_default_and_else_the_newest() -> None:
    assert _eval().python == "3.12"
    assert _eval(_builder(default_python="3.9")).python == "3.13"


@pytest.mark.parametrize("version", ["3.10", "3", "3.12.1", "2.7", "python3.12", "3.12 "])
def test_another_version_is_refused_with_those_that_are_here(version: str) -> None:
    with pytest.raises(UnsupportedPython, match=r"3\.13, 3\.12, 3\.11"):
        _eval(python_version=version)


@pytest.mark.parametrize("image", ["python:3.11", "python:3.11-slim", "python:3.11-slim-bookworm"])
def test_an_image_that_means_an_interpreter_runs_on_it(image: str) -> None:
    assert _exec(MAIN, docker_image=image).python == "3.11"


def test_no_image_means_the_default_and_else_the_newest() -> None:
    assert (_exec(MAIN).python, _exec(MAIN).image) == ("3.11", "")
    assert _exec(MAIN, _builder(default_image="python:3.9-slim")).python == "3.13"


def test_a_server_without_interpreters_takes_no_work() -> None:
    with pytest.raises(Unavailable):
        SpecBuilder(settings(), ()).from_eval(EvalRequest(code="1"))


@pytest.mark.parametrize(
    ("names", "entrypoint"),
    [
        (["b.py", "__main__.py", "main.py"], "main.py"),
        (["b.py", "__main__.py", "x/main.py"], "__main__.py"),
        (["readme", "x/z.py", "a.py"], "x/z.py"),
        ([".setup.py", ".venv/lib/a.py", "x/z.py"], "x/z.py"),
        (["x/.git/hook.py", ".a.py"], "x/.git/hook.py"),
    ],
)
def test_an_entrypoint_is_found(names: list[str], entrypoint: str) -> None:
    assert _exec(dict.fromkeys(names, "")).entrypoint == entrypoint


def test_an_archive_without_python_needs_an_entrypoint() -> None:
    with pytest.raises(InvalidRequest, match="entrypoint"):
        _exec({"readme": ""})
    assert _exec({"readme": ""}, entrypoint="./readme").entrypoint == "readme"


@pytest.mark.parametrize(
    ("entrypoint", "complaint"),
    [("gone.py", "not among"), ("pkg", "directory"), ("a/", "directory"), (".", "directory"), ("../x", r"'\.\.'")],
)
def test_an_entrypoint_that_is_no_file_is_refused(entrypoint: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        _exec({"main.py": "", "pkg/x.py": "", "a": directory()}, entrypoint=entrypoint)


def test_an_entrypoint_that_commands_may_make_is_taken() -> None:
    assert _exec({"readme": ""}, entrypoint="made.py", pre_commands=["touch made.py"]).entrypoint == "made.py"
    with pytest.raises(InvalidRequest, match="directory"):
        _exec({"a": directory()}, entrypoint="a", pre_commands=["true"])


def test_an_entrypoint_may_be_a_symlink_to_a_file() -> None:
    assert _exec({"src/app.py": "", "main.py": symlink("src/app.py")}).entrypoint == "main.py"
    with pytest.raises(InvalidRequest, match="not among"):
        _exec({"run": symlink("/usr/bin/env")}, entrypoint="run")


def test_an_archive_carries_everything_else() -> None:
    spec = _exec(
        {**MAIN, "out": symlink("/etc")},
        env_vars=["A=1", "B=x=y", "A=2", "EMPTY="],
        script_args=["--verbose", ""],
        pre_commands=["true", ""],
        stdin="in",
    )
    assert spec.env == (("A", "2"), ("B", "x=y"), ("EMPTY", ""))
    assert (spec.args, spec.pre_commands, spec.stdin) == (("--verbose", ""), ("true", ""), b"in")
    assert len(spec.warnings) == 1


@pytest.mark.parametrize("variable", ["KEY", "=value", ""])
def test_a_variable_without_a_name_and_a_value_is_refused(variable: str) -> None:
    with pytest.raises(InvalidRequest, match=r"env_vars\[1\]"):
        _exec(MAIN, env_vars=["A=1", variable])


def test_a_refused_variable_is_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _exec(MAIN, env_vars=["hunter2"])
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize("field", ["env_vars", "script_args", "pre_commands"])
def test_what_no_process_can_be_given_is_refused(field: str) -> None:
    assert _exec(MAIN, **{field: ["A=" + "x" * (128 * 1024 - 3)]})
    for value in (["A=\0"], ["A=" + "x" * (128 * 1024 - 2)], ["A=" + "x" * 100_000] * 11):
        with pytest.raises(InvalidRequest, match=field):
            _exec(MAIN, **{field: value})


@pytest.mark.parametrize("config", [Config(disk_mb=1), Config(memory_mb=1)])
def test_files_that_do_not_fit_are_refused(config: Config) -> None:
    with pytest.raises(InvalidRequest, match="disk_mb"):
        _exec({**MAIN, "data": bytes(1024 * 1024)}, config=config)


def test_a_refusal_does_not_repeat_megabytes() -> None:
    for field in ("python_version", "entrypoint"):
        with pytest.raises(Refusal) as refusal:
            _eval(**{field: "x" * 1_000_000})
        assert len(refusal.value.message) < 300
