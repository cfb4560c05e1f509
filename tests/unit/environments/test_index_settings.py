"""Whose word on package indexes counts, and that nothing shows their passwords."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_executor.environments.index.settings import PYPI, IndexSettings, Proxies

UV = {"UV_DEFAULT_INDEX": "https://uv/simple", "UV_INDEX": "https://uv-1/s named=https://uv-2/s", "UV_EXTRA_INDEX_URL": "https://uv-3/s"}  # fmt: skip
PIP = {"PIP_INDEX_URL": "https://pip/simple", "PIP_EXTRA_INDEX_URL": "https://pip-1/s https://pip-2/s"}


def urls(environ: dict[str, str], index_url: str | None = None, *extra: str) -> list[str]:
    return list(IndexSettings.from_environment(environ, index_url, extra).urls)


def test_our_own_settings_come_first_then_uvs_then_pips() -> None:
    assert urls({}) == [PYPI]
    assert urls(PIP) == ["https://pip/simple", "https://pip-1/s", "https://pip-2/s"]
    assert urls(PIP | UV) == ["https://uv/simple", "https://uv-1/s", "https://uv-2/s", "https://uv-3/s"]
    assert urls(PIP | UV, "https://own/simple/") == ["https://own/simple"]
    assert urls(PIP | UV, "https://own/simple", "https://own-1") == ["https://own/simple", "https://own-1"]


def test_an_extra_index_leaves_the_default_to_whoever_names_it() -> None:
    assert urls(PIP, None, "https://own-1/simple") == ["https://pip/simple", "https://own-1/simple"]
    assert urls({"UV_INDEX": "https://uv-1/s"}) == [PYPI, "https://uv-1/s"]
    assert urls({"UV_INDEX_URL": "https://uv-old/s"}) == ["https://uv-old/s"]


def test_a_named_index_has_its_credentials_in_uvs_variables() -> None:
    environ = {"UV_INDEX": "my-corp=https://h/simple", "UV_INDEX_MY_CORP_USERNAME": "me", "UV_INDEX_MY_CORP_PASSWORD": "p@:/"}  # fmt: skip
    assert urls(environ)[1] == "https://me:p%40%3A%2F@h/simple"


def test_netrc_is_asked_for_an_index_without_credentials(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine h login me password secret\n")
    found = urls(
        {"NETRC": str(netrc)}, "https://h:8443/simple", "https://you:other@h/simple", "https://elsewhere/simple"
    )
    assert found == ["https://me:secret@h:8443/simple", "https://you:other@h/simple", "https://elsewhere/simple"]
    netrc.write_text("nonsense")
    assert urls({"NETRC": str(netrc)}, "https://h/simple") == ["https://h/simple"]


@pytest.mark.parametrize(
    "url",
    ["/opt/wheels", "file:///opt/wheels", "ftp://me:secret@h/", "https://", "https://me:sec/ret@h/simple",
     "https://me:secret@h:port/simple", "http://me:secret@[h/", "git+https://me:secret@h/x"],
)  # fmt: skip
def test_what_is_no_http_address_is_refused_in_a_line_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the package index .* is no .*$") as caught:
        urls({}, url)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_that_is_shown_has_credentials() -> None:
    settings = IndexSettings.from_environment(
        {"HTTPS_PROXY": "http://me:secret@proxy:3128"}, "https://me:secret@h/simple", ["https://token-secret@g/simple"]
    )
    assert settings.identity == "https://h/simple\nhttps://g/simple"
    assert settings.describe() == "https://h, and before it https://g"
    assert "secret" not in settings.identity + settings.describe() + repr(settings)


def test_certificates_are_pips_or_requests(tmp_path: Path) -> None:
    assert IndexSettings.from_environment({}).ca_bundle is None
    assert IndexSettings.from_environment({"REQUESTS_CA_BUNDLE": str(tmp_path)}).ca_bundle == str(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        IndexSettings.from_environment({"PIP_CERT": "/nowhere.pem", "REQUESTS_CA_BUNDLE": str(tmp_path)})


def test_proxies_are_chosen_by_scheme_and_host() -> None:
    proxies = Proxies.from_environment(
        {"HTTPS_PROXY": "tls:1", "all_proxy": "http://any:2", "NO_PROXY": "corp, .local"}
    )
    assert proxies.of("https", "pypi.org") == "http://tls:1"
    assert proxies.of("http", "pypi.org") == "http://any:2"
    assert [proxies.of("https", host) for host in ("corp", "index.corp", "a.local")] == [None, None, None]
    assert proxies.of("https", "notcorp") == "http://tls:1"
    assert Proxies.from_environment({"PIP_PROXY": "http://pip:3"}).of("https", "h") == "http://pip:3"
    assert Proxies.from_environment({"ALL_PROXY": "http://any:2", "no_proxy": "*"}).of("https", "h") is None


def test_a_proxy_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the proxy socks5://h:1080 is no address that begins with http"):
        Proxies.from_environment({"ALL_PROXY": "socks5://me:secret@h:1080"})


@pytest.mark.parametrize(
    ("environ", "index_url", "torch", "used"),
    [
        ({}, None, None, "https://download.pytorch.org/whl/cpu"),
        ({}, None, "", None),
        ({}, None, "https://me:pw@mirror.example/torch/", "https://me:pw@mirror.example/torch"),
        ({}, "https://mirror.example/simple", None, None),
        ({"PIP_EXTRA_INDEX_URL": "https://mirror.example/simple"}, None, None, None),
        ({}, "https://mirror.example/simple", "https://mirror.example/torch", "https://mirror.example/torch"),
    ],
)
def test_torch_has_an_index_of_its_own_unless_somebody_has_named_indexes(
    environ: dict[str, str], index_url: str | None, torch: str | None, used: str | None
) -> None:
    settings = IndexSettings.from_environment(environ, index_url, torch=torch)
    assert settings.torch == used and "pw" not in repr(settings)
