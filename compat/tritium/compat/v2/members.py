"""Members of JSON objects by type; those that are missing or of another are refused in the words of Triton's reader."""

from typing import Any

from tritium.compat.v2.refusal import member, missing, not_a

UNSIGNED = not_a("unsigned-integer")
BOOLEAN = not_a("boolean")
STRING = not_a("string")
ARRAY = not_a("array")
MOST_UNSIGNED = (1 << 64) - 1


def array(document: Any, key: str) -> list[Any]:
    """Return a member that is an array.

    Raises:
        Refusal: it is missing or something else; as the others here.
    """
    if type(document) is not dict or key not in document:
        raise missing(key)
    value = document[key]
    if type(value) is not list:
        raise member(key, ARRAY)
    return value


def text(document: Any, key: str) -> str:
    """Return a member that is a string."""
    if type(document) is not dict or key not in document:
        raise missing(key)
    value = document[key]
    if type(value) is not str:
        raise member(key, STRING)
    return value


def unsigned(key: str, value: Any) -> int:
    """Return a value that is an unsigned number of 64 bits."""
    if type(value) is not int or not 0 <= value <= MOST_UNSIGNED:
        raise member(key, UNSIGNED)
    return value


def boolean(key: str, value: Any) -> bool:
    """Return a value that is true or false."""
    if type(value) is not bool:
        raise member(key, BOOLEAN)
    return value
