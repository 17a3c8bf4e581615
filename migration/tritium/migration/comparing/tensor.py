"""A tensor of a request or an answer: its v2 binary form, whichever protocol carried it."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritium.compat.datatypes import BY_NAME

_LENGTH = struct.Struct("<I")


class BadTensor(ValueError):
    """Bytes that are no tensor of the datatype and shape they are said to have."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor; `data` is row-major and little endian, BYTES elements with their length before them."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes

    def texts(self) -> list[bytes]:
        """Return the elements of a BYTES tensor.

        Raises:
            BadTensor: a length points beyond the end.
        """
        found, at = [], 0
        while at < len(self.data):
            if at + 4 > len(self.data):
                raise BadTensor(f"{len(self.data) - at} bytes after the last element")
            (length,) = _LENGTH.unpack_from(self.data, at)
            at += 4
            if at + length > len(self.data):
                raise BadTensor(f"an element of {length} bytes, of which {len(self.data) - at} are there")
            found.append(self.data[at : at + length])
            at += length
        return found

    def numbers(self) -> NDArray[Any]:
        """Return the elements of any other tensor, in one row; BF16 as the FP32 of the same value.

        Raises:
            BadTensor: the bytes are no whole number of elements.
        """
        kind = BY_NAME.get(self.datatype)
        if kind is None or not kind.fixed or len(self.data) % kind.size_bytes:
            raise BadTensor(f"{len(self.data)} bytes are no tensor of {self.datatype}")
        row: NDArray[Any] = np.frombuffer(self.data, kind.numpy)
        if self.datatype == "BF16":
            return (row.astype(np.uint32) << 16).view(np.float32)
        return row

    @property
    def elements(self) -> int:
        """Return how many elements the shape has."""
        return prod(self.shape)


def joined(texts: Iterable[bytes]) -> bytes:
    """Return the binary form of BYTES elements."""
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def from_elements(name: str, datatype: str, shape: Sequence[int], elements: Any) -> Tensor:
    """Make a tensor of Python values: numbers, booleans, or text for BYTES; nested lists are read row by row.

    Raises:
        BadTensor: a value is none of the datatype.
    """
    flat = list(_flat(elements))
    if datatype == "BYTES":
        data = joined(text.encode() if isinstance(text, str) else bytes(text) for text in flat)
    elif datatype == "BF16":
        data = (np.asarray(flat, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    elif datatype in BY_NAME:
        try:
            data = np.asarray(flat, BY_NAME[datatype].numpy).tobytes()
        except (ValueError, TypeError, OverflowError) as error:
            raise BadTensor(f"{name}: {error}") from None
    else:
        raise BadTensor(f"{name}: there is no datatype {datatype}")
    return Tensor(name, datatype, tuple(shape), data)


def _flat(elements: Any) -> Iterable[Any]:
    if isinstance(elements, list):
        for element in elements:
            yield from _flat(element)
    else:
        yield elements
