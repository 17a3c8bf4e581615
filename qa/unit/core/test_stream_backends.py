"""The repeat and the square backend: decoupled streams at the pace that a request or a configuration asks for."""

import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource, TensorBackend
from tritium.backends.repeat import RepeatBackend
from tritium.backends.square import SquareBackend
from tritium.core.errors import Cancelled, InferenceError, InvalidArgument, Unknown
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

REPEAT = """model_transaction_policy { decoupled: true }
    input [ { name: "IN" data_type: TYPE_INT32 dims: -1 }, { name: "DELAY" data_type: TYPE_UINT32 dims: -1 },
            { name: "WAIT" data_type: TYPE_UINT32 dims: 1 } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: 1 }, { name: "IDX" data_type: TYPE_UINT32 dims: 1 } ]"""
SQUARE = """model_transaction_policy { decoupled: true }
    input { name: "IN" data_type: TYPE_INT32 dims: 1 } output { name: "OUT" data_type: TYPE_INT32 dims: 1 }"""


async def load(fakes: ModuleType, backend: TensorBackend, pbtxt: str) -> TensorModel:
    """Return a model of one instance."""
    config = fakes.config(pbtxt, "m")
    source = ModelSource(config, Path(), "1")
    return TensorModel(config, "1", [await backend.open(source, InstancePlace("m_0"), BackendHost())])


def repeat_request(elements: list[int], delays: list[int], wait: int = 0) -> InferRequest:
    """Return a request of a repeat model."""

    def tensor(name: str, datatype: str, values: list[int]) -> Tensor:
        code = "i" if datatype == "INT32" else "I"
        return Tensor(name, datatype, (len(values),), struct.pack(f"<{len(values)}{code}", *values))

    inputs = [tensor("IN", "INT32", elements), tensor("DELAY", "UINT32", delays), tensor("WAIT", "UINT32", [wait])]
    return InferRequest("m", inputs=inputs)


def square_request(count: int, shape: tuple[int, ...] = (1,)) -> InferRequest:
    """Return a request of a square model."""
    return InferRequest("m", inputs=[Tensor("IN", "INT32", shape, struct.pack("<i", count))])


def submit(fakes: ModuleType, model: TensorModel, request: InferRequest) -> Any:
    """Submit a request and return its reply."""
    reply = fakes.Collector()
    model.submit(request, reply)
    return reply


def told(items: list[Any]) -> list[object]:
    """Return each response as the numbers of its outputs, each error as its message."""
    return [
        item.message if isinstance(item, InferenceError) else [int(output.array()[0]) for output in item.outputs]
        for item in items
    ]


async def test_repeat_sends_element_after_element(fakes: ModuleType) -> None:
    """Each element is a response with its index; nothing is sent of an empty request."""
    model = await load(fakes, RepeatBackend(), REPEAT)
    assert told(await submit(fakes, model, repeat_request([4, -2, 0], [0, 1, 0])).all()) == [[4, 0], [-2, 1], [0, 2]]
    assert told(await submit(fakes, model, repeat_request([], [])).all()) == []
    await model.close()


async def test_repeat_mixes_streams_after_its_wait(fakes: ModuleType) -> None:
    """With a wait shorter than the delays, one instance streams several requests at a time."""
    model = await load(fakes, RepeatBackend(), REPEAT)
    slow = submit(fakes, model, repeat_request([1, 2], [0, 200]))
    fast = submit(fakes, model, repeat_request([3], [0]))
    await fast.all()
    assert told(slow.items) == [[1, 0]]
    await model.close()
    assert told(slow.items) == [[1, 0], [2, 1]]


async def test_repeat_refuses_requests_that_do_not_fit(fakes: ModuleType) -> None:
    """Elements and delays come in pairs."""
    model = await load(fakes, RepeatBackend(), REPEAT)
    error = await submit(fakes, model, repeat_request([1, 2], [0])).one()
    assert isinstance(error, InvalidArgument)
    assert error.message == "expected IN and DELAY shape to match, got [2] and [1]"
    await model.close()


