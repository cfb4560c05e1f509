"""The one place where settings become a working service."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256

import structlog
import uv

from .environments.base import NO_ENVIRONMENTS, Environments
from .environments.build import BuildPolicy
from .environments.cache import Cache
from .environments.index import PackageIndex
from .environments.index.settings import PYPI, IndexSettings
from .environments.interpreters import find_interpreters
from .environments.named import Definitions
from .environments.requirements import PackageFilter
from .environments.service import PackageEnvironments
from .executions.admission import Admission
from .executions.service import Executions, Policy
from .model.egress import EgressPolicy
from .model.errors import BackendError
from .model.spec import Interpreter, Limits
from .sandboxes.base import Backend
from .sandboxes.docker.backend import DockerBackend
from .sandboxes.either import Either
from .sandboxes.native.backend import NativeBackend, Promised
from .sandboxes.native.plan import NO_STORE, PackageStore
from .settings import MEBIBYTE, Settings
from .storage.base import Store
from .storage.sqlite import SqliteStore

log = structlog.get_logger()
ENVIRONMENTS, NAMED, OWNER, SECCOMP = "environments", "named", "owner", "seccomp.json"  # in the data directory


def native_backend(
    settings: Settings,
    interpreters: Sequence[Interpreter] | None = None,
    packages: PackageStore = NO_STORE,
    promised: Promised | None = None,
) -> NativeBackend:
    """The backend alone, which `doctor` looks at."""
    return NativeBackend(
        find_interpreters() if interpreters is None else interpreters,
        default_python=settings.default_python,
        default_limits=_default_limits(settings),
        pool_min=settings.pool_min,
        pool_max=settings.pool_max,
        preload=settings.preload,
        insecure_allow=settings.insecure_allow,
        egress=EgressPolicy(settings.egress_allow, settings.dns_servers),
        store=packages,
        promised=promised,
    )


def docker_backend(settings: Settings, *, is_only: bool) -> DockerBackend:
    """Containers; the only server on a data directory removes whatever others have left behind there."""
    return DockerBackend(
        settings.docker_socket,
        owner=_container_owner(settings, is_only=is_only),
        is_only=is_only,
        default_limits=_default_limits(settings),
        pool_max=settings.container_pool_max,
        pull_timeout=settings.image_pull_timeout,
        egress=EgressPolicy(settings.egress_allow, settings.dns_servers),
        root_commands=settings.root_commands,
        insecure_allow=settings.insecure_allow,
        profile=settings.data_dir.absolute() / SECCOMP,
        is_required=settings.backend == "docker",
    )


def _default_limits(settings: Settings) -> Limits:
    return Limits(
        timeout_seconds=settings.default_timeout,
        memory_mb=settings.default_memory_mb,
        disk_mb=min(settings.default_disk_mb, settings.default_memory_mb),
        cpu_shares=settings.default_cpu_shares,
        cpus=settings.default_cpus,
    )


def cache_of(settings: Settings) -> Cache:
    """The environments in the data directory."""
    return Cache(settings.data_dir / ENVIRONMENTS)


def definitions_of(settings: Settings) -> Definitions:
    """The names that the operator has given to some of them."""
    return Definitions(settings.data_dir / NAMED)


def _environments(
    settings: Settings, backend: NativeBackend, interpreters: Sequence[Interpreter], admission: Admission
) -> PackageEnvironments:
    try:
        index = IndexSettings.from_environment(
            os.environ,
            settings.index_url,
            settings.extra_index_url,
            settings.package_hosts,
            settings.torch_index,
        )
    except ValueError as problem:
        if settings.index_url or settings.extra_index_url or settings.torch_index:
            raise BackendError(str(problem)) from problem
        log.warning("packages can't be installed", reason=str(problem))  # of variables that are not ours
        index = IndexSettings((PYPI,), unusable=str(problem))
    return PackageEnvironments(
        backend,
        interpreters,
        cache_of(settings),
        definitions_of(settings),
        PackageIndex(index),
        BuildPolicy(
            wheels_only=not settings.package_builds,
            filter=PackageFilter(settings.packages_allow, settings.packages_deny),
            max_mb=settings.environment_max_mb,
            timeout_seconds=settings.environment_timeout,
        ),
        places=admission,
        max_bytes=settings.environments_max_mb * MEBIBYTE,
    )


def _admission(settings: Settings) -> Admission:
    return Admission(settings.max_concurrent, settings.memory_budget, settings.queue_max)


def workshop(settings: Settings, admission: Admission | None = None) -> tuple[NativeBackend, PackageEnvironments]:
    """What makes environments in the data directory, and where; the backend is to be started and closed."""
    admission = admission or _admission(settings)
    interpreters = find_interpreters()
    directory = str(settings.data_dir.absolute() / ENVIRONMENTS)
    packages = PackageStore(directory, uv.find_uv_bin())
    promised = Promised(settings.memory_budget, admission.sandboxes)
    backend = native_backend(settings, interpreters, packages, promised)
    return backend, _environments(settings, backend, interpreters, admission)


def build(settings: Settings, *, store: Store | None = None) -> Executions:
    """A service that is ready to be started; it keeps executions in `store`, or else in the data directory."""
    policy = Policy(
        max_concurrent=settings.max_concurrent,
        memory_budget_mb=settings.memory_budget,
        queue_max=settings.queue_max,
        queue_max_bytes=settings.queue_max_mb * MEBIBYTE,
        spool_max_bytes=settings.spool_max_mb * MEBIBYTE,
        max_output_bytes=settings.max_output_mb * MEBIBYTE,
        cleanup_ttl_seconds=settings.cleanup_ttl,
    )
    admission = _admission(settings)
    backend, environments = _backend(settings, admission, has_data_dir=store is None)
    return Executions(
        backend,
        store or SqliteStore(settings.data_dir, settings.store_max_mb * MEBIBYTE),
        policy,
        owner=f"{socket.gethostname()}-{os.getpid()}",
        environments=environments,
        admission=admission,
        spool=settings.spool_dir if store is None else None,
    )


def _backend(settings: Settings, admission: Admission, *, has_data_dir: bool) -> tuple[Backend, Environments]:
    """What runs code, and what sees to its packages; the data directory is one server's alone, or not ours."""
    if settings.backend == "docker":
        return docker_backend(settings, is_only=has_data_dir), NO_ENVIRONMENTS
    native, environments = workshop(settings, admission)
    if settings.backend == "native":
        return native, environments
    return Either(native, docker_backend(settings, is_only=has_data_dir)), environments


def _container_owner(settings: Settings, *, is_only: bool) -> str:
    """A name that whoever uses the same data directory later has again; only a server leaves a file there."""
    file = settings.data_dir / OWNER
    with suppress(OSError):  # of a server, the store will tell it better
        if is_only:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError), file.open("x") as new:
                new.write(uuid.uuid4().hex)
        return file.read_text().strip()
    return sha256(f"{socket.gethostname()} {settings.data_dir.absolute()}".encode()).hexdigest()[:32]
