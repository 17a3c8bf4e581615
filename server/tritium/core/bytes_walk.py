"""The walk along a BYTES payload, from length to length: whether it holds the elements that it should.

A step is known only from the one before it, so a payload of millions of elements takes seconds, in which a server would
answer nobody. Protocols therefore walk what is long before they submit it, slice by slice (`walk_ahead`); the check
takes what was found from the tensor.
"""

import asyncio
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from tritium.core.tensor import Tensor

Buffer = bytes | bytearray | memoryview

LONG_BYTES: Final = 256 << 10
"""Up to here a payload is walked where it is checked: at four bytes an element, that takes 10 ms."""
SLICE_ELEMENTS: Final = 16 << 10
"""Walked at a time: 2 to 5 ms."""

_LENGTH_BYTES: Final = 4
_MANY_ELEMENTS: Final = 4_096
_length_at = struct.Struct("<I").unpack_from


@dataclass(frozen=True, slots=True)
class BytesWalk:
    """What a payload holds: elements begun, stray bytes at its end, and how much of the last one lacks."""

    expected: int
    elements: int
    trailing: int = 0
    length: int = 0
    lacking: int = 0

    @property
    def right(self) -> bool:
        """Tell whether the payload is exactly the elements that were expected, whole."""
        return self.elements == self.expected and not self.trailing and not self.lacking


class Walker:
    """A walk under way; it stops at one element more than expected."""

    __slots__ = ("_at", "_elements", "_expected", "_view")

    def __init__(self, data: Buffer, expected: int) -> None:
        self._view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        self._expected = expected
        self._at = self._elements = 0

    def go(self, most: int) -> BytesWalk | None:
        """Go `most` elements further; None where that is not the end of it."""
        view, at, end, elements, expected = self._view, self._at, len(self._view), self._elements, self._expected
        stop = elements + most
        while end - at >= _LENGTH_BYTES:
            elements += 1
            if elements > expected:
                return BytesWalk(expected, elements)
            length: int = _length_at(view, at)[0]
            at += _LENGTH_BYTES + length
            if at > end:
                return BytesWalk(expected, elements, length=length, lacking=at - end)
            if elements == stop:
                self._at, self._elements = at, elements
                return None
        return BytesWalk(expected, elements, trailing=end - at)


def walk_bytes(data: Buffer, expected: int) -> BytesWalk:
    """Walk a payload to its end."""
    if _alike(data, expected):
        return BytesWalk(expected, expected)
    walk = Walker(data, expected).go(expected + 2)
    assert walk is not None
    return walk


def is_long(tensors: Iterable["Tensor"]) -> bool:
    """Tell whether one of the tensors is for `walk_ahead`."""
    for tensor in tensors:  # noqa: SIM110  # once a request: a generator costs five times as much
        if tensor.datatype == "BYTES" and len(tensor.data) > LONG_BYTES:
            return True
    return False


async def walk_ahead(tensors: Iterable["Tensor"]) -> None:
    """Walk the long payloads among some tensors, and let others have a turn after each slice."""
    for tensor in tensors:
        if tensor.datatype != "BYTES" or len(tensor.data) <= LONG_BYTES or any(dim < 0 for dim in tensor.shape):
            continue
        expected = math.prod(tensor.shape)
        if _alike(tensor.data, expected):
            tensor.walk = BytesWalk(expected, expected)
            continue
        walker = Walker(tensor.data, expected)
        while (walk := walker.go(SLICE_ELEMENTS)) is None:  # noqa: ASYNC110  # nothing is waited for: others have their turn
            await asyncio.sleep(0)
        tensor.walk = walk


def _alike(data: Buffer, expected: int) -> bool:
    """Tell whether a payload is exactly these elements, many and of one length: seen in milliseconds for millions."""
    if expected < _MANY_ELEMENTS:
        return False
    size, rest = divmod(len(data), expected)
    if rest or size < _LENGTH_BYTES:
        return False
    heads = np.frombuffer(data, np.uint8).reshape(expected, size)[:, :_LENGTH_BYTES]
    return bool((np.ascontiguousarray(heads).view("<u4") == size - _LENGTH_BYTES).all())
