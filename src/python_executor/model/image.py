"""References to container images: what one means in full, and whether the operator allows it.

The grammar is the distribution project's, `[domain[:port]/]path[:tag][@sha256:digest]`, without registries that are
IPv6 addresses and without other digests. What a container engine would take for the id of an image is no reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

MAX_LENGTH = 512  # characters
MAX_REPOSITORY = 255  # of those, before tag and digest
DEFAULT_DOMAIN, OFFICIAL = "docker.io", "library/"
LEGACY_DOMAIN = "index.docker.io"  # which means the default one

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?")
_REST = re.compile(
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_ID = re.compile(r"[0-9a-f]{64}")


class _Reference(NamedTuple):
    repository: str  # with its domain: "docker.io/library/python"
    tag: str  # ":3.11-slim", or ""
    digest: str  # "@sha256:…", or ""


def full_name(text: str) -> str | None:
    """What the text names, with registry and tag or digest: "docker.io/library/python:latest". None if it is none."""
    reference = _parse(text)
    if reference is None:
        return None
    repository, tag, digest = reference
    return f"{repository}{tag}{digest}" if tag or digest else f"{repository}:latest"


def is_allowed(text: str, patterns: Sequence[str]) -> bool:
    """Whether the image is one of the patterns', with `*` and `?` as in fnmatch; without any, each one is.

    A pattern is held against the full name and the familiar one ("python:3.11"), with and without tag or digest. A
    tag beside a digest says nothing of what is run, so it counts only where the pattern has an `@` too.
    """
    reference = _parse(text)
    if reference is None:
        return False
    return not patterns or any(
        fnmatchcase(name, pattern) for pattern in patterns for name in _names(reference, pattern)
    )


def _names(reference: _Reference, pattern: str) -> Iterator[str]:
    repository, tag, digest = reference
    for name in _repositories(repository):
        yield name
        yield f"{name}{digest}" if digest else f"{name}{tag or ':latest'}"
        if tag and digest and "@" in pattern:
            yield f"{name}{tag}{digest}"


def _repositories(repository: str) -> Iterator[str]:
    """Its full name, and those of the shorter ones that mean the same."""
    yield repository
    for prefix in (f"{DEFAULT_DOMAIN}/", f"{DEFAULT_DOMAIN}/{OFFICIAL}"):
        shorter = repository.removeprefix(prefix)
        # docker.io/ghcr.io/x is not ghcr.io/x
        if shorter != repository and (meant := _parse(shorter)) and meant.repository == repository:
            yield shorter


def _parse(text: str) -> _Reference | None:
    if len(text) > MAX_LENGTH or _ID.fullmatch(text):
        return None
    domain, slash, rest = text.partition("/")
    if not slash or not _is_domain(domain):
        domain, rest = DEFAULT_DOMAIN, text
    match = _REST.fullmatch(rest)
    if match is None or not _DOMAIN.fullmatch(domain):
        return None
    domain = DEFAULT_DOMAIN if domain == LEGACY_DOMAIN else domain
    official = OFFICIAL if domain == DEFAULT_DOMAIN and "/" not in match["path"] else ""
    repository = f"{domain}/{official}{match['path']}"
    if len(repository) > MAX_REPOSITORY:
        return None
    return _Reference(repository, match["tag"] or "", match["digest"] or "")


def _is_domain(component: str) -> bool:
    """Whether what stands before the first slash is a registry, and not the first part of a path."""
    return component == "localhost" or "." in component or ":" in component or component != component.lower()
