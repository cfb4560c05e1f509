"""Tries every boundary of a new box for real, before anybody's code runs there: `guest/probe.py` goes through a sandbox
like any program, a second one takes more memory than it may, and what came out is compared with what should have.

A boundary that does not hold is `MISSING`; one that holds in a form that does less is `WEAKER` and says how.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from ...model.errors import BackendError
from ...model.events import Event, Exited, Raised, Stderr, Stdout, Termination
from ...model.isolation import BOUNDARIES, Finding, State
from ...model.spec import MEBIBYTE, ExecutionSpec, FileEntry, FileTree, Limits
from ..base import Sandbox
from .box import INODES

PATIENCE = 20.0  # seconds; it takes a tenth of one
LIMITS = Limits(timeout_seconds=20, memory_mb=64, disk_mb=16, cpu_shares=1024)
HOG = f"taken = b'x' * {2 * LIMITS.memory_mb * MEBIBYTE}"
SAID_MAX = 64 * 1024  # bytes; it prints three thousand
OPEN_FILES_MAX = 1024
USER_ID = 1000
ROOT = {"bin", "dev", "etc", "guest", "lib", "lib32", "lib64", "libx32", "proc", "python", "root", "run", "sbin",
        "store", "tmp", "usr", "var", "venv", "work"}  # fmt: skip
DEVICES = {"fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"}
ENVIRONMENT = {"HOME", "LANG", "PATH", "VIRTUAL_ENV"}
MOUNT_KINDS = {"tmpfs box", "tmpfs packages", "tmpfs sandbox", "overlay box", "proc proc"}
REFUSED = {"clone3": "ENOSYS", "socket AF_ALG": "EAFNOSUPPORT"}  # all other calls: EPERM


class Examined(Sandbox, Protocol):
    """What can be told of a sandbox from outside."""

    def processes(self) -> list[Path]:
        """Directories in /proc of what is alive in it, as far as they are known."""
        ...

    def controllers(self) -> set[str]:
        """Whose cgroups bound it."""
        ...


Acquire = Callable[[ExecutionSpec], Awaitable[Examined]]
Verdict = tuple[State, str] | None  # None: as it should be


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is known about a sandbox, from inside, from outside and from its end."""

    inside: dict[str, Any]
    host_uids: set[int]
    controllers: set[str]  # of cgroups that its processes are in
    probe_end: Exited
    hog_end: Exited
    hog_raised: str | None
    processes_max: int
    has_packages: bool = False  # of an environment, whose modules the zygote has imported

    def is_shared(self, kind: str) -> bool:
        """Whether a namespace is the server's."""
        return bool(self.inside["namespaces"][kind] == os.readlink(f"/proc/self/ns/{kind}"))


async def examine(acquire: Acquire, processes_max: int, *, has_packages: bool = False) -> list[Finding]:
    """One finding for each boundary, in their order. Raises `BackendError` where no sandbox can be made at all."""
    return list(judge(await observe(acquire, processes_max, has_packages=has_packages)))


async def observe(acquire: Acquire, processes_max: int, *, has_packages: bool = False) -> Seen:
    """Send the programs through. Raises `BackendError` where they don't come back."""
    source = files("python_executor.guest").joinpath("probe.py").read_text()
    outside: list[tuple[set[int], set[str]]] = []

    def look(sandbox: Examined, output: bytes) -> None:
        if output.endswith(b"\n"):
            outside.append((_host_uids(sandbox), sandbox.controllers()))
            sandbox.kill()

    events = await _run(acquire, probe_spec(source), look)
    hogged = await _run(acquire, probe_spec(HOG), lambda sandbox, output: None)
    if not outside:
        raise BackendError(f"the probe of the sandbox's boundaries failed: {_error(events)}")
    return Seen(
        json.loads(_output(events)),
        *outside[0],
        probe_end=_end(events),
        hog_end=_end(hogged),
        hog_raised=next((event.error_type for event in hogged if isinstance(event, Raised)), None),
        processes_max=processes_max,
        has_packages=has_packages,
    )


def judge(seen: Seen) -> Iterator[Finding]:
    """What the observations mean for each boundary."""
    for boundary in BOUNDARIES:
        state, words = CHECKS[boundary.name](seen) or (State.OK, "")
        yield Finding(boundary, state, words)


