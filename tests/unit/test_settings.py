"""Settings: defaults, the environment, and what is refused with which sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from python_executor import settings
from python_executor.settings import LOOPBACK_HOSTS, MEBIBYTE, Settings, default_data_dir, machine_memory_mb

V1_LIMIT, V2_LIMIT = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch):
    """No setting in the environment; 64 GiB and 4 cores."""
    for name in [name for name in os.environ if name.upper().startswith("PYEXEC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    machine(monkeypatch, memory_mb=65536)


def machine(monkeypatch, *, memory_mb: int, **limits: str) -> None:
    """A machine of this size, with these files of cgroups."""
    names = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory_mb * MEBIBYTE // 4096}
    files = {{"v1": V1_LIMIT, "v2": V2_LIMIT}[version]: text for version, text in limits.items()}

    def read_text(self: Path) -> str:
        if str(self) not in files:
            raise FileNotFoundError(self)
        return files[str(self)]

    monkeypatch.setattr(os, "sysconf", names.__getitem__)
    monkeypatch.setattr(Path, "read_text", read_text)


def test_the_defaults_are_the_contracts():
    defaults = Settings()
    assert (defaults.host, defaults.port, defaults.log_level, defaults.api_key) == ("127.0.0.1", 8080, "info", None)
    assert (defaults.default_timeout, defaults.default_memory_mb, defaults.default_disk_mb) == (300, 1024, 2048)
    assert (defaults.default_cpu_shares, defaults.max_timeout, defaults.cleanup_ttl) == (1024, 3600, 300)
    assert (defaults.max_memory_mb, defaults.max_disk_mb, defaults.memory_budget) == (26214, 65536, 52428)
    assert (defaults.max_concurrent, defaults.queue_max, defaults.max_output_mb) == (64, 1000, 10)
    assert (defaults.default_image, defaults.default_python) == ("python:3.11-slim", "3.12")
    assert (defaults.allowed_hosts, defaults.insecure_allow) == (frozenset(), frozenset())
    assert (defaults.default_network, defaults.egress_allow, defaults.dns_servers) == (False, (), ())
    assert defaults.allow_network


def test_containers_get_nothing_that_the_operator_has_not_set():
    defaults = Settings()
    assert (defaults.backend, defaults.docker_socket, defaults.image_pull_timeout) == ("auto", None, 600)
    assert (defaults.image_allow, defaults.runtime, defaults.runtimes_allow, defaults.nameable_runtimes) == (
        (),
        "",
        (),
        (),
    )
    assert (defaults.container_pool_max, defaults.root_commands) == (4, False)


def test_images_and_runtimes_are_comma_separated_and_keep_their_order(monkeypatch):
    monkeypatch.setenv("PYEXEC_IMAGE_ALLOW", " python:3.*, ghcr.io/me/*,,x@sha256:?*")
    monkeypatch.setenv("PYEXEC_RUNTIMES_ALLOW", "runsc, kata-qemu ,runsc")
    monkeypatch.setenv("PYEXEC_RUNTIME", "io.containerd.runc.v2")
    made = Settings()
    assert made.image_allow == ("python:3.*", "ghcr.io/me/*", "x@sha256:?*")
    assert made.runtimes_allow == ("runsc", "kata-qemu", "runsc")
    assert made.nameable_runtimes == ("io.containerd.runc.v2", "runsc", "kata-qemu")
    assert Settings(image_allow=made.image_allow, runtimes_allow=made.runtimes_allow) == made


@pytest.mark.parametrize(
    "image", ["python:3.11-slim", "debian:12", "python:3.11-alpine", "ghcr.io/me/x", "localhost/x:1"]
)
def test_any_image_can_be_the_default(image):
    assert Settings(default_image=image).default_image == image


@pytest.mark.parametrize("socket", ["/run/docker.sock", "unix:///run/podman/podman.sock", "tcp://127.0.0.1:2375"])
def test_an_engine_is_reached_by_a_path_or_a_url(socket):
    assert Settings(docker_socket=socket).docker_socket == socket


def test_every_setting_says_what_it_is():
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_the_environment_sets_and_what_is_given_wins(monkeypatch):
    monkeypatch.setenv("PYEXEC_PORT", "9000")
    monkeypatch.setenv("PYEXEC_POOL_MIN", "9")
    monkeypatch.setenv("PYEXEC_DATA_DIR", "/srv/data")
    monkeypatch.setenv("PYEXEC_UNKNOWN", "ignored")
    made = Settings(port=9001)
    assert (made.port, made.pool_min, made.data_dir) == (9001, 9, Path("/srv/data"))


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    for name in ("PORT", "API_KEY", "MAX_MEMORY_MB", "ALLOWED_HOSTS"):
        monkeypatch.setenv(f"PYEXEC_{name}", "")
    assert Settings() == Settings(port=8080, api_key=None)


@pytest.mark.parametrize("text", ["a.example,b.example", " a.example , b.example ,,", "b.example,a.example,a.example"])
def test_lists_are_comma_separated(monkeypatch, text):
    monkeypatch.setenv("PYEXEC_ALLOWED_HOSTS", text)
    assert Settings().allowed_hosts == Settings(allowed_hosts=text).allowed_hosts == {"a.example", "b.example"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"max_timeout": 299, "default_timeout": 300}, "MAX_TIMEOUT 299 is below DEFAULT_TIMEOUT 300: change one"),
        (
            {"max_memory_mb": 1023, "default_memory_mb": 1024},
            "MAX_MEMORY_MB 1023 is below DEFAULT_MEMORY_MB 1024: change one",
        ),
        (
            {"max_memory_mb": 4096, "memory_budget": 2048},
            "MEMORY_BUDGET 2048 is below MAX_MEMORY_MB 4096: change one",
        ),
        (
            {"max_cpu_shares": 512, "default_cpu_shares": 1024},
            "MAX_CPU_SHARES 512 is below DEFAULT_CPU_SHARES 1024: change one",
        ),
        ({"default_disk_mb": 70000}, "MAX_DISK_MB 65536 is below DEFAULT_DISK_MB 70000: change one"),
        (
            {"memory_budget": 512, "default_memory_mb": 1024},
            "MEMORY_BUDGET 512 is below DEFAULT_MEMORY_MB 1024: change one",
        ),
        ({"insecure_allow": "no-api-key,root"}, "unknown INSECURE_ALLOW ['root']: it takes ['capabilities', "),
        (
            {"default_network": True, "allow_network": False},
            "DEFAULT_NETWORK true gives code what ALLOW_NETWORK false forbids: change one",
        ),
        ({"network_mode": "host"}, "NETWORK_MODE host would put untrusted code on the machine's network: remove it"),
        (
            {"host": "0.0.0.0"},
            "listening on 0.0.0.0 without a key would let anybody run code here: "
            "set PYEXEC_API_KEY, or accept it with --insecure-allow no-api-key",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_unsafe_or_impossible_combination_is_refused_with_what_to_do(values, sentence):
    with pytest.raises(ValidationError) as refusal:
        Settings(**values)
    (error,) = refusal.value.errors()
    assert error["msg"].startswith(f"Value error, {sentence}")


def test_networks_and_name_servers_are_comma_separated_and_keep_their_order(monkeypatch):
    monkeypatch.setenv("PYEXEC_EGRESS_ALLOW", " 10.1.0.0/16, 192.168.1.5,,0.0.0.0/0")
    monkeypatch.setenv("PYEXEC_DNS_SERVERS", "9.9.9.9,192.168.1.1")
    made = Settings()
    assert [str(network) for network in made.egress_allow] == ["10.1.0.0/16", "192.168.1.5/32", "0.0.0.0/0"]
    assert [str(server) for server in made.dns_servers] == ["9.9.9.9", "192.168.1.1"]
    assert Settings(egress_allow=made.egress_allow).egress_allow == made.egress_allow


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"egress_allow": "10.1.0.0/16,lan"}, "lan is no IPv4 network such as 10.1.0.0/16"),
        ({"egress_allow": "10.1.2.3/16"}, "10.1.2.3/16 is no IPv4 network"),
        ({"egress_allow": "fd00::/8"}, "fd00::/8 is no IPv4 network"),
        ({"egress_allow": "127.0.0.1"}, "127.0.0.1 can't be allowed: it would lead to this machine's loopback"),
        ({"egress_allow": "10.0.2.2"}, "10.0.2.2 can't be allowed"),
        ({"dns_servers": "dns.example"}, "dns.example is no IPv4 address"),
        ({"dns_servers": "2620:fe::fe"}, "2620:fe::fe is no IPv4 address"),
        ({"dns_servers": "127.0.0.53"}, "127.0.0.53 means another machine inside of a sandbox"),
        ({"preload": "json,os path"}, "os path is no module such as json"),
        ({"preload": "../x"}, "../x is no module"),
        ({"image_allow": "python,[a-z]*"}, r"\[a-z\]\* is no pattern of images such as python:3.\*"),
        ({"image_allow": "a b"}, "a b is no pattern of images"),
        ({"runtimes_allow": "runsc,--privileged"}, "--privileged is no name of a runtime such as runsc"),
        ({"runtime": "run sc"}, "run sc is no name of a runtime"),
        ({"runtime": "x" * 65}, "is no name of a runtime"),
        ({"docker_socket": "docker.sock"}, "must be a path such as /run/docker.sock, or a URL unix:///… or tcp://…"),
        ({"docker_socket": "ssh://host"}, "must be a path"),
        (
            {"default_image": "Debian:12"},
            "must be the name of an image, such as python:3.11-slim or ghcr.io/me/tools:1",
        ),
        ({"dns_servers": "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4"}, "more than 3"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(values, told):
    with pytest.raises(ValidationError, match=told) as refusal:
        Settings(**values)
    assert [error["loc"] for error in refusal.value.errors()] == [tuple(values)]


def test_a_small_machine_starts_with_smaller_defaults(monkeypatch):
    machine(monkeypatch, memory_mb=1000)
    made = Settings()
    assert (made.default_memory_mb, made.default_disk_mb, made.default_timeout) == (400, 1000, 300)


def test_a_default_that_nobody_set_gives_way_to_a_bound_that_somebody_set(monkeypatch):
    monkeypatch.setenv("PYEXEC_MEMORY_BUDGET", "512")
    made = Settings(max_disk_mb=100, max_timeout=5)
    assert (made.default_memory_mb, made.default_disk_mb, made.default_timeout) == (256, 100, 5)


def test_a_default_from_the_environment_is_one_that_somebody_set(monkeypatch):
    machine(monkeypatch, memory_mb=1000)
    monkeypatch.setenv("PYEXEC_DEFAULT_MEMORY_MB", "1024")
    with pytest.raises(ValidationError, match="MEMORY_BUDGET 800 is below DEFAULT_MEMORY_MB 1024"):
        Settings()


@pytest.mark.parametrize("level", ["INFO", "Warning", "debug"])
def test_the_log_level_is_taken_in_any_case(level):
    assert Settings(log_level=level).log_level == level.lower()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_beyond_loopback_a_key_is_needed_or_the_weakness_named(host):
    assert Settings(host=host, api_key="secret").host == host
    assert Settings(host=host, insecure_allow="no-api-key").host == host
    with pytest.raises(ValidationError, match="without a key"):
        Settings(host=host, api_key="")
    assert [Settings(host=host).api_key for host in LOOPBACK_HOSTS] == [None] * 3


@pytest.mark.parametrize(
    "values",
    [
        {"port": -1},
        {"port": 65536},
        {"queue_max": -1},
        {"pool_min": -1},
        {"default_timeout": 0},
        {"max_concurrent": 0},
        {"shutdown_grace": -1},
        {"log_level": "loud"},
        {"default_python": "banana"},
        {"default_python": "3.12.1"},
        {"default_python": "3.१"},
        {"default_image": "debian 12"},
        {"default_image": "--privileged"},
        {"backend": "podman"},
        {"image_pull_timeout": 0},
        {"container_pool_max": -1},
    ],
    ids=str,
)
def test_a_value_out_of_bounds_is_refused_and_named(values):
    with pytest.raises(ValidationError) as refusal:
        Settings(**values)
    assert [error["loc"] for error in refusal.value.errors()] == [tuple(values)]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8192),
        ({"v2": "max\n"}, 8192),
        ({"v2": f"{2048 * MEBIBYTE}\n"}, 2048),
        ({"v1": f"{4096 * MEBIBYTE}\n"}, 4096),
        ({"v1": "9223372036854771712\n"}, 8192),  # v1's word for no limit
        ({"v2": "", "v1": "nonsense"}, 8192),
    ],
)
def test_the_machines_memory_is_what_its_container_may_use(monkeypatch, limits, expected):
    machine(monkeypatch, memory_mb=8192, **limits)
    assert machine_memory_mb() == expected
    made = Settings()
    budget = expected * 8 // 10
    assert (made.max_memory_mb, made.max_disk_mb, made.memory_budget) == (budget // 2, expected, budget)


@pytest.mark.parametrize("memory_mb", [512, 1024, 4096, 65536])
def test_one_request_is_never_given_more_than_half_of_the_memory_unless_the_operator_says_so(monkeypatch, memory_mb):
    machine(monkeypatch, memory_mb=memory_mb)
    made = Settings()
    assert made.default_memory_mb <= made.max_memory_mb <= made.memory_budget // 2
    assert Settings(max_memory_mb=made.memory_budget).max_memory_mb == made.memory_budget


def test_a_default_that_is_more_than_half_of_the_memory_is_the_most_that_is_taken():
    assert Settings(memory_budget=1000, default_memory_mb=800).max_memory_mb == 800


def test_no_request_outweighs_what_others_get_unasked_unless_the_operator_says_so():
    assert Settings().max_cpu_shares == Settings(default_cpu_shares=512).max_cpu_shares == 1024
    assert Settings(default_cpu_shares=4096).max_cpu_shares == 4096
    assert Settings(max_cpu_shares=262_144).max_cpu_shares == 262_144


def test_data_goes_where_root_or_a_user_keeps_it(monkeypatch):
    monkeypatch.setattr(settings.os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/python-executor")
    monkeypatch.setattr(settings.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir() == Path("/home/me/.local/state/python-executor")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_data_dir() == Path("/state/python-executor")
