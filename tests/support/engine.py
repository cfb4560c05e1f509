"""A Docker Engine of the tests' own, apart from any other on the machine, with images that need no registry.

    us ── dockerd ── containerd           both have all that they keep below `Engine.directory`
    1  ── containerd-shim ── container    one shim each; it outlives both of the others, and is known by its arguments

Containers have a cgroup below the engine's own. No bridge, no firewall rule, no forwarding: a container has no network,
or the host's. `kill` leaves the shims and containers to the next `start`, as a fault would; `stop` ends them all,
whatever state the engine is in, and `close` removes its files, too. Who is killed without a word leaves all of it.

A file system is what apt has of a release, unpacked and hardly set up: mmdebstrap makes a tarball of it in 4 s, which
is kept for a week outside of the repository. Every engine imports it again, and builds the images that stand on it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

START_SECONDS = 30.0  # after a fault, 10 of them for containers that ignore SIGTERM
STOP_SECONDS = END_SECONDS = 20.0
CLI_SECONDS = 120.0
LOG_LINES = 20
TARBALL_SECONDS = 7 * 86400
PROGRAMS = ("docker", "dockerd", "mmdebstrap")
INSTALL = "apt-get install docker.io mmdebstrap"
NO_NETWORK = (
    "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
)  # fmt: skip
RUNSC = Path("/usr/bin/runsc")
RUNSC_OPTIONS = ["--platform=ptrace", "--network=none"]  # with its cgroups: memory and process limits hold there, too

MERGED = Path("/usr/share/mmdebstrap/hooks/merged-usr")
PYTHON = ("python3", "tzdata", "dash", "coreutils", "base-files", "base-passwd", "libc-bin")
SHELL = ("dash", "coreutils", "base-files", "libc-bin")
FINISH = """
cd "$1"
if [ -e usr/share/base-passwd ]; then for it in passwd group; do cp usr/share/base-passwd/$it.master etc/$it; done; fi
if [ -e usr/bin/python3 ]; then ln -s python3 usr/bin/python; fi
mkdir -p opt srv mnt media
rm -rf etc/resolv.conf etc/hostname etc/fstab usr/lib/*/gconv
rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/perl5
ldconfig -r .
"""
ENV = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8"


@dataclass(frozen=True)
class Unpacked:
    """A file system of a Debian release's packages; an empty one without packages."""

    release: str = ""
    packages: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()  # lines of a Dockerfile

    def key(self) -> str:
        """What the tarball depends on."""
        return hashlib.sha256(repr((self.release, self.packages, FINISH, os.uname().machine)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Built:
    """What a Dockerfile makes of an unpacked image and of programs."""

    base: str
    steps: str
    programs: Mapping[str, str] = field(default_factory=dict)

    def context(self) -> bytes:
        """The tarball that `docker build` takes."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, text in {**self.programs, "Dockerfile": f"FROM {self.base}\n{self.steps}"}.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(text.encode()), 0o755
                tar.addfile(member, io.BytesIO(text.encode()))
        return file.getvalue()


def _python(release: str) -> Unpacked:
    return Unpacked(release, PYTHON, (ENV, 'CMD ["python3"]'))


def _not_python(script: str) -> Built:
    steps = "COPY python3 /usr/bin/python3\nCOPY python3 /usr/bin/python\n"
    return Built("without-python:latest", steps, {"python3": f"#!/bin/sh\n{script}\n"})


IMAGES: dict[str, Unpacked | Built] = {
    "python:3.9-slim": _python("bullseye"),
    "python:3.11-slim": _python("bookworm"),
    "python:3.13-slim": _python("trixie"),
    "without-python:latest": Unpacked("bookworm", SHELL, (ENV, 'CMD ["sh"]')),
    "empty:latest": Unpacked(),
    "broken-python:latest": _not_python("echo 'python3: broken on purpose' >&2; exit 1"),
    "broken-python:library": Built("python:3.11-slim", "RUN rm -rf /usr/lib/python3*\n"),
    "broken-python:hangs": _not_python("trap '' TERM; while :; do sleep 1000; done"),
    "broken-python:talks": _not_python("head -c 1048576 /dev/urandom; while :; do sleep 1000; done"),
    "trapping:latest": Built(  # never starts what it is to start
        "python:3.11-slim",
        'COPY entrypoint /entrypoint\nENTRYPOINT ["/entrypoint"]\n',
        {"entrypoint": "#!/bin/sh\ntrap '' TERM INT\nwhile :; do sleep 1; done\n"},
    ),
    "with-volume:latest": Built("python:3.11-slim", "RUN mkdir /data && echo kept >/data/file\nVOLUME /data\n"),
    "with-setuid:latest": Built(
        "python:3.11-slim",
        "RUN for it in su mount passwd; do cp /usr/bin/id /usr/bin/$it && chmod 4755 /usr/bin/$it; done\n",
    ),
    "with-toor:latest": Built(  # a name that means root
        "python:3.11-slim",
        "RUN echo 'toor:x:0:0::/root:/bin/sh' >>/etc/passwd\nUSER toor\n",
    ),
    "with-user:latest": Built(
        "python:3.11-slim",
        "RUN echo 'app:x:2000:2000::/srv/app:/bin/sh' >>/etc/passwd && echo 'app:x:2000:' >>/etc/group && "
        "mkdir /srv/app && chown 2000:2000 /srv/app\n"
        "USER app\nENV COLOUR=green HOME=/srv/app\nWORKDIR /srv/app\n",
    ),
}


def has_gvisor() -> bool:
    """Whether an engine here has gVisor's runtime beside its own."""
    return os.access(RUNSC, os.X_OK)


class Engine:
    """A dockerd with all that it keeps in a directory of its own. `settings` go into its daemon.json."""

    def __init__(self, settings: Mapping[str, object] | None = None, *, directory: Path | None = None) -> None:
        self.directory = (directory or Path(tempfile.mkdtemp(prefix="engine-"))).resolve()  # as mounts name it
        self.socket = self.directory / "docker.sock"
        self.pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.directory / "dockerd.log"
        self._group = f"engine-{hashlib.sha256(bytes(self.directory)).hexdigest()[:12]}"
        self._settings = settings or {}

    def __enter__(self) -> Engine:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start it, again with what it had before, and wait until it answers. RuntimeError: it does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "daemon.json").write_text(json.dumps(self._configuration()))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
                self.stop()
                raise RuntimeError("dockerd did not start:\n" + "\n".join(last))
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill dockerd, and containerd with it; containers live on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = self.pid = None
            self._end(lambda pid: _program(pid) == b"containerd")  # it is told by the kernel, which takes a moment
            for name in ("pid", "exec/containerd/containerd.pid"):  # for the next start they would be alive
                (self.directory / name).unlink(missing_ok=True)

    def stop(self) -> None:
        """End it and all that it started, as it is told to or by force. Images and ended containers stay."""
        ours = (b"dockerd", b"containerd")
        others = [pid for pid in self._processes() if not _program(pid).startswith(ours)]
        _kill(sorted(others))  # no waiting for containers; their PID 1 before what it would tell the end of
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()
        self._sweep()

    def restart(self) -> None:
        """Stop it and start it."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and remove all that it kept."""
        self.stop()
        shutil.rmtree(self.directory)

    def run_cli(self, *argv: str, stdin: bytes = b"", seconds: float = CLI_SECONDS) -> str:
        """The output of `docker ARGV`. RuntimeError: it failed; with what it said."""
        own = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.directory), "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(
            ["docker", *argv], input=stdin, capture_output=True, timeout=seconds, env={**os.environ, **own}
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(argv)}: {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")

    def load(self, *names: str) -> None:
        """Make the named images and what they stand on, those that are not there yet."""
        there = set(self.run_cli("images", "--format", "{{.Repository}}:{{.Tag}}").split())
        wanted = {name: IMAGES[name] for name in names if name not in there}
        built = {name: image for name, image in wanted.items() if isinstance(image, Built)}
        bases = {image.base for image in built.values()} - there
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(self._import, sorted({*wanted} - {*built} | bases)):
                pass
            for _ in pool.map(self._build, built, built.values()):
                pass

    def _import(self, name: str) -> None:
        image = IMAGES[name]
        assert isinstance(image, Unpacked)
        changes = [word for change in image.changes for word in ("--change", change)]
        self.run_cli("import", *changes, str(tarball(image)), name)

    def _build(self, name: str, image: Built) -> None:
        self.run_cli("build", "--quiet", "--network=none", f"--tag={name}", "-", stdin=image.context())

    def _configuration(self) -> dict[str, object]:
        runsc = {"runsc": {"path": str(RUNSC), "runtimeArgs": RUNSC_OPTIONS}}
        return {
            "runtimes": runsc if has_gvisor() else {},
            "cgroup-parent": f"/{self._group}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            **self._settings,
        }

    def _command(self) -> list[str]:
        places = {"config-file": "daemon.json", "data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        options = [f"--{option}={self.directory / name}" for option, name in places.items()]
        return ["dockerd", f"--host=unix://{self.socket}", *options, *NO_NETWORK]

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return connection.recv(100).split()[1:2] == [b"200"]
        return False

    def _processes(self) -> set[int]:
        """The engine's processes, shims, runtimes and containers."""
        place = bytes(self.directory) + b"/"
        programs = (b"dockerd", b"containerd", b"runc", b"runsc")
        return _kin(_pids(), lambda pid: _program(pid).startswith(programs) and place in _arguments(pid))

    def _end(self, chosen: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + END_SECONDS
        while left := set(filter(chosen, self._processes())):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of the engine that cannot be killed: {sorted(left)}")
            _kill(left)
            time.sleep(0.01)

    def _sweep(self) -> None:
        """Remove what is left of an engine that has ended: processes, mounts, sockets, cgroups."""
        self._end(lambda pid: True)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([each for each in mounts if each.startswith(f"{self.directory}/")]):
            subprocess.run(["umount", "--lazy", mount], check=False)  # one that is still there fails `close`
        for address in self.directory.glob("exec/containerd/daemon/*/*/*/address"):  # each shim's, in /run/containerd
            Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)
        for hierarchy in ("", "*/"):
            for group in Path("/sys/fs/cgroup").glob(f"{hierarchy}{self._group}"):
                _remove_group(group)


