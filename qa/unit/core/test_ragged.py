"""Batches of inputs that differ in shape: what the model is told of them, and how its outputs are cut."""

from types import ModuleType

import numpy as np
import pytest

from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.ragged import RaggedBatches
from tritium.core.tensor import Tensor, from_array

SHAPES = [(1, 2), (2, 3), (1, 1)]
"""Of three requests: 2, 6 and 1 elements."""


def batches(fakes: ModuleType, more: str, dims: str = "-1") -> RaggedBatches:
    """Return the batches of a model with one ragged input and two outputs."""
    return RaggedBatches(
        fakes.config(
            f"""max_batch_size: 8
            input {{ name: "X" data_type: TYPE_FP32 dims: [ {dims} ] allow_ragged_batch: true }}
            output {{ name: "Y" data_type: TYPE_FP32 dims: [ {dims} ] }}
            output {{ name: "S" data_type: TYPE_STRING dims: 2 }}
            {more}"""
        )
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("BATCH_ELEMENT_COUNT", [2, 6, 1]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [2, 8, 9]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 2, 8, 9]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [0, 0, 0, 0, 0, 0]),
        ("BATCH_ITEM_SHAPE", [[2], [3], [3], [1]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [2, 3, 3, 1]),
    ],
)
@pytest.mark.parametrize(("datatype", "kind_of_number"), [("TYPE_INT32", np.int32), ("TYPE_FP32", np.float32)])
def test_made_inputs(
    fakes: ModuleType, kind: str, expected: list[object], datatype: str, kind_of_number: type[np.generic]
) -> None:
    """Every kind of batch_input says what its name says, in either datatype, to every target."""
    made = batches(
        fakes,
        f'batch_input {{ kind: {kind} target_name: "A" target_name: "B" data_type: {datatype} source_input: "X" }}',
    ).made({"X": SHAPES})
    assert [tensor.name for tensor in made] == ["A", "B"]
    for tensor in made:
        array = tensor.array()
        assert array.dtype == kind_of_number
        assert array.tolist() == expected


def test_items_of_two_dimensions(fakes: ModuleType) -> None:
    """The shape of an item is all its dimensions, a row for each; flattened they follow each other."""
    spec = 'batch_input { kind: %s target_name: "A" data_type: TYPE_INT32 source_input: "X" }'
    shapes = {"X": [(1, 2, 1), (2, 3, 4)]}
    (rows,) = batches(fakes, spec % "BATCH_ITEM_SHAPE", "-1, -1").made(shapes)
    (flat,) = batches(fakes, spec % "BATCH_ITEM_SHAPE_FLATTEN", "-1, -1").made(shapes)
    assert rows.array().tolist() == [[2, 1], [3, 4], [3, 4]]
    assert flat.array().tolist() == [2, 1, 3, 4, 3, 4]


def test_ragged_inputs_lose_their_dimensions(fakes: ModuleType) -> None:
    """Ragged inputs go end to end, one alone as well; inputs that are not ragged must have one shape."""
    ragged = batches(fakes, "")
    tensors = [from_array("X", np.full(shape, index, np.float32), "FP32") for index, shape in enumerate(SHAPES)]
    assert ragged.join("X", tensors).array().tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 2]
    assert ragged.join("X", tensors[1:2]).shape == (6,)
    with pytest.raises(InvalidArgument, match="cannot be batched"):
        ragged.join("Z", tensors)


def test_scattered_outputs(fakes: ModuleType) -> None:
    """An output takes the shapes of its input where its dimensions are open, and its own elements in order."""
    spec = 'batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "%s" source_input: "X" }'
    ragged = batches(fakes, spec % "Y")
    assert (ragged.source("Y"), ragged.source("S")) == ("X", "")
    shares = ragged.scatter(from_array("Y", np.arange(9, dtype=np.float32), "FP32"), SHAPES)
    assert [share.array().tolist() for share in shares] == [[[0, 1]], [[2, 3, 4], [5, 6, 7]], [[8]]]
    strings = Tensor("S", "BYTES", (8,), b"".join(b"\1\0\0\0%d" % n for n in range(8)))
    shares = batches(fakes, spec % "S").scatter(strings, SHAPES)
    assert [share.shape for share in shares] == [(1, 2), (2, 2), (1, 2)]
    assert shares[2].array().tolist() == [[b"6", b"7"]]
    with pytest.raises(ModelFailed, match="output 'Y' has 7 elements, but the inputs it is scattered to have 9"):
        ragged.scatter(from_array("Y", np.zeros(7, np.float32), "FP32"), SHAPES)


def test_a_plain_model_has_none_of_it(fakes: ModuleType) -> None:
    """Without a word of this in the configuration `any` is false."""
    assert not RaggedBatches(fakes.config("max_batch_size: 8" + fakes.ADD_SUB)).any
    assert batches(fakes, "").any
