"""What a box is made of, as data: computed here without privilege, carried out by guest/box.py.

The root holds only what Python needs. Of the host it shows, read-only, `/usr/bin`, `/usr/lib` and their like, headers,
zone data, fonts, Tcl's library, the certificates of authorities and the interpreter; never `/usr/local`, `/home`,
anything else of the host's `/etc` or any file that is somebody's own. Of an interpreter from elsewhere its binary, its
libraries and its headers appear below `/python`, nothing else of its prefix. Packages installed into an interpreter are
hidden: they are the operator's.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ...model.egress import OWN_RESOLVER
from ...model.environment import PIP_NAMES, PIP_PROGRAM, Environment
from ...model.spec import Interpreter
from . import pause

GUEST_DIRECTORY = "/guest"
PYTHON_PREFIX = "/python"
PAUSE_PATH = "/guest/pause"
STORE = "/store"
UV = "uv"  # in the store, the directory that holds the program
VENV = "/venv"
_GUEST_FILES = (
    "ahead.py",
    "conceal.py",
    "ending.py",
    "entry.py",
    "environment.py",
    "frames.py",
    "intake.py",
    "kernel.py",
    "networks.py",
    "runner.py",
    "sharing.py",
    "source.py",
    "store.py",
    "streams.py",
    "zygote.py",
)
_SYSTEM_DIRECTORIES = (
    "/usr/bin",
    "/usr/include",  # compilers are below /usr/bin
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/share/fonts",
    "/usr/share/tcl8.6",
    "/usr/share/tcltk",  # Debian has both of them here
    "/usr/share/tk8.6",
    "/usr/share/zoneinfo",
)
_SYSTEM_LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32")  # directories of their own on an unmerged system
_CERTIFICATES = (  # of authorities, where distributions keep them; private keys are beside them, and stay there
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/usr/share/ca-certificates",
    "/etc/ca-certificates/extracted",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/var/lib/ca-certificates",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_MOUNT_POINTS = ("/dev/pts", "/dev/shm", "/proc", "/root", "/run", "/store", "/tmp", "/var/tmp", "/venv", "/work")  # noqa: S108
_DEVICE_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
_ETC = {
    "/etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "sandbox:x:1000:1000:sandbox:/work:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/hostname": "sandbox\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "/etc/services": "ftp 21/tcp\nssh 22/tcp\ntelnet 23/tcp\nsmtp 25/tcp mail\ndomain 53/tcp\ndomain 53/udp\n"
    "http 80/tcp www\npop3 110/tcp\nntp 123/udp\nimap2 143/tcp imap\nhttps 443/tcp\nhttps 443/udp\nimaps 993/tcp\n"
    "pop3s 995/tcp\n",
    "/etc/protocols": "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\nipv6-icmp 58 IPv6-ICMP\n",
    "/etc/fonts/fonts.conf": '<fontconfig><dir>/usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir>'
    '<match><edit name="family" mode="append_last"><string>sans-serif</string></edit></match>'
    + "".join(
        f"<alias><family>{family}</family><prefer><family>DejaVu {name}</family></prefer></alias>"
        for family, name in (("sans-serif", "Sans"), ("serif", "Serif"), ("monospace", "Sans Mono"))
    )
    + "</fontconfig>\n",
    "/etc/ssl/openssl.cnf": "[req]\ndistinguished_name = req_distinguished_name\n[req_distinguished_name]\n",
}
_TCL = ("tcl[89].[0-9]", "tk[89].[0-9]")  # beside libraries of the interpreter's own
_PIP = {f"{PYTHON_PREFIX}/bin/{name}": f"#!{PYTHON_PREFIX}/bin/python\n{PIP_PROGRAM}".encode() for name in PIP_NAMES}
_LDCONFIG = "/sbin/ldconfig"
_FOR_THE_ZYGOTE = {"LD_BIND_NOW": "1"}  # it takes that back; else each fork would look up every function it calls anew


@dataclass(frozen=True, slots=True)
class PackageStore:
    """What sandboxes may be shown at /venv: the environments below a directory, and the program that makes them."""

    environments: str | None = None  # directory on the host
    uv: str | None = None  # program on the host

    def kept(self) -> tuple[tuple[str, str], ...]:
        """Binds of it, for `BoxPlan.kept`."""
        directory = ((self.environments, f"{STORE}/environments"),) if self.environments else ()
        return (*directory, *(((self.uv, f"{STORE}/{UV}/uv"),) if self.uv else ()))

    def shown(self, environment: Environment | None) -> tuple[tuple[str, str], ...]:
        """The binds that every sandbox sees of it."""
        return ((f"{self.environments}/{environment.key}/venv", VENV),) if environment else ()

    def identity(self, environment: Environment) -> tuple[int, int]:
        """What tells the directory of an environment from one that is made at its place later; OSError."""
        found = os.stat(f"{self.environments}/{environment.key}/venv")
        return found.st_dev, found.st_ino


NO_STORE = PackageStore()


def place_of(environment: Environment) -> str:
    """Where it is in the store."""
    return f"environments/{environment.key}/venv"


@dataclass(frozen=True, slots=True)
class BoxPlan:
    """Everything that guest/box.py carries out, in its order."""

    argv: tuple[str, ...]
    env: dict[str, str]
    binds: tuple[tuple[str, str], ...]  # source on the host, target in the box
    symlinks: tuple[tuple[str, str], ...]  # target, path
    files: dict[str, str]
    kept: tuple[tuple[str, str], ...]  # as binds, where only the zygote looks
    hidden: tuple[str, ...]  # directories of packages that one with `packages` is mounted over
    ldconfig: str | None  # program that makes the loader's cache: for a libpython of the interpreter's own, and ctypes
    has_own_uids: bool  # the box's uids are a range of the host's, not just the server's own
    oom_score_adj: int
    directories: tuple[str, ...] = _MOUNT_POINTS
    hostname: str = "sandbox"
    programs: dict[str, bytes] = field(default_factory=lambda: {PAUSE_PATH: pause.program(), **_PIP})
    packages: dict[str, str] = field(default_factory=lambda: {"pip.py": _guest_file("pip.py")})

    def message(self) -> dict[str, Any]:
        """As JSON for guest/box.py."""
        data = {name: getattr(self, name) for name in self.__slots__}
        data["programs"] = {path: b64encode(code).decode() for path, code in self.programs.items()}
        data["pause"] = b64encode(pause.program()).decode()
        return data

    def describe(self) -> list[str]:
        """One line for each thing of the host's that the code can see."""
        return [f"{target} shows {source}, read-only" for source, target in self.binds]


