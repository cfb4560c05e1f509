"""What a box shows of the host, as data."""

from __future__ import annotations

import base64
import json
import os
from importlib.resources import files
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from python_executor.model.environment import Environment
from python_executor.model.spec import Interpreter
from python_executor.sandboxes.native import pause, plan
from python_executor.sandboxes.native.plan import BoxPlan, PackageStore, plan_box

SYSTEM = Interpreter("3.11.7", "/usr/bin/python3.11", "/usr")
LOCAL = Interpreter("3.12.1", "/usr/local/bin/python3.12", "/usr/local")
GUEST = Path(str(files("python_executor.guest")))
NEVER_WHOLE = {"/", "/dev", "/etc", "/home", "/opt", "/proc", "/root", "/srv", "/sys", "/usr", "/usr/local", "/var"}


def plan_for(interpreter: Interpreter) -> BoxPlan:
    return plan_box(interpreter, has_own_uids=True, oom_score_adj=900)


@pytest.fixture
def private(tmp_path) -> Interpreter:
    """An interpreter in a directory of its own."""
    (tmp_path / "lib/python3.12/site-packages").mkdir(parents=True)
    return Interpreter("3.12.1", f"{tmp_path}/bin/python3.12", str(tmp_path))


@pytest.fixture(params=["private", "system", "local"])
def box(request, private) -> BoxPlan:
    return plan_for({"private": private, "system": SYSTEM, "local": LOCAL}[request.param])


def test_no_directory_that_holds_other_peoples_things_is_shown_whole(box, private):
    sources = {source for source, _ in box.binds if not source.startswith(private.prefix)}
    assert not sources & NEVER_WHOLE
    sources -= set(plan._CERTIFICATES)
    assert not [source for source in sources if source.startswith(("/etc", "/home", "/root", "/sys", "/proc", "/var"))]
    devices = {source.removeprefix("/dev/") for source in sources if source.startswith("/dev/")}
    assert devices == {"null", "zero", "full", "random", "urandom"}


@pytest.mark.parametrize("prefix", ["/", "/opt"])
def test_an_interpreter_that_was_installed_among_other_things_does_not_show_them(prefix):
    box = plan_for(Interpreter("3.12.1", f"{prefix}/bin/python3.12", prefix))
    assert prefix not in {source for source, _ in box.binds}


def test_each_place_of_the_box_is_named_once_and_absolute(box):
    places = [target for _, target in box.binds] + [path for _, path in box.symlinks]
    assert sorted(places) == sorted(set(places))
    assert all(place.startswith("/") for place in places)


def test_etc_and_the_guest_are_files_of_the_boxs_own(box):
    assert {path.split("/")[1] for path in box.files} == {"etc", "guest"}
    shown = {path.rpartition("/")[2] for path in box.files if path.startswith("/guest/")}
    assert shown == {path.name for path in GUEST.glob("*.py")} - {
        "__init__.py",
        "box.py",
        "build.py",
        "container.py",
        "imports.py",
        "pip.py",
        "probe.py",
    }
    assert "def main()" in box.files["/guest/zygote.py"]


def test_a_private_interpreter_is_at_a_neutral_path_without_its_packages(private):
    box = plan_for(private)
    assert (private.executable, "/python/bin/python3.12") in box.binds
    assert (f"{private.prefix}/lib/python3.12", "/python/lib/python3.12") in box.binds
    assert ("/python/bin/python3.12", "/python/bin/python") in box.symlinks
    assert box.argv == ("/python/bin/python3.12", "-u", "/guest/zygote.py")
    assert box.env["PATH"].split(":")[0] == "/python/bin"
    assert box.hidden[-1] == "/python/lib/python3.12/site-packages"


def test_the_systems_interpreter_needs_no_bind_of_its_own():
    box = plan_for(SYSTEM)
    assert box.argv[0] == "/usr/bin/python3.11"
    assert not [target for _, target in box.binds if target.startswith("/python")]
    assert set(box.hidden) <= {
        "/usr/lib/python3.11/site-packages",
        "/usr/lib/python3/dist-packages",
        "/usr/lib/python3.11/dist-packages",
    }
    assert all(Path(path).is_dir() for path in box.hidden)


def test_the_loaders_program_is_there_for_those_who_look_for_libraries():
    assert (os.path.realpath("/sbin/ldconfig"), "/sbin/ldconfig") in plan_for(SYSTEM).binds
    assert plan_for(SYSTEM).ldconfig == "/sbin/ldconfig"


def test_of_usr_local_only_the_interpreter_is_shown():
    shown = {source: target for source, target in plan_for(LOCAL).binds if source.startswith("/usr/local")}
    assert shown["/usr/local/bin/python3.12"] == "/python/bin/python3.12"
    assert shown["/usr/local/lib/python3.12"] == "/python/lib/python3.12"
    assert all(source.startswith("/usr/local/lib/libpython3.12") for source in list(shown)[2:])


