"""What the figures come from: the machine without its name, the versions, the date."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from pathlib import Path

from cpu import busy_share
from load import Way
from ways import version_of

from python_executor import __version__
from python_executor.environments.interpreters import find_interpreters
from python_executor.model.spec import Interpreter

WANTED = "3.12"
LOOK_SECONDS = 2.0


def chosen() -> Interpreter:
    """Python 3.12 where it is there, else the newest."""
    interpreters = find_interpreters()
    return next((each for each in interpreters if each.minor_version == WANTED), interpreters[0])


def facts(interpreter: Interpreter) -> dict[str, str]:
    """To be asked before anything is measured: how busy the machine is without us is one of them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    engine = version_of("docker", "version", "--format", "{{.Client.Version}}, engine {{.Server.Version}}")
    return {
        "Date": time.strftime("%Y-%m-%d", time.gmtime()),
        "Machine": f"{os.cpu_count()} cores, {_cpu_model()}, {memory:.1f} GiB, Linux {platform.release()}",
        "Busy without us": f"{busy()} of all cores before the start",
        "python-executor": __version__,
        "Python": f"{interpreter.version}, the same for all",
        "bwrap": (version_of("bwrap", "--version") or "none").removeprefix("bubblewrap "),
        "Docker": engine or "none",
        "Run as": "root" if os.geteuid() == 0 else "an ordinary user",
    }


def busy() -> str:
    """How busy the cores are with what is not ours, while we do nothing."""
    return f"{busy_share(LOOK_SECONDS):.0%}"


def boundaries(way: Way) -> str:
    """How the sandboxes' boundaries stood while all this was measured, as an answer tells it."""
    _, _, content = way.client()().partition(b"\r\n\r\n")
    states: dict[str, str] = json.loads(content)["isolation"]
    weak = [f"{name} {state}" for name, state in states.items() if state != "ok"]
    return f"{len(states) - len(weak)} of {len(states)} ok" + "".join(f", {each}" for each in weak)


def start_hooks(interpreter: Interpreter) -> int:
    """How many .pth files in its site-packages run code whenever it starts: they are in each figure of a process."""
    packages = Path(interpreter.prefix, "lib", f"python{interpreter.minor_version}", "site-packages")
    texts = [path.read_text(errors="replace") for path in packages.glob("*.pth")]
    return sum(bool(re.search(r"^import\s", text, re.MULTILINE)) for text in texts)


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()
