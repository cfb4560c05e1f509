"""From a request to the `ExecutionSpec` it means: every default filled in, every bound checked.

Nothing here does I/O, and everything raises `InvalidRequest` or another `Refusal` with the sentence to be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypedDict, TypeVar

from ..model.environment import NamedEnvironment
from ..model.errors import InvalidRequest, NetworkForbidden, NetworkUnavailable, NotSupportedYet, TooLarge
from ..model.spec import DirectoryEntry, ExecutionSpec, FileEntry, Interpreter, Limits
from ..settings import Settings
from .archives import read_archive
from .bodies import MAX_MODULE, MODULE_NAME, CodeFile, Config, EvalRequest, Metadata
from .places import Place, Places
from .trees import CheckedTree, TreePlan, clean_path, shown

MAX_CODE_BYTES = 100 * 1024
MAX_STRING_BYTES = 128 * 1024 - 1  # what execve() takes as one argument or variable, less its final NUL
MAX_STRINGS_BYTES = 1024 * 1024  # of all arguments and variables; execve() takes at least that much
_MODULE = re.compile(MODULE_NAME)
DECLARING_FILES = ("requirements.txt", "pyproject.toml")


class Packages(TypedDict):
    """The fields of a spec that tell what packages it gets."""

    requirements: str
    finds_requirements: bool
    detects_imports: bool
    environment: str
    packages_advice: str


NO_PACKAGES: Packages = {
    "requirements": "", "finds_requirements": False, "detects_imports": False, "environment": "", "packages_advice": "",
}  # fmt: skip
PACKAGES_ADVICE = (
    "no packages were asked for: detect_imports (--detect-imports) installs what code imports, requirements_txt "
    "(--requirements) what is listed there"
)


class SpecBuilder:
    """Knows what this server has and allows."""

    def __init__(
        self,
        settings: Settings,
        interpreters: Sequence[Interpreter],
        network_unavailable: str | None = None,  # to code on its interpreters
        named: Callable[[], Sequence[NamedEnvironment]] = tuple,
    ) -> None:
        self._settings = settings
        self._places = Places(settings, [interpreter.minor_version for interpreter in interpreters], named)
        self._network_unavailable = network_unavailable

    def from_eval(self, request: EvalRequest, stdin: bytes | None = None) -> ExecutionSpec:
        """The spec of an eval; `stdin` is there where it is too long for the request."""
        files = request.files or ([CodeFile(name="main.py", content=request.code)] if request.code else [])
        if not files:
            raise InvalidRequest("code and files are both missing: give one of them.")
        module = _module(request)
        place = self._places.of_eval(request)
        limits = self._limits(request.config)
        tree = _tree_of(files)
        _check_size(tree, limits)
        return ExecutionSpec(
            tree=tree.tree,
            entrypoint=_entrypoint(tree, request.entrypoint or files[0].name) if not module else "",
            module=module,
            python=place.python,
            image=place.image,
            runtime=place.runtime,
            limits=limits,
            stdin=request.stdin.encode() if stdin is None else stdin,
            eval_last_expr=request.eval_last_expr,
            network=self._network(request.config, place),
            warnings=(*tree.warnings, *_image_warnings(request, place, tree)),
            **self._packages(request, place, by_default=True),
        )

    def from_archive(self, archive: bytes | BinaryIO, metadata: Metadata, stdin: bytes | None = None) -> ExecutionSpec:
        """The spec of an uploaded archive; reads all its headers, so not for the event loop if it is large."""
        place = self._places.of_archive(metadata)
        limits = self._limits(metadata.config)
        module = _module(metadata)
        env = _environment(metadata.env_vars)
        _check_strings(metadata)
        tree = read_archive(archive)
        _check_size(tree, limits)
        return ExecutionSpec(
            tree=tree.tree,
            entrypoint=_entrypoint(tree, metadata.entrypoint, bool(metadata.pre_commands)) if not module else "",
            module=module,
            python=place.python,
            image=place.image,
            runtime=place.runtime,
            limits=limits,
            args=tuple(metadata.script_args),
            env=env,
            stdin=metadata.stdin.encode() if stdin is None else stdin,
            pre_commands=tuple(metadata.pre_commands),
            eval_last_expr=metadata.eval_last_expr,
            network=self._network(metadata.config, place),
            warnings=(*tree.warnings, *_image_warnings(metadata, place, tree)),
            **self._packages(metadata, place, by_default=False),
        )

    def _packages(self, request: EvalRequest | Metadata, place: Place, *, by_default: bool) -> Packages:
        """What the request says of packages; `by_default` is whether imports count where it does not say so."""
        requirements = request.requirements_txt.strip()
        if request.environment and requirements not in ("", "-"):
            raise InvalidRequest("environment and requirements_txt exclude each other: leave one out.")
        if place.image:
            if request.environment or requirements not in ("", "-"):
                raise NotSupportedYet(self._places.without_packages(place))
            return NO_PACKAGES
        is_open = requirements == "" and not request.environment
        detects = by_default if request.detect_imports is None else request.detect_imports
        return {
            "requirements": "" if requirements in ("", "-") else request.requirements_txt,
            "finds_requirements": is_open,
            "detects_imports": is_open and detects and self._settings.auto_detect_imports,
            "environment": request.environment,
            "packages_advice": PACKAGES_ADVICE
            if is_open and not detects and self._settings.auto_detect_imports
            else "",
        }

    def _limits(self, config: Config) -> Limits:
        settings = self._settings
        memory_mb = _limit("memory_mb", config.memory_mb, settings.default_memory_mb, settings.max_memory_mb)
        disk_mb = _limit("disk_mb", config.disk_mb, settings.default_disk_mb, settings.max_disk_mb)
        return Limits(
            timeout_seconds=_number(
                "timeout_seconds", config.timeout_seconds, settings.default_timeout, settings.max_timeout
            ),
            cpu_seconds=_number("cpu_seconds", config.cpu_seconds, None, settings.max_cpu_seconds),
            memory_mb=memory_mb,
            disk_mb=min(disk_mb, memory_mb),  # files live in memory
            cpu_shares=_limit("cpu_shares", config.cpu_shares, settings.default_cpu_shares, settings.max_cpu_shares),
            cpus=_number("cpus", config.cpus, settings.default_cpus, settings.max_cpus, "all"),
        )

    def _network(self, config: Config, place: Place) -> bool:
        """Never another network than the one that was asked for."""
        disabled = config.network_disabled
        wanted = self._settings.default_network if disabled is None else not disabled
        if wanted and not self._settings.allow_network:
            raise NetworkForbidden(
                "config.network_disabled false is not allowed here: this server gives no code the network "
                "(ALLOW_NETWORK false): leave it out."
            )
        if wanted and self._network_unavailable and not place.image:
            what = "the network, which is on by default here," if disabled is None else "config.network_disabled false"
            raise NetworkUnavailable(f"{what} can't be had from this server: {self._network_unavailable}.")
        return wanted


def _limit(name: str, value: object, default: int, maximum: int) -> int:
    # type() and not isinstance(): true is no number of seconds.
    if type(value) is not int or not 0 <= value <= maximum:
        raise InvalidRequest(f"config.{name} must be an integer from 1 to {maximum}, or left out for {default}.")
    return value or default


Default = TypeVar("Default", float, float | None)


def _number(name: str, value: object, default: Default, maximum: float, instead: str = "none") -> float | Default:
    """What may have a fraction; an int where it has none, so that it is shown as it was given."""
    if type(value) not in (int, float) or not 0 <= value <= maximum:  # type: ignore[operator]  # not so of NaN either
        otherwise = instead if default is None else f"{default:.15g}"
        raise InvalidRequest(f"config.{name} must be a number from 0 to {maximum:.15g}, or left out for {otherwise}.")
    number: float = value  # type: ignore[assignment]
    return (int(number) if number == int(number) else number) or default


def _tree_of(files: Sequence[CodeFile]) -> CheckedTree:
    plan = TreePlan()
    contents: list[bytes] = []
    offset = 0
    for file in files:
        content = file.content.encode()
        if file.name.endswith("/"):
            raise InvalidRequest(f"files: {shown(file.name)} names a directory: name a file.")
        plan.add_file(file.name, 0o644, offset, len(content))
        contents.append(content)
        offset += len(content)
    if offset > MAX_CODE_BYTES:
        raise TooLarge(
            f"the code has {offset} bytes, more than {MAX_CODE_BYTES}: send an archive to /api/v1/exec/sync instead."
        )
    return plan.check(b"".join(contents))


def _check_size(tree: CheckedTree, limits: Limits) -> None:
    size = tree.tree.total_bytes
    if size > limits.file_system_bytes:
        raise InvalidRequest(
            f"the files take {size} bytes, more than config.disk_mb and config.memory_mb leave them "
            f"({limits.file_system_bytes} bytes): raise both or send less."
        )


def _image_warnings(request: EvalRequest | Metadata, place: Place, tree: CheckedTree) -> Iterator[str]:
    """What is asked for in vain of code in an image, to which no packages are added."""
    if not place.image or request.requirements_txt.strip() == "-":
        return
    what = f"the image {shown(place.image)}: it has what it has"
    if request.detect_imports:
        yield f"imports are not looked for in {what}"
    for path in DECLARING_FILES:
        if tree.kind(path) is FileEntry:
            yield f"what {path} asks for is not installed into {what}"


def _module(request: EvalRequest | Metadata) -> str:
    module = request.module
    if module and request.entrypoint:
        raise InvalidRequest("entrypoint and module exclude each other: leave one out.")
    if module and (len(module) > MAX_MODULE or not _MODULE.fullmatch(module)):
        raise InvalidRequest(
            f"module {shown(module)} is no name of a module: give one that can be imported, such as package.module."
        )
    return module


def _entrypoint(tree: CheckedTree, name: str, may_be_made: bool = False) -> str:
    if not name:
        return _default_entrypoint(tree)
    path = clean_path(name, "entrypoint")
    kind = tree.kind(path)
    if path.endswith(".ipynb"):
        raise InvalidRequest(
            f"entrypoint {shown(name)} is a notebook, and those don't run yet: send it as a script "
            "(jupyter nbconvert --to script)."
        )
    if kind is DirectoryEntry and tree.kind(f"{path}/__main__.py") is not FileEntry:
        raise InvalidRequest(f"entrypoint {shown(name)} is a directory without __main__.py: name a file.")
    if kind is None and not may_be_made:
        raise InvalidRequest(f"entrypoint {shown(name)} is not among the files: name one of them.")
    return path


def _default_entrypoint(tree: CheckedTree) -> str:
    for path in ("main.py", "__main__.py"):
        if tree.kind(path) is FileEntry:
            return path
    scripts = [entry.path for entry in tree.tree.entries if isinstance(entry, FileEntry) and entry.path.endswith(".py")]
    if scripts:
        return next((path for path in scripts if "/." not in f"/{path}"), scripts[0])  # what is hidden comes last
    raise InvalidRequest("entrypoint is missing and the archive has no .py file: name the file to run.")


def _environment(variables: Sequence[str]) -> tuple[tuple[str, str], ...]:
    env: dict[str, str] = {}
    for number, variable in enumerate(variables):
        name, equals, value = variable.partition("=")
        # Its text is a secret more often than not: neither message repeats it.
        if not name or not equals:
            raise InvalidRequest(f'env_vars[{number}] is not of the form "KEY=value": write it so.')
        env[name] = value
    return tuple(env.items())


def _check_strings(metadata: Metadata) -> None:
    """What becomes an argument or a variable of a process must be one for the kernel, too."""
    total = 0
    for field in ("env_vars", "script_args", "pre_commands"):
        for number, text in enumerate(getattr(metadata, field)):
            size = len(text.encode())
            if "\0" in text:
                raise InvalidRequest(f"{field}[{number}] holds a NUL character: remove it.")
            if size > MAX_STRING_BYTES:
                raise InvalidRequest(f"{field}[{number}] is longer than {MAX_STRING_BYTES} bytes: use stdin or a file.")
            total += size + 1
    if total > MAX_STRINGS_BYTES:
        raise InvalidRequest(
            f"env_vars, script_args and pre_commands have more than {MAX_STRINGS_BYTES} bytes in all: "
            "use stdin or a file."
        )
