"""The error a model answers with, and the exception that the library raises."""

UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)


class TritonError:
    """An error response: a message and a TRITONSERVER_Error_Code."""

    UNKNOWN = UNKNOWN
    INTERNAL = INTERNAL
    NOT_FOUND = NOT_FOUND
    INVALID_ARG = INVALID_ARG
    UNAVAILABLE = UNAVAILABLE
    UNSUPPORTED = UNSUPPORTED
    ALREADY_EXISTS = ALREADY_EXISTS
    CANCELLED = CANCELLED

    __slots__ = ("_code", "_message")

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        if not isinstance(message, str):
            raise TypeError(f"TritonError message must be a str, not {type(message).__name__}")
        if code not in range(8):
            raise ValueError(f"TritonError code must be one of TritonError's constants, not {code!r}")
        self._message = message
        self._code = code

    def message(self) -> str:
        """Return the text."""
        return self._message

    def code(self) -> int:
        """Return the code."""
        return self._code


class TritonModelException(Exception):
    """Something was asked of the library that it cannot do."""
