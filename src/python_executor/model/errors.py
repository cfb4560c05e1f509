"""Every exception of ours that crosses from one room to another.

    ExecutorError
    ├── Refusal              the request can't be taken; `code` is the stable word that the caller sees
    │   ├── InvalidRequest       invalid_request       400
    │   ├── UnsupportedPython    unsupported_python    400
    │   ├── NotSupportedYet      not_supported_yet     400
    │   ├── NoBackendForImage    no_backend_for_image  400
    │   ├── NetworkUnavailable   network_unavailable   400
    │   ├── NetworkForbidden     network_forbidden     400
    │   ├── Unauthorized         unauthorized          401
    │   ├── Forbidden            forbidden             403
    │   ├── NotFound             not_found             404
    │   ├── TooLarge             too_large             413
    │   ├── UnsupportedMediaType unsupported_media_type 415
    │   ├── QueueFull            queue_full            429
    │   └── Unavailable          unavailable           503
    ├── EnvironmentFailed    packages could not be had: the request's doing, told to its sender
    ├── ImageFailed          an image could not be had, or runs no Python: likewise
    ├── BackendError         a sandbox could not be made or was lost: ours, never the code's
    └── StoreError           the store can't be opened, read or written: ours as well

The statuses are given in `api/errors.py`; messages are one sentence that says what to do.
"""

from __future__ import annotations


class ExecutorError(Exception):
    """Root of all errors of ours."""


class Refusal(ExecutorError):
    """A request that can't be taken, with the sentence that its sender should read."""

    code = "refused"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(Refusal):
    """The request breaks a rule; the message names the field and the bound."""

    code = "invalid_request"


class UnsupportedPython(Refusal):
    """No interpreter of that version is here; the message lists those that are."""

    code = "unsupported_python"


class NotSupportedYet(Refusal):
    """Asks for something that this release does not do."""

    code = "not_supported_yet"


class NoBackendForImage(Refusal):
    """No backend can run that image."""

    code = "no_backend_for_image"


class NetworkUnavailable(Refusal):
    """Asks for the network, which this server can't give; the message says why."""

    code = "network_unavailable"


class NetworkForbidden(Refusal):
    """Asks for the network, which the operator gives to nobody."""

    code = "network_forbidden"


class Unauthorized(Refusal):
    """No API key, or a wrong one."""

    code = "unauthorized"


class Forbidden(Refusal):
    """A foreign Origin or an unknown Host, on a server without a key."""

    code = "forbidden"


class NotFound(Refusal):
    """No such execution or path."""

    code = "not_found"


class TooLarge(Refusal):
    """More bytes than are taken."""

    code = "too_large"


class UnsupportedMediaType(Refusal):
    """A body of the wrong kind."""

    code = "unsupported_media_type"


class QueueFull(Refusal):
    """Too many executions wait already; come back later."""

    code = "queue_full"


class Unavailable(Refusal):
    """The server is draining, or no sandbox can be made."""

    code = "unavailable"


class EnvironmentFailed(ExecutorError):
    """The packages that were asked for can't be had; the message says why, to whoever asked."""


class ImageFailed(ExecutorError):
    """The image can't be had, or has no Python that works; the message names it, to whoever asked for it."""


class BackendError(ExecutorError):
    """Our failure, told to the operator in one line; the caller learns only that it was ours."""


class StoreError(ExecutorError):
    """The store's failure, told to the operator with what to do."""
