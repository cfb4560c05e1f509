"""`make check` finds what it is there to find: each test makes a copy of the source worse and sees that it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.test import GUEST, ROOT, type_check_guest

PACKAGE = ROOT / "src/python_executor"
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"
OF_THE_GUEST = "Of the guest, only its frame format is read BROKEN"
OF_BACKENDS = "The backends are independent, but for the modules that containers share BROKEN"


def checked_imports(directory: Path, module: str, line: str) -> str:
    """What import-linter says of a copy in which a module has one more line."""
    shutil.copytree(PACKAGE, directory / "src/python_executor", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", directory)
    (directory / "src/python_executor/guest/brand_new.py").write_text("")
    with (directory / "src/python_executor" / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=directory, env={"PYTHONPATH": str(directory / "src"), "COLUMNS": "200"}, capture_output=True, text=True,
    )  # fmt: skip
    assert "Analyzed" in done.stdout, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("executions/service.py", "from ..guest import intake", OF_THE_GUEST),
        ("environments/files.py", "from ..guest import brand_new", OF_THE_GUEST),
        ("__main__.py", "from .guest.kernel import unshare", OF_THE_GUEST),
        ("sandboxes/docker/plan.py", "from ..native import box", OF_BACKENDS),
        ("sandboxes/native/plan.py", "from ..docker.engine import Engine", OF_BACKENDS),
    ],
)
def test_an_import_that_is_not_allowed_is_found(tmp_path: Path, module: str, line: str, broken: str) -> None:
    assert broken in checked_imports(tmp_path, module, line)


def test_the_frame_format_may_be_imported_by_whoever_speaks_it(tmp_path: Path) -> None:
    assert " 0 broken." in checked_imports(tmp_path, "environments/cache.py", "from ..guest import frames")


def test_every_module_of_the_guest_is_type_checked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    guest = tmp_path / "guest"
    shutil.copytree(GUEST, guest, ignore=shutil.ignore_patterns("__pycache__"))
    modules = sorted(path for path in guest.glob("*.py") if path.name != "__init__.py")
    for module in modules:
        module.write_text(module.read_text() + '\nwrong: int = "not a number"\n')
    with pytest.raises(subprocess.CalledProcessError):
        type_check_guest(guest)
    said = capfd.readouterr().out
    assert not [module.name for module in modules if f"{module.name}:" not in said]
