"""A tensor: name, datatype, shape, and its v2 binary bytes.

The bytes are the one form that every protocol, scheduler and backend passes on; a numpy view of them is made
only where somebody computes. Nothing copies them on the way through.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tritium.compat.datatypes import BY_NAME, Datatype
from tritium.core.bytes_walk import BytesWalk
from tritium.core.errors import InvalidArgument

Buffer = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<I")


@dataclass(slots=True, init=False)
class Tensor:
    """`shape` holds the batch dimension where the model has one; `data` is row-major and little endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer
    walk: BytesWalk | None = field(compare=False, repr=False)
    """What was found of the data, where they are long strings and it was looked for."""

    # Written out, for one that dataclass writes is not compiled.
    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], data: Buffer) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.data = data
        self.walk = None

    @property
    def size_bytes(self) -> int:
        """Return the length of `data` in bytes."""
        return self.data.nbytes if isinstance(self.data, memoryview) else len(self.data)

    def array(self) -> np.ndarray[Any, Any]:
        """View the data as a numpy array (BYTES: object array of `bytes`; BF16: uint16 bit patterns).

        Raises:
            InvalidArgument: a BYTES payload whose lengths do not add up.
        """
        kind = BY_NAME[self.datatype]
        if kind.fixed:
            return np.frombuffer(self.data, dtype=kind.numpy).reshape(self.shape)
        return split_bytes(self.data, math.prod(self.shape), self.name).reshape(self.shape)


def from_array(name: str, array: np.ndarray[Any, Any], datatype: str) -> Tensor:
    """Make a tensor of `array`, converting to `datatype`'s numpy type where it differs."""
    kind = BY_NAME[datatype]
    if not kind.fixed:
        return Tensor(name, datatype, array.shape, join_bytes(array.ravel().tolist()))
    contiguous = np.ascontiguousarray(array, dtype=kind.numpy)
    return Tensor(name, datatype, array.shape, contiguous.data.cast("B") if contiguous.size else b"")


def join_bytes(elements: Sequence[bytes | str]) -> bytes:
    """Lay elements out in v2 binary form: each after its length as four little-endian bytes."""
    parts: list[bytes] = []
    for element in elements:
        raw = element.encode() if isinstance(element, str) else bytes(element)
        parts.append(_LENGTH.pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def split_bytes(data: Buffer, count: int, name: str) -> np.ndarray[Any, Any]:
    """Read `count` elements from v2 binary form into an object array of `bytes`.

    Raises:
        InvalidArgument: the buffer ends early, or goes on after the last element.
    """
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
    elements = np.empty(count, dtype=object)
    at, end = 0, len(view)
    for index in range(count):
        if at + 4 > end:
            raise InvalidArgument(
                f"incomplete string length indicator for inference input '{name}', "
                f"expecting {_LENGTH.size} bytes but only {end - at} bytes available."
            )
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4
        if at + length > end:
            raise InvalidArgument(
                f"incomplete string data for inference input '{name}', "
                f"expecting string of length {length} but only {end - at} bytes available."
            )
        elements[index] = bytes(view[at : at + length])
        at += length
    if at != end:
        raise InvalidArgument(
            f"unexpected number of string elements {count + 1} for inference input '{name}', expecting {count}"
        )
    return elements


def datatype_of(name: str) -> Datatype:
    """Look a v2 datatype up by name.

    Raises:
        InvalidArgument: no such datatype.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise InvalidArgument(f"unknown datatype '{name}'", hint=f"one of {', '.join(BY_NAME)}") from None
