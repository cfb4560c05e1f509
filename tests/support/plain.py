"""Plain Python, to compare with: an interpreter by itself in a directory of its own, its streams on pipes.

It sees the paths that a sandbox shows (`/work`, `/python`), so nothing of what it says has to be rewritten: `/work` is
the program's directory, `/python` the interpreter's whole prefix, all else the machine's, or an image's. It is an
unprivileged user without any limit, filter or file of ours. Needs root, to mount; everything is in namespaces that end
with it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from python_executor.model.spec import Interpreter

from .engine import Unpacked, tarball

USER_ID = 1000
SECONDS = 60.0
TIMEOUT = 124  # the exit code of a program whose time was over
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net")
PASSWD = "root:x:0:0:root:/root:/usr/sbin/nologin\nsandbox:x:1000:1000:sandbox:/work:/bin/sh\n"
HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"  # an engine brings it
VARIABLES = {"PATH": "/python/bin:/usr/bin:/bin", "HOME": "/work", "LANG": "C.UTF-8"}
IMAGE_VARIABLES = {
    **VARIABLES,
    "HOSTNAME": "sandbox",  # that an engine sets
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
_ENTER = """
set -e
hostname sandbox
ip link set lo up
for it in proc dev/pts dev/shm tmp work; do mkdir -p "$root/$it"; done
mount -t proc proc "$root/proc"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount --bind "$work" "$root/work"
ulimit -n 1024
exec 3>&2 2>/dev/null
(exec setsid chroot --userspec=1000:1000 --groups="$groups" "$root" env -i -C /work "$@" 2>&3 3>&-) || exit $?
"""  # the shell is PID 1 and ends as the program did; without stderr, for it would write "Terminated" there


@dataclass(frozen=True)
class Ending:
    """What can be seen of a program that has ended."""

    stdout: bytes
    stderr: bytes
    exit_code: int  # as a shell sees it


@dataclass(frozen=True)
class PlainPython:
    """One interpreter, and how the root that it sees is made."""

    version: str  # "3.12"
    executable: str  # as the program sees it
    root: Path  # an empty directory, or what an image has
    mounts: str  # shell commands that fill `$root`
    variables: Mapping[str, str]
    groups: str = ""  # beside its own

    def run(
        self,
        work: Path,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Ending:
        """`python ARGV...` in this directory, which gets the files that it makes; 124 where its time was over."""
        seen = {**self.variables, **(variables or {})}
        places = f"root={shlex.quote(str(self.root))} work={shlex.quote(str(work))} groups={self.groups}\n"
        script = f"{places}{self.mounts}{_ENTER}"
        command = ["env", "--default-signal", "unshare", *NAMESPACES, "sh", "-c", script, "plain"]
        command += [*(f"{name}={value}" for name, value in seen.items()), self.executable, *argv]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            stdout, stderr = process.communicate(stdin, timeout=seconds)
            return Ending(stdout, stderr, process.returncode)
        except subprocess.TimeoutExpired:
            process.kill()  # and so all that is in its namespaces
            stdout, stderr = process.communicate()
            return Ending(stdout, stderr, TIMEOUT)
        finally:
            process.kill()
            process.wait()


def plain_interpreter(interpreter: Interpreter, directory: Path) -> PlainPython:
    """An interpreter of this machine, seen as a native sandbox shows it; the directory is to be there as long as it is."""
    root, empty, passwd = directory / "root", directory / "empty", directory / "passwd"
    root.mkdir()
    empty.mkdir()
    passwd.write_text(PASSWD)
    lines = ["mount -t tmpfs -o mode=755 root $root", "mkdir $root/etc $root/dev $root/usr"]
    lines += [_bind(name, f"$root{name}") for name in ("/usr", "/etc", "/dev")]
    for name in ("/bin", "/lib", "/lib64", "/sbin"):
        if os.path.islink(name):
            lines.append(f"ln -s {os.readlink(name)} $root{name}")
        elif os.path.isdir(name):
            lines += [f"mkdir $root{name}", _bind(name, f"$root{name}")]
    lines.append(_bind(passwd, "$root/etc/passwd"))
    if interpreter.prefix != "/usr":
        for place in ("/python", interpreter.prefix):  # where it was built to be: the loader and `sysconfig` look there
            lines += [f"mkdir -p $root{place}", _bind(interpreter.prefix, f"$root{place}")]
        packages = f"$root/python/lib/python{interpreter.minor_version}/site-packages"
        lines.append(_bind(empty, packages))
    return PlainPython(interpreter.minor_version, interpreter.path_in_sandbox, root, "\n".join(lines) + "\n", VARIABLES)


def plain_image(image: Unpacked, version: str, directory: Path) -> PlainPython:
    """The interpreter of an image, in what the image has."""
    root = directory / "root"
    root.mkdir()
    subprocess.run(["tar", "--extract", "--directory", root, "--file", tarball(image)], check=True)
    (root / "etc/hosts").write_text(HOSTS)
    lines = [_bind("/dev", "$root/dev")]
    return PlainPython(version, "/usr/bin/python3", root, "\n".join(lines) + "\n", IMAGE_VARIABLES, str(USER_ID))


def _bind(source: str | Path, target: str) -> str:
    return f"mount --rbind {shlex.quote(str(source))} {target}"
