"""The elements of a tensor: JSON numbers, booleans and strings to binary form and back.

Numbers outside their datatype's range are refused; Triton wraps them silently.
"""

import json
import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import orjson

from tritium.compat.v2.refusal import Code, Refusal, member, not_a, unparsable

Buffer = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<I")

SLICE_ELEMENTS = 16 << 10
"""What is written to JSON at a time takes a few milliseconds."""

MOST_NESTED = 100
"""So many arrays within each other are too many (server/src/common.h, 2.73)."""

# v2 datatype -> the type code of `array` and `memoryview`, which are little endian on every machine we run on.
_FLOATS = {"FP32": "f", "FP64": "d"}
_INTEGERS = {
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
}  # fmt: skip
CODES = {**_FLOATS, **_INTEGERS, "BOOL": "?"}

_NUMBERS: set[type] = {int, float}
_NOT_DOUBLE = not_a("number").replace("as number", "as double")


def from_json(name: str, datatype: str, data: Any) -> tuple[bytes, int]:
    """Turn the `data` of input `name`, nested in any way, into binary form; also return how many elements it holds.

    Raises:
        Refusal: an element is of the wrong type or out of range, or the datatype has no JSON form.
    """
    if type(data) is not list:
        raise member("data", not_a("array"))
    kinds = set(map(type, data))
    if list in kinds:
        data = _flatten(data, datatype)
        kinds = set(map(type, data))
    count = len(data)
    if datatype in _FLOATS:
        if not kinds <= _NUMBERS:
            raise member("data", _NOT_DOUBLE)
        return _pack(name, datatype, data), count
    if datatype in _INTEGERS:
        return _pack_integers(name, datatype, data, kinds), count
    if datatype == "BYTES":
        if not kinds <= {str}:
            raise unparsable(f"Unable to parse JSON bytes array: {not_a('string')}")
        return join_strings(data), count
    if datatype == "BOOL":
        if not kinds <= {bool}:
            raise member("data", not_a("boolean"))
        return bytes(data), count
    raise Refusal(
        f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input {name}"
    )


def _pack_integers(name: str, datatype: str, data: list[Any], kinds: set[type]) -> bytes:
    signed = datatype.startswith("INT")
    if not kinds <= {int} or (not signed and data and min(data) < 0):
        raise member("data", not_a("signed-integer" if signed else "unsigned-integer"))
    return _pack(name, datatype, data)


def _pack(name: str, datatype: str, data: list[Any]) -> bytes:
    try:
        return array(CODES[datatype], data).tobytes()
    except OverflowError:
        raise Refusal(f"input '{name}' has a number outside the range of {datatype}") from None


def _flatten(data: list[Any], datatype: str) -> list[Any]:
    depth = 1
    while set(map(type, data)) == {list}:  # rectangular as a rule: one pass at the speed of C a level
        depth = _deeper(depth, datatype)
        data = list(chain.from_iterable(data))
    if list not in set(map(type, data)):
        return data
    flat: list[Any] = []
    pending = [iter(data)]
    while pending:
        for element in pending[-1]:
            if type(element) is list:
                _deeper(depth + len(pending) - 1, datatype)
                pending.append(iter(element))
                break
            flat.append(element)
        else:
            pending.pop()
    return flat


def _deeper(depth: int, datatype: str) -> int:
    """Go one array deeper, as far as Triton goes."""
    if depth + 1 >= MOST_NESTED:
        where = "" if datatype == "BYTES" else "Unable to parse 'data': "
        raise Refusal(f"{where}JSON nesting depth exceeds maximum allowed limit ({MOST_NESTED})")
    return depth + 1


def join_strings(elements: Sequence[str]) -> bytes:
    """Lay strings out in binary form, bytes that were not UTF-8 as they came.

    Raises:
        Refusal: an escape stands for half of a surrogate pair.
    """
    parts: list[bytes] = []
    try:
        for element in elements:
            raw = element.encode(errors="surrogateescape")
            parts.append(_LENGTH.pack(len(raw)))
            parts.append(raw)
    except UnicodeEncodeError:
        raise unparsable("failed to parse the request JSON buffer: The surrogate pair in string is invalid.") from None
    return b"".join(parts)


def join_bytes(elements: Sequence[bytes]) -> bytes:
    """Lay elements out in binary form: each after its length as four little-endian bytes."""
    parts: list[bytes] = []
    for element in elements:
        parts.append(_LENGTH.pack(len(element)))
        parts.append(element)
    return b"".join(parts)


def split_bytes(data: Buffer) -> list[bytes]:
    """Read the elements of a BYTES tensor.

    Raises:
        Refusal: the lengths do not add up.
    """
    raw = bytes(data)
    elements: list[bytes] = []
    at, end = 0, len(raw)
    while at < end:
        if at + 4 > end:
            raise Refusal("a BYTES tensor ends within the length of an element", Code.INTERNAL)
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4 + length
        if at > end:
            raise Refusal("a BYTES tensor ends within an element", Code.INTERNAL)
        elements.append(raw[at - length : at])
    return elements


def to_json(datatype: str, data: Buffer) -> bytes:
    """Write a tensor's elements as a flat JSON array; BYTES elements that are not UTF-8 go out as they are.

    Raises:
        Refusal: the datatype has no JSON form.
    """
    if datatype == "BYTES":
        return _strings_to_json(split_bytes(data))
    elements = numbers(datatype, data)
    text = orjson.dumps(elements)
    if datatype in _FLOATS:
        if b"null" in text:
            text = json.dumps(elements, separators=(",", ":")).encode()
        if b"e+" in text:
            text = text.replace(b"e+", b"e")
    return text


def to_json_slices(datatype: str, data: Buffer) -> Iterator[bytes]:
    """Write what `to_json` writes in slices of SLICE_ELEMENTS, so that others get a turn in between.

    Raises:
        Refusal: the datatype has no JSON form.
    """
    opening = b"["
    for part in _cut(datatype, memoryview(data).cast("B")):
        yield opening + to_json(datatype, part)[1:-1]
        opening = b","
    yield b"]" if opening == b"," else b"[]"


def _cut(datatype: str, data: memoryview) -> Iterator[memoryview]:
    if datatype != "BYTES":
        step = SLICE_ELEMENTS * struct.calcsize(CODES.get(datatype, "B"))
        yield from (data[start : start + step] for start in range(0, len(data), step))
        return
    start = at = count = 0
    while at + 4 <= len(data):
        at += 4 + _LENGTH.unpack_from(data, at)[0]
        count += 1
        if count == SLICE_ELEMENTS:
            yield data[start:at]
            start, count = at, 0
    if start < len(data):
        yield data[start:]


def numbers(datatype: str, data: Buffer) -> list[Any]:
    """Read the elements of a tensor of numbers or booleans.

    Raises:
        Refusal: the datatype has no Python form here (FP16, BF16).
    """
    code = CODES.get(datatype)
    if code is None:
        raise Refusal(
            f"sending {datatype} data via JSON is not supported. Please use the binary data format for output"
        )
    return memoryview(data).cast("B").cast(code).tolist()  # type: ignore[call-overload, no-any-return]  # typeshed lists the codes as literals


def _strings_to_json(elements: list[bytes]) -> bytes:
    return b"[" + b",".join(_string_to_json(element) for element in elements) + b"]"


def _string_to_json(element: bytes) -> bytes:
    try:
        return orjson.dumps(element.decode())
    except UnicodeDecodeError:
        text = json.dumps(element.decode(errors="surrogateescape"), ensure_ascii=False)
        return text.encode(errors="surrogateescape")