async def _run(acquire: Acquire, spec: ExecutionSpec, look: Callable[[Examined, bytes], None]) -> list[Event]:
    """All events of a run; `look` is called at each output with all of it so far."""
    events: list[Event] = []
    said = 0
    sandbox = await acquire(spec)

    def take(event: Event) -> None:
        nonlocal said
        if isinstance(event, Stdout | Stderr):
            said += len(event.data)
            if said > SAID_MAX:  # no probe of ours: an image's Python may be anything
                sandbox.kill()
                return
        events.append(event)
        if isinstance(event, Stdout):
            look(sandbox, _output(events))

    try:
        async with asyncio.timeout(PATIENCE):
            await sandbox.run(spec, take)
    except TimeoutError as error:
        raise BackendError("the probe of the sandbox's boundaries did not come to its end") from error
    finally:
        await sandbox.destroy()
    return events


def probe_spec(code: str = "", *, network: bool = False) -> ExecutionSpec:
    """A program to try a box with; the interpreter is the box's."""
    data = code.encode()
    tree = FileTree((FileEntry("main.py", 0o644, 0, len(data)),), data)
    return ExecutionSpec(tree=tree, entrypoint="main.py", python="", limits=LIMITS, network=network)


def _output(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Stdout))


def _error(events: list[Event]) -> str:
    raised = next((event for event in events if isinstance(event, Raised)), None)
    return f"{raised.error_type} on line {raised.line}" if raised else f"it ended with {_end(events).exit_code}"


def _end(events: list[Event]) -> Exited:
    end = events[-1]
    assert isinstance(end, Exited)  # noqa: S101 - the promise of Sandbox.run
    return end


def _host_uids(sandbox: Examined) -> set[int]:
    """Of its processes but `pause`, which belongs to the box."""
    uids: set[int] = set()
    for process in sandbox.processes():
        fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        if fields["NSpid"].split()[-1] != "1":
            uids.update(int(uid) for uid in fields["Uid"].split())
    return uids


def _missing(*problems: object) -> Verdict:
    """The first problem that there is."""
    words = next((problem for problem in problems if problem), None)
    return (State.MISSING, str(words)) if words else None


def _own_namespace(kind: str) -> Callable[[Seen], Verdict]:
    return lambda seen: _missing(seen.is_shared(kind) and f"code is in the server's own {kind} namespace")


def _user_namespace(seen: Seen) -> Verdict:
    ids, groups = set(seen.inside["ids"]), seen.inside["groups"]
    return _missing(
        seen.is_shared("user") and "code is in the server's own user namespace",
        ids != {USER_ID} and f"code has the ids {sorted(ids)}",
        groups and f"code is in the groups {groups}",
        0 in seen.host_uids and "code runs as root of the machine",
    )


def _host_uid(seen: Seen) -> Verdict:
    own = os.geteuid()
    if own != 0 and own in seen.host_uids:
        groups = f", and in its {len(os.getgroups())} groups" if os.getgroups() else ""
        return State.WEAKER, f"every sandbox runs as the server's own uid, {own}{groups}"
    return _missing(len(seen.host_uids) != 1 and f"its processes have the uids {sorted(seen.host_uids)}")


def _capabilities(seen: Seen) -> Verdict:
    held = [name for name, value in seen.inside["status"].items() if name.startswith("Cap") and int(value, 16)]
    return _missing(held and f"not empty: {', '.join(held)}")


def _seccomp(seen: Seen) -> Verdict:
    calls = seen.inside["calls"].items()
    wrong = [f"{name}: {word}" for name, word in calls if word != REFUSED.get(name, "EPERM")]
    return _missing(seen.inside["status"]["Seccomp"] != "2" and "no filter is on", wrong and ", ".join(wrong))


def _pid_namespace(seen: Seen) -> Verdict:
    return _missing(seen.is_shared("pid") and "code is in the server's own pid namespace")


def _network(seen: Seen) -> Verdict:
    interfaces, reach = seen.inside["interfaces"], seen.inside["reach"]
    return _missing(
        seen.is_shared("net") and "code is in the server's own network namespace",
        interfaces != ["lo"] and f"code has the interfaces {interfaces}",
        reach != "ENETUNREACH" and f"there is a way out: {reach}",
    )


def _host_name(seen: Seen) -> Verdict:
    name = seen.inside["host_name"]
    return _missing(
        seen.is_shared("uts") and "code is in the server's own uts namespace",
        name != "sandbox" and f"code sees the host name {name}",
    )


def _root(seen: Seen) -> Verdict:
    strange = [*sorted(set(seen.inside["root"]) - ROOT), *seen.inside["hidden"], *seen.inside["strays"]]
    return _missing(
        seen.is_shared("mnt") and "code is in the server's own mount namespace",
        strange and f"code sees {', '.join(strange)}",
    )


def _host_paths(seen: Seen) -> Verdict:
    strange = [kind for kind in seen.inside["mount_kinds"] if kind not in MOUNT_KINDS]
    return (State.WEAKER, f"mounts show {strange[0]} and paths there") if strange else None


