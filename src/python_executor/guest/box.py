"""Makes a box and becomes its zygote. Run by the server as `python -ISB box.py CONTROL_FD SERVER_PID`.

    server ── this process ──── fork ───▶ PID 1 of the box: builds the root, enters it, executes zygote.py
                    └─ executes `pause`: the guardian

The guardian does nothing but be the parent. It dies with the server (parent-death signal), the zygote dies with the
guardian (likewise), and as PID 1 it takes every sandbox with it: no code of ours has to run for that. The zygote also
ends when its control socket closes. The server gets its pidfd, to see it gone.

The plan comes over the control socket as JSON. The user namespace comes first, so that everything after it needs no
privilege on the host; the server writes its mapping, since only it may use the machine's range of unprivileged uids.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import base64
import json
import resource
import signal
import socket
import subprocess
from typing import Any

import kernel

ROOT = "/tmp"  # any directory of the host's: our mount over it is seen by nobody else


def main() -> None:
    """Become the zygote of a new box, or say why not and exit."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        make_box(control, server_pid=int(sys.argv[2]))
    except OSError as error:
        where = f" on {error.filename}" if error.filename else ""
        control.send(f"{error.strerror}{where}".encode())
        os._exit(1)


def make_box(control: socket.socket, server_pid: int) -> None:
    """The steps in order: each needs the one before."""
    die_with_parent()
    if os.getppid() != server_pid:
        os._exit(1)
    plan = receive_plan(control)
    os.setsid()
    forget_ignored_signals()
    make_first_choice_of_oom_killer(plan["oom_score_adj"])
    lift_account_limits()
    kernel.unshare(kernel.CLONE_NEWUSER)
    control.send(b"map")
    control.recv(1)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET)
    kernel.unshare(kernel.CLONE_NEWPID)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    sources = [Source(path) for path, _ in plan["binds"] + plan["kept"]]  # while we may look there
    become_root_of_box(has_own_uids=plan["has_own_uids"])
    if plan["has_own_uids"]:
        bound_kernel_quotas()
    zygote = os.fork()
    if zygote != 0:
        socket.send_fds(control, [b"forked"], [os.pidfd_open(zygote)])
        become_guardian(control, base64.b64decode(plan["pause"]))
    die_with_parent()
    build_root(plan, sources)
    network_settings = open_network_settings()
    mount_proc()
    enter_root()
    kernel.sethostname(plan["hostname"])
    control.set_inheritable(False)
    os.dup2(control.fileno(), 3)
    os.dup2(network_settings, 4)
    give_pipes_as_streams(log=5)
    os.execve(plan["argv"][0], plan["argv"], plan["env"])


def give_pipes_as_streams(log: int) -> None:
    """Pipes as 0, 1 and 2, what was 2 as `log`: what the interpreter finds there at its start, each sandbox's believe.

    They ask once whether there is a position to seek, and never again.
    """
    os.dup2(2, log)
    read_end, write_end = os.pipe()
    for target, end in enumerate((read_end, write_end, write_end)):
        os.dup2(end, target)


def receive_plan(control: socket.socket) -> dict[str, Any]:
    """The plan, as long as its own first eight bytes say; it comes from the server, which is trusted."""
    length = int.from_bytes(control.recv(8), "big")
    data = b""
    while len(data) < length:
        chunk = control.recv(1 << 16)
        if not chunk:
            os._exit(1)
        data += chunk
    plan: dict[str, Any] = json.loads(data)
    return plan


def die_with_parent() -> None:
    """Changed credentials clear this, so it is said again after each change."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def forget_ignored_signals() -> None:
    """Whoever started the server may ignore or block some (`nohup`, a shell's `&`); code is to find them as usual."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)


def lift_account_limits() -> None:
    """What the account may have of these is what all sandboxes of the box may have together; each has its own limit."""
    for number in (resource.RLIMIT_MSGQUEUE, resource.RLIMIT_SIGPENDING):
        try:
            resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except ValueError:
            pass  # without CAP_SYS_RESOURCE


def make_first_choice_of_oom_killer(score: int) -> None:
    """Everything in the box goes before the server does; with privilege, nothing inside can take it back."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(score))


def become_root_of_box(*, has_own_uids: bool) -> None:
    """Take the ids that the box calls 0; where there is just our own uid, we have them already."""
    if has_own_uids:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        die_with_parent()


def bound_kernel_quotas() -> None:
    """What the kernel counts for a user and, since root made this namespace, for the host's root as well."""
    for name, value in (("max_inotify_instances", 16), ("max_inotify_watches", 4096)):
        try:
            with open("/proc/sys/user/" + name, "w") as file:
                file.write(str(value))
        except OSError:
            pass  # a kernel without them: a quota less, not a boundary


def become_guardian(control: socket.socket, pause: bytes) -> None:
    """Stay as the parent that the box dies with, at the cost of 12 KiB."""
    program = os.memfd_create("guardian")
    os.write(program, pause)
    control.close()
    os.execve(program, ["python-executor-guardian"], {})


class Source:
    """A file or directory of the host's, held by descriptors."""

    def __init__(self, path: str) -> None:
        path = os.path.realpath(path)  # a link's directory is not the file's
        self.name = os.path.basename(path)
        self.fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self.is_directory = os.path.isdir(self.origin)
        self.directory = self.fd if self.is_directory else os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)

    @property
    def origin(self) -> str:
        """A path to it that needs no right to look at its parents."""
        return f"/proc/self/fd/{self.fd}"


