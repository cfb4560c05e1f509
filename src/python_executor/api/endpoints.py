"""The routes: read, hand to `executions`, answer. Nothing is decided here that another module could decide."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..model.errors import InvalidRequest, Unavailable
from ..model.execution import Execution
from ..model.spec import ExecutionSpec
from .answers import Answers
from .bodies import AnyBody, EvalRequest, Metadata, parse
from .folding import Folding
from .intake import hold_of
from .protocol import CONNECTION, Protocol
from .responses import engine_content, json_response, named_content
from .specs import SpecBuilder
from .trees import shown
from .turns import Turns
from .uploads import receive_json, receive_upload

if TYPE_CHECKING:
    from ..executions.service import Executions

MAX_WAIT_SECONDS = 60
INLINE_BYTES = 64 * 1024  # a request up to here is parsed on the event loop: 1 ms at most
INLINE_OBJECTS = 200

NOTHING: Iterator[None] = iter(())  # to do, when one's turn has come

Answer = TypeVar("Answer")


class Endpoints:
    """One method for each route."""

    def __init__(self, executions: Executions, specs: SpecBuilder, spool: Path | None = None) -> None:
        self._executions = executions
        self._specs = specs
        self._turns = Turns()
        self._answers = Answers(self._turns, executions.get)
        self._spool = spool  # directory of what uploads put on disk

    async def eval(self, request: Request) -> Response:
        """Run code or a few files that come as JSON, and answer with the result."""
        return await self._run(request, await self._posted_spec(request))

    async def _posted_spec(self, request: Request) -> ExecutionSpec:
        """The spec of a JSON body, of which nothing else is kept."""
        body = await receive_json(request)
        read = await self._reader(EvalRequest, body, "the body")
        return await _unblocking(_is_short(body), lambda: self._specs.from_eval(*read()))

    async def exec_sync(self, request: Request) -> Response:
        """Run an uploaded archive and answer with the result."""
        return await self._run(request, await self._uploaded_spec(request))

    async def exec_async(self, request: Request) -> Response:
        """Take an uploaded archive and answer at once; the result is there for a while after it has finished."""
        spec = await self._uploaded_spec(request)
        hold_of(request).release()  # from here on `executions` counts
        execution_id = await self._executions.submit(spec, _caller(request))
        return json_response({"execution_id": execution_id}, 202)

    async def get_execution(self, request: Request) -> Response:
        """Status and result so far; with `wait`, as soon as it has finished."""
        execution_id = request.path_params["execution_id"]
        seconds = _wait_seconds(request.query_params.get("wait"))
        if seconds is None:
            return self._answers.of(await self._executions.get(execution_id))
        connection = _connection(request)
        execution, has_waited = await connection.while_connected(self._wait(connection, execution_id, seconds))
        return self._answers.of(execution, {"Preference-Applied": "wait"} if has_waited else {})

    async def _wait(self, connection: Protocol, execution_id: str, seconds: float) -> tuple[Execution, bool]:
        """How it stands in the end, and whether that is what was asked for, and not cut short for others."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as patience:
                end = patience.when()
                with connection.waiting(patience):
                    execution = await self._executions.wait(execution_id, seconds)
                await self._turns.next(NOTHING)  # the end of one execution may be news for hundreds
                return execution, True
        return await self._executions.get(execution_id), patience.when() == end

    async def kill_execution(self, request: Request) -> Response:
        """Kill an execution; a finished one stays as it is."""
        status = await self._executions.kill(request.path_params["execution_id"])
        return json_response({"status": status})

    async def environments(self, _request: Request) -> Response:
        """The environments that requests can name."""
        named = await asyncio.to_thread(self._executions.named_environments)
        return json_response({"environments": [named_content(each) for each in named]})

    async def environment_lock(self, request: Request) -> Response:
        """A requirements.txt that gives the same environment again, to the byte."""
        return PlainTextResponse(self._executions.lock_of(request.path_params["key"]))

    async def environment_sbom(self, request: Request) -> Response:
        """What is in an environment, as CycloneDX JSON."""
        content = self._executions.bill_of_materials_of(request.path_params["key"])
        return json_response(content, headers={"Content-Type": "application/vnd.cyclonedx+json; version=1.6"})

    async def health(self, _request: Request) -> Response:
        """The server is alive."""
        return json_response({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """The server takes work; and the container engine that it uses."""
        if not self._executions.ready:
            raise Unavailable("the server takes no work now: try again later.")
        engine = self._executions.engine
        return json_response({"status": "ok", "engine": engine and engine_content(engine)})

    async def _run(self, request: Request, spec: ExecutionSpec) -> Response:
        hold_of(request).release()  # from here on `executions` counts
        execution = await _connection(request).while_connected(self._executions.run(spec, _caller(request)))
        return self._answers.of(execution, patience=None)

    async def _uploaded_spec(self, request: Request) -> ExecutionSpec:
        """The spec of the upload, whose file `executions` closes from then on."""
        upload = await receive_upload(request, self._spool)
        try:
            read = await self._reader(Metadata, upload.metadata, "metadata")
            is_short = upload.size < INLINE_BYTES and _is_short(upload.metadata)
            return await _unblocking(is_short, lambda: self._specs.from_archive(upload.archive, *read()))
        except BaseException:
            upload.close()
            raise

    async def _reader(
        self, model: type[AnyBody], text: bytearray, what: str
    ) -> Callable[[], tuple[AnyBody, bytes | None]]:
        """What gives the body and, where that is long, its standard input; the text is bounded by then."""
        if _is_short(text):
            return lambda: (parse(model, text, what), None)
        folding = Folding(text, what)
        steps = folding.steps()
        while await self._turns.next(steps) is not None:
            pass
        return lambda: folding.parse(model)


def _is_short(text: bytes | bytearray) -> bool:
    """Whether it is parsed within a millisecond. Many objects are not, however short."""
    return len(text) < INLINE_BYTES and text.count(b"{") + text.count(b"[") < INLINE_OBJECTS


async def _unblocking(is_short: bool, work: Callable[[], Answer]) -> Answer:
    """Do it here, or in a thread where it would keep everybody else waiting."""
    return work() if is_short else await asyncio.to_thread(work)


def _caller(request: Request) -> str | None:
    return request.client.host if request.client else None


def _connection(request: Request) -> Protocol:
    connection: Protocol = request.scope[CONNECTION]
    return connection


def _wait_seconds(text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise InvalidRequest(f"wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS}, not {shown(text)}.")
    return seconds