async def test_repeat_stops_when_cancelled(fakes: ModuleType) -> None:
    """What the client does not want any more is not sent."""
    model = await load(fakes, RepeatBackend(), REPEAT)
    request = repeat_request([1, 2, 3], [0, 20, 20])
    reply = submit(fakes, model, request)
    request.cancel()
    items = await reply.all()
    assert isinstance(items[-1], Cancelled)
    assert len(items) < 3
    await model.close()


async def test_square_answers_n_times(fakes: ModuleType) -> None:
    """n is answered n times, 0 not at all, with or without a batch dimension."""
    model = await load(fakes, SquareBackend(), SQUARE)
    assert told(await submit(fakes, model, square_request(3)).all()) == [[3], [3], [3]]
    assert told(await submit(fakes, model, square_request(0)).all()) == []
    await model.close()
    batching = await load(fakes, SquareBackend(), "max_batch_size: 8 " + SQUARE)
    (item,) = await submit(fakes, batching, square_request(1, (1, 1))).all()
    assert item.outputs[0].shape == (1, 1)
    await batching.close()


async def test_square_fails_and_leaves_out_as_configured(fakes: ModuleType) -> None:
    """The last responses are empty, and those before them errors; a parameter that is no number counts as 0."""
    parameters = "".join(
        f'parameters {{ key: "CUSTOM_{name}" value {{ string_value: "{value}" }} }}'
        for name, value in (("FAIL_COUNT", "2"), ("EMPTY_COUNT", "1"), ("INFER_DELAY_NS", "soon"))
    )
    model = await load(fakes, SquareBackend(), SQUARE + parameters)
    items = await submit(fakes, model, square_request(5)).all()
    assert told(items) == [[5], [5], "simulated failure", "simulated failure"]
    assert isinstance(items[-1], Unknown)
    await model.close()


@pytest.mark.parametrize(
    ("backend", "pbtxt", "message"),
    [
        (RepeatBackend, "max_batch_size: 1 " + REPEAT, "repeat backend only supports models with max_batch_size == 0"),
        (RepeatBackend, SQUARE, "expected 3 inputs, got 1"),
        (RepeatBackend, REPEAT.replace('"DELAY"', '"X"'), "expected second input tensor name to be DELAY, got X"),
        (RepeatBackend, REPEAT.replace("-1", "4", 1), "expected IN and DELAY shape to match, got [4] and [-1]"),
        (RepeatBackend, REPEAT.replace("-1", "1 dims: 1", 1), "expected IN shape to have one dimension, got [1,1]"),
        (
            RepeatBackend,
            REPEAT.replace('"IDX" data_type: TYPE_UINT32', '"IDX" data_type: TYPE_INT8'),
            "expected IDX datatype to be UINT32, got TYPE_INT8",
        ),
        (SquareBackend, REPEAT, "expected 1 input, got 3"),
        (SquareBackend, SQUARE.replace('"OUT"', '"O"'), "expected first output tensor name to be OUT, got O"),
        (SquareBackend, SQUARE.replace("dims: 1", "dims: 2", 1), "expected IN shape to be [1], got [2]"),
        (SquareBackend, SQUARE.replace("INT32", "FP32", 1), "expected IN datatype to be INT32, got TYPE_FP32"),
    ],
)
async def test_wrong_configurations(fakes: ModuleType, backend: type, pbtxt: str, message: str) -> None:
    """A configuration that does not fit is refused in Triton's words."""
    with pytest.raises(InvalidArgument) as caught:
        await load(fakes, backend(), pbtxt)
    assert caught.value.message == message


async def test_square_tells_output_from_computation(fakes: ModuleType) -> None:
    """The time that CUSTOM_OUTPUT_DELAY_NS takes is counted as making outputs, that before it as computing."""
    parameters = "".join(
        f'parameters {{ key: "CUSTOM_{name}_DELAY_NS" value {{ string_value: "{ms}000000" }} }}'
        for name, ms in (("INFER", 10), ("OUTPUT", 20))
    )
    model = await load(fakes, SquareBackend(), SQUARE + parameters)
    await submit(fakes, model, square_request(1)).all()
    first = model.statistics.responses[0]
    assert 10_000_000 <= first.compute_infer.ns < 20_000_000 <= first.compute_output.ns
    await model.close()
