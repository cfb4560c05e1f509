"""The one place where settings become a working service."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import structlog
import uv

from .environments.build import BuildPolicy
from .environments.cache import Cache
from .environments.index import PackageIndex
from .environments.index.settings import PYPI, IndexSettings
from .environments.interpreters import find_interpreters
from .environments.named import Definitions
from .environments.requirements import PackageFilter
from .environments.service import PackageEnvironments
from .executions.service import Executions, Policy
from .model.egress import EgressPolicy
from .model.errors import BackendError
from .model.spec import Interpreter, Limits
from .sandboxes.native.backend import NativeBackend
from .sandboxes.native.plan import NO_STORE, PackageStore
from .settings import MEBIBYTE, Settings
from .storage.base import Store
from .storage.sqlite import SqliteStore

log = structlog.get_logger()
ENVIRONMENTS, NAMED = "environments", "named"  # in the data directory


def native_backend(
    settings: Settings, interpreters: Sequence[Interpreter] | None = None, packages: PackageStore = NO_STORE
) -> NativeBackend:
    """The backend alone, which `doctor` looks at."""
    limits = Limits(
        timeout_seconds=settings.default_timeout,
        memory_mb=settings.default_memory_mb,
        disk_mb=settings.default_disk_mb,
        cpu_shares=settings.default_cpu_shares,
        cpus=settings.default_cpus,
    )
    return NativeBackend(
        find_interpreters() if interpreters is None else interpreters,
        default_python=settings.default_python,
        default_limits=limits,
        pool_min=settings.pool_min,
        pool_max=settings.pool_max,
        preload=settings.preload,
        insecure_allow=settings.insecure_allow,
        egress=EgressPolicy(settings.egress_allow, settings.dns_servers),
        store=packages,
    )


def cache_of(settings: Settings) -> Cache:
    """The environments in the data directory."""
    return Cache(settings.data_dir / ENVIRONMENTS)


def definitions_of(settings: Settings) -> Definitions:
    """The names that the operator has given to some of them."""
    return Definitions(settings.data_dir / NAMED)


def _environments(
    settings: Settings, backend: NativeBackend, interpreters: Sequence[Interpreter]
) -> PackageEnvironments:
    try:
        index = IndexSettings.from_environment(
            os.environ, settings.index_url, settings.extra_index_url, settings.package_hosts
        )
    except ValueError as problem:
        if settings.index_url or settings.extra_index_url:
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
        max_bytes=settings.environments_max_mb * MEBIBYTE,
    )


def workshop(settings: Settings) -> tuple[NativeBackend, PackageEnvironments]:
    """What makes environments in the data directory, and where; the backend is to be started and closed."""
    interpreters = find_interpreters()
    directory = str(settings.data_dir.absolute() / ENVIRONMENTS)
    packages = PackageStore(directory, uv.find_uv_bin(), builds=settings.package_builds)
    backend = native_backend(settings, interpreters, packages)
    return backend, _environments(settings, backend, interpreters)


def build(settings: Settings, *, store: Store | None = None) -> Executions:
    """A service that is ready to be started; it keeps executions in `store`, or else in the data directory."""
    policy = Policy(
        max_concurrent=settings.max_concurrent,
        memory_budget_mb=settings.memory_budget,
        queue_max=settings.queue_max,
        max_output_bytes=settings.max_output_mb * MEBIBYTE,
        cleanup_ttl_seconds=settings.cleanup_ttl,
    )
    backend, environments = workshop(settings)
    return Executions(
        backend,
        store or SqliteStore(settings.data_dir, settings.store_max_mb * MEBIBYTE),
        policy,
        owner=f"{socket.gethostname()}-{os.getpid()}",
        environments=environments,
    )
