"""Modules that were imported ahead of a program, and are given to it when it imports them.

Until then none of them is in `sys.modules`, so a program's imports search its own `sys.path`, as they do plainly. A
module is given where the search would end at its own file. What it imported itself comes with it, unless the program
has another module of such a name; then it is imported anew, and finds what it would find plainly.
"""

from __future__ import annotations

import builtins
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader, PathFinder, SourceFileLoader

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each box
if TYPE_CHECKING:
    import types
    from typing import Any, Collection, Dict, Iterator, List, Optional, Sequence, Set

# What libraries written in C read where nobody sees it, when they are loaded.
READ_IN_C = ("OPENBLAS_", "GOTO_", "OMP_", "KMP_", "MKL_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_")

_listdir = os.listdir


class Record:
    """What is imported by whom, and which variables are read, while modules are imported ahead."""

    def __init__(self, plain: Collection[str]) -> None:
        self.plain = plain
        self.needs: Dict[str, Set[str]] = {}
        self.variables: Set[str] = set()
        self._import: Any = vars(builtins)["__import__"]
        self._environ = type(os.environ)
        self._read = self._environ.__getitem__
        vars(builtins)["__import__"] = self._record_import
        setattr(self._environ, "__getitem__", lambda environ, name: self._record_read(environ, name))  # noqa: B010

    def stop(self) -> None:
        """From now on."""
        vars(builtins)["__import__"] = self._import
        setattr(self._environ, "__getitem__", self._read)  # noqa: B010

    def _record_import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0
    ) -> types.ModuleType:
        before = set(sys.modules)
        module: types.ModuleType = self._import(name, globals, locals, fromlist, level)
        if globals is not None:
            names = {_absolute(name, globals, level)}
            names.update(f"{found}.{each}" for found in tuple(names) for each in fromlist or ())
            names.update(parent for each in tuple(names) for parent in _parents(each))
            needs = self.needs.setdefault(globals.get("__name__", ""), set())
            needs |= {each for each in names if each in sys.modules} | (sys.modules.keys() - before)
        return module

    def _record_read(self, environ: Any, name: str) -> str:
        self.variables.add(name)
        value: str = self._read(environ, name)
        return value


def _absolute(name: str, globals: Dict[str, Any], level: int) -> str:
    if level == 0:
        return name
    package = str(globals.get("__package__") or globals["__name__"]).rsplit(".", level - 1)[0]
    return f"{package}.{name}" if name else package


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


