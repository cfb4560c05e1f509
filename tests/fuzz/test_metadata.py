"""Requests as JSON of any shape: each is refused in a sentence, or becomes a spec within all bounds."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from python_executor.api import specs
from python_executor.api.bodies import EvalRequest, Metadata, parse
from python_executor.api.specs import SpecBuilder
from python_executor.model.errors import Refusal
from python_executor.model.image import is_allowed
from python_executor.model.spec import DirectoryEntry, ExecutionSpec, FileEntry
from tests.fuzz.conftest import Bytes, bounded
from tests.support.archives import directory, symlink, tar_of
from tests.unit.api.fakes import INTERPRETERS, settings

SETTINGS = settings(
    default_timeout=20,
    max_timeout=60,
    default_memory_mb=256,
    default_disk_mb=128,
    runtime="runc",
    runtimes_allow="runsc",
    image_allow="python,debian:*,ghcr.io/me/*",
)
BUILDER = SpecBuilder(SETTINGS, INTERPRETERS)
VERSIONS = {interpreter.minor_version for interpreter in INTERPRETERS}
ARCHIVE = tar_of(
    {"main.py": "print(1)", "package": directory(), "package/tool.py": "", "link.py": symlink("package/tool.py")}
)
SECRET = "hunter2-Tr0ub4dor"  # part of every variable's value
ACCEPTED_AT_LEAST = 0.1  # of all bodies; else the tests look at refusals alone

# --- what is sent -----------------------------------------------------------------------------------------------------

texts = st.text(max_size=20) | st.sampled_from([
    "", "\0", "a\0b", "-", "..", "/", "main.py", "./main.py", "package", "package/tool.py", "link.py",
    "../x", "a" * 300, "ä" * 5000, "\u2028", "\x1b[31m", "'", '"', "NaN", "1", "import os",
])  # fmt: skip
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from(
        [0, -1, 1, 60, 61, 256, 4096, 4097, 262_144, 262_145, 2**31, 2**63, 2**64, 10**40, 10**4000, 1e308]
    )
)
scalars = st.just("\ud800") | st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def _seldom(usual: st.SearchStrategy[Any], unusual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 15 + [unusual]).flatmap(lambda chosen: chosen)


def _object(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of the fields, seldom with others as well."""
    known = st.fixed_dictionaries({}, optional={name: _seldom(values, anything) for name, values in fields.items()})
    unknown = _seldom(st.just({}), st.dictionaries(texts, anything, max_size=3))
    return st.builds(lambda extra, own: {**extra, **own}, unknown, known)


