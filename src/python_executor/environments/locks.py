"""A lock: exact versions with the hashes of their files. What uv answers, the key of an environment, its inventory.

uv has run in a sandbox, beside packages that nobody knows: what comes out of there is as hostile as a request.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from urllib.parse import quote

from packaging.version import Version

from ..model.errors import EnvironmentFailed
from .requirements import BETWEEN_HASHES, HASH, MAX_HASHES, MAX_NAME, MAX_PIN, MAX_TEXT, Requirements, shown

MAX_PACKAGES = 1_000
KEY_FORMAT = 1  # of what `lock_key` hashes: raise it when equal locks no longer make equal environments

_PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==(\S+)")
_NAMESPACE = uuid.UUID("1fd8a3bc-a036-473a-9af4-8649ae31c9b8")  # of the serial numbers; drawn once
_CYCLONEDX_ALGORITHMS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}


@dataclass(frozen=True, slots=True, order=True)
class LockedPackage:
    """One version of a package, and which files it may come in."""

    name: str  # normalized
    version: str  # normalized
    hashes: tuple[str, ...]  # "sha256:…", sorted; at least one of SHA-256


@dataclass(frozen=True, slots=True)
class Lock:
    """All packages of an environment, sorted, each once."""

    packages: tuple[LockedPackage, ...]

    @property
    def text(self) -> str:
        """A requirements.txt as uv writes it, which `uv pip install --require-hashes` and both our readers take."""
        return "".join(
            BETWEEN_HASHES.join((f"{package.name}=={package.version}", *(f"--hash={one}" for one in package.hashes)))
            + "\n"
            for package in self.packages
        )


def read_lock(text: str) -> Lock:
    """What `uv pip compile --generate-hashes --no-annotate --no-header` printed, or `Lock.text`.

    Raises `ValueError` for anything else.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"the lock is longer than {MAX_TEXT} characters.")
    lines = text.replace(BETWEEN_HASHES, " ").removesuffix("\n").split("\n", MAX_PACKAGES) if text else []
    if len(lines) > MAX_PACKAGES:
        raise ValueError(f"the lock has more than {MAX_PACKAGES} packages.")
    packages = sorted(_locked_package(line) for line in lines)
    if len({package.name for package in packages}) < len(packages):
        raise ValueError("the lock names a package twice.")
    return Lock(tuple(packages))


def held_to_hashes(lock: Lock, requirements: Requirements) -> Lock:
    """The lock with only the hashes that the requirements give, if they give any: resolving doesn't look at them.

    Raises `EnvironmentFailed` where a package is left without.
    """
    if not requirements.has_hashes:
        return lock
    given: dict[str, set[str]] = {}
    for one in requirements.requested:
        given.setdefault(one.name, set()).update(one.hashes)
    return Lock(tuple(_held_to(package, given.get(package.name, set())) for package in lock.packages))


def lock_key(lock: Lock, *, python: str, platform: str, index: str) -> str:
    """The key of the environment that these make: "env_" and 32 hexadecimal digits."""
    packages = [[package.name, package.version, sorted(package.hashes)] for package in sorted(lock.packages)]
    content = json.dumps([KEY_FORMAT, python, platform, index, packages], separators=(",", ":"))
    return "env_" + hashlib.sha256(content.encode()).hexdigest()[:32]


def bill_of_materials(lock: Lock, *, python: str, key: str) -> dict[str, object]:
    """What is in an environment, as CycloneDX 1.6; the same arguments give the same document, so it has no time."""
    interpreter = _interpreter(python)
    components = [interpreter, *(_library(package) for package in lock.packages)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(_NAMESPACE, key).urn,
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "python-executor"}]},
            "component": {
                "type": "application",
                "bom-ref": key,
                "name": "python-executor environment",
                "version": key,
            },
        },
        "components": components,
        "dependencies": [{"ref": key, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _locked_package(line: str) -> LockedPackage:
    pin, *options = line.split(" ")
    found = _PIN.fullmatch(pin) if len(pin) <= MAX_PIN else None
    if not found or len(found[1]) > MAX_NAME or not _is_normalized(found[2]):
        raise ValueError(f"the lock has {shown(pin)} where name==version should be.")
    if len(options) > MAX_HASHES:
        raise ValueError(f"the lock has more than {MAX_HASHES} hashes of {found[1]}.")
    hashes = {_hash(option) for option in options}
    if not any(one.startswith("sha256:") for one in hashes):
        raise ValueError(f"the lock has no SHA-256 of {found[1]}: the index doesn't give one.")
    return LockedPackage(found[1], found[2], tuple(sorted(hashes)))


def _is_normalized(version: str) -> bool:
    try:
        return str(Version(version)) == version
    except ValueError:
        return False


def _hash(option: str) -> str:
    found = HASH.fullmatch(option)
    if not found:
        raise ValueError(f"the lock has {shown(option)} where a --hash should be.")
    return found[1].lower()


def _held_to(package: LockedPackage, given: set[str]) -> LockedPackage:
    hashes = tuple(one for one in package.hashes if one in given)
    if not given:
        raise EnvironmentFailed(
            f"the package {package.name} is needed, too, and the requirements have hashes but none of it: "
            "add it with its hashes, or remove them all."
        )
    if not any(one.startswith("sha256:") for one in hashes):
        raise EnvironmentFailed(
            f"the index has no file of {package.name} {package.version} with a SHA-256 that the requirements give: "
            "correct its hashes, or remove them all."
        )
    return LockedPackage(package.name, package.version, hashes)


def _interpreter(python: str) -> dict[str, object]:
    version = quote(python, safe="")
    return {
        "type": "platform",
        "bom-ref": f"pkg:generic/python@{version}",
        "name": "CPython",
        "version": python,
        "purl": f"pkg:generic/python@{version}",
    }


def _library(package: LockedPackage) -> dict[str, object]:
    purl = f"pkg:pypi/{package.name}@{quote(package.version, safe='')}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        # Not the component's own "hashes": those are of one file, these of all files that it may have come in. The
        # index stays unnamed, because its URL is the operator's and may hold a password.
        "externalReferences": [
            {
                "type": "distribution",
                "url": purl,
                "comment": "any of the files with these hashes",
                "hashes": [_cyclonedx_hash(one) for one in package.hashes],
            }
        ],
    }


def _cyclonedx_hash(one: str) -> dict[str, str]:
    algorithm, _, digits = one.partition(":")
    return {"alg": _CYCLONEDX_ALGORITHMS[algorithm], "content": digits}