def tarball(image: Unpacked) -> Path:
    """The file system of an image, made unless there is one of this week."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "python-executor" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{image.release or 'empty'}-{image.key()}.tar"
    if path.exists() and time.time() - path.stat().st_mtime < TARBALL_SECONDS:
        return path
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        made = Path(directory) / path.name
        if image.packages:
            _unpack(image, made)
        else:
            tarfile.open(made, "w").close()
        made.replace(path)
    return path


def _unpack(image: Unpacked, path: Path) -> None:
    options = path.parent / "apt.conf"
    options.write_text(_apt_options())
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--aptopt={options}", f"--hook-dir={MERGED}",
         f"--include={','.join(image.packages)}", f"--extract-hook={FINISH}", image.release, path, mirror()],
        capture_output=True, text=True, env={**os.environ, "TMPDIR": str(path.parent)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"mmdebstrap {image.release}: {done.stderr}")


def mirror() -> str:
    """Where this machine's apt has the release from: the others are there, too. RuntimeError: it has none."""
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = _output("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines()
    for uri, release, component in (line.split() for line in lines):
        if component == "main" and release.isalnum():  # no updates, backports, security
            return uri
    raise RuntimeError("apt has no Debian archive here: add one to /etc/apt/sources.list and run apt-get update")


def _apt_options() -> str:
    """How this machine's apt reaches it: proxies, how often to try, which checks of dates to leave out."""
    lines = _output("apt-config", "dump", "Acquire").splitlines(keepends=True)
    wanted = ("Acquire::http", "Acquire::Check-", "Acquire::Retries")
    return "".join(line for line in lines if line.startswith(wanted))


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _pids() -> set[int]:
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _arguments(pid: int) -> bytes:
    return _read(pid, "cmdline")  # of a zombie: nothing


def _program(pid: int) -> bytes:
    return os.path.basename(_arguments(pid).partition(b"\0")[0])


def _kin(pids: Collection[int], chosen: Callable[[int], bool]) -> set[int]:
    """Those that are chosen, and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid in pids:
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if fields and fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    new = [pid for pid in pids if chosen(pid)]
    while new:
        found.update(new)
        new = [child for pid in new for child in children.get(pid, []) if child not in found]
    return found


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _remove_group(group: Path) -> None:
    deadline = time.monotonic() + END_SECONDS
    while group.exists() and time.monotonic() < deadline:  # the killed leave it a moment after they are gone from /proc
        for directory, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)
    if group.exists():
        raise RuntimeError(f"a cgroup of the engine that stays: {group}")
