"""Where code runs: on an interpreter of this machine, or in an image, in a container.

`BACKEND` decides. auto keeps on the machine what names one of its interpreters, or nothing; any other image is for the
container engine, and so is what names a runtime. docker has containers alone. native sees it as auto does: its backend
then refuses what takes a container, as auto's does where there is no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..model.environment import NamedEnvironment
from ..model.errors import InvalidRequest, NoBackendForImage, Unavailable, UnsupportedPython
from ..model.image import full_name, is_allowed
from ..settings import IMAGE, PYTHON, RUNTIME, Settings
from .bodies import EvalRequest, Metadata
from .trees import shown


@dataclass(frozen=True, slots=True)
class Place:
    """An interpreter of this machine, or else an image, and the runtime of its container."""

    python: str = ""  # minor version: "3.12"
    image: str = ""
    runtime: str = ""  # "": the engine's default


class Places:
    """Knows the interpreters, and what the operator allows of images and runtimes."""

    def __init__(
        self, settings: Settings, versions: Sequence[str], named: Callable[[], Sequence[NamedEnvironment]]
    ) -> None:
        self._settings = settings
        self._versions = versions  # newest first
        self._named = named

    def of_eval(self, request: EvalRequest) -> Place:
        """The interpreter of the version that is asked for; its image, where it has to be a container."""
        runtime, version = self._named_runtime(request.runtime), request.python_version
        if not self._is_for_engine(runtime):
            return Place(self._interpreter(request.environment, version, "python_version", self._python_for_version))
        return self._container("the image", self._image_for_version(version), runtime)

    def of_archive(self, metadata: Metadata) -> Place:
        """The interpreter that `docker_image` means, or else the image that it is."""
        runtime, asked = self._named_runtime(metadata.runtime), metadata.docker_image
        if not self._is_for_engine(runtime):
            has_its_own = metadata.environment and not asked
            if has_its_own or self._python_for_image(asked):
                return Place(self._interpreter(metadata.environment, asked, "docker_image", self._python_for_image))
        if asked:
            return self._container("docker_image", asked, runtime)
        return self._container("the default image", self._settings.default_image, runtime)

    def without_packages(self, place: Place) -> str:
        """The sentence for those who want packages in an image."""
        instead = "leave them out"
        if self._versions and self._settings.backend != "docker":
            instead = f"python:X.Y with one of {', '.join(self._versions)} and no runtime"
        return (
            f"packages are not installed into the image {shown(place.image)} yet: use one that has them, or {instead}."
        )

    def _is_for_engine(self, runtime: str) -> bool:
        return bool(runtime) or self._settings.backend == "docker"

    def _container(self, what: str, image: str, runtime: str) -> Place:
        if full_name(image) is None:
            raise InvalidRequest(
                f"{what} {shown(image)} is no name of an image: give one like python:3.12-slim or ghcr.io/me/tools:1."
            )
        if not is_allowed(image, self._settings.image_allow):
            raise NoBackendForImage(
                f"{what} {shown(image)} can't be used: this server's operator allows only some (IMAGE_ALLOW), so name "
                "another."
            )
        return Place(image=image, runtime=runtime or self._settings.runtime)

    def _named_runtime(self, name: str) -> str:
        """The runtime that a request names, if it may."""
        if name and not RUNTIME.fullmatch(name):
            raise InvalidRequest(
                f"runtime {shown(name)} is no name of a runtime: give one like runsc, or leave it out."
            )
        allowed = self._settings.nameable_runtimes
        if name and name not in allowed:
            choice = f"use one of {', '.join(allowed)}, or" if allowed else "this server lets requests choose none, so"
            raise InvalidRequest(f"runtime {shown(name)} can't be used: {choice} leave it out.")
        return name

    def _image_for_version(self, version: str) -> str:
        """The image of an eval."""
        settings = self._settings
        if version and not PYTHON.fullmatch(version):
            raise UnsupportedPython(f"python_version {shown(version)} is no version: give one like 3.12.")
        if not version and settings.backend != "docker":
            version = self._or_newest(settings.default_python)
        elif not version and "default_python" in settings.model_fields_set:
            version = settings.default_python
        return f"python:{version}-slim" if version else settings.default_image

    def _interpreter(self, environment: str, asked: str, field: str, find: Callable[[str], str]) -> str:
        """The named environment's, where there is one, and else what is asked for."""
        if not environment:
            return find(asked)
        named = {each.name: each for each in self._named()}
        if environment not in named:
            known = f"use one of {', '.join(sorted(named))}" if named else "this server has none"
            raise InvalidRequest(f"environment {shown(environment)} is not here: {known}.")
        version = named[environment].python
        if asked and find(asked) != version:
            raise InvalidRequest(f"{field} {shown(asked)} is not what environment {environment} has: leave it out.")
        if version not in self._versions:
            raise UnsupportedPython(f"environment {environment} has Python {version}, which is not here any more.")
        return version

    def _python_for_version(self, version: str) -> str:
        if not version:
            return self._or_newest(self._settings.default_python)
        if version not in self._versions:
            raise UnsupportedPython(
                f"python_version {shown(version)} is not here: use one of {', '.join(self._versions)}."
            )
        return version

    def _python_for_image(self, image: str) -> str:
        """The version of the interpreter that the image means; "" where it means none that is here."""
        match = IMAGE.fullmatch(image or self._settings.default_image)
        if match is None:
            return ""
        if not image:
            return self._or_newest(match[1])
        return match[1] if match[1] in self._versions else ""

    def _or_newest(self, version: str) -> str:
        if version in self._versions:
            return version
        if not self._versions:
            raise Unavailable("no Python interpreter was found on this server: install one and restart it.")
        return self._versions[0]
