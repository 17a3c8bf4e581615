"""Several requests' tensors as one batch, and one batch's tensors as each request's share.

For backends that compute on whole batches. Only bytes are moved: a batch is its members' bytes one after the
other, BYTES included, for the batch dimension comes first. A batch of one is passed on without a copy.
"""

from collections.abc import Sequence
from itertools import accumulate

from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.tensor import Buffer, Tensor


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Join tensors of one name along their first dimension.

    Raises:
        InvalidArgument: they differ in datatype or in another dimension.
    """
    first = tensors[0]
    if len(tensors) == 1:
        return first
    for other in tensors[1:]:
        if other.datatype != first.datatype or other.shape[1:] != first.shape[1:]:
            raise InvalidArgument(
                f"input '{first.name}' cannot be batched: {first.datatype} {list(first.shape)} "
                f"and {other.datatype} {list(other.shape)}",
                hint="set allow_ragged_batch only for backends that take requests one by one",
            )
    rows = sum(tensor.shape[0] for tensor in tensors)
    return Tensor(first.name, first.datatype, (rows, *first.shape[1:]), b"".join(tensor.data for tensor in tensors))


def split(tensor: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cut a tensor along its first dimension into shares of the given sizes; shares are views where that is possible.

    Raises:
        ModelFailed: the first dimension is not the sum of the sizes.
    """
    rows = sum(sizes)
    if not tensor.shape or tensor.shape[0] != rows:
        raise ModelFailed(
            f"output '{tensor.name}' has shape {list(tensor.shape)}, but a batch of {rows} needs {rows} "
            "as its first dimension"
        )
    if len(sizes) == 1:
        return [tensor]
    view = memoryview(tensor.data).cast("B")
    ends = _row_ends(view, tensor, sizes)
    starts = [0, *ends[:-1]]
    return [
        Tensor(tensor.name, tensor.datatype, (size, *tensor.shape[1:]), view[start:end])
        for size, start, end in zip(sizes, starts, ends, strict=True)
    ]


def _row_ends(view: memoryview, tensor: Tensor, sizes: Sequence[int]) -> list[int]:
    """Return, for each share, the offset at which it ends."""
    if tensor.datatype != "BYTES":
        row_bytes = len(view) // tensor.shape[0] if tensor.shape[0] else 0
        return [rows * row_bytes for rows in accumulate(sizes)]
    per_row = 1
    for dim in tensor.shape[1:]:
        per_row *= dim
    ends, at = [], 0
    for size in sizes:
        at = skip_elements(view, at, size * per_row)
        ends.append(at)
    return ends


def skip_elements(data: Buffer, at: int, count: int) -> int:
    """Return the offset after `count` BYTES elements that start at `at`."""
    for _ in range(count):
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return at
