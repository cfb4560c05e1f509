"""One record per setting: name, type, unit, default and help; it feeds environment, flags and docs.

`PYEXEC_PORT=8080` in the environment and `serve --port 8080` are the same thing; the flag wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .model.egress import is_never_reached
from .model.image import full_name
from .model.isolation import BY_NAME

MEBIBYTE = 1024 * 1024
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
INSECURE_NAMES = frozenset({"no-api-key", *BY_NAME})
BOUNDS = {  # what must be at least as much; what nobody set gives way to them
    "default_timeout": ("max_timeout",),
    "default_memory_mb": ("memory_budget", "max_memory_mb"),
    "max_memory_mb": ("memory_budget",),
    "default_disk_mb": ("max_disk_mb",),
    "default_cpu_shares": ("max_cpu_shares",),
    "default_cpus": ("max_cpus",),
    "pool_min": ("pool_max",),
}
NAME_SERVERS_MAX = 3
PYTHON = re.compile(r"[0-9]{1,2}\.[0-9]{1,3}")
DEBIAN_RELEASES = ("buster", "bullseye", "bookworm", "trixie", "forky")
IMAGE = re.compile(rf"python:({PYTHON.pattern})(-slim(-({'|'.join(DEBIAN_RELEASES)}))?)?")
IMAGE_PATTERN = re.compile(r"[A-Za-z0-9._:/@*?-]+")
RUNTIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

PRELOAD = (  # benchmarks/preload.py shows what each costs and saves
    "argparse", "base64", "bisect", "collections.abc", "contextlib", "copy", "csv", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "inspect", "io", "itertools", "json", "logging",
    "math", "operator", "os", "pathlib", "random", "re", "statistics", "string", "subprocess", "textwrap", "threading",
    "time", "traceback", "types", "typing",
)  # fmt: skip


def machine_memory_mb() -> int:
    """MiB of memory that this machine, or the container we are in, has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # no such cgroup, or "max"
    return total // MEBIBYTE


def default_data_dir() -> Path:
    """/var/lib/python-executor for root, the XDG state directory for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/python-executor")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "python-executor"


def _parts(value: object) -> list[str]:
    """Of a comma-separated list, or of one that is a list already."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(part) for part in value] if isinstance(value, Iterable) else [str(value)]


def _runtime(name: str) -> str:
    """The name, where it can be one."""
    if not RUNTIME.fullmatch(name):
        raise ValueError(f"{name} is no name of a runtime such as runsc")
    return name