class Ahead:
    """All modules that are imported by now beyond what a program starts with."""

    def __init__(self, record: Record, counted: int = 0) -> None:
        self.counted = counted  # processors that libraries have found, which never look again; 0: nothing looked
        self._path = list(sys.path)
        self._variables = record.variables
        self.modules = {name: sys.modules[name] for name in sys.modules.keys() - record.plain}
        self._needs = {name: record.needs.get(name, set()) & self.modules.keys() for name in self.modules}
        self._waiting: Dict[str, str] = {}  # where each of those was found that have not been given

    def hide(self) -> None:
        """Take out of `sys.modules` what came from files, and have it found when it is imported."""
        self._waiting = {name: place for name in self.modules if (place := _place(name)) is not None}
        for name in self._waiting:
            del sys.modules[name]
        Finder.ahead = self
        sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
        self._take_finders()

    def settle_in(self) -> None:
        """An environment has been activated: what its `.pth` files have added is not the program's."""
        self._take_finders()
        self._waiting.pop("sysconfig", None)  # it would go on with the other prefix

    def _take_finders(self) -> None:
        self._finders = _finders()

    def is_waiting(self, name: str) -> bool:
        """Whether it has been imported and not been given."""
        return name in self._waiting

    def find(self, name: str, path: Sequence[str]) -> Optional[ModuleSpec]:
        """The spec of a module that is there, if a search of this path would find its file."""
        place = self._waiting.get(name)
        if place is None:
            return None
        if place not in path or self._is_hidden(self._needed(name)):
            del self._waiting[name]
            return None
        theirs: Any = self.modules[name].__spec__
        loader = _LOADERS[type(theirs.loader)](self, theirs.loader)
        spec = ModuleSpec(name, loader)
        vars(spec).update(vars(theirs), loader=loader)
        return spec

    def give(self, name: str) -> types.ModuleType:
        """This module, with all that it imported in `sys.modules`."""
        for each in self._needed(name) & self._waiting.keys():
            del self._waiting[each]
            if each != name:
                sys.modules[each] = self.modules[each]
        return self.modules[name]

    def has_looked_at(self, variables: Collection[str]) -> bool:
        """Whether any of these, or the number of processors, was looked at and is another one now."""
        if self.counted and self.counted != len(os.sched_getaffinity(0)):
            return True
        return any(each in self._variables or each.startswith(READ_IN_C) for each in variables)

    def _needed(self, name: str) -> Set[str]:
        found, left = {name}, [name]
        while left:
            new = self._needs[left.pop()] - found
            found |= new
            left += new
        return found

    def _is_hidden(self, names: Set[str]) -> bool:
        """Whether plainly one of these would be another module: it has been imported, or would be found earlier."""
        if _finders() != self._finders:
            return True  # some of the program's own, which may find anything
        for name in names - self._waiting.keys():
            if sys.modules.get(name) is not self.modules[name]:
                return True
        ours = [index for index, entry in enumerate(sys.path) if entry in self._path]
        earlier = [entry for entry in sys.path[: ours[-1] if ours else 0] if entry not in self._path]
        return any(_may_have(entry, names) for entry in earlier)


def _finders() -> List[Any]:
    """All that find something before what waits is found, and what they look into."""
    before = sys.meta_path[: sys.meta_path.index(Finder)] if Finder in sys.meta_path else []
    return [*before, *sys.path_hooks]


def _may_have(entry: object, names: Set[str]) -> bool:
    """Whether an entry of a path may have one of these modules; the names of their packages are among them."""
    if not isinstance(entry, str):
        return False  # nobody looks there
    try:
        return not names.isdisjoint(name.partition(".")[0] for name in _listdir(entry or "."))
    except NotADirectoryError:
        return True  # an archive, perhaps
    except OSError:
        return False


def _place(name: str) -> Optional[str]:
    """The entry of a path that this module was found in, by its spec."""
    spec = getattr(sys.modules[name], "__spec__", None)
    if spec is None or spec.name != name or type(spec.loader) not in _LOADERS:
        return None
    parent = name.rpartition(".")[0]
    path: Sequence[str] = sys.path if not parent else getattr(sys.modules.get(parent), "__path__", [])
    directory = os.path.dirname(spec.origin)
    place = directory if spec.submodule_search_locations is None else os.path.dirname(directory)
    return place if place in path else None


class Finder(PathFinder):
    """Finds what waits to be given, else what there is."""

    ahead: Ahead

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """See `PathFinder`."""
        found = cls.ahead.find(fullname, sys.path if path is None else path)
        return found or super().find_spec(fullname, path, target)


class _Given:
    """Loads a module that is there already."""

    def __init__(self, ahead: Ahead, loader: Any) -> None:
        vars(self).update(vars(loader))
        self._ahead = ahead

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """See `importlib.abc.Loader`."""
        module = self._ahead.give(spec.name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """It has run; what is left is to let it have its own spec again."""
        module.__spec__ = self._spec


class _GivenSource(_Given, SourceFileLoader):  # type: ignore[misc]
    pass


class _GivenExtension(_Given, ExtensionFileLoader):
    pass


_LOADERS: Dict[Any, Any] = {SourceFileLoader: _GivenSource, ExtensionFileLoader: _GivenExtension}
for ours, theirs in ((Finder, PathFinder), *((ours, theirs) for theirs, ours in _LOADERS.items())):
    ours.__name__, ours.__qualname__, ours.__module__ = theirs.__name__, theirs.__qualname__, theirs.__module__
