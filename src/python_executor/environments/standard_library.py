"""Names of the standard library among requirements: many write `json` or `sqlite3` there, and no index has them."""

from __future__ import annotations

import sys

from packaging.utils import canonicalize_name

from ..model.spec import Interpreter
from .requirements import Requested, Requirements

# Where the versions of Python that code can have differ from each other: the first one with the module, or without it.
_CAME = {"graphlib": (3, 9), "zoneinfo": (3, 9), "tomllib": (3, 11), "annotationlib": (3, 14), "compression": (3, 14)}
_WENT = {
    **dict.fromkeys(("formatter", "parser", "symbol"), (3, 10)),
    **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), (3, 12)),
    **dict.fromkeys(("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap"), (3, 13)),
    **dict.fromkeys(("nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib"), (3, 13)),
    "binhex": (3, 11), "uu": (3, 13), "xdrlib": (3, 13),
}  # fmt: skip
_ALWAYS = sys.stdlib_module_names - _CAME.keys() - _WENT.keys()  # of our own interpreter, which may be any of them

# Distributions of such a name that have another module, too: backports.configparser, and Zope's DateTime.
_DISTRIBUTIONS = {"configparser", "datetime"}


def without_standard_library(
    requirements: Requirements, interpreter: Interpreter
) -> tuple[Requirements, tuple[str, ...]]:
    """Return what is to be installed, and warnings about what Python has itself.

    A backport, such as `dataclasses`, is left out likewise: the module of Python's own goes before it. What has hashes
    or a marker is kept, since whoever wrote that means a distribution.
    """
    known = _normalized_names(interpreter)
    left_out = [one for one in requirements.requested if one.name in known and _may_mean_a_module(one)]
    if not left_out:
        return requirements, ()
    names = ", ".join(dict.fromkeys(one.name for one in left_out))
    verb = "is" if len(left_out) == 1 else "are"
    kept = tuple(one for one in requirements.requested if one not in left_out)
    return Requirements(kept), (
        f"{names} {verb} part of Python {interpreter.minor_version}, not packages: the requirements do not need that",
    )


def _may_mean_a_module(one: Requested) -> bool:
    return one.name not in _DISTRIBUTIONS and not one.hashes and ";" not in one.requirement


def _normalized_names(interpreter: Interpreter) -> set[str]:
    """Return the standard library of that version, spelled as distributions are."""
    major, minor = interpreter.minor_version.split(".")
    version = int(major), int(minor)
    came = {name for name, since in _CAME.items() if version >= since}
    still = {name for name, until in _WENT.items() if version < until}
    return {canonicalize_name(name) for name in _ALWAYS | came | still}
