"""Where the server goes for a build sandbox: to the operator's indexes, to the public internet, nowhere else."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from python_executor.environments.index.addresses import is_public
from python_executor.environments.index.settings import Proxies
from tests.support import index as fakes
from tests.support.index import FakeIndex

from .support import DEMO, DEMO_WHEEL, Guest, Serve


def test_credentials_reach_their_index_and_nobody_else(serve: Serve, other: FakeIndex) -> None:
    other.add(DEMO, DEMO_WHEEL)
    with FakeIndex(login=("me", "s:e/cret")) as private:
        private.add(DEMO, DEMO_WHEEL)
        private.faults[f"/files/{DEMO}"] = fakes.redirects(f"{other.root}/files/{DEMO}")

        async def act(guest: Guest) -> None:
            status, headers, body = await guest.download()
            assert (status, body) == (200, DEMO_WHEEL)
            assert "Location" not in headers

        serve(act, private.url.replace("http://", "http://me:s%3Ae%2Fcret@"), other)
        assert private.authorization is not None
        assert {request.headers["authorization"] for request in private.requests} == {private.authorization}
    assert [request.path for request in other.requests] == [f"/files/{DEMO}"]
    assert "authorization" not in other.requests[0].headers


def test_credentials_are_not_used_for_what_another_index_has_named(serve: Serve, index: FakeIndex) -> None:
    with FakeIndex(login=("me", "secret")) as private:
        private.add(DEMO, DEMO_WHEEL)
        index.add(DEMO, DEMO_WHEEL, url=f"{private.root}/files/{DEMO}")

        async def act(guest: Guest) -> None:
            url = (await guest.files("demo"))[0]["url"]
            assert (await guest.get(url))[0] == 401
            assert (await guest.get(url.replace("/0/files/", "/1/files/")))[0] == 404

        serve(act, index, private.url.replace("http://", "http://me:secret@"))
        assert [request.headers.get("authorization") for request in private.requests] == [None]


def test_an_index_may_be_at_the_root_of_its_host(serve: Serve, index: FakeIndex) -> None:
    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 404

    assert serve(act, index.root).missing == {"demo"}
    assert index.asked() == ["/demo/"]


def test_wrong_credentials_are_told(serve: Serve) -> None:
    with FakeIndex(login=("me", "right")) as private:

        async def act(guest: Guest) -> None:
            assert (await guest.get("/0/simple/demo/"))[0] == 401

        failure = serve(act, private.url.replace("http://", "http://me:wrong@")).failure
        assert failure == f"the package index {private.root}/… refused access (401): are its credentials right?"


@pytest.mark.parametrize("host", ["localhost", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2", "127.1", "2130706433",
                                  "0x7f.1", "169.254.169.254", "10.0.0.1"])  # fmt: skip
@pytest.mark.parametrize("how", ["page", "redirect"])
def test_no_page_leads_to_an_address_that_is_not_public(
    serve: Serve, index: FakeIndex, other: FakeIndex, host: str, how: str
) -> None:
    url = f"{other.root}/files/{DEMO}".replace("127.0.0.1", host)
    index.add(DEMO, DEMO_WHEEL, url=url if how == "page" else None)
    index.faults[f"/files/{DEMO}"] = fakes.redirects(url)

    async def act(guest: Guest) -> None:
        assert (await guest.download())[0] == 502

    assert "which is not on the public internet" in (serve(act, index).failure or "")
    assert other.requests == []


def test_no_page_leads_to_another_service_of_a_host_that_has_an_index(
    serve: Serve, index: FakeIndex, other: FakeIndex
) -> None:
    index.add(DEMO, DEMO_WHEEL, url=f"{other.root}/files/{DEMO}")

    async def act(guest: Guest) -> None:
        assert (await guest.download())[0] == 502

    assert "which is not on the public internet" in (serve(act, index).failure or "")
    assert other.requests == []


def test_the_operator_can_name_a_host_that_files_come_from(serve: Serve, index: FakeIndex, other: FakeIndex) -> None:
    other.add(DEMO, DEMO_WHEEL)
    index.add(DEMO, DEMO_WHEEL, url=f"{other.root}/files/{DEMO}".replace("127.0.0.1", "localhost"))

    async def act(guest: Guest) -> None:
        assert (await guest.download())[2] == DEMO_WHEEL

    assert serve(act, index, hosts=("localhost",)).failure is None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "//[", "http://h:0/"])
def test_no_page_leads_to_what_is_not_http(serve: Serve, index: FakeIndex, url: str) -> None:
    index.add(DEMO, DEMO_WHEEL, url=url)

    async def act(guest: Guest) -> None:
        assert (await guest.download())[0] == 502

    assert serve(act, index).failure == "a package index names a file at an address that is not http:// or https://"


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "151.101.0.223", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "168.63.129.16", "169.254.169.254",
     "172.16.0.1", "192.0.0.192", "192.88.99.1", "192.168.1.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
     "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::",
     "2001::1", "2001:db8::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


def test_a_proxy_of_the_operators_is_the_way_and_gets_its_credentials(serve: Serve, index: FakeIndex) -> None:
    index.add(DEMO, DEMO_WHEEL)
    proxies = Proxies(http=index.root.replace("http://", "http://me:secret@"))

    async def act(guest: Guest) -> None:
        assert (await guest.download())[2] == DEMO_WHEEL

    visit = serve(act, "http://index.invalid/simple", proxies=proxies)
    assert visit.failure is None
    assert {request.headers["proxy-authorization"] for request in index.requests} == {"Basic bWU6c2VjcmV0"}
    assert {request.headers["host"] for request in index.requests} == {"index.invalid"}


def test_a_proxy_that_refuses_is_told(serve: Serve, index: FakeIndex) -> None:
    async def act(guest: Guest) -> None:
        assert (await guest.get("/0/simple/demo/"))[0] == 502

    failure = serve(act, "https://index.invalid/simple", proxies=Proxies(https=index.root)).failure
    assert failure == "the proxy refused the way to the package index https://index.invalid/…: it answered 405"
