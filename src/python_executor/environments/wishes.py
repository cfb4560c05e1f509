"""What code would have installed, going by what was found in it: as much of that as can be had is installed.

import cv2                         opencv-python-headless    by the table of import names
import pandas; df.to_excel(…)      pandas, openpyxl          by the table of optional needs
subprocess … pip install humanize  humanize                  as it stands there: it is had before the code runs
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..model.errors import EnvironmentFailed
from ..model.spec import Interpreter
from .import_names import distributions_for
from .imports import Imports
from .needs import needs_of
from .requirements import Requirements, read_requirements
from .standard_library import without_standard_library


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that is wanted of a distribution."""

    what: str  # "cv2"; for people
    name: str | None  # normalized, of the distribution; None where none is known
    requirement: str = ""  # "setuptools<82"
    is_needed: bool = True  # whether the code says that it can't do without
    module: str = ""  # dotted name of what the code imports, if it does
    is_extra: bool = False  # no import says so, and the code may never get to it: it must not keep imports from theirs

    def hint(self, absent: Mapping[str, str]) -> str:
        """Return why it is not there, for code that failed to import something."""
        if self.name is None:
            return f"no package is known that has {self.what}: name the one you mean in requirements_txt"
        return f"{self.what} could not be had from the package {self.name}: {absent[self.name]}"


def wishes_of(imports: Imports, interpreter: Interpreter) -> list[Wish]:
    """Return all that code would have."""
    found = [_imported(name, to, is_needed=True) for name, to in distributions_for(imports.needed).items()]
    found += [_imported(name, to, is_needed=False) for name, to in distributions_for(imports.optional).items()]
    found += _optional_needs(imports)
    return [*found, *_pip_installs(imports.installs, interpreter)]


def as_requirements(wishes: Iterable[Wish], names: Collection[str]) -> Requirements:
    """Return what to install for the wishes that are for these distributions."""
    lines = {wish.requirement for wish in wishes if wish.name in names}
    return read_requirements("\n".join(sorted(lines)), "the imports")


def without_extras(wishes: Sequence[Wish], names: Collection[str]) -> list[Wish] | None:
    """Return the wishes without the extras that stand in the way; None if none do.

    `names` can't be had as things are. Where an import wants them, too, an extra's version of it may be why; where no
    name is to blame, such a version of any import, or else any extra.
    """
    imported = {wish.name for wish in wishes if not wish.is_extra}
    extras = {wish.name for wish in wishes if wish.is_extra}
    blamed = imported.intersection(names) if names else extras & imported or extras
    kept = [wish for wish in wishes if not (wish.is_extra and wish.name in blamed)]
    return kept if len(kept) < len(wishes) else None


def _imported(module: str, requirement: str | None, *, is_needed: bool) -> Wish:
    name = None if requirement is None else canonicalize_name(Requirement(requirement).name)
    return Wish(module, name, requirement or "", is_needed, module)


def _optional_needs(imports: Imports) -> Iterator[Wish]:
    for need in needs_of((*imports.needed, *imports.optional), imports.signs):
        for package in need.packages:
            name = canonicalize_name(Requirement(package).name)
            what = " and ".join(sign.strip('."=') for sign in need.signs)
            yield Wish(f"what {need.library} needs for {what}" if what else need.library, name, package, is_extra=True)


def _pip_installs(installs: Iterable[str], interpreter: Interpreter) -> Iterator[Wish]:
    """What a name of the index says; whatever else pip would take is none of ours."""
    for text in installs:
        try:
            wanted, _ = without_standard_library(read_requirements(text, "pip install"), interpreter)
        except (EnvironmentFailed, InvalidRequirement):
            continue
        for one in wanted.requested:
            if not one.hashes:
                yield Wish(f"what pip is to install ({one.name})", one.name, one.requirement, is_extra=True)
