"""Long BYTES payloads are walked slice by slice, and once."""

import asyncio

import pytest

from tritium.core.bytes_walk import LONG_BYTES, SLICE_ELEMENTS, BytesWalk, Walker, is_long, walk_ahead, walk_bytes
from tritium.core.check import RequestCheck
from tritium.core.errors import InvalidArgument
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor, join_bytes

SLICES = 5
COUNT = SLICES * SLICE_ELEMENTS
PAYLOAD = join_bytes([b"x" * (number % 7) for number in range(COUNT)])
STRINGS = 'input { name: "X" data_type: TYPE_STRING dims: -1 }'


async def test_others_have_a_turn_after_each_slice():
    """Somebody who yields whenever he has run runs at least once for each slice of a long payload."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    tensor = Tensor("X", "BYTES", (COUNT,), PAYLOAD)
    await walk_ahead([tensor])
    counting.cancel()
    assert tensor.walk is not None
    assert tensor.walk.right
    assert turns >= SLICES - 1


@pytest.mark.parametrize("cut", [0, 1, 5, 100])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_slices_find_what_one_walk_finds(cut: int, more: int):
    """Wherever a payload ends, and whatever was expected of it."""
    data = PAYLOAD[: len(PAYLOAD) - cut]
    walker = Walker(data, COUNT + more)
    found = None
    while found is None:
        found = walker.go(SLICE_ELEMENTS)
    assert found == walk_bytes(data, COUNT + more)


async def test_the_check_takes_what_was_found(fakes):
    """It does not walk again; what was found wrong it refuses in the words that it has for that."""
    check = RequestCheck(fakes.config(STRINGS))
    request = InferRequest("m", inputs=[Tensor("X", "BYTES", (COUNT,), PAYLOAD[:-1])])
    assert is_long(request.inputs)
    await walk_ahead(request.inputs)
    with pytest.raises(InvalidArgument, match="incomplete string data for inference input 'X'"):
        check(request)
    request.inputs[0].walk = BytesWalk(COUNT, COUNT)
    assert check(request) == 1


async def test_a_walk_counts_for_what_it_expected(fakes):
    """A shape that was changed since is walked anew."""
    check = RequestCheck(fakes.config(STRINGS))
    request = InferRequest("m", inputs=[Tensor("X", "BYTES", (COUNT,), PAYLOAD)])
    await walk_ahead(request.inputs)
    request.inputs[0].shape = (COUNT - 1,)
    with pytest.raises(InvalidArgument, match=f"unexpected number of string elements {COUNT}"):
        check(request)


async def test_short_and_other_payloads_are_left_alone():
    """Only strings, and only long ones: everything else is checked where it always was."""
    tensors = [Tensor("X", "BYTES", (1,), join_bytes([b"abc"])), Tensor("Y", "UINT8", (LONG_BYTES + 1,), PAYLOAD)]
    assert not is_long(tensors)
    await walk_ahead(tensors)
    assert [tensor.walk for tensor in tensors] == [None, None]
    unclear = Tensor("Z", "BYTES", (-1, 2), PAYLOAD)
    await walk_ahead([unclear])
    assert unclear.walk is None
