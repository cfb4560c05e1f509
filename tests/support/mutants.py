"""Copies of the package with boundaries switched off: what the twins of the abuse suite run on, and the mutation check.

The product itself has no such switches. A mutation is a few exact replacements in its source; one whose text is no
longer there fails loudly, so that the list moves with the code.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import python_executor
from python_executor.model.isolation import BY_NAME

Edit = tuple[str, str, str]  # file in the package, text as it stands (once), text without the boundary


@dataclass(frozen=True)
class Mutation:
    """One boundary, or one layer of it, switched off."""

    boundary: (
        str  # the name under which the server's own test at its start finds it missing; "" where that can't see it
    )
    edits: tuple[Edit, ...]


ENTRY, ZYGOTE, BOX, INTAKE = "guest/entry.py", "guest/zygote.py", "guest/box.py", "guest/intake.py"
CONCEAL = "guest/conceal.py"
NATIVE_BOX, PLAN, CGROUPS = "sandboxes/native/box.py", "sandboxes/native/plan.py", "sandboxes/native/cgroups.py"
SECCOMP, NETWORK = "sandboxes/native/seccomp.py", "sandboxes/native/network.py"
SANDBOX, BACKEND, REPORT = "sandboxes/native/sandbox.py", "sandboxes/native/backend.py", "sandboxes/report.py"
NETWORKS, RUNNER, STORE = "guest/networks.py", "guest/runner.py", "guest/store.py"
LIFECYCLE, EXECUTION = "executions/lifecycle.py", "executions/execution.py"

MUTATIONS: dict[str, Mutation] = {
    # --- who the code is
    "nested-user-namespace": Mutation(  # which fills the bounding set anew: below it is nothing to drop
        "",
        ((ENTRY, "        nest_user_namespace(uid, own_proc)\n", ""),
         (ENTRY, "        kernel.drop_bounding_set()\n", "")),
    ),
    "user-namespaces": Mutation(  # neither the box's nor the sandbox's: root of the guard, with all that it may
        "host-uid",
        ((BOX, "    kernel.unshare(kernel.CLONE_NEWUSER)\n", ""),
         (NATIVE_BOX, "        self._identities.map(self._guardian.pid)\n", ""),
         (ENTRY, "            become(uid)\n", "            pass\n"),
         (ENTRY, "        nest_user_namespace(uid, own_proc)\n", ""),
         (ENTRY, "        kernel.drop_capabilities()\n", ""),
         (ENTRY, "        kernel.drop_bounding_set()\n", "")),
    ),
    "own-uid": Mutation(
        "",
        ((ENTRY, "            become(uid)\n", "            pass\n"),
         (ENTRY, "        os.chown(path, uid, uid)\n", ""),
         (ENTRY, "    kernel.unshare(kernel.CLONE_NEWUSER)\n", "    outer = 0\n    kernel.unshare(kernel.CLONE_NEWUSER)\n")),
    ),
    "shared-uid": Mutation("", ((NATIVE_BOX, "uid = self._free_uids.popleft() if", "uid = 1 if"),)),
    "capabilities": Mutation("capabilities", ((ENTRY, "        kernel.drop_capabilities()\n", ""),)),
    "bounding-set": Mutation("capabilities", ((ENTRY, "        kernel.drop_bounding_set()\n", ""),)),
    "no-new-privileges": Mutation(
        "no-new-privileges",
        ((ZYGOTE, "    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)\n", ""),
         (ENTRY, "        kernel.drop_capabilities()\n", ""),
         (ENTRY, "        boundaries.seccomp.install()\n",
          "        boundaries.seccomp.install()\n        kernel.drop_capabilities()\n")),
    ),
    "no-new-privileges-flag": Mutation(  # with "seccomp", which needs the flag; "no-new-privileges" keeps that
        "no-new-privileges", ((ZYGOTE, "    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)\n", ""),)
    ),
    "box-user-namespace": Mutation(  # and no quotas, which would be the machine's
        "",
        ((BOX, "    kernel.unshare(kernel.CLONE_NEWUSER)\n", ""),
         (BOX, '    if plan["has_own_uids"]:\n        bound_kernel_quotas()\n', ""),
         (NATIVE_BOX, "        self._identities.map(self._guardian.pid)\n", "")),
    ),
    # --- what it may ask of the kernel
    "seccomp": Mutation(
        "seccomp",
        ((ENTRY, "        boundaries.seccomp.install()\n", ""), (ZYGOTE, "    seccomp.install()\n", "")),
    ),
    "filter-of-the-sandbox": Mutation("seccomp", ((ENTRY, "        boundaries.seccomp.install()\n", ""),)),
    "clone-flags": Mutation("", ((SECCOMP, '        "clone": no_strangers,\n', '        "clone": ALLOW,\n'),)),
    "socket-families": Mutation("", ((SECCOMP, '        "socket": _sockets(),\n',
                                             '        "socket": ALLOW,\n'),)),
    "terminal-takeover": Mutation("", ((SECCOMP, '        "ioctl": known_requests,\n', '        "ioctl": ALLOW,\n'),)),
    "socket-options": Mutation("", ((SECCOMP, '        "setsockopt": _socket_options(),\n', '        "setsockopt": ALLOW,\n'),)),
    "own-filters": Mutation("", ((SECCOMP, '        "seccomp": _fail(errno.EINVAL),\n', '        "seccomp": ALLOW,\n'),)),
    "page-cache": Mutation("", ((SECCOMP, '        "fadvise64": SUCCEED,', '        "fadvise64": ALLOW,'),)),
    "personality": Mutation("", ((SECCOMP, '        "personality": _allow_only(0, _PERSONALITIES) + DENY,\n',
                                  '        "personality": ALLOW,\n'),)),
    "architecture": Mutation("", ((SECCOMP, "_instruction(0x15, _AUDIT_ARCH[machine], 1, 0) + DENY",
                                   "_instruction(0x15, _AUDIT_ARCH[machine], 1, 0) + ALLOW"),)),
    "default-deny": Mutation("seccomp", ((SECCOMP, "ALLOW if name in ALLOWED else DENY", "ALLOW"),)),
    # --- what it can see
    "pid-namespace": Mutation("proc", ((ZYGOTE, "            kernel.unshare(kernel.CLONE_NEWPID)\n", ""),)),
    "processes-of-the-host": Mutation(
        "pid-namespace",
        ((ZYGOTE, "            kernel.unshare(kernel.CLONE_NEWPID)\n", ""),
         (BOX, "    kernel.unshare(kernel.CLONE_NEWPID)\n", "")),
    ),
    "host-files": Mutation(
        "own-root",
        ((PLAN, "            *((device, device) for device in _DEVICES),\n",
          "            *((device, device) for device in _DEVICES), *((path, path) for path in "
          '("/etc/passwd", "/etc/shadow", "/etc/machine-id", "/root", "/home", "/boot", "/srv", "/opt", "/sys", '
          '"/usr/local") if os.path.exists(path)),\n'),),
    ),
    "host-paths": Mutation("", ((BOX, "        overlay(source, target)\n", "        raise OSError\n"),)),
    "old-root": Mutation("", ((BOX, '    kernel.umount_detach(".")\n', ""),)),
    "nosuid": Mutation("", ((BOX, "    attributes = kernel.MOUNT_ATTR_NOSUID | (", "    attributes = 0 | ("),)),
    "own-file-systems": Mutation(  # /work stays its own: what an earlier one left there would stop the next
        "",
        ((BOX, '    if plan["ldconfig"]:\n',
          '    kernel.mount("sandbox", ROOT + "/root", "tmpfs", 0, "mode=0777")\n    if plan["ldconfig"]:\n'),
         (ENTRY, "    hidden = kernel.MS_NOSUID | kernel.MS_NOEXEC\n",
          '    kernel.mount("/root", "/tmp", None, kernel.MS_BIND)\n'
          '    kernel.mount("/root", "/dev/shm", None, kernel.MS_BIND)\n'
          "    hidden = kernel.MS_NOSUID | kernel.MS_NOEXEC\n")),
    ),
    "shared-terminals": Mutation(
        "",
        ((BOX, '    if plan["ldconfig"]:\n',
          '    kernel.mount("devpts", ROOT + "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=666")\n'
          '    if plan["ldconfig"]:\n'),
         (ENTRY, '    kernel.mount("devpts", "/dev/pts", "devpts", hidden, "newinstance,ptmxmode=0666,mode=620,max=64")\n', "")),
    ),
    "reseeding": Mutation("", ((ZYGOTE, "                modules[name].seed()\n", "                pass\n"),)),
    "ipc-namespace": Mutation("", ((ENTRY, " | kernel.CLONE_NEWIPC", ""),)),
    "ipc-of-the-host": Mutation(
        "ipc-namespace",
        ((ENTRY, " | kernel.CLONE_NEWIPC", ""),
         (BOX, " | kernel.CLONE_NEWIPC", "")),
    ),
    "uts-namespace": Mutation(
        "uts-namespace",
        ((ENTRY, " | kernel.CLONE_NEWUTS", ""),
         (BOX, " | kernel.CLONE_NEWUTS", ""),
         (BOX, '    kernel.sethostname(plan["hostname"])\n', "")),
    ),
    "cgroup-namespace": Mutation(
        "cgroup-namespace", ((ENTRY, " | kernel.CLONE_NEWCGROUP", ""),)
    ),
    "network-namespace": Mutation(
        "", ((NETWORKS, "        kernel.unshare(kernel.CLONE_NEWNET)\n", ""),)
    ),
    "network-of-the-host": Mutation(
        "network-namespace",
        ((NETWORKS, "        kernel.unshare(kernel.CLONE_NEWNET)\n        raise_loopback()\n", ""),
         (NETWORKS, "kernel.setns(self.own, kernel.CLONE_NEWNET)", "pass"),
         (NETWORKS, "SPARES_MAX = 16", "SPARES_MAX = 0"),
         (BOX, " | kernel.CLONE_NEWNET", "")),
    ),
    "untouched-network": Mutation(
        "", ((NETWORKS, "is_untouched = traces() == self.untouched", "is_untouched = True"),)
    ),
    "exposed-network": Mutation(
        "",
        ((ZYGOTE, "network = self.lent.pop(sandbox)", "network = self.lent[sandbox]"),
         (ZYGOTE, "            finally:\n                os.close(network)\n", "            finally:\n                pass\n")),
    ),
    "quiet-sockets": Mutation("", ((NETWORKS, "        self.keep_little()\n", ""),)),
    "socket-watch": Mutation("", ((SANDBOX, "        self._check_sockets()\n", ""),)),
    "lock-watch": Mutation("", ((BACKEND, "FILE_LOCKS_MAX = 1 << 16", "FILE_LOCKS_MAX = 1 << 40"),)),
    "read-only-proc": Mutation("", ((ENTRY, "kernel.MS_NODEV | kernel.MS_RDONLY\n", "kernel.MS_NODEV\n"),)),
    "hidden-store": Mutation("read-only", ((STORE, "        kernel.umount_detach(STORE)\n", ""),)),
    "read-only-store": Mutation("", ((STORE, " | kernel.MOUNT_ATTR_RDONLY", ""),)),
    "cgroup-counters": Mutation("", ((CGROUPS, "            self._cpu_before = self._cpu_nanoseconds()\n", ""),)),
    "mount-namespace": Mutation("", ((ENTRY, "kernel.CLONE_NEWNS | ", ""),)),
    "proc-options": Mutation("own-root", ((ENTRY, '"subset=pid,hidepid=ptraceable"', '""'),)),
    "own-root": Mutation("own-root", ((PLAN, '("/usr/bin", "/usr/lib"', '("/home", "/usr/local", "/usr/bin", "/usr/lib"'),)),
    "read-only": Mutation(
        "read-only", ((BOX, "attributes | kernel.MOUNT_ATTR_RDONLY, recursive=True", "attributes, recursive=True"),)
    ),
    "read-only-root": Mutation(
        "read-only", ((BOX, '    kernel.mount_setattr("/", kernel.MOUNT_ATTR_RDONLY, recursive=False)\n', ""),)
    ),
    "devices": Mutation("devices", ((PLAN, '_DEVICES = ("/dev/null",', '_DEVICES = ("/dev/tty", "/dev/null",'),)),
    "own-terminals": Mutation("", ((ENTRY, '"newinstance,ptmxmode=0666,mode=620,max=64"', '"ptmxmode=0666,mode=620"'),)),
    "hidden-packages": Mutation("", ((PLAN, "        hidden=hidden,\n", "        hidden=(),\n"),)),
    "descriptors": Mutation("descriptors", ((ENTRY, "    kernel.close_from(REPORT_FD + 3)\n", ""),)),
    "control-socket": Mutation("descriptors", ((INTAKE, "    control.close()\n", ""),)),
    "frames": Mutation(
        "", ((ZYGOTE, "                return Job(uid, file_system, fds)", "                entry.enter(self.boundaries, uid, file_system, fds, None)"),
             (CONCEAL, "        if not self._address:\n            return Nowhere()\n", "        return Nowhere()\n"))
    ),
    "memory-merging": Mutation("", ((SECCOMP, '        "madvise": _refuse(2, _MADV_MERGEABLE),\n        "prctl": _refuse(0, _PR_SET_MEMORY_MERGE, _PR_SET_SECCOMP),\n',
                                     '        "madvise": ALLOW,\n        "prctl": ALLOW,\n'),)),
    "environment": Mutation(
        "environment",
        ((BOX, 'plan["argv"], plan["env"])', 'plan["argv"], {**os.environ, **plan["env"]})'),
         (NATIVE_BOX, 'stdin=subprocess.DEVNULL, env={}, cwd="/"', 'stdin=subprocess.DEVNULL, cwd="/"')),
    ),
    "session": Mutation("session", ((ENTRY, "        os.setsid()\n", ""),)),
    # --- what it may take
    "memory": Mutation("memory", ((CGROUPS, "        wanted = (memory_bytes,", "        memory_bytes = 1 << 40\n        wanted = (memory_bytes,"),)),
    "pids-cgroup": Mutation("", ((CGROUPS, '        self._write("pids", "pids.max", processes)\n', ""),)),
    "rlimit-nproc": Mutation("", ((ENTRY, "        resource.setrlimit(resource.RLIMIT_NPROC, (boundaries.processes, boundaries.processes))\n", ""),)),
    "processes": Mutation(
        "processes",
        ((CGROUPS, '        self._write("pids", "pids.max", processes)\n', ""),
         (ENTRY, "        resource.setrlimit(resource.RLIMIT_NPROC, (boundaries.processes, boundaries.processes))\n", "")),
    ),
    "cgroup": Mutation("memory", ((ENTRY, "        join_cgroups(cgroups)\n", ""),)),
    "open-files": Mutation("open-files", ((ENTRY, "        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))\n", ""),)),
    "disk": Mutation(
        "disk",
        ((ENTRY, '"size": str(size), ', ""),
         (ZYGOTE, '            kernel.reconfigure(self.file_systems[sandbox], {"size": str(size)})\n', "")),
    ),
    "inodes": Mutation("disk", ((ENTRY, '"nr_inodes": str(self.inodes)', '"nr_inodes": "0"'),)),
    "core-dumps": Mutation("open-files", ((NATIVE_BOX, '    "RLIMIT_CORE": 1,', '    "RLIMIT_CORE": 1 << 40,'),)),
    # Locked memory has no line: most machines give an account 8 MiB, which is what a sandbox has.
    "message-queues": Mutation("", ((NATIVE_BOX, '    "RLIMIT_MSGQUEUE": 128 << 10,', '    "RLIMIT_MSGQUEUE": 1 << 40,'),)),
    "signal-queue": Mutation("", ((NATIVE_BOX, '    "RLIMIT_SIGPENDING": 1024,', '    "RLIMIT_SIGPENDING": 1 << 30,'),)),
    "terminals": Mutation("", ((ENTRY, ',max=64"', '"'),)),
    "inotify": Mutation("", ((BOX, '(("max_inotify_instances", 16), ("max_inotify_watches", 4096))', "()"),)),
    "output-cap": Mutation("", ((EXECUTION, "        self._room = limit\n", "        self._room = 1 << 40\n"),)),
    # --- how it ends, and what it may say of that
    "wall-clock": Mutation("", ((LIFECYCLE, "call_later(limits.timeout_seconds, lambda", "call_later(limits.timeout_seconds + 2, lambda"),)),
    "kill-at-the-end": Mutation(  # half a second later, and what it did until then is read
        "",
        ((SANDBOX, "            self._stop_listening()\n            self._kill()\n",
          "            self._stop_listening()\n            await asyncio.sleep(0.5)\n"),),
    ),
    "exit-status": Mutation("", ((SANDBOX, "        code = os.waitstatus_to_exitcode(self._status)\n", "        code = 0\n"),)),
    "memory-verdict": Mutation(
        "",
        ((SANDBOX, "        if self._over_memory or verdict is Termination.MEMORY:\n", "        if False:\n"),
         (BACKEND, "        sandbox.check_memory(usage)", "        pass")),
    ),
    "first-decision": Mutation("", ((EXECUTION, "        if self.is_decided:\n            return False\n        self._ending", "        self._ending"),)),
    "report-checks": Mutation(
        "", ((REPORT, "if kind not in _LONGEST or not _SHORTEST[kind] <= length <= _LONGEST[kind] or is_second:", "if False:"),)
    ),
    "result-cut": Mutation("", ((RUNNER, "+ data[: frames.RESULT_MAX]", "+ data"),)),
    "name-cut": Mutation("", ((RUNNER, '"replace")[: frames.NAME_MAX]', '"replace")'),)),
    "reporters-pid": Mutation("", ((RUNNER, "    if _getpid() == own_pid:", "    if True:"),)),
    "kept-functions": Mutation("", ((RUNNER, "data[_write(report, data) :]", "data[os.write(report, data) :]"),)),
    # --- where it may send to
    "egress-filter": Mutation("", ((NETWORK, "                await self._load_filter(user, net)\n", ""),)),
    "own-addresses": Mutation("", ((NETWORK, "ruleset(self._network.policy, own_addresses())", "ruleset(self._network.policy, [])"),)),
}  # fmt: skip


EVERYTHING = ",".join(BY_NAME)  # what a mutant must be allowed to lack, as `--insecure-allow` takes it


def make_mutant(directory: Path, names: Iterable[str]) -> Path:
    """A copy of the package below `directory`, to be put first on PYTHONPATH."""
    package = directory / "python_executor"
    shutil.copytree(Path(python_executor.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in dict.fromkeys(edit for name in names for edit in MUTATIONS[name].edits):
        path = package / file
        text = path.read_text()
        if old == new or text.count(old) != 1:
            raise AssertionError(f"{', '.join(names)}: {file} has {text.count(old)} times {old!r}")
        path.write_text(text.replace(old, new))
    return directory
