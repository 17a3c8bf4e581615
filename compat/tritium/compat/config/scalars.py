"""One value of a configuration file, read as the type that its field has.

Source of the rules: protobuf's text format (integers in decimal, hexadecimal and octal; true, True, t and 1).
"""

import difflib
import re
from typing import Any

from tritium.compat.config.syntax import Scalar, template_hint
from tritium.compat.config.tokens import Kind

_BITS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63}
_TRUE, _FALSE = ("true", "True", "t", "1"), ("false", "False", "f", "0")


class BadScalar(ValueError):
    """The text is no value of the field's type."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def read_scalar(known: Any, value: Scalar) -> str | int | float | bool:
    """Return the value as Python holds it for the field `known` (a protobuf field descriptor).

    Raises:
        BadScalar: it does not fit.
    """
    token = value.tokens[0]
    if token.kind is Kind.TEMPLATE:
        raise BadScalar(f"unfilled template value {token.text}", template_hint(token.text))
    if token.kind is Kind.UNTERMINATED:
        raise BadScalar("this string is never closed", f"end it with {token.text[0]} on the same line")
    if known.enum_type is not None:
        return _enum(known, value)
    kind = _type_name(known)
    if kind == "string":
        return _string(known, value)
    if kind == "bool":
        return _bool(known, value)
    return _float(known, value) if kind in ("float", "double") else _integer(known, value, kind)


def _type_name(known: Any) -> str:
    names = {
        known.CPPTYPE_INT32: "int32",
        known.CPPTYPE_INT64: "int64",
        known.CPPTYPE_UINT32: "uint32",
        known.CPPTYPE_UINT64: "uint64",
        known.CPPTYPE_DOUBLE: "double",
        known.CPPTYPE_FLOAT: "float",
        known.CPPTYPE_BOOL: "bool",
        known.CPPTYPE_STRING: "string",
    }
    return names[known.cpp_type]


def _placeholder(value: Scalar) -> str:
    """Recognize what a sed template leaves behind, such as MAX_BATCH or INSERT_BATCH_SIZE."""
    bare = value.tokens[0].kind is Kind.NAME and value.text.isupper()
    return f"{value.text} looks like a placeholder that was never filled in" if bare else ""


def _integer(known: Any, value: Scalar, kind: str) -> int:
    text = value.text
    quoted = value.tokens[0].kind is Kind.STRING
    try:
        digits = text.removeprefix("-")
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        number = int(digits, 8 if octal else 0)
    except ValueError:
        hint = "delete the quotes" if quoted else _placeholder(value)
        raise BadScalar(f"{known.name} takes a whole number, not {text}", hint) from None
    number = -number if text.startswith("-") else number
    low, high = _BITS[kind]
    if not low <= number <= high:
        raise BadScalar(f"{known.name} does not hold {number}", f"it takes {low} to {high}")
    return number


def _float(known: Any, value: Scalar) -> float:
    text = value.text
    quoted = value.tokens[0].kind is Kind.STRING
    digits = text.removeprefix("-")
    named = digits.lower() in ("inf", "infinity", "nan")
    try:
        if digits[:2].lower() == "0x":
            number = float(int(digits, 16))
        else:
            # An underscore is Python's, not protobuf's.
            number = float("" if quoted or "_" in digits else digits if named else digits.rstrip("fF"))
    except ValueError:
        hint = "delete the quotes" if quoted else _placeholder(value)
        raise BadScalar(f"{known.name} takes a number, not {text}", hint) from None
    return -number if text.startswith("-") else number


def _bool(known: Any, value: Scalar) -> bool:
    if value.tokens[0].kind is not Kind.STRING:
        if value.text in _TRUE:
            return True
        if value.text in _FALSE:
            return False
    hint = "write true or false"
    if value.tokens[0].kind is Kind.STRING:
        hint = f"{hint}, without quotes"
    raise BadScalar(f"{known.name} takes true or false, not {value.text}", hint)


def _enum(known: Any, value: Scalar) -> int:
    names = known.enum_type.values_by_name
    token = value.tokens[-1]
    if token.kind is Kind.NAME and token.text in names:
        return int(names[token.text].number)
    if token.kind is Kind.NUMBER and token.text.isdigit():
        return int(value.text)
    word = value.text.strip("\"'")
    if word in names:
        raise BadScalar(f"{known.name} takes a name, not a string", f"write {word} without quotes")
    hint = _near(word, list(names))
    raise BadScalar(f"{known.name} has no value {value.text}", hint or f"one of {', '.join(names)}")


# What other frameworks call the datatypes of Triton.
_SYNONYMS = {
    "FLOAT": "FP32",
    "FLOAT32": "FP32",
    "FLOAT16": "FP16",
    "HALF": "FP16",
    "FLOAT64": "FP64",
    "DOUBLE": "FP64",
    "BFLOAT16": "BF16",
    "INT": "INT32",
    "LONG": "INT64",
    "BYTES": "STRING",
    "STR": "STRING",
    "BOOLEAN": "BOOL",
}


def _near(word: str, names: list[str]) -> str:
    prefix = names[0].split("_", 1)[0]
    bare = word.upper().removeprefix(f"{prefix}_")
    wanted = f"{prefix}_{_SYNONYMS.get(bare, bare)}"
    if wanted in names:
        return f"did you mean {wanted}?"
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else ""


def _string(known: Any, value: Scalar) -> str:
    if value.tokens[0].kind is not Kind.STRING:
        raise BadScalar(f"{known.name} takes a string, not {value.text}", f'write "{value.text}" in quotes')
    raw = b"".join(_unescape(token.text[1:-1]) for token in value.tokens)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadScalar(f"{known.name} is not UTF-8 text") from None


def _unescape(text: str) -> bytes:
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[at : match.start()].encode("utf-8", "surrogatepass"))
        parts.append(_escaped(match.group(1)))
        at = match.end()
    parts.append(text[at:].encode("utf-8", "surrogatepass"))
    return b"".join(parts)


def _escaped(code: str) -> bytes:
    if code[0] in "uU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF:
            raise BadScalar(f"\\{code} is no character")
        return chr(number).encode("utf-8", "surrogatepass")
    if code[0] == "x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[0] in "01234567":
        return bytes([int(code, 8) & 0xFF])
    if code not in _SIMPLE:
        raise BadScalar(f"unknown escape \\{code} in this string", f"write \\\\{code} for a backslash")
    return bytes([_SIMPLE[code]])
