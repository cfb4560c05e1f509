"""Places: what runs on an interpreter, what in a container, and what is refused before there is an id."""

from __future__ import annotations

import re
from typing import Any

import pytest

from python_executor.api.bodies import CodeFile, Config, EvalRequest, Metadata
from python_executor.api.specs import SpecBuilder
from python_executor.model.environment import NamedEnvironment
from python_executor.model.errors import InvalidRequest, NoBackendForImage, NotSupportedYet, Refusal, UnsupportedPython
from python_executor.model.spec import ExecutionSpec
from tests.support.archives import Content, tar_of
from tests.unit.api.fakes import INTERPRETERS, settings

NAMED = NamedEnvironment("science", "3.11", "numpy", (), "env_" + "0" * 32)
MAIN: dict[str, Content] = {"main.py": "1"}
IMAGE = "ghcr.io/me/tools:1"


def _builder(**given: Any) -> SpecBuilder:
    return SpecBuilder(settings(**given), INTERPRETERS, named=lambda: [NAMED])


def _exec(_files: dict[str, Content] = MAIN, _given: dict[str, Any] | None = None, **fields: Any) -> ExecutionSpec:
    return _builder(**(_given or {})).from_archive(tar_of(_files), Metadata(**fields))


def _eval(_given: dict[str, Any] | None = None, **fields: Any) -> ExecutionSpec:
    return _builder(**(_given or {})).from_eval(EvalRequest(**{"code": "1"} | fields))


def _place(spec: ExecutionSpec) -> tuple[str, str, str]:
    return spec.python, spec.image, spec.runtime


OTHERS = [
    "python", "python:3", "python:3.9", "python:3.14-slim", "python:3.10-slim-trixie", "python:3.11-alpine",
    "docker.io/library/python:3.11", "ubuntu:24.04", "x/python:3.11", IMAGE, "python@sha256:" + "0" * 64,
]  # fmt: skip
NO_NAMES = ["--privileged", "-v=/:/host", "python:3.11 --privileged", "Ubuntu", "a b", "../x", "\0", "x" * 1_000_000]


@pytest.mark.parametrize("backend", ["auto", "native"])
@pytest.mark.parametrize("image", OTHERS)
def test_what_names_no_interpreter_is_for_the_engine_and_never_another_image(backend: str, image: str) -> None:
    assert _place(_exec(_given={"backend": backend}, docker_image=image)) == ("", image, "")


def test_docker_puts_everything_into_containers() -> None:
    docker = {"backend": "docker"}
    for image in (*OTHERS, "python:3.11-slim"):
        assert _place(_exec(_given=docker, docker_image=image)) == ("", image, "")
    assert _exec(_given=docker).image == _eval(docker).image == "python:3.11-slim"
    assert _exec(_given={**docker, "default_image": IMAGE}).image == IMAGE
    assert _eval({**docker, "default_image": IMAGE}).image == IMAGE


def test_docker_has_the_version_of_an_eval_as_an_image() -> None:
    docker = {"backend": "docker"}
    assert _eval(docker, python_version="3.9").image == "python:3.9-slim"
    assert _eval({**docker, "default_python": "3.12"}).image == "python:3.12-slim"
    for version in ("3", "3.12.1", "3.12-slim", "latest", "३.१", "3.1 ", "3." + "1" * 600):
        with pytest.raises(UnsupportedPython, match=r"give one like 3\.12"):
            _eval(docker, python_version=version)


def test_a_default_image_that_is_no_interpreter_is_run_where_none_is_named() -> None:
    given = {"default_image": "debian:12"}
    assert _place(_exec(_given=given)) == ("", "debian:12", "")
    assert _place(_exec(_given=given, docker_image="python:3.11")) == ("3.11", "", "")
    assert _place(_exec(_given=given, environment="science")) == ("3.11", "", "")
    assert _place(_eval(given)) == ("3.12", "", "")


