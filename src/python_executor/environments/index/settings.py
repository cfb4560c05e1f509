"""Which package indexes the operator has, and how they are reached.

Our own settings say it, else uv's variables, else pip's, else it is PyPI. A default index and extra ones may come from
different ones of these: who sets an extra index with us and a mirror with pip gets both. Credentials come from the URL,
from uv's variables for a named index, or from netrc. Nothing but variables is read of uv's and pip's configuration.
"""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlsplit

import structlog

PYPI = "https://pypi.org/simple"
TORCH = "https://download.pytorch.org/whl/cpu"
TORCH_PACKAGES = frozenset({"torch", "torchvision", "torchaudio"})
CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE")  # OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR
NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.+)")  # uv's name=URL
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The operator's way to the internet, each perhaps with user:password@."""

    http: str | None = field(default=None, repr=False)  # for URLs of that scheme
    https: str | None = field(default=None, repr=False)
    bypassed: tuple[str, ...] = ()  # NO_PROXY: hosts, domains or *

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in either case, else PIP_PROXY. Raises ValueError."""

        def variable(name: str) -> str:
            return environ.get(name) or environ.get(name.upper()) or ""

        everything = variable("all_proxy") or environ.get("PIP_PROXY", "")
        return cls(
            http=_proxy(variable("http_proxy") or everything),
            https=_proxy(variable("https_proxy") or everything),
            bypassed=tuple(part.strip().lower() for part in variable("no_proxy").split(",") if part.strip()),
        )

    def of(self, scheme: str, host: str) -> str | None:
        """The proxy for such a URL."""
        if self._bypasses(host.lower()):
            return None
        return self.https if scheme == "https" else self.http

    def _bypasses(self, host: str) -> bool:
        domains = (part.lstrip("*").lstrip(".") for part in self.bypassed)
        return "*" in self.bypassed or any(host == domain or host.endswith(f".{domain}") for domain in domains)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The operator's indexes, the first of them the default; the others are asked before it, in their order."""

    urls: tuple[str, ...] = field(repr=False)  # each perhaps with user:password@
    ca_bundle: str | None = None  # file or directory of certificates that are trusted besides the system's
    proxies: Proxies = Proxies()
    unusable: str | None = None  # why nothing can be had from them
    torch: str | None = field(default=None, repr=False)  # the index of `TORCH_PACKAGES` alone, as the others
    hosts: tuple[str, ...] = ()  # that files may come from, though they are not public; the indexes' own always are

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        index_url: str | None = None,
        extra: Sequence[str] = (),
        hosts: Sequence[str] = (),
        torch: str | None = "",
    ) -> IndexSettings:
        """Raises ValueError for what can't be used, in one line that shows no credentials.

        `torch` is None for PyTorch's own index where nobody has named any, "" for none.
        """
        default, extras = _chosen(environ, index_url, extra)
        if torch is None:  # who names indexes of their own has decided where packages come from
            torch = TORCH if default == PYPI and not extras else ""
        bundle = next((environ[name] for name in CERTIFICATES if environ.get(name)), None)
        if bundle and not os.path.exists(bundle):
            raise ValueError(f"the certificates in {bundle} can't be read: there is no such file")
        return cls(
            urls=tuple(_with_login(entry, environ) for entry in (default, *extras)),
            ca_bundle=bundle,
            proxies=Proxies.from_environment(environ),
            torch=_with_login(torch, environ) if torch else None,
            hosts=tuple(host.lower() for host in hosts),
        )

    @property
    def identity(self) -> str:
        """What says whether two settings offer the same packages: the URLs without credentials."""
        return "\n".join(map(without_login, self.urls))

    def describe(self) -> str:
        """For people: neither credentials nor paths, which may hold some."""
        default, *extras = (f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}" for url in self.urls)
        return f"{default}, and before it {', '.join(extras)}" if extras else default


def without_login(url: str) -> str:
    """The URL without user and password, even if it is a broken one."""
    return re.sub(r"//.*@", "//", url)


def _chosen(environ: Mapping[str, str], index_url: str | None, extra: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The default index, and the extra ones of whoever says anything about indexes first."""
    uv_extra = f"{environ.get('UV_INDEX', '')} {environ.get('UV_EXTRA_INDEX_URL', '')}".split()
    sources: list[tuple[str | None, Sequence[str]]] = [
        (index_url, extra),
        (environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL"), uv_extra),
        (environ.get("PIP_INDEX_URL"), environ.get("PIP_EXTRA_INDEX_URL", "").split()),
    ]
    default = next((default for default, _ in sources if default), PYPI)
    return default, next((extras for default, extras in sources if default or extras), ())


def _with_login(entry: str, environ: Mapping[str, str]) -> str:
    """An index as it was named, checked, as a URL with the credentials that belong to it."""
    name, url = match.groups() if (match := NAMED.fullmatch(entry)) else ("", entry)
    parts = _checked(url, "package index")
    user, password = _login_of_name(name, environ) if name else ("", "")
    if not user and not password and parts.username is None:
        user, password = _login_of_host(parts.hostname or "", environ)
    if user or password:
        host = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}")
    return parts._replace(path=parts.path.rstrip("/"), query="", fragment="").geturl()


def _login_of_name(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    prefix = f"UV_INDEX_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"
    return environ.get(f"{prefix}_USERNAME", ""), environ.get(f"{prefix}_PASSWORD", "")


def _login_of_host(host: str, environ: Mapping[str, str]) -> tuple[str, str]:
    path = environ.get("NETRC") or os.path.join(environ.get("HOME", ""), ".netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        return "", ""
    except (OSError, netrc.NetrcParseError) as error:
        log.warning("netrc could not be read", path=path, reason=type(error).__name__)
        return "", ""
    return (found[0] or "", found[2] or "") if found else ("", "")


def _checked(url: str, what: str) -> SplitResult:
    shown = without_login(url)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"the {what} {shown} is no proper address") from None  # whose reason may show a password
    if not usable:
        raise ValueError(f"the {what} {shown} is no address that begins with http:// or https:// and a host")
    return parts


def _proxy(url: str) -> str | None:
    if not url:
        return None
    return _checked(url if "://" in url else f"http://{url}", "proxy").geturl()
