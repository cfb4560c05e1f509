"""What a build sandbox gets of the package indexes, asked by uv itself and by clients that are up to something."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from python_executor.environments.index import server as index_server
from tests.support import index as fakes
from tests.support.index import JSON, FakeIndex, make_sdist, make_wheel, sha256

from .support import DEMO, DEMO_WHEEL, MEBIBYTE, PATIENCE, Guest, Serve

# With uv


@pytest.mark.parametrize("as_html", [False, True])
def test_uv_resolves_and_installs_with_hashes(serve: Serve, index: FakeIndex, as_html: bool) -> None:
    index.as_html = as_html
    wheel = make_wheel("demo", "1.0", {"demo.py": "import dep\n"}, requires=["dep>=2"])
    index.add(DEMO, wheel)
    index.add("dep-2.0-py3-none-any.whl", make_wheel("dep", "2.0", {"dep.py": ""}))
    index.add("dep-3.0-py3-none-any.whl", make_wheel("dep", "3.0"), requires_python=">=4")
    index.add("dep-2.1-py3-none-any.whl", make_wheel("dep", "2.1"), yanked="a mistake")

    async def act(guest: Guest) -> None:
        status, said = await guest.compile("demo")
        assert status == 0, said
        assert not any(path.endswith(".whl") for path in index.asked())  # PEP 658's files are enough
        assert f"demo==1.0 \\\n    --hash=sha256:{sha256(wheel)}" in guest.read("locked")
        assert "dep==2.0" in guest.read("locked")
        status, said = await guest.install()
        assert status == 0, said
        assert guest.read("target/demo.py") == "import dep\n"

    visit = serve(act, index)
    assert visit.failure is None
    assert not visit.missing | visit.refused | visit.only_sources
    assert index.requests[0].headers["accept"].startswith(f"{JSON}, ")


@pytest.mark.parametrize("ranges", [True, False])
def test_metadata_is_read_from_within_a_wheel_where_there_is_none_beside_it(
    serve: Serve, index: FakeIndex, ranges: bool
) -> None:
    index.metadata, index.ranges = False, ranges
    wheel = make_wheel("demo", "1.0", {"demo/noise.bin": os.urandom(MEBIBYTE)})
    index.add(DEMO, wheel)

    async def act(guest: Guest) -> None:
        status, said = await guest.compile("demo")
        assert status == 0, said

    visit = serve(act, index)
    assert ("range" in index.requests[-1].headers) == ranges
    assert visit.downloaded < MEBIBYTE / 4 if ranges else True


def test_an_extra_index_is_asked_before_the_default_one(serve: Serve, index: FakeIndex, other: FakeIndex) -> None:
    index.add("demo-9.0-py3-none-any.whl", make_wheel("demo", "9.0"))
    index.add("common-1.0-py3-none-any.whl", make_wheel("common", "1.0"))
    other.add(DEMO, DEMO_WHEEL)

    async def act(guest: Guest) -> None:
        status, said = await guest.compile("demo", "common", indexes=2)
        assert status == 0, said
        assert (await guest.install(indexes=2))[0] == 0
        assert guest.read("target/demo.py") == "answer = 42\n"

    assert serve(act, index, other).missing == set()
    assert f"/files/{DEMO}" in other.asked()


def test_torch_is_asked_of_its_own_index_alone_which_is_asked_for_nothing_else(
    serve: Serve, index: FakeIndex, other: FakeIndex
) -> None:
    with FakeIndex() as of_torch:
        for one in (index, other, of_torch):
            one.add("torch-1.0-py3-none-any.whl", make_wheel("torch", "1.0"))
            one.add(DEMO, DEMO_WHEEL)

        async def act(guest: Guest) -> None:
            assert (await guest.compile("torch", "demo", indexes=2))[0] == 0
            assert (await guest.get("/2/simple/demo/"))[0] == (await guest.get("/2/simple/torch/"))[0] == 404
            assert (await guest.compile("torchaudio", indexes=2))[0] != 0

        assert serve(act, index, other, of_torch=of_torch, torch=True).missing == {"torchaudio"}
        assert set(of_torch.asked()) == {"/simple/torch/", "/simple/torchaudio/", *of_torch.files} - {
            f"/files/{DEMO}"
        } - {
            f"/files/{DEMO}.metadata",
            "/files/torch-1.0-py3-none-any.whl",
        }
        assert not [path for path in (*index.asked(), *other.asked()) if "torch" in path]


def test_an_index_of_torch_that_fails_is_told_apart_from_the_others(serve: Serve, index: FakeIndex) -> None:
    with FakeIndex() as of_torch:
        of_torch.faults["/simple/torch/"] = fakes.fails(500)

        async def act(guest: Guest) -> None:
            assert (await guest.compile("torch"))[0] != 0

        visit = serve(act, index, of_torch=of_torch, torch=True)
        assert visit.torch_failure is not None and "answered 500" in visit.torch_failure and not visit.no_index
        index.add("torch-1.0-py3-none-any.whl", make_wheel("torch", "1.0"))

        async def act_without(guest: Guest) -> None:
            assert (await guest.compile("torch"))[0] == 0

        serve(act_without, index, of_torch=of_torch, torch=False)


def test_a_project_without_wheels_is_noted_where_only_wheels_are_wanted(serve: Serve, index: FakeIndex) -> None:
    index.add("old-1.0.tar.gz", make_sdist("old", "1.0"))
    index.add("old-1.0-py3.11.egg", b"")

    async def act(guest: Guest) -> None:
        assert (await guest.compile("old"))[0] != 0
        assert await guest.files("old") == []

    assert serve(act, index).only_sources == {"old"}


def test_source_distributions_are_offered_where_they_are_wanted(serve: Serve, index: FakeIndex) -> None:
    sdist = make_sdist("old", "1.0", {"setup.py": "import setuptools"})
    index.add("old-1.0.tar.gz", sdist)

    async def act(guest: Guest) -> None:
        assert (await guest.download("old"))[2] == sdist

    assert serve(act, index, wheels_only=False).only_sources == set()


def test_a_name_that_is_not_allowed_is_noted_and_never_asked_for(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, make_wheel("demo", "1.0", requires=["evil"]))
    index.add("evil-1.0-py3-none-any.whl", make_wheel("evil", "1.0"))

    async def act(guest: Guest) -> None:
        assert (await guest.compile("demo"))[0] != 0

    visit = serve(act, index, allows=lambda name: name != "evil")
    assert (visit.refused, visit.missing) == ({"evil"}, set())
    assert "/simple/evil/" not in index.asked()


def test_a_name_is_missing_when_no_index_has_it(serve: Serve, index: FakeIndex, other: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)

    async def act(guest: Guest) -> None:
        assert (await guest.compile("demo", indexes=2))[0] == 0
        assert (await guest.compile("nowhere", indexes=2))[0] != 0

    assert serve(act, index, other).missing == {"nowhere"}


def test_uv_sees_that_a_file_is_not_what_its_page_has_promised(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL, hashes={"sha256": sha256(b"something else")})

    async def act(guest: Guest) -> None:
        assert (await guest.compile("demo"))[0] == 0
        status, said = await guest.install()
        assert status != 0
        assert "Hash mismatch" in said

    serve(act, index)


# What goes wrong on the indexes' side is told in words


@pytest.mark.usefixtures("impatient")
def test_an_index_that_hangs_is_named(serve: Serve, index: FakeIndex) -> None:
    index.faults["/simple/demo/"] = fakes.hangs

    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 504
        assert (await guest.compile("demo"))[0] != 0

    assert serve(act, index).failure == f"the package index {index.root}/… did not answer within {PATIENCE} s"


@pytest.mark.usefixtures("impatient")
def test_a_file_may_take_long_as_long_as_bytes_come(serve: Serve, index: FakeIndex) -> None:
    index.add("demo-1.0.tar.gz", b"a few bytes")
    index.faults["/files/demo-1.0.tar.gz"] = fakes.drips(PATIENCE / 8)

    async def act(guest: Guest) -> None:
        assert (await guest.download())[2] == b"a few bytes"

    assert serve(act, index, wheels_only=False).failure is None


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (fakes.fails(500), 502, "answered 500"),
        (fakes.fails(503), 502, "answered 503"),
        (fakes.fails(429), 429, "answered 429"),
        (fakes.fails(403), 403, "refused access (403): are its credentials right?"),
        (fakes.redirects("/simple/demo/"), 502, "redirects more than 5 times"),
    ],
)
def test_an_index_that_fails_is_named_without_its_password(
    serve: Serve, index: FakeIndex, fault: fakes.Fault, status: int, text: str
) -> None:
    index.faults["/simple/demo/"] = fault

    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == status

    url = index.url.replace("http://", "http://me:secret@")
    assert serve(act, url).failure == f"the package index {index.root}/… {text}"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://me:secret@127.0.0.1:1/simple", "http://127.0.0.1:1/… can't be reached: Connection refused"),
        ("http://me:secret@nowhere.invalid/simple", "http://nowhere.invalid/… can't be reached: its name is not known"),
    ],
)
def test_an_index_that_can_not_be_reached_is_named(serve: Serve, url: str, text: str) -> None:
    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 502

    failure = serve(act, url).failure or ""
    assert failure.startswith(f"the package index {text}")
    assert "secret" not in failure


def test_an_index_without_tls_where_tls_is_expected_is_named(serve: Serve, index: FakeIndex) -> None:
    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 502

    failure = serve(act, index.url.replace("http:", "https:")).failure or ""
    assert "can't be reached: TLS failed" in failure


def test_a_page_that_is_none_is_named(serve: Serve, index: FakeIndex) -> None:
    index.faults["/simple/demo/"] = lambda handler: handler.answer(200, b"{}", Content_Type=JSON)

    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 502

    assert "answered with what is no page of it" in (serve(act, index).failure or "")


def test_a_file_that_breaks_off_breaks_off_in_the_sandbox_too(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)
    index.faults[f"/files/{DEMO}"] = fakes.is_cut

    async def act(guest: Guest) -> None:
        with pytest.raises(aiohttp.ClientError):
            await guest.download()

    assert "broke off" in (serve(act, index).failure or "")


# How much


@pytest.mark.parametrize("declared_by", ["page", "header"])
def test_a_file_that_is_too_large_is_refused_before_it_is_fetched(
    serve: Serve, index: FakeIndex, declared_by: str
) -> None:
    size = 5 * 1024 * MEBIBYTE
    index.add(DEMO, DEMO_WHEEL, size=size if declared_by == "page" else None)
    index.faults[f"/files/{DEMO}"] = fakes.is_endless(size)

    async def act(guest: Guest) -> None:
        assert (await guest.download())[0] == 413
        assert (await guest.compile("demo"))[0] == 0  # its metadata is small
        status, said = await guest.install()
        assert (status != 0, "413" in said) == (True, True)

    visit = serve(act, index)
    assert visit.failure == "the packages are larger than 100 MiB"
    assert visit.downloaded < MEBIBYTE
    assert (f"/files/{DEMO}" in index.asked()) == (declared_by == "header")


def test_files_that_turn_out_too_large_are_cut(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)
    index.faults[f"/files/{DEMO}"] = fakes.is_endless(None)

    async def act(guest: Guest) -> None:
        with pytest.raises(aiohttp.ClientError):
            await guest.download()
        assert (await guest.download())[0] == 413

    visit = serve(act, index, download_max=4 * MEBIBYTE)
    assert visit.failure == "the packages are larger than 4 MiB"
    assert 4 * MEBIBYTE < visit.downloaded < 5 * MEBIBYTE


def test_a_page_that_is_too_large_is_refused(serve: Serve, index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_server, "PAGE_MAX", MEBIBYTE)
    index.faults["/simple/demo/"] = fakes.is_endless(None)

    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 413

    assert "are too large" in (serve(act, index).failure or "")


def test_a_page_of_thousands_of_files_is_served(serve: Serve, index: FakeIndex) -> None:
    for number in range(2000):
        index.add(f"demo-{number}-py3-none-any.whl", DEMO_WHEEL)

    async def act(guest: Guest) -> None:
        files = await guest.files("demo")
        assert [file["filename"] for file in files] == [f"demo-{n}-py3-none-any.whl" for n in range(2000)]
        assert (await guest.get(files[-1]["url"]))[2] == DEMO_WHEEL
        await guest.files("demo")

    serve(act, index)
    assert index.asked().count("/simple/demo/") == 1


def test_nothing_more_is_read_for_a_client_that_does_not_read(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)
    index.faults[f"/files/{DEMO}"] = fakes.is_endless(None)

    async def act(guest: Guest) -> None:
        path = (await guest.files("demo"))[0]["url"]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(guest.url.rpartition(":")[2]), limit=1024)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readline()
        await asyncio.sleep(0.3)
        before = guest.visit.downloaded
        await asyncio.sleep(0.3)
        assert guest.visit.downloaded == before
        writer.close()

    serve(act, index, download_max=1024 * MEBIBYTE)


def test_progress_is_told_over_all_files(serve: Serve, index: FakeIndex) -> None:
    wheel = make_wheel("demo", "1.0", {"noise.bin": os.urandom(2 * MEBIBYTE)})
    index.add(DEMO, wheel)
    told = []

    async def act(guest: Guest) -> None:
        for _ in range(2):
            await guest.download()
            await asyncio.sleep(0.11)
        told.extend(guest.told)

    serve(act, index)
    assert 2 <= len(told) <= 4
    assert told[0][0] == told[-1][0] == DEMO
    assert 0 < told[0][1] <= told[0][2] == len(wheel)
    assert len(wheel) < told[-1][1] <= told[-1][2] == 2 * len(wheel)


# Nothing else


@pytest.mark.parametrize(
    "path",
    ["/", "/0", "/0/simple/", "/1/simple/demo/", "/0/simple/demo", "/0/simple/../../etc/", "/0/simple/a%2Fb/",
     "/0/files/0-1/" + DEMO, "/0/files/1-0/" + DEMO, "/0/files/0-0/other.whl", "/0/files/0-0/" + DEMO + ".asc",
     "/1/files/0-0/" + DEMO, "http://127.0.0.1/0/simple/demo/"],
)  # fmt: skip
def test_what_no_page_has_named_is_not_there(serve: Serve, index: FakeIndex, path: str) -> None:
    index.add(DEMO, DEMO_WHEEL)

    async def act(guest: Guest) -> None:
        await guest.files("demo")
        asked = len(index.requests)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(guest.url.rpartition(":")[2]))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert b" 404 " in await reader.readline() or path.startswith("http")
        writer.close()
        assert len(index.requests) == asked

    serve(act, index)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PROPFIND"])
def test_indexes_can_only_be_read(serve: Serve, index: FakeIndex, method: str) -> None:
    async def act(guest: Guest) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(guest.url.rpartition(":")[2]))
        request = (
            f"{method} /0/simple/demo/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\n"
        )
        writer.write(request.encode())
        status = int((await reader.readline()).split()[1])
        assert status in (400, 404, 405)
        await asyncio.wait_for(reader.read(), 5)  # it does not wait for the body
        writer.close()

    serve(act, index)
    assert index.requests == []


def test_only_the_normalized_name_has_a_page(serve: Serve, index: FakeIndex) -> None:
    async def act(guest: Guest) -> None:
        status, headers, _ = await guest.get("/0/simple/My_.Package/")
        assert (status, headers["Location"]) == (301, "/0/simple/my-package/")
        assert (await guest.get("/0/simple/-broken-/"))[0] == 404
        assert (await guest.get(f"/0/simple/{'a' * 300}/"))[0] == 404

    assert serve(act, index).missing == set()
    assert index.requests == []


def test_ranges_and_heads_pass_both_ways(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)
    size = len(DEMO_WHEEL)

    async def act(guest: Guest) -> None:
        status, headers, body = await guest.download(Range="bytes=2-5")
        assert (status, body) == (206, DEMO_WHEEL[2:6])
        assert (headers["Content-Range"], headers["Content-Length"]) == (f"bytes 2-5/{size}", "4")
        assert (await guest.download(Range="bytes=-7"))[2] == DEMO_WHEEL[-7:]
        assert (await guest.download(Range="bytes=0-1,4-5"))[2] == DEMO_WHEEL
        status, headers, body = await guest.download(method="HEAD")
        assert (status, headers["Content-Length"], headers["Accept-Ranges"], body) == (200, str(size), "bytes", b"")
        assert (await guest.download(suffix=".metadata"))[2].startswith(b"Metadata-Version:")

    assert serve(act, index).failure is None


def test_metadata_that_is_not_there_is_no_failure(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)
    index.faults[f"/files/{DEMO}.metadata"] = fakes.fails(404)
    index.faults[f"/files/{DEMO}"] = fakes.fails(404)

    async def act(guest: Guest) -> None:
        assert (await guest.download(suffix=".metadata"))[::2] == (404, b"")
        assert guest.visit.failure is None
        assert (await guest.download())[0] == 404

    assert "lacks a file that its page names" in (serve(act, index).failure or "")


def test_a_page_keeps_only_what_the_specification_knows(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL, requires_python=">=3.9", yanked="broken")
    index.add("demo-1.0.exe", b"")
    index.pages["demo"][0] |= {
        "gpg-sig": True,
        "provenance": "https://somewhere",
        "upload-time": "2026-01-01T00:00:00Z",
    }

    async def act(guest: Guest) -> None:
        files = await guest.files("demo")
        metadata = index.pages["demo"][0]["core-metadata"]
        expected = {"filename": DEMO, "url": f"/0/files/0-0/{DEMO}", "hashes": {"sha256": sha256(DEMO_WHEEL)},
                    "size": len(DEMO_WHEEL), "requires-python": ">=3.9", "yanked": "broken",
                    "core-metadata": metadata, "upload-time": "2026-01-01T00:00:00Z"}  # fmt: skip
        assert files == [expected]

    serve(act, index)


def test_a_page_in_html_says_the_same(serve: Serve, index: FakeIndex) -> None:
    index.as_html = True
    index.add(DEMO, DEMO_WHEEL, requires_python=">=3.9,<4", yanked="broken & bad")
    index.add("demo-1.0+local.1-py3-none-any.whl", DEMO_WHEEL)

    async def act(guest: Guest) -> None:
        first, second = await guest.files("demo")
        assert (first["requires-python"], first["yanked"]) == (">=3.9,<4", "broken & bad")
        assert first["hashes"] == second["hashes"] == {"sha256": sha256(DEMO_WHEEL)}
        assert first["core-metadata"] == index.pages["demo"][0]["core-metadata"]
        assert (await guest.get(second["url"]))[2] == DEMO_WHEEL

    serve(act, index)


def test_the_spelling_of_a_url_is_kept(serve: Serve, index: FakeIndex) -> None:
    asked = []

    def note(handler: fakes.Handler) -> None:
        asked.append(handler.path)
        handler.answer(200, b"x")

    index.add(DEMO, DEMO_WHEEL, url=f"{index.root}/files/torch%2Bcpu/a%2Fb?X-Sig=a%2Fb%3D")
    index.faults["/files/torch+cpu/a/b"] = note

    async def act(guest: Guest) -> None:
        assert (await guest.download())[2] == b"x"

    serve(act, index)
    assert asked == ["/files/torch%2Bcpu/a%2Fb?X-Sig=a%2Fb%3D"]


def test_a_build_that_asks_too_much_gets_no_more_answers(
    serve: Serve, index: FakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_server, "REQUESTS_MAX", 3)

    async def act(guest: Guest) -> None:
        async with aiohttp.ClientSession() as session:
            statuses = []
            for _ in range(4):
                async with session.get(f"{guest.url}/0/simple/demo/") as response:
                    statuses.append(response.status)
        assert statuses == [404, 404, 404, 500]

    assert serve(act, index).failure == "the build has sent more than 3 requests"


def test_connections_beyond_the_bound_are_ended_at_once(
    serve: Serve, index: FakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_server, "CONNECTIONS_MAX", 2)

    async def act(guest: Guest) -> None:
        port = int(guest.url.rpartition(":")[2])
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientError):
            await guest.get("/0/simple/demo/")
        for _, writer in open_ones:
            writer.close()
        await asyncio.sleep(0.05)
        assert (await guest.get("/0/simple/demo/"))[0] == 404

    serve(act, index)


def test_large_bodies_can_be_put_to_a_route_of_the_caller(serve: Serve, index: FakeIndex) -> None:
    received = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal received
        async for chunk in request.content.iter_any():
            received += len(chunk)
        return web.Response(status=204)

    async def act(guest: Guest) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{guest.url}/result", data=_much(), headers={"Content-Encoding": "gzip"}) as response,
        ):
            assert response.status == 204

    async def _much() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(MEBIBYTE)

    serve(act, index, routes=[web.put("/result", take)])
    assert received == 64 * MEBIBYTE


def test_a_visit_that_ends_cuts_what_is_still_under_way(serve: Serve, index: FakeIndex) -> None:
    index.faults["/simple/demo/"] = fakes.hangs
    left = []

    async def act(guest: Guest) -> None:
        left.append(asyncio.ensure_future(guest.get("/0/simple/demo/")))
        await asyncio.sleep(0.1)

    assert serve(act, index).failure is None
    assert left[0].cancelled() or left[0].exception() is not None


def test_a_server_starts_without_the_http_client() -> None:
    code = "import sys, python_executor.environments.index; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