limits = _seldom(st.integers(1, 60) | st.sampled_from([0, None, "", 128, 256, 1024, 4096]), numbers)
seconds = _seldom(st.floats(0, 3600) | st.sampled_from([0, None, "", 0.25, 30, 5.0]), numbers)
configs = _object({
    "timeout_seconds": seconds, "cpu_seconds": st.floats(0, 3600), "memory_mb": limits, "disk_mb": limits, "cpu_shares": limits,
    "network_disabled": st.sampled_from([True, None]),
})  # fmt: skip
requirements = _seldom(st.sampled_from([None, "", "-", " - "]), st.just("numpy") | texts)
runtimes = _seldom(st.sampled_from([None, "", "", "", "runsc", "runc"]), st.sampled_from(["kata", "-x"]))
good_names = st.sampled_from(["main.py", "a.py", "a/b.py", "./c.py", "a//d", "ä"])
names = _seldom(good_names, st.sampled_from(["a", "..", "", "/etc/passwd", "d/", "a.py/b"]) | texts)
modules = st.sampled_from([None, ""] * 10 + ["main", "a.b", "-m", "a..b"])
EVAL_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "code": _seldom(texts, st.just("x" * 102_401)),
    "files": st.lists(
        _seldom(
            st.fixed_dictionaries({"name": names, "content": _seldom(texts, st.just("x" * 60_000))}),
            _object({"name": names, "content": texts}),
        ),
        max_size=4,
    ),
    "entrypoint": _seldom(st.sampled_from([None, None, "", "", "main.py"]), names),
    "module": modules,
    "stdin": texts,
    "python_version": _seldom(st.sampled_from([None, "", "3.12", "3.11"]), st.sampled_from(["3.9", "3", "3.12.1"])),
    "eval_last_expr": st.booleans(),
    "config": configs,
    "requirements_txt": requirements,
    "runtime": runtimes,
}
endings = _seldom(st.sampled_from(["", "=", "\n", "\N{SNOWMAN}"]), st.sampled_from(["\0", "x" * 131_100]))
variables = st.builds("{}={}{}".format, st.sampled_from(["KEY", "LD_PRELOAD", "ä", "a b"]), st.just(SECRET), endings)
wrong_variables = st.sampled_from([
    st.sampled_from([SECRET, f"={SECRET}", f"KEY {SECRET}", f"KEY={SECRET}\0"]),
    st.sampled_from([SECRET, f"={SECRET}", f"KEY {SECRET}", f"KEY={SECRET}\0"]),
    st.lists(variables, max_size=2),
    st.dictionaries(variables, variables, max_size=2),
    anything,
]).flatmap(lambda chosen: chosen)  # fmt: skip
strings = st.lists(_seldom(texts.map(lambda text: text.replace("\0", "")), texts), max_size=3)
images = st.sampled_from([None, "", "python:3.11", "python:3.12-slim-bookworm", "debian:12", "ghcr.io/me/x"])
other_images = st.sampled_from(
    ["python:2.7", "ubuntu", "--privileged", "Debian:12", "docker.io/ghcr.io/me/x", "a" * 513]
)
METADATA_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "entrypoint": st.sampled_from([None, "", "main.py", "./link.py", "package", "./package/", "made.py"]),
    "module": modules,
    "docker_image": _seldom(images, other_images | texts),
    "runtime": runtimes,
    "requirements_txt": requirements,
    "pre_commands": strings,
    "stdin": texts,
    "env_vars": st.sampled_from(
        [
            st.lists(variables, max_size=4),
            st.lists(variables, max_size=4),
            st.lists(wrong_variables, min_size=1, max_size=2),
            st.lists(variables, max_size=2).flatmap(lambda good: wrong_variables.map(lambda wrong: [*good, wrong])),
            wrong_variables,
        ]
    ).flatmap(lambda chosen: chosen),
    "script_args": _seldom(strings, st.lists(st.just("x" * 130_000), min_size=9, max_size=9)),
    "eval_last_expr": st.booleans(),
    "config": configs,
}


@st.composite
def bodies(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]]) -> bytes:
    """JSON, mostly an object with right fields; in one of the ways to write it; seldom damaged."""
    value = draw(_seldom(_object(fields), anything))
    text = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    match draw(st.sampled_from([*range(20)])):
        case 0:
            return text[: draw(st.integers(0, 40))]
        case 1:
            position = draw(st.integers(0, min(len(text), 200)))
            return text[:position] + draw(st.binary(max_size=4)) + text[position + draw(st.integers(0, 2)) :]
        case 2:
            return draw(st.sampled_from([b"[" * 5000, b'{"config":' * 2000, b"9" * 5000, b'{"stdin":"\\ud800"}', b""]))
        case 3:
            return text[:-1] + b',"env_vars":["' + SECRET.encode() + b'"],"env_vars":null}'
        case _:
            return text


# --- what must hold ---------------------------------------------------------------------------------------------------


def test_any_body_of_an_eval_is_refused_in_a_sentence_or_becomes_a_spec_within_bounds() -> None:
    seen: Counter[str] = Counter()

    @bounded(400)
    @given(bodies(EVAL_FIELDS).map(Bytes))
    def check(text: bytes) -> None:
        try:
            spec = BUILDER.from_eval(parse(EvalRequest, text, "the body"))
        except Refusal as refusal:
            seen["refused"] += 1
            _check_sentence(refusal.message)
            return
        seen["accepted"] += 1
        _check_spec(spec)
        assert (spec.args, spec.env, spec.pre_commands) == ((), (), ())
        assert len(spec.tree.content) <= specs.MAX_CODE_BYTES

    check()
    assert seen["accepted"] >= ACCEPTED_AT_LEAST * seen.total(), seen


