"""From a fork of the zygote to a sandbox: one flat list of steps, whose order is the security argument.

Here the process still has the box's capabilities, so nothing of a request has been read yet: what arrives before the
last step comes from the server alone. After the last step it has none, and may learn what to run.
"""

from __future__ import annotations

import os
import resource
import socket
from typing import TYPE_CHECKING, List, NamedTuple, Tuple

import frames
import intake
import kernel

if TYPE_CHECKING:
    from ahead import Ahead

REPORT_FD = 3
OPEN_FILES = 1024
USER_ID = 1000  # how the code sees itself; what it is on the host differs for each sandbox


class Boundaries(NamedTuple):
    """What is the same for all sandboxes of a box."""

    inodes: int
    processes: int
    seccomp: kernel.SeccompProgram  # what the zygote's own still lets pass

    def tmpfs_options(self, size: int) -> dict[str, str]:
        """Options of the one file system that all writable directories of a sandbox are in."""
        return {"source": "sandbox", "size": str(size), "nr_inodes": str(self.inodes), "mode": "0755"}


def enter(boundaries: Boundaries, uid: int, file_system: int, fds: List[int], imported: Ahead) -> None:
    """Become the user process of a sandbox, then run what the server sends. Does not return."""
    stdout, stderr, report, control, *cgroups = fds
    try:
        join_cgroups(cgroups)
        os.setsid()
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP)
        own_proc = os.open("/proc", os.O_PATH)  # the box's, which can be written to
        mount_file_systems(file_system, uid)
        control, own_proc = arrange_descriptors(stdout, stderr, report, control, own_proc)
        if uid != 0:  # 0: the box has one uid, the server's own; then the nested namespace is what takes capabilities
            become(uid)
        nest_user_namespace(uid, own_proc)
        kernel.drop_bounding_set()
        kernel.drop_capabilities()
        resource.setrlimit(resource.RLIMIT_NPROC, (boundaries.processes, boundaries.processes))
        files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # nobody can give more than they have
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        boundaries.seccomp.install()
    except (OSError, ValueError) as error:  # ValueError: a limit above its maximum
        os.write(control, frames.FAILED + str(error).encode())
        os._exit(125)
    os.write(control, frames.READY)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, control)
    intake.serve(intake.Control(server), REPORT_FD, imported)


def join_cgroups(files: List[int]) -> None:
    """Move this process, through files that the server opened: "0" is whoever writes."""
    for file in files:
        os.write(file, b"0")


def mount_file_systems(file_system: int, uid: int) -> None:
    """One tmpfs behind /work, /tmp and /dev/shm, hidden by the last of them; a /proc and terminals of our own.

    Nothing can be written to that /proc: without CAP_SYS_RESOURCE it is the only thing between code and its OOM score.
    """
    kernel.move_mount(file_system, "/dev/shm")
    os.umask(0)
    for name, target, mode in (("work", "/work", 0o755), ("tmp", "/tmp", 0o1777), ("shm", "/dev/shm", 0o1777)):
        path = "/dev/shm/" + name
        os.mkdir(path, mode)
        os.chown(path, uid, uid)
        kernel.mount(path, target, None, kernel.MS_BIND)
    os.umask(0o022)
    hidden = kernel.MS_NOSUID | kernel.MS_NOEXEC
    proc = hidden | kernel.MS_NODEV | kernel.MS_RDONLY
    kernel.mount("proc", "/proc", "proc", proc, "subset=pid,hidepid=ptraceable")
    kernel.mount("devpts", "/dev/pts", "devpts", hidden, "newinstance,ptmxmode=0666,mode=620,max=64")


def arrange_descriptors(stdout: int, stderr: int, report: int, control: int, own_proc: int) -> Tuple[int, int]:
    """0, 1, 2, the report pipe; and for a while the control socket and the box's /proc."""
    high = [os.dup(fd) for fd in (stdout, stderr, report, control, own_proc)]
    for target, fd in zip((1, 2), high):
        os.dup2(fd, target)
    os.dup2(high[2], REPORT_FD, inheritable=False)
    os.dup2(high[3], REPORT_FD + 1, inheritable=False)
    os.dup2(high[4], REPORT_FD + 2, inheritable=False)
    kernel.close_from(REPORT_FD + 3)
    return REPORT_FD + 1, REPORT_FD + 2


def become(uid: int) -> None:
    """Take a uid that no other sandbox has; the capabilities go with the box's root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def nest_user_namespace(outer: int, own_proc: int) -> None:
    """Own nothing: mounts, network and processes belong to the box's user namespace, this process to one below it."""
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("gid_map", f"{USER_ID} {outer} 1"), ("uid_map", f"{USER_ID} {outer} 1")):
        file = os.open("self/" + name, os.O_WRONLY, dir_fd=own_proc)  # open() would touch ten times the pages
        os.write(file, text.encode())
        os.close(file)
    os.close(own_proc)
