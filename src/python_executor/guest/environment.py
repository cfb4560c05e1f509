"""Installed packages beside the interpreter: /venv, a virtual environment that the server made."""

from __future__ import annotations

import os
import site
import sys

PREFIX = "/venv"


def activate() -> None:
    """Go on as if this interpreter had been started as /venv/bin/python. Runs what `.pth` files say: others' code."""
    own = site.getsitepackages()
    sys.path[:] = [path for path in sys.path if path not in own]  # which an environment does not show
    sys.prefix = sys.exec_prefix = PREFIX
    sys.executable = f"{PREFIX}/bin/python"
    site.PREFIXES = [PREFIX]
    sys.modules.pop("sysconfig", None)  # it would go on with the other prefix
    os.environ["VIRTUAL_ENV"] = PREFIX
    os.environ["PATH"] = f"{PREFIX}/bin:{os.environ['PATH']}"
    site.addsitedir(f"{PREFIX}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages")
