"""The identity backend: inputs come back as outputs, after the delay its parameters ask for."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.identity import IdentityBackend, IdentityInstance
from tritium.core.errors import InvalidArgument
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

PAIR = """input { name: "INPUT0" data_type: TYPE_STRING dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_STRING dims: -1 }
"""
Open = Callable[..., IdentityInstance]


@pytest.fixture
def open_instance(fakes: ModuleType) -> Callable[..., object]:
    """Return a function that opens one instance of a configuration."""

    async def open_(pbtxt: str, name: str = "m_0", kind: str = "CPU") -> IdentityInstance:
        backend = IdentityBackend()
        config = await backend.complete(fakes.config(pbtxt, "m"), Path(), "1")
        return await backend.open(ModelSource(config, Path(), "1"), InstancePlace(name, kind), BackendHost())

    return open_


async def test_bytes_come_back_without_a_copy(fakes: ModuleType, open_instance: Open) -> None:
    """Output n is the very data of input n; inputs that were not given have no output."""
    pbtxt = PAIR + PAIR.replace("0", "1").replace("dims: -1 }", "dims: -1 optional: true }", 1)
    model = TensorModel(fakes.config(pbtxt, "m"), "1", [await open_instance(pbtxt)])
    data = memoryview(b"\x02\0\0\0hi")
    reply = fakes.Collector()
    model.submit(fakes.request(Tensor("INPUT0", "BYTES", (1,), data)), reply)
    (output,) = (await reply.one()).outputs
    assert (output.name, output.datatype, output.shape) == ("OUTPUT0", "BYTES", (1,))
    assert output.data is data


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
