"""Batches of bytes: stacking requests' tensors and splitting results again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.stack import split, stack
from tritium.core.tensor import Tensor, from_array, join_bytes

ROWS = st.lists(st.integers(1, 4), min_size=1, max_size=5)


def same(one: Tensor, other: Tensor) -> bool:
    return (one.name, one.datatype, one.shape, bytes(one.data)) == (
        other.name,
        other.datatype,
        other.shape,
        bytes(other.data),
    )


@given(ROWS, st.integers(0, 3), st.sampled_from(["FP32", "INT8", "FP64", "BOOL"]))
def test_stack_is_numpy_concatenation(rows: list[int], width: int, datatype: str) -> None:
    """Stacked bytes are those of the concatenated arrays, and splitting gives every part back."""
    parts = [from_array("x", np.arange(n * width).reshape(n, width) + n, datatype) for n in rows]
    whole = stack(parts)
    assert whole.shape == (sum(rows), width)
    assert np.array_equal(whole.array(), np.concatenate([part.array() for part in parts]))
    assert all(map(same, split(whole, rows), parts))


@given(st.data(), ROWS, st.integers(1, 3))
def test_strings_stack_and_split(data: st.DataObject, rows: list[int], width: int) -> None:
    """BYTES tensors are cut between elements, whatever their lengths."""
    parts = []
    for n in rows:
        elements = data.draw(st.lists(st.binary(max_size=5), min_size=n * width, max_size=n * width))
        parts.append(Tensor("x", "BYTES", (n, width), join_bytes(elements)))
    assert all(map(same, split(stack(parts), rows), parts))


def test_one_request_is_not_copied() -> None:
    """A batch of one keeps its bytes, on the way in and on the way out."""
    tensor = Tensor("x", "FP32", (2, 2), bytes(16))
    assert stack([tensor]) is tensor
    assert split(tensor, [2]) == [tensor]


def test_shares_are_views() -> None:
    """Splitting numbers copies nothing."""
    data = bytearray(8)
    one, _ = split(Tensor("x", "INT32", (2, 1), data), [1, 1])
    data[0] = 7
    assert bytes(one.data) == b"\x07\0\0\0"


def test_different_shapes_do_not_stack() -> None:
    """The message says which tensor, and what stood side by side."""
    with pytest.raises(InvalidArgument, match=r"input 'x' cannot be batched: FP32 \[1, 2\] and FP32 \[1, 3\]"):
        stack([Tensor("x", "FP32", (1, 2), bytes(8)), Tensor("x", "FP32", (1, 3), bytes(12))])


@pytest.mark.parametrize("shape", [(3, 1), (), (0,)])
def test_a_result_that_is_not_the_batch(shape: tuple[int, ...]) -> None:
    """A model whose output has lost the batch dimension is told so."""
    with pytest.raises(ModelFailed, match=r"output 'y' has shape .* but a batch of 2 needs 2"):
        split(Tensor("y", "FP32", shape, bytes(4)), [1, 1])