def build_root(plan: dict[str, Any], sources: list[Source]) -> None:
    """Carry out the plan: an empty tmpfs, then directories, files, links and read-only binds."""
    kernel.mount("box", ROOT, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=16m")
    for path in plan["directories"]:
        os.makedirs(ROOT + path, 0o755, exist_ok=True)
    for path, text in plan["files"].items():
        write_file(ROOT + path, text.encode(), 0o644)
    for path, data in plan["programs"].items():
        write_file(ROOT + path, base64.b64decode(data), 0o755)
    for target, path in plan["symlinks"]:
        os.makedirs(os.path.dirname(ROOT + path), exist_ok=True)
        os.symlink(target, ROOT + path)
    for source, (_, target) in zip(sources, plan["binds"]):
        show(source, ROOT + target, is_device=target.startswith("/dev/"))
    for path in plan["hidden"]:
        hide(ROOT + path, plan["packages"])
    kernel.mount("store", ROOT + "/store", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
    for source, (_, target) in zip(sources[len(plan["binds"]) :], plan["kept"]):
        keep(source, ROOT + target)
    if plan["ldconfig"]:
        subprocess.run([plan["ldconfig"], "-X", "-r", ROOT], check=True, stdin=subprocess.DEVNULL, env={})


def open_network_settings() -> int:
    """The kernel's settings of network namespaces, for the zygote alone: no /proc that it or a sandbox sees has them.

    Whoever opens one of them there gets that of the namespace it is in. Where they can't be had: an empty directory.
    """
    try:
        kernel.mount("proc", ROOT + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    except OSError:
        return os.open(ROOT + "/run", os.O_PATH)
    try:
        return os.open(ROOT + "/proc/sys/net", os.O_PATH)
    finally:
        kernel.umount_detach(ROOT + "/proc")


def mount_proc() -> None:
    """Processes, and nothing of the kernel's."""
    kernel.mount("proc", ROOT + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, "subset=pid")


def write_file(path: str, data: bytes, mode: int) -> None:
    """A file of the box's own."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def show(source: Source, target: str, *, is_device: bool) -> None:
    """Show a file or directory of the host, read-only; but for devices, through an overlay that tells no path of it."""
    if source.is_directory:
        os.makedirs(target, exist_ok=True)
    else:
        write_file(target, b"", 0o644)
    if is_device or not has_overlaid(source, target):  # an older kernel, or overlays upon overlays: the probe tells
        kernel.mount(source.origin, target, None, kernel.MS_BIND | kernel.MS_REC)
    attributes = kernel.MOUNT_ATTR_NOSUID | (kernel.MOUNT_ATTR_NOEXEC if is_device else kernel.MOUNT_ATTR_NODEV)
    kernel.mount_setattr(target, attributes | kernel.MOUNT_ATTR_RDONLY, recursive=True)


def keep(source: Source, target: str) -> None:
    """Something of the host's for the store, where no sandbox sees it; a directory as it is, since it will change."""
    if not source.is_directory:
        show(source, target, is_device=False)
        return
    os.makedirs(target)
    kernel.mount(source.origin, target, None, kernel.MS_BIND)
    attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_RDONLY
    kernel.mount_setattr(target, attributes, recursive=True)


def has_overlaid(source: Source, target: str) -> bool:
    """Whether `overlay()` could be done here."""
    try:
        overlay(source, target)
    except OSError:
        return False
    return True


def overlay(source: Source, target: str) -> None:
    """An overlay of the source, named relative to where we stand: what /proc/self/mountinfo shows of it is the box's.

    Of a file, its directory is overlaid where nobody will see it.
    """
    place = target if source.is_directory else ROOT + "/run"
    os.fchdir(source.directory)
    try:
        kernel.mount("box", place, "overlay", kernel.MS_RDONLY, f"lowerdir=.:{ROOT}/run")  # two at least; /run is empty
    finally:
        os.chdir("/")
    if not source.is_directory:
        try:
            kernel.mount(f"{place}/{source.name}", target, None, kernel.MS_BIND)
        finally:
            kernel.umount_detach(place)


def hide(target: str, packages: dict[str, str]) -> None:
    """Hide a directory of packages below one of ours."""
    kernel.mount("packages", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=64k")
    for name, text in packages.items():
        write_file(f"{target}/{name}", text.encode(), 0o644)
    kernel.mount_setattr(target, kernel.MOUNT_ATTR_RDONLY, recursive=False)


def enter_root() -> None:
    """Swap the host's root for ours and let go of it."""
    os.chdir(ROOT)
    kernel.pivot_root(".", ".")
    kernel.umount_detach(".")
    os.chdir("/")
    kernel.mount_setattr("/", kernel.MOUNT_ATTR_RDONLY, recursive=False)


if __name__ == "__main__":
    main()
