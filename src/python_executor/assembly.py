"""The one place where settings become a working service."""

from __future__ import annotations

import os
import socket

from .environments.interpreters import find_interpreters
from .executions.service import Executions, Policy
from .model.egress import EgressPolicy
from .model.spec import Limits
from .sandboxes.native.backend import NativeBackend
from .settings import MEBIBYTE, Settings
from .storage.base import Store
from .storage.sqlite import SqliteStore


def native_backend(settings: Settings) -> NativeBackend:
    """The backend alone, which `doctor` looks at."""
    limits = Limits(
        timeout_seconds=settings.default_timeout,
        memory_mb=settings.default_memory_mb,
        disk_mb=settings.default_disk_mb,
        cpu_shares=settings.default_cpu_shares,
        cpus=settings.default_cpus,
    )
    return NativeBackend(
        find_interpreters(),
        default_python=settings.default_python,
        default_limits=limits,
        pool_min=settings.pool_min,
        pool_max=settings.pool_max,
        preload=settings.preload,
        insecure_allow=settings.insecure_allow,
        egress=EgressPolicy(settings.egress_allow, settings.dns_servers),
    )


def build(settings: Settings, *, store: Store | None = None) -> Executions:
    """A service that is ready to be started; it keeps executions in `store`, or else in the data directory."""
    policy = Policy(
        max_concurrent=settings.max_concurrent,
        memory_budget_mb=settings.memory_budget,
        queue_max=settings.queue_max,
        max_output_bytes=settings.max_output_mb * MEBIBYTE,
        cleanup_ttl_seconds=settings.cleanup_ttl,
    )
    return Executions(
        native_backend(settings),
        store or SqliteStore(settings.data_dir, settings.store_max_mb * MEBIBYTE),
        policy,
        owner=f"{socket.gethostname()}-{os.getpid()}",
    )
