"""The exceptions of the Python API, one for each of Triton's error codes.

TritonError
|-- UnknownError, InternalError, NotFoundError, InvalidArgumentError
`-- UnavailableError, UnsupportedError, AlreadyExistsError, CancelledError
"""

from tritium.core import errors


class TritonError(Exception):
    """What went wrong; the text is what a client of the server would be told."""


class UnknownError(TritonError):
    """TRITONSERVER_ERROR_UNKNOWN."""


class InternalError(TritonError):
    """TRITONSERVER_ERROR_INTERNAL: the model or the server is at fault."""


class NotFoundError(TritonError):
    """TRITONSERVER_ERROR_NOT_FOUND."""


class InvalidArgumentError(TritonError):
    """TRITONSERVER_ERROR_INVALID_ARG: the caller is at fault."""


class UnavailableError(TritonError):
    """TRITONSERVER_ERROR_UNAVAILABLE."""


class UnsupportedError(TritonError):
    """TRITONSERVER_ERROR_UNSUPPORTED."""


class AlreadyExistsError(TritonError):
    """TRITONSERVER_ERROR_ALREADY_EXISTS."""


class CancelledError(TritonError):
    """TRITONSERVER_ERROR_CANCELLED."""


_KINDS: tuple[tuple[type[errors.InferenceError], type[TritonError]], ...] = (
    (errors.InvalidArgument, InvalidArgumentError),
    (errors.NotFound, NotFoundError),
    (errors.AlreadyExists, AlreadyExistsError),
    (errors.Cancelled, CancelledError),
    (errors.Unavailable, UnavailableError),
    (errors.DeadlineExceeded, UnavailableError),
    (errors.Unsupported, UnsupportedError),
    (errors.Internal, InternalError),
)


def exception_of(error: errors.InferenceError) -> TritonError:
    """Return the exception for an error of the server; a hint goes with the text."""
    kind = next((theirs for ours, theirs in _KINDS if isinstance(error, ours)), UnknownError)
    return kind(error.told)
