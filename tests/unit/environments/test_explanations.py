"""Why there are no packages, in one line for whoever asked for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from python_executor.environments.build import BuildPolicy, Run, explanation, one_line
from python_executor.environments.cache import Draft
from python_executor.environments.index.settings import IndexSettings
from python_executor.environments.requirements import PackageFilter
from python_executor.model.errors import BackendError
from python_executor.model.events import Exited, Stderr, Termination, Usage
from tests.support.index import FakeIndex

from .support import visiting

INDEX = "https://pypi.org/simple"
POLICY = BuildPolicy(wheels_only=True, filter=PackageFilter((), ("evil",)), max_mb=64, timeout_seconds=9)
FAILED = Exited(1, Termination.EXITED, Usage())


async def take(_request: object) -> None:
    """Never called."""


def run(*events: object) -> Run:
    made = Run(take)
    for event in events:
        made.feed(event)
    return made


def told(made: Run) -> str:
    text = explanation(made, POLICY, INDEX)
    assert "\n" not in text
    return text.removeprefix("the packages could not be installed: ")


def test_uv_is_quoted_without_its_drawing_and_with_the_operators_index() -> None:
    drawn = "  × No solution found:\n  ╰─▶ Because a was not found at http://127.0.0.1:3141/0/simple/, no.\n"
    assert one_line(drawn, INDEX) == f"No solution found: Because a was not found at {INDEX} , no."
    assert (
        one_line("error: No solution found\n  cause: Because b\x1b[1m\n", INDEX) == "No solution found: Because b [1m"
    )


def test_what_we_know_goes_before_what_uv_says() -> None:
    made = run(Stderr(b"uv's own words"), FAILED)
    made.visit.refused.add("evil")
    made.visit.only_sources.add("old")
    made.visit.failure = "the package index did not answer"
    parts = told(made).split("; ")
    assert parts[0].startswith("the package 'evil' is not allowed on this server (PACKAGES_DENY)")
    assert "old has no wheel, only source distributions" in parts[-3] and "(PACKAGE_BUILDS)" in parts[-3]
    assert parts[-2:] == ["the package index did not answer", "uv's own words"]


def test_a_limit_that_was_reached_is_named() -> None:
    assert told(run()) == "it took longer than 9 s (ENVIRONMENT_TIMEOUT)"
    too_large = "the packages take more than 64 MiB (ENVIRONMENT_MAX_MB)"
    assert told(run(Exited(137, Termination.MEMORY, Usage()))) == too_large
    assert told(run(Stderr(b"No space left on device (os error 28)"), FAILED)) == too_large


def test_what_could_not_be_taken_in_is_told() -> None:
    made = run(Stderr(b"a broken pipe"), FAILED)
    made.refusal = "a path does not lead below the environment"
    assert told(made) == "a path does not lead below the environment"


def test_silence_is_told_as_such() -> None:
    assert told(run(FAILED)) == "uv ended with exit code 1"


@pytest.mark.parametrize("length", [10, 100_000])
def test_it_has_a_bound(length: int) -> None:
    assert len(told(run(*[Stderr(b"word " * length)] * 20, FAILED))) <= 2000


CUT = b"PUT /result HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf"
CHUNKED = b"PUT /result HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"


@pytest.mark.parametrize(("sent", "then"), [(CUT, b""), (CHUNKED, b""), (CHUNKED, b"zz\r\nno chunk\r\n")])
def test_a_result_that_breaks_off_is_no_failure_of_ours(
    sent: bytes, then: bytes, index: FakeIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def receive(request: web.Request) -> None:
        await request.read()

    made = Run(receive)

    async def main() -> None:
        async with visiting(IndexSettings((index.url,)), tmp_path, routes=made.routes()) as guest:
            _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(guest.url).port)
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(then)
            await asyncio.sleep(0.1)
            writer.close()
            await asyncio.sleep(0.2)

    asyncio.run(main())
    assert (made.broken, made.has_succeeded) == (None, False)
    assert "failed" not in capsys.readouterr().out


def test_a_result_that_we_cannot_keep_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Draft(tmp_path, 1 << 20)

    def fail(_data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(draft.receiver, "feed", fail)
    with pytest.raises(BackendError, match="No space left on device"):
        draft.feed(b"")
    draft.close()
