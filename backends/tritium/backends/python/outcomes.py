"""The error codes of models, as the errors that clients are told, and back."""

from tritium.core.errors import (
    AlreadyExists,
    Cancelled,
    InferenceError,
    InvalidArgument,
    ModelFailed,
    NotFound,
    Unavailable,
    Unknown,
    Unsupported,
)

_BY_CODE: tuple[type[InferenceError], ...] = (
    Unknown,
    ModelFailed,
    NotFound,
    InvalidArgument,
    Unavailable,
    Unsupported,
    AlreadyExists,
    Cancelled,
)
"""By TRITONSERVER_Error_Code."""

_INTERNAL = 1


def error_of(code: int, message: str) -> InferenceError:
    """Return the error that a model answered with."""
    return _BY_CODE[code](message)


def code_of(error: InferenceError) -> int:
    """Return the code by which a model is told of an error."""
    return next((code for code, kind in enumerate(_BY_CODE) if isinstance(error, kind)), _INTERNAL)
