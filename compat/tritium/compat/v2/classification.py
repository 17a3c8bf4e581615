"""The classification extension: the greatest elements of an output, as "value:index" or "value:index:label"."""

import math
from collections.abc import Sequence
from heapq import nlargest

from tritium.compat.v2.elements import CODES, Buffer, join_bytes, numbers
from tritium.compat.v2.refusal import Refusal

MOST_ELEMENTS = 1_000_000
"""Sorting more would keep everybody waiting (server/src/classification.cc, 2.73)."""

_FLOATS = frozenset({"FP32", "FP64"})


def classify(
    datatype: str,
    shape: tuple[int, ...],
    data: Buffer,
    *,
    classes: int,
    batches: bool,
    labels: Sequence[str],
) -> tuple[tuple[int, ...], bytes]:
    """Return shape and data of the BYTES tensor that stands for an output; per batch element where `batches`.

    Raises:
        Refusal: the output is not made of numbers, or of too many.
    """
    if datatype not in CODES or datatype == "BOOL":
        raise Refusal(f"class result not available for output due to unsupported type '{datatype}'")
    rows = shape[0] if batches and shape else 1
    width = math.prod(shape[1:] if batches else shape)
    if width > MOST_ELEMENTS:
        raise Refusal("classification output tensor too large")
    elements = numbers(datatype, data)
    taken = min(classes, width)
    text = "{:f}" if datatype in _FLOATS else "{:d}"
    found: list[bytes] = []
    for row in range(rows):
        scores = elements[row * width : (row + 1) * width]
        for index in nlargest(taken, range(width), key=scores.__getitem__):
            label = f":{labels[index]}" if index < len(labels) else ""
            found.append(f"{text.format(scores[index])}:{index}{label}".encode())
    return (rows, taken) if batches else (taken,), join_bytes(found)