@pytest.mark.parametrize("backend", ["auto", "native", "docker"])
@pytest.mark.parametrize("image", NO_NAMES)
def test_what_is_no_name_of_an_image_is_refused_and_shown(backend: str, image: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _exec(_given={"backend": backend}, docker_image=image)
    message = refusal.value.message
    assert repr(image)[:50] in message and "give one like python:3.12-slim" in message
    assert len(message) < 300 and message.isprintable()


# --- what the operator allows -----------------------------------------------------------------------------------------


def test_images_beyond_those_that_the_operator_allows_are_refused_by_name() -> None:
    given = {"image_allow": "ghcr.io/me/*"}
    assert _exec(_given=given, docker_image=IMAGE).image == IMAGE
    assert _exec(_given=given, docker_image="python:3.11").python == "3.11"  # no container
    with pytest.raises(NoBackendForImage) as refusal:
        _exec(_given=given, docker_image="ubuntu")
    assert refusal.value.message == (
        "docker_image 'ubuntu' can't be used: this server's operator allows only some (IMAGE_ALLOW), so name another."
    )


def test_the_default_image_and_that_of_an_eval_are_held_to_the_same_rule() -> None:
    given = {"image_allow": "ghcr.io/me/*", "backend": "docker"}
    with pytest.raises(NoBackendForImage, match=re.escape("the default image 'python:3.11-slim' can't be used")):
        _exec(_given=given)
    for fields in ({}, {"python_version": "3.9"}):
        with pytest.raises(NoBackendForImage, match="the image 'python:3"):
            _eval(given, **fields)


@pytest.mark.parametrize("name", ["--privileged", "a b", "-x", "x" * 65, "ä", "a\0", "a/b", "x" * 1_000_000])
def test_what_is_no_name_of_a_runtime_is_refused(name: str) -> None:
    for run in (_exec, _eval):
        with pytest.raises(InvalidRequest, match="is no name of a runtime") as refusal:
            run(runtime=name)
        assert len(refusal.value.message) < 300


def test_a_runtime_that_the_operator_does_not_permit_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _exec(runtime="runsc")
    assert refusal.value.message == (
        "runtime 'runsc' can't be used: this server lets requests choose none, so leave it out."
    )
    with pytest.raises(InvalidRequest, match="use one of runsc, kata, or leave it out"):
        _exec(_given={"runtime": "runsc", "runtimes_allow": "kata"}, runtime="runc")


RUNTIMES = {"runtime": "crun", "runtimes_allow": "runsc"}


def test_a_container_has_the_runtime_that_was_named_or_else_the_servers() -> None:
    assert _exec(_given=RUNTIMES, docker_image=IMAGE).runtime == "crun"
    assert _exec(_given=RUNTIMES, docker_image=IMAGE, runtime="runsc").runtime == "runsc"
    assert _exec(_given=RUNTIMES, docker_image=IMAGE, runtime="crun").runtime == "crun"
    assert _eval({**RUNTIMES, "backend": "docker"}).runtime == "crun"
    assert _place(_exec(_given=RUNTIMES)) == ("3.11", "", "")


def test_who_names_a_runtime_wants_a_container() -> None:
    assert _place(_exec(_given=RUNTIMES, runtime="crun")) == ("", "python:3.11-slim", "crun")
    assert _place(_exec(_given=RUNTIMES, docker_image="python:3.12", runtime="runsc")) == ("", "python:3.12", "runsc")
    assert _place(_eval(RUNTIMES, runtime="runsc")) == ("", "python:3.12-slim", "runsc")
    assert _place(_eval({**RUNTIMES, "default_python": "3.9"}, runtime="runsc")) == ("", "python:3.13-slim", "runsc")
    assert _place(_eval(RUNTIMES, python_version="3.9", runtime="runsc")) == ("", "python:3.9-slim", "runsc")
    with pytest.raises(UnsupportedPython):
        _eval(RUNTIMES, python_version="3", runtime="runsc")


# --- packages and the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"requirements_txt": "numpy"}, {"environment": "science"}, {"environment": "none"}])
def test_packages_are_not_installed_into_images(fields: dict[str, str]) -> None:
    instead = "use one that has them, or python:X.Y with one of 3.13, 3.12, 3.11 and no runtime."
    with pytest.raises(NotSupportedYet) as refusal:
        _exec(docker_image="ubuntu", **fields)
    assert refusal.value.message == f"packages are not installed into the image 'ubuntu' yet: {instead}"
    with pytest.raises(NotSupportedYet):
        _eval(RUNTIMES, runtime="runsc", **fields)
    for run in (_exec, _eval):
        with pytest.raises(NotSupportedYet, match="use one that has them, or leave them out"):
            run(_given={"backend": "docker"}, **fields)


@pytest.mark.parametrize(
    "fields", [{}, {"requirements_txt": "-"}, {"requirements_txt": " \n"}, {"detect_imports": True}]
)
def test_nothing_is_looked_for_in_an_image(fields: dict[str, Any]) -> None:
    spec = _exec(docker_image=IMAGE, **fields)
    assert (spec.requirements, spec.finds_requirements, spec.detects_imports, spec.environment) == (
        "",
        False,
        False,
        "",
    )


def test_what_an_image_does_not_get_is_said() -> None:
    files: dict[str, Content] = {**MAIN, "pyproject.toml": "", "requirements.txt": "six", "pkg/requirements.txt": "x"}
    has = "the image 'ghcr.io/me/tools:1': it has what it has"
    declared = [f"what {name} asks for is not installed into {has}" for name in ("requirements.txt", "pyproject.toml")]
    looked_for = f"imports are not looked for in {has}"
    assert list(_exec(files, docker_image=IMAGE).warnings) == declared
    assert list(_exec(files, docker_image=IMAGE, detect_imports=True).warnings) == [looked_for, *declared]
    assert _exec(files, docker_image=IMAGE, requirements_txt="-", detect_imports=True).warnings == ()
    assert _exec(MAIN, docker_image=IMAGE, detect_imports=False).warnings == ()
    assert _exec(files, detect_imports=True).warnings == ()
    sent = [CodeFile(name="main.py", content="1"), CodeFile(name="requirements.txt", content="six")]
    assert len(_eval({"backend": "docker"}, code="", files=sent).warnings) == 1
    assert _eval({"backend": "docker"}).warnings == ()


def test_why_interpreters_have_no_network_does_not_concern_containers() -> None:
    wanted = Config(network_disabled=False)
    builder = SpecBuilder(settings(), INTERPRETERS, "its machine lacks slirp4netns: install it")
    assert builder.from_archive(tar_of(MAIN), Metadata(docker_image=IMAGE, config=wanted)).network
    with pytest.raises(Refusal):
        builder.from_archive(tar_of(MAIN), Metadata(config=wanted))


def test_containers_need_no_interpreter_of_the_server() -> None:
    builder = SpecBuilder(settings(backend="docker"), ())
    assert builder.from_eval(EvalRequest(code="1")).image == "python:3.11-slim"
    assert builder.from_archive(tar_of(MAIN), Metadata()).image == "python:3.11-slim"
