"""What code can make the kernel keep, give up or follow for it, looked at from outside."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from python_executor.model.environment import Environment
from python_executor.model.spec import FileEntry, FileTree, SymlinkEntry
from python_executor.sandboxes.native.plan import PackageStore
from python_executor.sandboxes.native.sandbox import NativeSandbox
from tests.sandbox.conftest import Engine, Outcome, make_spec

Run = Callable[..., Outcome]
ROOT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="it looks at the machine as root may")


# --- dentries ---------------------------------------------------------------------------------------------------------

NAMES = """
import os
for number in range(60_000):
    try: os.stat(f'/usr/lib/no-such-name-{number}')
    except OSError: pass
print(1)
"""


@pytest.mark.usefixtures("needs_cgroups")
def test_what_a_run_made_the_kernel_remember_is_given_back_after_it(engine: Engine) -> None:
    seen: list[NativeSandbox] = []
    engine.wait(engine.run_spec(make_spec(NAMES), during=seen.append))
    group = seen[0]._cgroup
    assert group is not None
    deadline = time.monotonic() + 20
    while group.left_in_kernel() > 8 << 20 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert group.left_in_kernel() <= 8 << 20


# --- pages of files that are everybody's ------------------------------------------------------------------------------


def pages_in_memory(path: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        count = (len(pages) + 4095) // 4096
        states = (ctypes.c_ubyte * count)()
        place = ctypes.c_char.from_buffer(pages)
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(len(pages)), states) == 0
        del place
    return sum(state & 1 for state in states)


@as_root
def test_code_does_not_drop_a_librarys_pages_for_everybody_else(run: Run) -> None:
    path = max(
        Path("/usr/lib/x86_64-linux-gnu").glob("libsqlite3.so*"),
        default=Path(os.__file__),
        key=lambda p: p.stat().st_size,
    )
    path = path.resolve()
    path.read_bytes()
    before = pages_in_memory(path)
    code = f"import os; fd = os.open({str(path)!r}, os.O_RDONLY); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED); print(1)"
    assert run(code).stdout == "1\n"
    assert pages_in_memory(path) >= before > 0


# --- what the server was started with ---------------------------------------------------------------------------------

PRIORITIES = """
import ctypes, os, platform, resource
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 252, "aarch64": 31}[platform.machine()]
print(os.sched_getscheduler(0), os.nice(0), libc.syscall(number, 1, 0) >> 13, libc.personality(0xFFFFFFFF))
print(resource.getrlimit(resource.RLIMIT_RTPRIO), resource.getrlimit(resource.RLIMIT_NICE))
try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except PermissionError as error: print(error.strerror)
"""
SERVER = f"""
import ctypes, os
libc = ctypes.CDLL(None)
os.nice(-5)
os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
libc.syscall(os.uname().machine == "x86_64" and 251 or 30, 1, 0, 2 << 13 | 7)  # best effort, the last of it
libc.personality(0x0040000)  # ADDR_NO_RANDOMIZE
from tests.sandbox.conftest import Engine
engine = Engine(pool_min=0, pool_max=0)
print(engine.run({PRIORITIES!r}).stdout)
engine.close()
"""


@as_root
def test_code_has_no_priority_of_the_servers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("20")]  # but the log's
    assert lines[:3] == ["0 0 0 0", "(0, 0) (0, 0)", "Operation not permitted"], done.stderr


# --- symlinks where mounts are made (the class of bubblewrap's GHSA-pxhw-h44j-8pfx) -------------------------------------

LINKS = """
import os, time
tried = {}
for path in ("/venv", "/proc", "/work", "/tmp", "/dev/shm", "/dev/pts", "/dev", "/store", "/run", "/root", "/etc/passwd",
             "/usr/lib", "/var/tmp", "/guest", "/python"):
    for change in (lambda: os.rename(path, path + ".old"), lambda: os.rmdir(path), lambda: os.unlink(path),
                   lambda: os.symlink("/work/trap", path), lambda: os.mkdir(path + "/below"),
                   lambda: os.symlink("/usr/lib", path + "/venv")):
        try: change()
        except OSError: continue
        tried[path] = tried.get(path, 0) + 1
for place in ("/work", "/tmp", "/dev/shm"):
    for name in ("work", "tmp", "shm", "venv", "bin", "lib", "etc", "below2"):
        try: os.symlink("/usr/lib", f"{place}/{name}")
        except OSError: pass
    os.makedirs("/work/trap", exist_ok=True)
print(sorted(set(tried) - {"/work", "/tmp", "/dev/shm", "/var/tmp"}), flush=True)
time.sleep(1)
print([line.split(" ")[4] for line in open("/proc/self/mountinfo") if "/venv" in line.split(" ")[4]],
      sorted(os.listdir("/venv")), os.listdir("/work/trap"), flush=True)
"""


def make_environment(directory: Path) -> tuple[PackageStore, Environment]:
    """An environment whose build has left symlinks wherever a name is looked up later."""
    environment = Environment("env_" + "0" * 32, ())
    venv = directory / environment.key / "venv"
    (venv / "lib").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("")
    (venv / "bin").symlink_to("/etc")
    (venv / "lib" / "outside").symlink_to("/root")
    directory.chmod(0o755)
    return PackageStore(environments=str(directory)), environment


def test_no_symlink_of_the_codes_leads_a_mount_of_ours_elsewhere(tmp_path: Path) -> None:
    """`show` is asked for while code runs that has put links where it can, which no request brings about."""
    tmp_path.chmod(0o755)
    store, environment = make_environment(tmp_path / "environments")
    engine = Engine(pool_min=0, pool_max=0, store=store)
    try:
        shown: list[asyncio.Future[None]] = []

        def show(sandbox: NativeSandbox) -> None:
            if not shown:
                place = f"environments/{environment.key}/venv"
                shown.append(asyncio.ensure_future(sandbox._box.show(sandbox._number, place)))

        outcome = engine.wait(engine.run_spec(make_spec(LINKS), during=show))
        changed, after = outcome.stdout.splitlines()
        assert changed == "[]"  # nothing that is a mount point of ours, nor a directory above one
        assert after == "['/venv'] ['bin', 'lib', 'pyvenv.cfg'] []"
        later = engine.wait(engine.run_spec(make_spec(READ), environment=environment))
        assert later.stdout == "passwd of the box\n[] True\n"
    finally:
        engine.close()


READ = """
import os
print("passwd of the box" if "sandbox:x:1000" in open("/venv/bin/passwd").read() else "of the machine")
try: found = os.listdir("/venv/lib/outside")
except OSError: found = []
print(found, os.path.islink("/venv/bin"))
"""


def test_files_of_a_request_that_are_links_to_our_mount_points_change_nothing(engine: Engine) -> None:
    code = b"import os; print(sorted(os.listdir('/work')), os.path.realpath('/venv'), os.path.ismount('/proc'))"
    links = tuple(
        SymlinkEntry(name, target) for name, target in (("venv", "/venv"), ("proc", "/proc"), ("shm", "/dev/shm"))
    )
    spec = replace(make_spec(""), tree=FileTree((FileEntry("main.py", 0o644, 0, len(code)), *links), code))
    assert engine.wait(engine.run_spec(spec)).stdout == "['main.py', 'proc', 'shm', 'venv'] /venv True\n"