def _read_only(seen: Seen) -> Verdict:
    writable = seen.inside["writable"]
    return _missing(writable and f"code can write to {', '.join(writable)}")


def _proc(seen: Seen) -> Verdict:
    strangers = [number for number in seen.inside["processes"] if number != 2]
    return _missing(strangers and f"code sees the processes {strangers[:5]}")


def _devices(seen: Seen) -> Verdict:
    strange = sorted(set(seen.inside["devices"]) - DEVICES)
    return _missing(strange and f"code sees {', '.join(strange)} in /dev")


def _descriptors(seen: Seen) -> Verdict:
    fds = seen.inside["descriptors"]
    return _missing(fds != [0, 1, 2, 3] and f"code has the descriptors {fds}")


def _environment(seen: Seen) -> Verdict:
    strange = set(seen.inside["environment"]) - ENVIRONMENT
    if seen.has_packages:
        strange &= set(os.environ)  # the others were set by what is preloaded, as scikit-learn does
    return _missing(bool(strange) and f"code has {len(strange)} variables that are not its own")


def _session(seen: Seen) -> Verdict:
    return _missing(
        not seen.inside["leads_session"] and "code is in the server's session",
        seen.inside["terminal"] == "done" and "code has a controlling terminal",
    )


def _memory(seen: Seen) -> Verdict:
    is_over = seen.hog_end.termination is Termination.MEMORY
    if "memory" in seen.controllers:
        if is_over and seen.inside["priorities"].get("oom score") == "done":
            return State.WEAKER, "code can have others killed first where the machine runs out of memory"
        return _missing(not is_over and "code took twice its limit and was not stopped")
    if is_over or seen.hog_raised == "MemoryError":
        return State.WEAKER, "no cgroup: looked at every 100 ms, and RLIMIT_DATA bounds each process"
    return State.MISSING, "code took twice its limit and was not stopped"


def _processes(seen: Seen) -> Verdict:
    count = seen.inside["threads"]
    if count >= seen.processes_max:
        return State.MISSING, f"code started {count} threads, the limit is {seen.processes_max}"
    return None if "pids" in seen.controllers else (State.WEAKER, "no cgroup: RLIMIT_NPROC in its user namespace")


def _cpu(seen: Seen) -> Verdict:
    taken = [name for name in ("real time", "nice") if seen.inside["priorities"].get(name) == "done"]
    if taken:
        return State.MISSING, f"code can come before everybody else on the processors ({', '.join(taken)})"
    return None if "cpu" in seen.controllers else (State.WEAKER, "no cgroup: it gets what any process gets")


def _usage(seen: Seen) -> Verdict:
    usage = seen.probe_end.usage
    if not usage.cpu_ms:
        return State.MISSING, "no processor time was counted"
    if not usage.memory_peak_bytes:
        return State.WEAKER, "the kernel tells no peak of memory (memory.peak came with 5.19)"
    return None if "memory" in seen.controllers else (State.WEAKER, "no cgroup: what is seen now and then")


def _open_files(seen: Seen) -> Verdict:
    count = seen.inside["open_files"]
    return _missing(
        count >= OPEN_FILES_MAX and f"code opened {count} files, the limit is {OPEN_FILES_MAX}",
        seen.inside["core"] > 1 and "crashes of the code would write core dumps",
    )


def _disk(seen: Seen) -> Verdict:
    size, over, inodes = (seen.inside["disk"][name] for name in ("bytes", "over", "inodes"))
    most = LIMITS.file_system_bytes
    return _missing(
        size > most and f"files may take {size} bytes, the limit is {most}",
        not 0 < inodes <= INODES and f"there may be {inodes} files, the limit is {INODES}",
        over != "ENOSPC" and f"a file larger than the disk was made: {over}",
    )


CHECKS: dict[str, Callable[[Seen], Verdict]] = {
    "user-namespace": _user_namespace,
    "host-uid": _host_uid,
    "capabilities": _capabilities,
    "no-new-privileges": lambda seen: _missing(seen.inside["status"]["NoNewPrivs"] != "1" and "the flag is not set"),
    "seccomp": _seccomp,
    "pid-namespace": _pid_namespace,
    "network-namespace": _network,
    "ipc-namespace": _own_namespace("ipc"),
    "uts-namespace": _host_name,
    "cgroup-namespace": _own_namespace("cgroup"),
    "own-root": _root,
    "host-paths": _host_paths,
    "read-only": _read_only,
    "proc": _proc,
    "devices": _devices,
    "descriptors": _descriptors,
    "environment": _environment,
    "session": _session,
    "memory": _memory,
    "processes": _processes,
    "cpu": _cpu,
    "usage": _usage,
    "open-files": _open_files,
    "disk": _disk,
}
