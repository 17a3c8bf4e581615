"""The identity backend: inputs come back as outputs, after the delay its parameters ask for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.identity import IdentityBackend, IdentityInstance
from tritium.backends.metrics import CustomMetrics
from tritium.core.errors import InvalidArgument
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

PAIR = """input { name: "INPUT0" data_type: TYPE_STRING dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_STRING dims: -1 }
"""
Open = Callable[..., Awaitable[IdentityInstance]]


@pytest.fixture
def open_instance(fakes: ModuleType) -> Open:
    """Return a function that opens one instance of a configuration."""

    async def open_(pbtxt: str, name: str = "m_0", kind: str = "CPU") -> IdentityInstance:
        backend = IdentityBackend()
        config = await backend.complete(fakes.config(pbtxt, "m"), Path(), "1")
        return await backend.open(ModelSource(config, Path(), "1"), InstancePlace(name, kind), BackendHost())

    return open_


async def test_bytes_come_back_without_a_copy(fakes: ModuleType, open_instance: Open) -> None:
    """Output n is the very data of input n, and the response has the parameters of Triton's backend."""
    model = TensorModel(fakes.config(PAIR, "m"), "1", [await open_instance(PAIR)])
    data = memoryview(b"\x02\0\0\0hi")
    reply = fakes.Collector()
    model.submit(fakes.request(Tensor("INPUT0", "BYTES", (1,), data)), reply)
    response = await reply.one()
    (output,) = response.outputs
    assert (output.name, output.datatype, output.shape) == ("OUTPUT0", "BYTES", (1,))
    assert output.data is data
    assert response.parameters == {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }


@pytest.mark.parametrize(
    ("head", "datatype", "shape", "data"),
    [
        ("", "TYPE_STRING", (1, 3), bytes(12)),
        ("", "TYPE_FP64", (1, 3), bytes(24)),
        ("max_batch_size: 4 ", "TYPE_FP16", (2, 1, 3), bytes(12)),
    ],
)
async def test_what_was_not_given_is_zeros(
    fakes: ModuleType, open_instance: Open, head: str, datatype: str, shape: tuple[int, ...], data: bytes
) -> None:
    """The output of an optional input is zeros of its shape, 1 where that is open, with the request's batch size."""
    second = PAIR.replace("0", "1").replace("TYPE_STRING", datatype).replace("dims: -1", "dims: [ -1, 3 ]")
    pbtxt = head + PAIR + second.replace("dims: [ -1, 3 ] }", "dims: [ -1, 3 ] optional: true }", 1)
    model = TensorModel(fakes.config(pbtxt, "m"), "1", [await open_instance(pbtxt)])
    given = (2, 0) if head else (0,)
    reply = fakes.Collector()
    model.submit(fakes.request(Tensor("INPUT0", "BYTES", given, b"")), reply)
    _, zeros = (await reply.one()).outputs
    assert (zeros.name, zeros.shape, zeros.data) == ("OUTPUT1", shape, data)


async def test_input_bytes_are_counted(fakes: ModuleType) -> None:
    """A counter by model and version grows with every request, is shared by its instances, and goes with them."""
    metrics, backend = CustomMetrics(), IdentityBackend()
    source = ModelSource(fakes.config(PAIR, "m"), Path(), "1")
    host = BackendHost(metrics=metrics)
    instances = [await backend.open(source, InstancePlace(f"m_{n}"), host) for n in range(2)]
    model = TensorModel(source.config, "1", instances)
    for _ in range(3):
        reply = fakes.Collector()
        model.submit(fakes.request(Tensor("INPUT0", "BYTES", (1,), b"\x02\0\0\0hi")), reply)
        await reply.one()
    ((metric),) = list(metrics)
    assert (metric.family, dict(metric.labels)) == ("input_byte_size_counter", {"model": "m", "version": "1"})
    assert metric.value == 18
    await model.close()
    assert list(metrics) == []


async def test_delay_is_per_execution_and_grows_with_the_instance(fakes: ModuleType, open_instance: Open) -> None:
    """execute_delay_ms delays an execution; with a multiplier, later instances are slower."""
    slow = PAIR + 'parameters { key: "execute_delay_ms" value { string_value: "20" } }'
    model = TensorModel(fakes.config(slow, "m"), "1", [await open_instance(slow)])
    began = time.monotonic()
    reply = fakes.Collector()
    model.submit(fakes.request(Tensor("INPUT0", "BYTES", (0,), b"")), reply)
    await reply.one()
    assert time.monotonic() - began >= 0.02
    await model.close()
    assert model.statistics.compute_infer.ns >= 20_000_000
    multiplied = slow + 'parameters { key: "instance_wise_delay_multiplier" value { string_value: "2" } }'
    instances = await asyncio.gather(*(open_instance(multiplied, f"m_{n}") for n in range(3)))
    assert [instance._delay_s for instance in instances] == [0.02, 0.04, 0.08]


@pytest.mark.parametrize(
    ("pbtxt", "message"),
    [
        (PAIR.split("output", maxsplit=1)[0], "model configuration must have equal input/output pairs"),
        (PAIR.replace("INPUT0", "X"), "expected input name to follow INPUT<index> pattern, got 'X'"),
        (PAIR.replace("OUTPUT0", "OUTPUT1"), "expected input and output indices to match"),
        (
            PAIR.replace("TYPE_STRING", "TYPE_FP32", 1),
            "expected input and output datatype to match, got FP32 and BYTES",
        ),
        (PAIR.replace("-1", "2", 1), "expected input and output shape to match, got [2] and [-1]"),
        (
            PAIR + 'parameters { key: "execute_delay_ms" value { string_value: "soon" } }',
            "model 'm': parameter 'execute_delay_ms' must be a whole number, got 'soon'",
        ),
    ],
)
async def test_wrong_configurations(open_instance: Open, pbtxt: str, message: str) -> None:
    """Inputs and outputs must pair up; the messages are Triton's where it has one."""
    with pytest.raises(InvalidArgument) as caught:
        await open_instance(pbtxt)
    assert caught.value.message == message


async def test_no_gpu_instances(open_instance: Open) -> None:
    """There is nothing to do on a GPU."""
    with pytest.raises(InvalidArgument, match="only supports CPU instances"):
        await open_instance(PAIR, kind="GPU")
