"""What a codec says when it cannot read a request or write a response: Triton's words under Triton's error code.

The codes are those of TRITONSERVER_Error; the server turns a refusal into the error of its own tree that has the
same status.
"""

from enum import StrEnum


class Code(StrEnum):
    """Triton's error codes."""

    UNKNOWN = "UNKNOWN"
    INTERNAL = "INTERNAL"
    NOT_FOUND = "NOT_FOUND"
    INVALID_ARG = "INVALID_ARG"
    UNAVAILABLE = "UNAVAILABLE"
    UNSUPPORTED = "UNSUPPORTED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    CANCELLED = "CANCELLED"


class Refusal(Exception):
    """A request that cannot be served as it is written."""

    def __init__(self, message: str, code: Code = Code.INVALID_ARG) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def unparsable(message: str) -> Refusal:
    """Refuse JSON whose structure is wrong. Triton answers these INTERNAL, which is 500 over HTTP."""
    return Refusal(message, Code.INTERNAL)


def member(name: str, problem: str) -> Refusal:
    """Refuse a member of the request object that is missing or of the wrong type."""
    return unparsable(f"Unable to parse '{name}': {problem}")


def missing(name: str) -> Refusal:
    """Refuse an object that lacks a member."""
    return member(name, f"attempt to access non-existing object member '{name}'")


def not_a(kind: str, *, article: str = "as") -> str:
    """Say that a value is not what was asked for, in the words of Triton's JSON reader."""
    return f"attempt to access JSON non-{kind} {article} {kind}"