class Settings(BaseSettings):
    """The server's settings, checked together: an unsafe or impossible combination is refused at start."""

    model_config = SettingsConfigDict(env_prefix="PYEXEC_", env_ignore_empty=True, extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    api_key: str | None = Field(None, description="Key that callers must send; required beyond loopback.")
    allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(),
        description="Host names, comma-separated, that a server without a key answers to besides loopback's.",
    )
    insecure_allow: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(),
        description="Weaknesses accepted by name, comma-separated: no-api-key, or a boundary that doctor lists.",
    )

    default_timeout: PositiveInt = Field(300, description="Seconds an execution may run where none are asked for.")
    default_memory_mb: PositiveInt = Field(1024, description="MiB of memory where none are asked for.")
    default_disk_mb: PositiveInt = Field(2048, description="MiB of files where none are asked for.")
    default_cpu_shares: PositiveInt = Field(1024, description="Relative CPU weight where none is asked for.")
    default_cpus: PositiveFloat | None = Field(
        None, description="Processors' worth of time at most where none is asked for (default: no such limit)."
    )
    max_timeout: PositiveInt = Field(3600, description="Largest timeout_seconds that is taken.")
    max_memory_mb: PositiveInt = Field(
        default_factory=machine_memory_mb,
        description="Largest memory_mb that is taken, at most MEMORY_BUDGET (default: half of that).",
    )
    max_disk_mb: PositiveInt = Field(
        default_factory=machine_memory_mb,
        description="Largest disk_mb that is taken (default: the machine's memory).",
    )
    max_cpu_shares: PositiveInt = Field(
        1024,
        le=262_144,  # the kernel's
        description="Largest cpu_shares that is taken, so that no request outweighs others "
        "(default: 1024, or DEFAULT_CPU_SHARES where that is more).",
    )
    max_cpus: PositiveFloat = Field(
        default_factory=lambda: float(os.cpu_count() or 1),
        description="Largest cpus that is taken (default: the machine's).",
    )
    default_image: str = Field("python:3.11-slim", description="Image of /exec/* where none is named.")
    default_python: str = Field("3.12", description="Interpreter of /eval where none is named.")
    allow_network: bool = Field(
        True, description="Let requests turn the network on; false refuses it to every one of them."
    )
    default_network: bool = Field(False, description="Network where network_disabled is absent.")
    network_mode: str = Field("none", description="The public server's setting; 'host' is refused.")
    egress_allow: Annotated[tuple[IPv4Network, ...], NoDecode] = Field(
        (),
        description="Networks that code with network reaches besides the public internet, comma-separated, as in "
        "10.1.0.0/16; this machine's own addresses in them, too, but never its loopback.",
    )
    dns_servers: Annotated[tuple[IPv4Address, ...], NoDecode] = Field(
        (),
        description="Name servers of code with network, comma-separated, at most three "
        "(default: this machine's resolver).",
    )
    auto_detect_imports: bool = Field(
        True, description="Have the packages that code imports, on /eval, and on /exec/* where detect_imports asks."
    )
    index_url: str | None = Field(
        None,
        description="Package index, with user:password@ where it needs them "
        "(default: what uv's or pip's variables say, else https://pypi.org/simple).",
    )
    extra_index_url: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Package indexes that go before that one, comma-separated (default: uv's or pip's variables)."
    )
    torch_index: str | None = Field(
        default_factory=lambda: "" if os.environ.get("PYEXEC_TORCH_INDEX") == "" else None,
        description="Package index that torch, torchvision and torchaudio come from and nothing else does; empty: they "
        "come from the others (default: PyTorch's wheels without CUDA, https://download.pytorch.org/whl/cpu, where "
        "neither INDEX_URL nor a variable of uv or pip names an index).",
    )
    package_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts that packages may come from though they are not on the public internet, comma-separated "
        "(the indexes' own always are).",
    )
    packages_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names of packages that may be installed, comma-separated, as in numpy,django-* (default: all).",
    )
    packages_deny: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names of packages that may not be installed, comma-separated; * means all."
    )
    package_builds: bool = Field(
        False, description="Install source distributions, too, whose builds run their code in a sandbox of their own."
    )
    environment_max_mb: PositiveInt = Field(
        default_factory=lambda: min(4096, max(256, machine_memory_mb() // 8)),
        description="MiB that the packages of one environment may take, and what is downloaded for it; while it is "
        "made, twice that and 1 GiB of memory (default: an eighth of the machine's memory, at most 4096).",
    )
    environments_max_mb: PositiveInt = Field(
        10240, description="MiB of disk that environments may take; of those not in use the longest unused go first."
    )
    environment_timeout: PositiveInt = Field(
        600, description="Seconds that finding out versions may take, and installing them."
    )

    backend: Literal["auto", "native", "docker"] = Field(
        "auto",
        description="What runs code: auto runs names of installed interpreters on them and any other image on a "
        "container engine; native never uses an engine, docker always.",
    )
    docker_socket: str | None = Field(
        None,
        description="Where the container engine listens: a path, or a URL unix:// or tcp:// "
        "(default: DOCKER_HOST, else the usual sockets of Docker and Podman).",
    )
    image_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Images that containers may be made from, comma-separated, as in python,ghcr.io/me/* "
        "(default: all).",
    )
    image_pull_timeout: PositiveInt = Field(600, description="Seconds that fetching an image may take.")
    runtime: str = Field(
        "", description="The engine's runtime for containers, such as runsc (default: the engine's own default)."
    )
    runtimes_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Runtimes that requests may name besides that one, comma-separated (default: none)."
    )
    container_pool_max: int = Field(
        4, ge=0, description="Containers that wait for work, for each image in use; about 20 MiB of memory each."
    )
    root_commands: bool = Field(
        False,
        description="Run pre_commands in images as the container's root on a writable root file system, so that "
        "apt-get works; see docs/security.md.",
    )

    memory_budget: PositiveInt = Field(
        default_factory=lambda: machine_memory_mb() * 8 // 10,
        description="MiB that all that runs may have been promised together: executions, builds of packages, readers "
        "of imports (default: 80 % of the machine's).",
    )
    max_concurrent: PositiveInt = Field(
        default_factory=lambda: 16 * (os.cpu_count() or 1),
        description="Executions that run at once (default: 16 a core).",
    )
    queue_max: int = Field(1000, ge=0, description="Executions that may wait; one more is a 429.")
    queue_max_mb: int = Field(
        default_factory=lambda: min(64, max(32, machine_memory_mb() // 16)),
        ge=32,
        description="MiB of memory for requests that are received, wait or run (their input, small files); beyond, one "
        "of more than 64 KiB is a 429 (default: a sixteenth of the machine's, 32 to 64).",
    )
    spool_max_mb: int = Field(
        4096, ge=128, description="MiB of disk for their archives, in the data directory; beyond, one more is a 429."
    )
    pool_min: int = Field(4, ge=0, description="Sandboxes that wait for work, for each interpreter in use.")
    pool_max: int = Field(64, ge=0, description="Sandboxes that demand may raise that to; 1.5 MiB of memory each.")
    preload: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=lambda: PRELOAD,
        description="Modules that each interpreter has imported before any code comes, comma-separated; those that it "
        "lacks are left out (default: what is small and often used).",
    )
    max_output_mb: PositiveInt = Field(10, description="MiB kept of stdout, and of stderr.")
    shutdown_grace: float = Field(10.0, ge=0, description="Seconds that executions get to finish after SIGTERM.")

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Directory of the database and the environments; one server each."
    )
    cleanup_ttl: PositiveInt = Field(300, description="Seconds that a finished execution is kept.")
    store_max_mb: PositiveInt = Field(
        1024, description="MiB that finished executions may take; the oldest go first, the file keeps its size."
    )

    @property
    def spool_dir(self) -> Path:
        """The directory of what is too large for memory, for a while: uploads, and output."""
        return self.data_dir / "spool"

    @property
    def max_cpu_seconds(self) -> float:
        """Largest cpu_seconds that is taken: what nobody uses up in less than MAX_TIMEOUT is no limit."""
        return self.max_timeout * max(1.0, self.max_cpus)

    @property
    def nameable_runtimes(self) -> tuple[str, ...]:
        """The runtimes that requests may name."""
        return tuple(dict.fromkeys(name for name in (self.runtime, *self.runtimes_allow) if name))

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("allowed_hosts", "insecure_allow"):
            value = values.get(name)
            if isinstance(value, str):
                values[name] = frozenset(_parts(value))
        return values

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _read_networks(cls, value: object) -> object:
        networks = []
        for part in _parts(value):
            try:
                network = IPv4Network(part)
            except ValueError as error:
                raise ValueError(f"{part} is no IPv4 network such as 10.1.0.0/16 ({error})") from None
            if is_never_reached(network):
                raise ValueError(f"{part} can't be allowed: it would lead to this machine's loopback")
            networks.append(network)
        return tuple(networks)

    @field_validator("dns_servers", mode="before")
    @classmethod
    def _read_name_servers(cls, value: object) -> object:
        servers = []
        for part in _parts(value):
            try:
                server = IPv4Address(part)
            except ValueError:
                raise ValueError(f"{part} is no IPv4 address such as 9.9.9.9") from None
            if is_never_reached(IPv4Network(server)):
                raise ValueError(f"{part} means another machine inside of a sandbox: leave it out, or name another")
            servers.append(server)
        if len(servers) > NAME_SERVERS_MAX:
            raise ValueError(f"more than {NAME_SERVERS_MAX}: the C library takes no more")
        return tuple(servers)

    @field_validator("preload", mode="before")
    @classmethod
    def _read_modules(cls, value: object) -> object:
        for part in (parts := _parts(value)):
            if not all(name.isidentifier() for name in part.split(".")):
                raise ValueError(f"{part} is no module such as json or concurrent.futures")
        return tuple(parts)

    @field_validator("extra_index_url", "package_hosts", "packages_allow", "packages_deny", mode="before")
    @classmethod
    def _split_tuples(cls, value: object) -> object:
        return tuple(_parts(value))

    @field_validator("image_allow", mode="before")
    @classmethod
    def _read_image_patterns(cls, value: object) -> object:
        for part in (parts := _parts(value)):
            if not IMAGE_PATTERN.fullmatch(part):
                raise ValueError(f"{part} is no pattern of images such as python:3.* or ghcr.io/me/*")
        return tuple(parts)

    @field_validator("runtimes_allow", mode="before")
    @classmethod
    def _read_runtimes(cls, value: object) -> object:
        return tuple(map(_runtime, _parts(value)))

    @field_validator("runtime")
    @classmethod
    def _check_runtime(cls, value: str) -> str:
        return _runtime(value) if value else ""

    @field_validator("docker_socket")
    @classmethod
    def _check_socket(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("/", "unix:///", "tcp://")):
            raise ValueError("must be a path such as /run/docker.sock, or a URL unix:///… or tcp://…")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("default_python")
    @classmethod
    def _check_python(cls, value: str) -> str:
        if not PYTHON.fullmatch(value):
            raise ValueError("must be a version X.Y, such as 3.12")
        return value

    @field_validator("default_image")
    @classmethod
    def _check_image(cls, value: str) -> str:
        if full_name(value) is None:
            raise ValueError("must be the name of an image, such as python:3.11-slim or ghcr.io/me/tools:1")
        return value

    @model_validator(mode="after")
    def _derive_maxima(self) -> Settings:
        derived = {
            "max_memory_mb": (self.memory_budget // 2, "default_memory_mb"),
            "max_cpu_shares": (self.max_cpu_shares, "default_cpu_shares"),
        }
        for name, (most, default) in derived.items():
            if name not in self.model_fields_set:
                least = getattr(self, default) if default in self.model_fields_set else 1
                object.__setattr__(self, name, max(most, least))  # frozen, but not yet anybody's
        return self

    @model_validator(mode="after")
    def _fit_defaults(self) -> Settings:
        for name, bounds in BOUNDS.items():
            if name not in self.model_fields_set and getattr(self, name) is not None:
                fitting = min(getattr(self, bound) for bound in (name, *bounds))
                object.__setattr__(self, name, fitting)  # frozen, but not yet anybody's
        return self

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Settings:
        for name, bounds in BOUNDS.items():
            for bound in bounds:
                default, most = getattr(self, name), getattr(self, bound)
                if default is not None and most < default:
                    raise ValueError(f"{bound.upper()} {most} is below {name.upper()} {default}: change one")
        if unknown := self.insecure_allow - INSECURE_NAMES:
            raise ValueError(f"unknown INSECURE_ALLOW {sorted(unknown)}: it takes {sorted(INSECURE_NAMES)}")
        if self.api_key and not self.api_key.strip():
            raise ValueError("API_KEY is blank: give it a value, or remove it")
        if self.default_network and not self.allow_network:
            raise ValueError("DEFAULT_NETWORK true gives code what ALLOW_NETWORK false forbids: change one")
        if self.network_mode == "host":
            raise ValueError("NETWORK_MODE host would put untrusted code on the machine's network: remove it")
        if self.host not in LOOPBACK_HOSTS and not self.api_key and "no-api-key" not in self.insecure_allow:
            raise ValueError(
                f"listening on {self.host} without a key would let anybody run code here: "
                "set PYEXEC_API_KEY, or accept it with --insecure-allow no-api-key"
            )
        return self