def test_any_metadata_is_refused_in_a_sentence_without_a_secret_or_becomes_a_spec_within_bounds() -> None:
    seen: Counter[str] = Counter()

    @bounded(400)
    @given(bodies(METADATA_FIELDS).map(Bytes))
    def check(text: bytes) -> None:
        try:
            spec = BUILDER.from_archive(ARCHIVE, parse(Metadata, text, "metadata"))
        except Refusal as refusal:
            seen["refused"] += 1
            _check_sentence(refusal.message)
            return
        seen["accepted"] += 1
        _check_spec(spec)
        _check_strings(spec)
        assert not any(SECRET in warning for warning in spec.warnings)

    check()
    assert seen["accepted"] >= ACCEPTED_AT_LEAST * seen.total(), seen


def test_what_a_spec_has_is_what_was_asked_for() -> None:
    plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
    environment = st.dictionaries(plain.filter(lambda name: name and "=" not in name), plain, max_size=4)

    @bounded(150)
    @given(environment, st.lists(plain, max_size=4), st.text(st.characters(codec="utf-8")), st.integers(1, 60))
    def check(env: dict[str, str], args: list[str], stdin: str, seconds: int) -> None:
        asked = {
            "env_vars": [f"{name}={value}" for name, value in env.items()],
            "script_args": args,
            "stdin": stdin,
            "config": {"timeout_seconds": seconds},
        }
        spec = BUILDER.from_archive(ARCHIVE, parse(Metadata, json.dumps(asked).encode(), "metadata"))
        assert (dict(spec.env), list(spec.args), spec.stdin.decode()) == (env, args, stdin)
        assert (spec.limits.timeout_seconds, spec.entrypoint) == (seconds, "main.py")

    check()


def _check_sentence(message: str) -> None:
    """One sentence that can be shown anywhere, and that gives no secret away."""
    assert re.fullmatch(r"\S.*\S\.", message), message
    assert message.isprintable(), message
    assert len(message) < 3000
    assert SECRET not in message
    message.encode()


def _check_spec(spec: ExecutionSpec) -> None:
    limits = spec.limits
    for value, maximum in (
        (limits.memory_mb, SETTINGS.max_memory_mb),
        (limits.disk_mb, limits.memory_mb),
        (limits.cpu_shares, SETTINGS.max_cpu_shares),
    ):
        assert type(value) is int
        assert 1 <= value <= maximum
    assert 0 < limits.timeout_seconds <= SETTINGS.max_timeout
    assert limits.cpu_seconds is None or 0 < limits.cpu_seconds <= SETTINGS.max_cpu_seconds
    for seconds in (limits.timeout_seconds, limits.cpu_seconds or 1):
        assert type(seconds) is (int if seconds == int(seconds) else float)
    _check_place(spec)
    assert type(spec.eval_last_expr) is bool
    assert spec.tree.total_bytes <= limits.file_system_bytes < limits.memory_mb << 20
    _check_entrypoint(spec)


def _check_place(spec: ExecutionSpec) -> None:
    """An interpreter that is here, or an image and a runtime that may be used, and no packages."""
    if not spec.image:
        assert (spec.python in VERSIONS, spec.runtime) == (True, "")
        return
    assert spec.python == ""
    assert is_allowed(spec.image, SETTINGS.image_allow)
    assert spec.runtime in SETTINGS.nameable_runtimes
    assert (spec.requirements, spec.finds_requirements, spec.detects_imports) == ("", False, False)


def _check_entrypoint(spec: ExecutionSpec) -> None:
    if spec.module:
        assert spec.entrypoint == "" and re.fullmatch(r"\w[\w.-]{0,254}", spec.module)
        return
    components = spec.entrypoint.split("/")
    assert not {"", ".", ".."} & set(components)
    assert "\0" not in spec.entrypoint
    kinds = {entry.path: type(entry) for entry in spec.tree.entries}
    assert kinds.get(spec.entrypoint, FileEntry) is not DirectoryEntry
    assert spec.pre_commands or spec.entrypoint in kinds


def _check_strings(spec: ExecutionSpec) -> None:
    """What execve() is given, it takes."""
    all_strings = [*spec.args, *spec.pre_commands, *(f"{name}={value}" for name, value in spec.env)]
    assert all("\0" not in text for text in all_strings)
    assert all(len(text.encode()) <= specs.MAX_STRING_BYTES for text in all_strings)
    assert sum(len(text.encode()) + 1 for text in all_strings) <= specs.MAX_STRINGS_BYTES
    assert all(name and "=" not in name for name, _ in spec.env)