def plan_box(
    interpreter: Interpreter,
    *,
    store: PackageStore = NO_STORE,
    environment: Environment | None = None,
    has_own_uids: bool,
    oom_score_adj: int,
    nameservers: Iterable[IPv4Address] = (OWN_RESOLVER,),
) -> BoxPlan:
    """The box for one interpreter, and perhaps one environment of the store that all its sandboxes have."""
    python, binds, hidden = _interpreter(interpreter)
    system_binds, links = _system()
    names = [(python, f"{PYTHON_PREFIX}/bin/{name}") for name in ("python", "python3")]
    return BoxPlan(
        argv=(python, "-u", f"{GUEST_DIRECTORY}/zygote.py"),
        env={"PATH": f"{PYTHON_PREFIX}/bin:/usr/bin:/bin", "HOME": "/work", "LANG": "C.UTF-8", **_FOR_THE_ZYGOTE},
        binds=(
            *system_binds,
            *binds,
            *store.shown(environment),
            *((device, device) for device in _DEVICES),
        ),
        kept=() if environment else store.kept(),  # what a zygote has imported must not see what others use
        symlinks=(*links, *names, *_alternatives(), *_DEVICE_LINKS),
        files={
            **_ETC,
            "/etc/resolv.conf": "".join(f"nameserver {address}\n" for address in nameservers),
            "/etc/ld.so.conf": f"{PYTHON_PREFIX}/lib\n",
            **_guest_files(),
        },
        hidden=hidden,
        ldconfig=_LDCONFIG if os.path.exists(_LDCONFIG) else None,
        has_own_uids=has_own_uids,
        oom_score_adj=oom_score_adj,
    )


def _guest_files() -> dict[str, str]:
    return {f"{GUEST_DIRECTORY}/{name}": _guest_file(name) for name in _GUEST_FILES}


def _guest_file(name: str) -> str:
    return files("python_executor.guest").joinpath(name).read_text()


def _system() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Binds and symlinks that make the system's programs and libraries appear where they are."""
    binds = [(path, path) for path in _SYSTEM_DIRECTORIES if os.path.isdir(path) and not os.path.islink(path)]
    links = []
    for path in (*_SYSTEM_DIRECTORIES, *_SYSTEM_LINKS):
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif path in _SYSTEM_LINKS and os.path.isdir(path):
            binds.append((path, path))
    for path in _CERTIFICATES:
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.exists(path):
            binds.append((path, path))
    if os.path.exists(_LDCONFIG):
        binds.append((os.path.realpath(_LDCONFIG), _LDCONFIG))  # ctypes.util.find_library() asks it
    return binds, links


def _alternatives() -> Iterator[tuple[str, str]]:
    """Debian's `/usr/bin/awk` leads through `/etc/alternatives`: the links there that lead back below `/usr`."""
    directory = Path("/etc/alternatives")
    if directory.is_dir():
        for link in sorted(directory.iterdir()):
            if link.is_symlink() and (target := os.readlink(link)).startswith(("/usr/bin/", "/usr/lib/")):
                yield target, str(link)


def _interpreter(interpreter: Interpreter) -> tuple[str, list[tuple[str, str]], tuple[str, ...]]:
    """Its path in the box, the binds that put it there, and the directories of packages that are hidden."""
    name = f"python{interpreter.minor_version}"
    python = interpreter.path_in_sandbox
    if interpreter.prefix == "/usr":
        return python, [], tuple(_packages("/usr/lib", "/usr/lib", name))
    library = f"{interpreter.prefix}/lib"
    binds = [
        (interpreter.executable, python),
        (f"{library}/{name}", f"{PYTHON_PREFIX}/lib/{name}"),
    ]
    if os.path.isdir(headers := f"{interpreter.prefix}/include/{name}"):
        binds.append((headers, f"{PYTHON_PREFIX}/include/{name}"))
    for pattern in (f"libpython{interpreter.minor_version}.so.*", *_TCL):
        binds += [(str(path), f"{PYTHON_PREFIX}/lib/{path.name}") for path in sorted(Path(library).glob(pattern))]
    hidden = (*_packages("/usr/lib", "/usr/lib", name), *_packages(library, f"{PYTHON_PREFIX}/lib", name))
    return python, binds, hidden


def _packages(library: str, shown_as: str, name: str) -> Iterator[str]:
    """Directories of packages below a `lib`, as the box shows them."""
    for relative in (f"{name}/site-packages", f"{name}/dist-packages", "python3/dist-packages"):
        if os.path.isdir(f"{library}/{relative}"):
            yield f"{shown_as}/{relative}"
