"""The guest's files: what they may say, and on how old an interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from python_executor.environments.interpreters import find_interpreters
from python_executor.guest import frames

OLD = (3, 9)


def test_the_oldest_python_that_we_run_on_understands_every_file(guest_files):
    oldest = (find_interpreters() or [None])[-1]
    if oldest is not None and tuple(map(int, oldest.minor_version.split("."))) < (3, 11):
        code = "import sys\nfor path in sys.argv[1:]: compile(open(path, 'rb').read(), path, 'exec', dont_inherit=True)"
        subprocess.run([oldest.executable, "-ISW", "error", "-c", code, *map(str, guest_files)], check=True, timeout=30)
    else:
        for path in guest_files:
            ast.parse(path.read_text(), str(path), feature_version=OLD)


def test_only_the_standard_library_and_each_other_are_imported(guest_files):
    allowed = sys.stdlib_module_names | {path.stem for path in guest_files}
    for path in guest_files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, path.name
            assert not getattr(node, "level", 0), path.name


@pytest.mark.parametrize("payload", [b"", b"x", bytes(1000)])
def test_a_frame_is_its_kind_its_length_and_its_payload(payload):
    frame = frames.frame(frames.RESULT, payload)
    assert frame == b"\x01" + len(payload).to_bytes(4, "big") + payload
