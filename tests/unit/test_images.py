"""References to images: what each means in full, what is none, and which the operator's patterns let through."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_executor.model.image import MAX_LENGTH, full_name, is_allowed

DIGEST = "sha256:" + "0123456789abcdef" * 4
REFERENCES = st.from_regex(
    r"\A([a-z0-9]{1,9}(\.[a-z0-9]{1,5}){1,2}(:[0-9]{1,5})?/|localhost/|)[a-z0-9]{1,9}([_-][a-z0-9]{1,5}){0,2}"
    r"(/[a-z0-9]{1,9}(__[a-z0-9]{1,5})?){0,2}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?(@sha256:[0-9a-f]{64})?\Z"
)


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("library/python", "docker.io/library/python:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest"),
        ("docker.io/me/x:1", "docker.io/me/x:1"),
        ("me/x", "docker.io/me/x:latest"),
        (f"ghcr.io/me/x@{DIGEST}", f"ghcr.io/me/x@{DIGEST}"),
        (f"python:3.11@{DIGEST}", f"docker.io/library/python:3.11@{DIGEST}"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/a/b/c:T_a.g-1", "localhost:5000/a/b/c:T_a.g-1"),
        ("registry:5000/x", "registry:5000/x:latest"),
        ("REGISTRY/x", "REGISTRY/x:latest"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("a--b/c__d.e_f", "docker.io/a--b/c__d.e_f:latest"),
        ("python:" + "x" * 128, "docker.io/library/python:" + "x" * 128),
        ("ghcr.io", "docker.io/library/ghcr.io:latest"),
        ("0123456789ab", "docker.io/library/0123456789ab:latest"),
    ],
)
def test_a_reference_means_one_image_in_full(text: str, full: str) -> None:
    assert full_name(text) == full
    assert full_name(full) == full


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Python", "python ", " python", "python\n", "py thon", "python:", "python:-x", "python:a:b", ":3.11",
        "python@", "python@sha256:", "python@sha256:" + "0" * 63, "python@sha256:" + "A" * 64, "python@md5:" + "0" * 32,
        f"@{DIGEST}", "/", "/python", "python/", "a//b", "a/./b", "a/../b", "../a", "-a", "a-", "a._b", "a..b", "a___b",
        "_a", "--privileged", "-v=/:/host", "--runtime=runsc python", "python;id", "$(id)", "python:3.11 --privileged",
        "ghcr.io/", "-x.io/a", "a..io/b", "a.io:/b", "a.io:x/b", "http://ghcr.io/a", "[::1]:5000/a",
        "pythön", "python:३", "python:3.1١", "\0", "python\0", "ghcr.io/Me/x", "0" * 64, "python:" + "x" * 129,
        "x" * 256, "a/" * 200 + "a", "a" * (MAX_LENGTH + 1), "x" * 1_000_000,
    ],
)  # fmt: skip
def test_what_is_no_reference_means_nothing_and_is_never_allowed(text: str) -> None:
    assert full_name(text) is None
    assert not is_allowed(text, ()) and not is_allowed(text, ("*",))


@given(st.text(max_size=60) | st.text("aA0.-_:/@", max_size=60) | REFERENCES)
def test_the_full_name_of_any_text_is_its_own_and_can_be_shown(text: str) -> None:
    full = full_name(text)
    if full is not None:
        assert full_name(full) == full
        assert full.isascii() and full.isprintable() and " " not in full
        assert full.endswith(text.rpartition("/")[2]) or full == full_name(f"{text}:latest")


@given(REFERENCES)
def test_any_reference_is_allowed_by_its_own_name_and_by_none_of_others(text: str) -> None:
    full = full_name(text)
    assert full is not None
    assert is_allowed(text, ()) and is_allowed(text, ("*",)) and is_allowed(text, (full,)) and is_allowed(full, (full,))
    assert not is_allowed(text, ("", "nowhere.example/*", full[:-1], f"{full}x"))


@pytest.mark.parametrize("piece", ["a", "a-", "a.", "a_", "a__", "a/", "a.a/", "-", ".", ":", "a:", "A", "@sha256:"])
def test_no_text_takes_long(piece: str) -> None:
    began = time.perf_counter()
    for end in ("", "!", "a!", "/!", ":!"):
        full_name((piece * MAX_LENGTH)[: MAX_LENGTH - len(end)] + end)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("pattern", "allowed", "others"),
    [
        ("python", ["python", "python:3.11", f"python@{DIGEST}", "docker.io/library/python:3"], ["me/python", "pypy"]),
        ("python:3.*", ["python:3.11", "docker.io/python:3.9-slim"], ["python", "python:2", "ghcr.io/python:3.11"]),
        ("python:3.1?", ["python:3.11"], ["python:3.9", "python:3.11-slim"]),
        ("python:latest", ["python", "python:latest"], ["python:3"]),
        ("docker.io/library/python:*", ["python:3.11", "python"], ["me/python:3.11"]),
        ("docker.io/*", ["python", "me/x"], ["ghcr.io/me/x"]),
        ("ghcr.io/me/*", ["ghcr.io/me/x", "ghcr.io/me/x/y:1"], ["ghcr.io/you/x", "me/x", "docker.io/ghcr.io/me/x"]),
        ("me/*", ["me/x:1", "docker.io/me/x"], ["ghcr.io/me/x", "python"]),
        ("localhost/*", ["localhost/x"], ["docker.io/localhost/x"]),
        ("GHCR.io/me/x", [], ["ghcr.io/me/x"]),
        (f"python@{DIGEST}", [f"python@{DIGEST}", f"python:3.11@{DIGEST}"], ["python", "python:3.11"]),
        (f"python:3.11@{DIGEST}", [f"python:3.11@{DIGEST}"], [f"python:3.12@{DIGEST}", f"python@{DIGEST}"]),
    ],
)
def test_a_pattern_is_held_against_all_names_of_the_image(pattern: str, allowed: list[str], others: list[str]) -> None:
    for image in allowed:
        assert is_allowed(image, ("nothing", pattern)), image
    for image in others:
        assert not is_allowed(image, ("nothing", pattern)), image


def test_a_tag_beside_a_digest_opens_nothing_since_the_digest_is_what_is_run() -> None:
    for pattern in ("python:3.11", "python:3.*", "python:*", "docker.io/library/python:*"):
        assert not is_allowed(f"python:3.11@{DIGEST}", (pattern,))
