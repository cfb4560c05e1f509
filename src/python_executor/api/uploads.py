"""Request bodies, read as a stream and never beyond their bound: JSON, and an archive with its metadata.

The parts of an upload come in any order. The archive goes to a file without a name in the data directory once it is
larger than `SPOOL_BYTES`, so that 100 MiB of it cost the server next to no memory (which the system's directory for
temporary files may be); the metadata stays in memory. Whether a part has a file name
or a content type is not looked at.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import structlog
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from ..model.errors import InvalidRequest, TooLarge, Unavailable, UnsupportedMediaType
from ..settings import MEBIBYTE, Settings
from .intake import MAX_JSON_BYTES, MAX_UPLOAD_BYTES, hold_of

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

    from ..executions.holdings import Hold

MAX_METADATA_BYTES = 16 * MEBIBYTE
SPOOL_BYTES = MEBIBYTE
MAX_PARTS = 100  # each costs some 20 microseconds, and two are of use; the parser itself bounds a part's headers
SPOOL_LEFT = 60.0  # seconds after which a file that still has a name is nobody's
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """What came in. Whoever holds it closes it."""

    archive: bytes | BinaryIO
    metadata: bytearray
    size: int  # of the whole body

    def close(self) -> None:
        """Give the archive's file up; idempotent."""
        if not isinstance(self.archive, bytes):
            self.archive.close()


async def receive_json(request: Request) -> bytearray:
    """The whole body of a JSON request, whatever its content type says, unless that is a form."""
    kind = parse_options_header(request.headers.get("content-type"))[0]
    if kind in (b"application/x-www-form-urlencoded", b"multipart/form-data"):
        raise UnsupportedMediaType("the body must be JSON, not a form.")
    _check_content_length(request, MAX_JSON_BYTES)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise _too_large(MAX_JSON_BYTES)
    return body


def spool_of(settings: Settings) -> Path | None:
    """Make the directory of uploads ready; None, for the system's own, where it can't be made.

    A file there has no name, so it goes with the server. Where the file system can't do that it has one for a moment,
    and what a killed server left in that moment is removed.
    """
    directory = settings.spool_dir
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in directory.iterdir():
            if left.stat().st_mtime < time.time() - SPOOL_LEFT:
                left.unlink()
    except OSError as error:
        log.warning("uploads go to the system's directory for temporary files", reason=str(error))
        return None
    return directory


async def receive_upload(request: Request, spool: Path | None = None) -> Upload:
    """Read the whole body. Raises a `Refusal`; then nothing is left of it."""
    form = _Form(hold_of(request), spool)
    parser = _parser(request, form)
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > MAX_UPLOAD_BYTES:
                raise _too_large(MAX_UPLOAD_BYTES)
            parser.write(chunk)
            await form.flush()
        return await form.finish(received)
    except FormParserError as error:
        form.close()
        raise InvalidRequest(f"the multipart body is broken: {error}.") from None
    except BaseException:
        form.close()
        raise


def _check_content_length(request: Request, maximum: int) -> None:
    # Before anything is stored, where the body says itself how large it is.
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > maximum:
        raise _too_large(maximum)


def _too_large(maximum: int) -> TooLarge:
    return TooLarge(f"the body is larger than {maximum} bytes: send less.")


def _parser(request: Request, form: _Form) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("the body must be multipart/form-data with the parts tar and metadata.")
    _check_content_length(request, MAX_UPLOAD_BYTES)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest("the Content-Type names no boundary: let your HTTP library write it.")
    try:
        return MultipartParser(boundary, form.callbacks())
    except FormParserError as error:
        raise InvalidRequest(f"the boundary in the Content-Type is unusable: {error}.") from None


class _Sink(Protocol):
    """Takes the bytes of one part."""

    def write(self, data: bytes) -> None: ...


class _Ignored:
    """A part that nobody asked for."""

    def write(self, data: bytes) -> None:
        pass


class _Text:
    """A part that is kept in memory, up to a bound."""

    def __init__(self, hold: Hold) -> None:
        self.data = bytearray()
        self._hold = hold

    def write(self, data: bytes) -> None:
        self._hold.take(memory=len(data))
        if len(self.data) + len(data) > MAX_METADATA_BYTES:
            raise TooLarge(f"the part metadata is larger than {MAX_METADATA_BYTES} bytes: send less.")
        self.data += data


class _Spool:
    """A part that moves to an anonymous file when it grows."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._pending = bytearray()
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        self._pending += data

    async def flush(self, at_least: int = SPOOL_BYTES) -> None:
        """Move what waits in memory to the file, in a thread: a disk may be slow."""
        if len(self._pending) >= at_least:
            pending, self._pending = self._pending, bytearray()
            await asyncio.to_thread(self._write_out, pending)

    async def finish(self) -> bytes | BinaryIO:
        if self._file is None:
            return bytes(self._pending)
        await self.flush(at_least=1)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write_out(self, pending: bytearray) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - it outlives this function
            self._file.write(pending)
            self._file.flush()
        except OSError as error:
            log.error("an upload could not be stored", reason=str(error))
            raise Unavailable("the server has no room for this upload: try again later.") from error


class _Form:
    """Listens to the parser: sends each part where it belongs and knows whether the end was seen."""

    def __init__(self, hold: Hold, spool: Path | None) -> None:
        self._hold = hold
        self._spool = spool
        self._parts: dict[bytes, _Sink] = {}
        self._sink: _Sink = _Ignored()
        self._header = bytearray()
        self._value = bytearray()
        self._name: bytes | None = None
        self._ended = False
        self._count = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    async def flush(self) -> None:
        if isinstance(self._sink, _Spool):
            await self._sink.flush()

    async def finish(self, received: int) -> Upload:
        # The parser doesn't notice a body that ends early.
        if not self._ended:
            raise InvalidRequest("the body ends before its closing boundary: send all of it.")
        archive, metadata = self._parts.get(b"tar"), self._parts.get(b"metadata")
        if not isinstance(archive, _Spool):
            raise InvalidRequest("the part tar is missing: send the archive in it.")
        if not isinstance(metadata, _Text):
            raise InvalidRequest("the part metadata is missing: send a JSON object in it.")
        return Upload(await archive.finish(), metadata.data, received)

    def close(self) -> None:
        for part in self._parts.values():
            if isinstance(part, _Spool):
                part.close()

    def _on_part_begin(self) -> None:
        self._name = None
        self._count += 1
        if self._count > MAX_PARTS:
            raise InvalidRequest(f"the body has more than {MAX_PARTS} parts: send tar and metadata alone.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(bytes(self._value))[1].get(b"name")
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        if self._name is None:
            raise InvalidRequest("a part of the body has no name: give it one in its Content-Disposition.")
        if self._name in self._parts:
            raise InvalidRequest(f"the part {self._name.decode('latin-1')} is there twice: send it once.")
        if self._name == b"tar":
            self._sink = self._parts[self._name] = _Spool(self._spool)
        elif self._name == b"metadata":
            self._sink = self._parts[self._name] = _Text(self._hold)
        else:
            self._sink = _Ignored()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._sink.write(data[start:end])

    def _on_end(self) -> None:
        self._ended = True
