"""An index's page of one project: read as JSON (PEP 691) or HTML (PEP 503), written anew for the sandbox as JSON.

Written anew, because a page of somebody else's could name anything: of each file only what the specification knows is
kept, and its URL becomes one of ours, `/INDEX/files/PAGE-NUMBER/FILENAME`, which means something to this server alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

PAGE_TYPE = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{PAGE_TYPE}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"  # as pip asks
KEPT = ("requires-python", "core-metadata", "dist-info-metadata", "size", "yanked", "upload-time")
DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*(\.whl|\.tar\.gz|\.zip)")


class Listed(NamedTuple):
    """A file that a page has named."""

    filename: str
    url: str  # where it really is, perhaps relative to its page
    size: int | None  # bytes, as the page says


@dataclass(frozen=True, slots=True)
class Files:
    """What a page has named."""

    index: int
    url: str  # of the page
    files: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What the sandbox gets of an index's page, and what the server keeps of it."""

    body: bytes
    url: str  # where it came from
    files: tuple[Listed, ...]  # by their numbers
    only_sources: bool  # there are files, but no wheel
    source_versions: frozenset[str]  # versions, as they are written, that have none


def rewritten(body: bytes, content_type: str, url: str, *, name: str, files_at: str, wheels_only: bool) -> Page:
    """The page that came from `url`, with files at `files_at` and their number. Raises ValueError if it is none."""
    entries = _from_json(body) if content_type.endswith("json") else _from_html(body)
    known = [entry for entry in entries if DISTRIBUTION.fullmatch(entry["filename"])]
    wheels = [entry for entry in known if entry["filename"].endswith(".whl")]
    kept = wheels if wheels_only else known
    listed = tuple(Listed(entry["filename"], entry["url"], _size(entry)) for entry in kept)
    files = [_ours(entry, f"{files_at}{number}") for number, entry in enumerate(kept)]
    page = {"meta": {"api-version": "1.0"}, "name": name, "files": files}
    without = {_source_version(e["filename"]) for e in known if not e["filename"].endswith(".whl")}
    without -= {entry["filename"].split("-")[1] for entry in wheels}
    only_sources = bool(known) and not wheels
    return Page(json.dumps(page).encode(), url, listed, only_sources, frozenset(without))


def _source_version(filename: str) -> str:
    return filename.removesuffix(".tar.gz").removesuffix(".zip").rpartition("-")[2]


def _ours(entry: dict[str, Any], place: str) -> dict[str, Any]:
    hashes = {kind: value for kind, value in entry["hashes"].items() if isinstance(value, str)}
    kept = {key: entry[key] for key in KEPT if entry.get(key) is not None}
    filename = entry["filename"]
    return {**kept, "filename": filename, "hashes": hashes, "url": f"{place}/{filename}"}


def _size(entry: dict[str, Any]) -> int | None:
    size = entry.get("size")
    return size if isinstance(size, int) and size >= 0 else None


def _from_json(body: bytes) -> list[dict[str, Any]]:
    try:
        entries = json.loads(body)["files"]
        return [entry for entry in entries if _is_sound(entry)]
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError("not PEP 691") from error


def _is_sound(entry: dict[str, Any]) -> bool:
    return isinstance(entry["filename"], str) and isinstance(entry["url"], str) and isinstance(entry["hashes"], dict)


def _from_html(body: bytes) -> list[dict[str, Any]]:
    reader = _Anchors()
    reader.feed(body.decode("utf-8", "replace"))
    reader.close()
    if not reader.is_page:
        raise ValueError("not PEP 503")
    return list(_entries(reader.anchors, reader.base))


class _Anchors(HTMLParser):
    """Collects the attributes of a page's anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: list[dict[str, str]] = []
        self.base = ""
        self.is_page = False  # there was a tag

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.is_page = True
        found = {name: value or "" for name, value in attributes}
        if tag == "a" and "href" in found:
            self.anchors.append(found)
        elif tag == "base" and not self.base:
            self.base = found.get("href", "")


def _entries(anchors: Iterable[dict[str, str]], base: str) -> Iterator[dict[str, Any]]:
    for anchor in anchors:
        try:
            url = urljoin(base, anchor["href"].strip())
            parts = urlsplit(url)
        except ValueError:
            continue  # brackets that are no IPv6 address: no file either
        metadata = anchor.get("data-core-metadata", anchor.get("data-dist-info-metadata"))
        yield {
            "filename": unquote(parts.path.rpartition("/")[2]),
            "url": parts._replace(fragment="").geturl(),
            "hashes": _hashes(parts.fragment),
            "requires-python": anchor.get("data-requires-python") or None,
            "core-metadata": None if metadata is None else _hashes(metadata) or metadata.lower() == "true",
            "yanked": anchor["data-yanked"] or True if "data-yanked" in anchor else None,
        }


def _hashes(text: str) -> dict[str, str]:
    """Of `sha256=0123…`."""
    kind, _, value = text.partition("=")
    return {kind: value} if value else {}
