"""Results on their way out. A short one is one piece of bytes; a long one is encoded while it is sent.

JSON makes six bytes of a control character, so 20 MiB of output may be 120 MiB of answer. These are never there at
once: a piece is encoded, sent, and the next one waits until the client has taken most of it. The length is counted
first, in a pass of its own: so a client of HTTP/1.0 can be answered, and an answer that breaks off is seen to do so.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..model.errors import NotFound
from ..model.execution import Blocks, Execution, pieces
from .flight import Flight
from .protocol import CONNECTION
from .responses import encoded, execution_content, json_response
from .turns import Turns

if TYPE_CHECKING:
    from .protocol import Protocol

SHORT_BYTES = 64 * 1024  # of output, which are encoded at once: half a millisecond
PIECE_BYTES = 32 * 1024  # of output; at most 192 KiB of an answer
PATIENCE = 5.0  # seconds that who asks for a result waits for room
NO_OUTPUT = b'"stdout":"","stderr":""'
SHORT_ESCAPES = b'"\\\n\r\t\b\f'  # two characters of JSON
LONG_ESCAPES = bytes(byte for byte in range(32) if byte not in SHORT_ESCAPES)  # six

_decoder = getincrementaldecoder("utf-8")


class Answers:
    """Makes the answers that show an execution; `get` is how one is had again."""

    def __init__(self, turns: Turns, get: Callable[[str], Awaitable[Execution]]) -> None:
        self._turns = turns
        self._get = get
        self._flight = Flight()

    def of(
        self, execution: Execution, headers: Mapping[str, str] | None = None, *, patience: float | None = PATIENCE
    ) -> Response:
        """The answer. A long one waits for room without its output, for `patience` seconds; None: as long as it takes.

        Then there is an answer in any case, since the code has run: in the worst, one without output.
        """
        if execution.output_bytes < SHORT_BYTES:
            return json_response(execution_content(execution), headers=headers)
        return _LongAnswer(execution, dict(headers or {}), patience, self._get, self._turns, self._flight)


class _LongAnswer(Response):
    def __init__(
        self,
        execution: Execution,
        headers: dict[str, str],
        patience: float | None,
        get: Callable[[str], Awaitable[Execution]],
        turns: Turns,
        flight: Flight,
    ) -> None:
        super().__init__(headers=headers, media_type="application/json")
        self._execution: Execution | None = execution
        self._without_output = _without_output(execution)
        self._size = execution.output_bytes
        self._patience = patience
        self._get = get
        self._turns = turns
        self._flight = flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Protocol = scope[CONNECTION]
        with suppress(ClientDisconnect):
            await connection.while_connected(self._go(connection, send))

    async def _go(self, connection: Protocol, send: Send) -> None:
        execution_id = self._without_output.execution_id
        if not self._flight.has_room(execution_id, self._size):
            self._execution = None  # what waits holds nothing
        async with self._flight.hold(execution_id, self._size, connection.drop, self._patience):
            await self._send(self._execution or await self._again(execution_id), send)

    async def _again(self, execution_id: str) -> Execution:
        try:
            return await self._get(execution_id)
        except NotFound:
            if self._patience is None:
                return self._without_output
            raise

    async def _send(self, execution: Execution, send: Send) -> None:
        without_output = replace(execution, stdout=b"", stderr=b"")
        before, _, after = encoded(execution_content(without_output)).partition(NO_OUTPUT)
        length = len(before) + len(NO_OUTPUT) + len(after)
        lengths = chain(escaped_lengths(execution.stdout), escaped_lengths(execution.stderr))
        while (counted := await self._turns.next(lengths)) is not None:
            length += counted
        self.headers["content-length"] = str(length)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        parts = _parts(before, execution, after)
        while (part := await self._turns.next(parts)) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})


def _without_output(execution: Execution) -> Execution:
    return replace(
        execution,
        stdout=b"",
        stderr=b"",
        stdout_truncated=execution.stdout_truncated or bool(execution.stdout),
        stderr_truncated=execution.stderr_truncated or bool(execution.stderr),
        warnings=(*execution.warnings, "the output is not shown: it was kept no longer when it could be sent"),
    )


def _parts(before: bytes, execution: Execution, after: bytes) -> Iterator[bytes]:
    yield before + b'"stdout":"'
    yield from escaped(execution.stdout)
    yield b'","stderr":"'
    yield from escaped(execution.stderr)
    yield b'"' + after


def escaped(output: bytes | Blocks) -> Iterator[bytes]:
    """The output as it stands in a JSON string, in pieces."""
    for text in _texts(output):
        yield encode_basestring(text)[1:-1].encode()


def escaped_lengths(output: bytes | Blocks) -> Iterator[int]:
    """The lengths of those pieces, for a third of the time."""
    for text in _texts(output):
        data = text.encode()
        shorter, longer = (len(data) - len(data.translate(None, escapes)) for escapes in (SHORT_ESCAPES, LONG_ESCAPES))
        yield len(data) + shorter + 5 * longer


def _texts(output: bytes | Blocks) -> Iterator[str]:
    """The output decoded; what is no UTF-8 is replaced as it would be in one go."""
    decoder = _decoder("replace")
    for piece in pieces(output, PIECE_BYTES):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
