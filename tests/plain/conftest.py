"""Native sandboxes, and the interpreters themselves beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.sandbox.conftest import INTERPRETERS, Engine
from tests.support.plain import PlainPython, plain_interpreter

collect_ignore = ["programs"]


@pytest.fixture(scope="session")
def native() -> Iterator[Engine]:
    """One backend for the whole run."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PlainPython]:
    """The interpreter of a minor version."""
    known = {
        interpreter.minor_version: plain_interpreter(interpreter, tmp_path_factory.mktemp("plain"))
        for interpreter in INTERPRETERS
    }
    return known.__getitem__
