"""JSON text to Python values, with the errors of Triton's parser (rapidjson) at the same offsets.

orjson reads what is well formed. The rest goes to the standard library, which accepts what rapidjson accepts
beyond the standard (NaN, Infinity, bytes that are not UTF-8 within strings) and says where a text is broken.
"""

import json
import re
from itertools import accumulate
from typing import Any

import orjson

from tritium.compat.v2.refusal import Refusal, unparsable

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_DEEPEST = 200
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(f"{_HIGH}|{_LOW}")
"""Half of a pair of escapes; where it stands alone it is no character, though Python would take it."""
_WHOLE = re.compile(rf"(?:[^\\]++|{_HIGH}{_LOW}|(?!{_HALF.pattern})\\.)*+", re.DOTALL)
"""Everything before the first half that stands alone."""
_NOT_BRACKET = re.compile(r"[^\[\]{}]+")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}

# The standard library's words for a broken text, and rapidjson's (rapidjson/include/rapidjson/error/en.h).
_WORDS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}


def parse(text: bytes | bytearray | memoryview) -> Any:
    """Read one JSON document.

    Raises:
        Refusal: the text is broken.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # rapidjson reads up to a NUL, which is where a binary tensor that nobody announced tends to begin.
        return _parse_leniently(bytes(text).split(b"\0", 1)[0].decode(errors="surrogateescape"))


def write(value: Any) -> bytes:
    """Write a value as JSON; bytes that `parse` found within strings, and that are not UTF-8, are written as they were.

    Raises:
        TypeError: there is no JSON for it.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogateescape")


def keys(text: bytes) -> list[str]:
    """Return the keys of an object that `parse` has read, in order, those that come again as well."""
    pairs: list[tuple[str, Any]] = json.loads(text.decode(errors="surrogateescape"), object_pairs_hook=list)
    return [key for key, _ in pairs]


def _parse_leniently(text: str) -> Any:
    if not text or text.isspace():
        raise _broken("The document is empty.", len(text))
    whole = _WHOLE.match(text)
    if whole is not None and _HALF.match(text, whole.end()):
        raise _broken("The surrogate pair in string is invalid.", whole.end())
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        words = _WORDS.get(error.msg)
        if words is None and error.msg == "Expecting ',' delimiter":
            words = f"Missing a comma or {_closing(text[: error.pos])}."
        raise _broken(words or "Invalid value.", error.pos) from None
    except RecursionError:
        return _parse_leniently(_shallow(text))
    except ValueError:  # an integer of thousands of digits
        raise unparsable("failed to parse the request JSON buffer: Number too big to be stored in double.") from None


def _shallow(text: str) -> str:
    """Empty the arrays and objects that are nested more deeply than any honest ones, and than Python reads.

    What is left has the same types at every depth that a request may have.
    """
    kept: list[str] = []
    depth = begin = 0
    for match in _STRUCTURE.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth == _DEEPEST:
                kept.append(text[begin : match.end()])
        elif match[0] in "]}":
            if depth == _DEEPEST:
                begin = match.start()
            depth -= 1
    if depth > 0:  # it ends within an array or an object
        raise _broken("Invalid value.", len(text))
    return "".join((*kept, text[begin:]))


def _broken(words: str, offset: int) -> Refusal:
    return unparsable(f"failed to parse the request JSON buffer: {words} at {offset}")


def _closing(before: str) -> str:
    """Name what could close the innermost array or object that is open at the end of `before`."""
    brackets = _NOT_BRACKET.sub("", _STRING.sub("", before))
    # No loop of Python's: a client may send millions of brackets.
    depths = [0, *accumulate(map(_STEPS.__getitem__, brackets))]
    depths.reverse()
    within = depths[0] - 1
    opens = brackets[len(brackets) - depths.index(within)] if within in depths else "{"
    return "] after an array element" if opens == "[" else "} after an object member"
