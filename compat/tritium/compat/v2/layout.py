"""Layouts of bodies seen before: a client that sends tensor after tensor behind the same JSON has it read once.

Only of what is all binary and has no id. Reading such JSON is a seventh of what a small request costs the front.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from tritium.compat.v2.call import InferCall, OutputRequest
from tritium.compat.v2.elements import Buffer

T = TypeVar("T")

LONGEST_BYTES: Final = 4 << 10
"""Longer JSON is not remembered."""
MOST: Final = 256
"""So many are remembered; then all are forgotten, and those that still come are read once more."""


class Place:
    """One input: what it is, and how many of the bytes behind the JSON are its."""

    __slots__ = ("datatype", "name", "shape", "size_bytes")

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], size_bytes: int) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.size_bytes = size_bytes


class Layout:
    """What one JSON says: where its inputs lie, and which outputs are asked for."""

    __slots__ = ("_binary_output", "_outputs", "_places", "_size_bytes")

    def __init__(self, places: list[Place], outputs: list[OutputRequest], *, binary_output: bool) -> None:
        self._places = places
        self._outputs = outputs
        self._binary_output = binary_output
        size_bytes = 0
        for place in places:
            size_bytes += place.size_bytes
        self._size_bytes = size_bytes

    def read(
        self, body: memoryview, at: int, tensor: Callable[[str, str, tuple[int, ...], Buffer], T]
    ) -> InferCall[T] | None:
        """Read a body whose tensors begin at `at`; None where they do not fill it."""
        if len(body) - at != self._size_bytes:
            return None
        inputs: list[T] = []
        for place in self._places:
            start, at = at, at + place.size_bytes
            inputs.append(tensor(place.name, place.datatype, place.shape, body[start:at]))
        return InferCall("", inputs, list(self._outputs), binary_output=self._binary_output)


class Layouts:
    """Those that are remembered, by their JSON."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Layout] = {}

    def find(self, text: bytes) -> Layout | None:
        """Return what a JSON says, where it is known."""
        return self._known.get(text)

    def remember(self, text: bytes, layout: Layout) -> None:
        """Remember what a JSON says."""
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[text] = layout