def test_a_library_of_the_interpreters_own_is_bound_and_made_known_to_the_loader(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    for name in ("libpython3.12.so.1.0", "libpython3.13.so.1.0", "libother.so"):
        (tmp_path / "lib" / name).touch()
    monkeypatch.setattr(plan, "_LDCONFIG", str(tmp_path))
    box = plan_for(Interpreter("3.12.1", f"{tmp_path}/bin/python3.12", str(tmp_path)))
    assert [target for _, target in box.binds if ".so" in target] == ["/python/lib/libpython3.12.so.1.0"]
    assert box.ldconfig == str(tmp_path)


@pytest.mark.skipif(not Path("/usr/lib/python3/dist-packages").is_dir(), reason="no packages of the system's here")
def test_the_systems_packages_are_hidden_from_every_interpreter(private):
    assert "/usr/lib/python3/dist-packages" in plan_for(private).hidden


def test_the_message_is_json_and_carries_all_of_the_plan(box, monkeypatch):
    monkeypatch.setenv("PYEXEC_API_KEY", "hunter2")
    text = json.dumps(box.message())
    message = json.loads(text)
    assert message["binds"] == [list(bind) for bind in box.binds]
    assert {base64.b64decode(message["pause"]), base64.b64decode(message["programs"]["/guest/pause"])} == {
        pause.program()
    }
    assert (message["has_own_uids"], message["oom_score_adj"], message["hostname"]) == (True, 900, "sandbox")
    assert "hunter2" not in text
    assert set(message["env"]) == {"PATH", "HOME", "LANG", "LD_BIND_NOW"}


def test_certificates_of_authorities_are_shown_where_the_distribution_has_them_and_no_keys(monkeypatch, tmp_path):
    (tmp_path / "pki/certs").mkdir(parents=True)
    (tmp_path / "pki/private").mkdir()
    (tmp_path / "ssl").mkdir()
    (tmp_path / "ssl/certs").symlink_to("../pki/certs")
    (tmp_path / "ssl/cert.pem").touch()
    names = ("pki/certs", "ssl/certs", "ssl/cert.pem", "not/there")
    monkeypatch.setattr(plan, "_CERTIFICATES", tuple(f"{tmp_path}/{name}" for name in names))
    box = plan_for(SYSTEM)
    shown = [target for _, target in box.binds if target.startswith(str(tmp_path))]
    assert shown == [f"{tmp_path}/pki/certs", f"{tmp_path}/ssl/cert.pem"]
    assert ("../pki/certs", f"{tmp_path}/ssl/certs") in box.symlinks
    monkeypatch.undo()
    assert not [path for path in plan._CERTIFICATES if "private" in path or path in {*NEVER_WHOLE, "/etc/ssl"}]


def test_names_are_resolved_by_whoever_the_operator_named(private):
    assert plan_for(private).files["/etc/resolv.conf"] == "nameserver 10.0.2.3\n"
    named = [IPv4Address("9.9.9.9"), IPv4Address("192.168.1.1")]
    box = plan_box(private, has_own_uids=True, oom_score_adj=900, nameservers=named)
    assert box.files["/etc/resolv.conf"] == "nameserver 9.9.9.9\nnameserver 192.168.1.1\n"


def test_describe_has_a_line_for_all_that_is_shown(box):
    assert box.describe() == [f"{target} shows {source}, read-only" for source, target in box.binds]


def test_of_an_interpreter_its_headers_and_its_own_tcl_are_shown_beside_its_libraries(private):
    for name in ("include/python3.12", "include/other", "lib/tcl8.6", "lib/tk8.6", "lib/tcl8", "share"):
        Path(private.prefix, name).mkdir(parents=True)
    shown = {target for source, target in plan_for(private).binds if source.startswith(private.prefix)}
    names = ("bin/python3.12", "include/python3.12", "lib/python3.12", "lib/tcl8.6", "lib/tk8.6")
    assert shown == {f"/python/{name}" for name in names}


def test_what_programs_find_below_usr_is_shown_where_the_machine_has_it():
    shown = {target for _, target in plan_for(SYSTEM).binds}
    wanted = ("/usr/include", "/usr/share/fonts", "/usr/share/tcltk", "/usr/share/zoneinfo")
    assert {path for path in wanted if Path(path).is_dir()} <= shown


def test_the_store_is_kept_where_no_sandbox_looks_and_a_named_environment_is_shown(private):
    named = Environment("env_" + "0" * 32, (), "science")
    store = PackageStore("/data/environments", "/opt/uv")
    box = plan_box(private, has_own_uids=True, oom_score_adj=900, store=store)
    assert box.kept == (("/data/environments", "/store/environments"), ("/opt/uv", "/store/uv/uv"))
    shown = plan_box(private, has_own_uids=True, oom_score_adj=900, store=store, environment=named)
    assert (f"/data/environments/{named.key}/venv", "/venv") in shown.binds
    assert shown.kept == ()  # its zygote has run others' code, and nobody is shown anything else there
    assert not [target for _, target in plan_for(private).binds if target == "/venv"]
