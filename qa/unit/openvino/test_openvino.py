"""OpenVINO models: what is completed, what is refused, and what comes out."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from tritium.backends.hosted.configured import Refused
from tritium.backends.hosted.model import HostedModel
from tritium.backends.openvino.backend import OpenVinoBackend
from tritium.compat.config.model import ModelConfig
from tritium.compat.pb_utils import InferenceRequest, Tensor
from tritium.core.errors import InvalidArgument, Unavailable
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import from_array
from tritium.core.tensor_model import TensorModel

Write = Callable[..., None]
Load = Callable[[str], HostedModel]
Configure = Callable[[str], ModelConfig]

FP32 = "data_type: TYPE_FP32 dims: [ 3 ]"
INPUTS = f'input [ {{ name: "a" {FP32} }}, {{ name: "b" {FP32} }} ]'
TENSORS = INPUTS + f'output [ {{ name: "s" {FP32} }}, {{ name: "d" {FP32} }} ]'
BATCH = f"max_batch_size: 4 {TENSORS}"


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def run(model: HostedModel, *rows: int) -> list[np.ndarray | str]:
    """Run requests of so many rows of (2, 1); return s of each, or its error."""
    requests = []
    for count in rows:
        shape = (count, 3) if count else (3,)
        pair = [Tensor("a", np.full(shape, 2, "f4")), Tensor("b", np.full(shape, 1, "f4"))]
        requests.append(InferenceRequest(inputs=pair, model_name="m", requested_output_names=[]))
    responses = model.execute(requests)
    return [
        response.error().message() if response.error() else response.output_tensors()[0].as_numpy()
        for response in responses
    ]


def test_batches_of_any_size(write: Write, load: Load) -> None:
    """Where the model's shapes allow it, requests of different sizes are one batch, and need no padding."""
    write([-1, 3])
    one, two = run(load(BATCH), 1, 2)
    assert (one.tolist(), two.tolist()) == ([[3, 3, 3]], [[3, 3, 3]] * 2)


def test_a_fixed_batch_is_opened_where_operations_follow(write: Write, load: Load) -> None:
    """A model saved for one row serves several, for nothing in it insists on one."""
    write([1, 3])
    (three,) = run(load(BATCH), 3)
    assert three.shape == (3, 3)


def test_a_fixed_batch_that_cannot_be_opened(write: Write, load: Load) -> None:
    """A model whose operations insist on a batch takes that alone, in Triton's words; with padding it takes less."""
    write([4, 3], into=[4, 3])
    assert run(load(BATCH), 4)[0].shape == (4, 3)
    assert (
        "expected requests with batch size '4', got '3'... this error can be avoided by setting"
        in run(load(BATCH), 3)[0]
    )
    one, two = run(load(BATCH + parameter("ENABLE_BATCH_PADDING", "YES")), 1, 2)
    assert (one.tolist(), two.tolist()) == ([[3, 3, 3]], [[3, 3, 3]] * 2)


def test_without_batches(write: Write, load: Load) -> None:
    """A model that does not batch takes its inputs as they are."""
    write([3])
    assert run(load(TENSORS), 0)[0].tolist() == [3, 3, 3]


def test_datatypes_of_the_configuration_win(write: Write, load: Load) -> None:
    """OpenVINO converts between what the model computes with and what the configuration says."""
    write([3], np.int32)
    assert run(load(TENSORS), 0)[0].dtype == np.float32


def test_shapes_of_the_configuration_win_where_told_to(write: Write, load: Load) -> None:
    """RESHAPE_IO_LAYERS gives the model the shapes of the configuration."""
    write([-1, 7])
    with pytest.raises(
        Refused, match=r"expects 2 dimensions \(shape \[-1,7\]\) but .* specifies 2 dimensions .*\[4,3\]"
    ):
        load(BATCH)
    assert run(load(BATCH + parameter("RESHAPE_IO_LAYERS", "yes")), 2)[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (BATCH + 'input { name: "c" data_type: TYPE_FP32 dims: 3 }', "expects 3 inputs, model provides 2"),
        (BATCH.replace('"a"', '"A"'), "unexpected inference input 'A', allowed inputs are: a, b"),
        (BATCH.replace('"s"', '"S"'), "unexpected inference output 'S', allowed outputs are: d, s"),
        (BATCH.replace("TYPE_FP32", "TYPE_STRING", 1), "unsupported datatype TYPE_STRING for input 'a' for model 'm'"),
        (BATCH + parameter("NUM_STREAMS", "many"), "'NUM_STREAMS' to be either AUTO/NUMA/<int_value>, got many"),
        (BATCH + parameter("INFERENCE_NUM_THREADS", "-1"), "to be a non-negative number, got -1"),
        (BATCH + parameter("PERFORMANCE_HINT", "fast"), "to be LATENCY/THROUGHPUT/CUMULATIVE_THROUGHPUT, got fast"),
        (BATCH + parameter("TARGET_DEVICE", "abacus"), "openvino error in "),
        (BATCH + parameter("CPU_EXTENSION_PATH", "/nowhere.so"), "openvino error in loading custom CPU extensions"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(write: Write, load: Load, config: str, said: str) -> None:
    """Tensors, datatypes and parameters are checked when the model is loaded, in Triton's words."""
    write([-1, 3])
    with pytest.raises(Refused) as refused:
        load(config)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        "NUM_STREAMS auto", "NUM_STREAMS 2", "INFERENCE_NUM_THREADS 1", "PERFORMANCE_HINT latency", "HINT_BF16 yes",
        "TARGET_DEVICE cpu", "SKIP_OV_DYNAMIC_BATCHSIZE yes",
    ],
)  # fmt: skip
def test_parameters_reach_openvino(write: Write, load: Load, given: str) -> None:
    """Every parameter is taken in any case, and the model still adds."""
    write([-1, 3])
    assert run(load(BATCH + parameter(*given.split())), 4)[0].tolist() == [[3, 3, 3]] * 4


async def test_completed_without_layouts(write: Write, tmp_path: Path, configure: Configure) -> None:
    """Names, datatypes and shapes come from the model; without a batch in its layouts it does not batch."""
    write([-1, 3])
    config = await OpenVinoBackend().complete(configure(""), tmp_path, "1")
    assert (config.max_batch_size, config.proto.HasField("dynamic_batching")) == (0, False)
    assert {name: (spec.datatype, spec.dims) for name, spec in config.inputs.items()} == dict.fromkeys(
        "ab", ("FP32", (-1, 3))
    )
    assert list(config.outputs) == ["s", "d"]


@pytest.mark.parametrize(
    ("pbtxt", "default", "expected"),
    [("", "4", (4, True)), ("", "1", (1, False)), ("max_batch_size: 2", "4", (2, True))],
)
async def test_completed_with_layouts(
    write: Write, tmp_path: Path, configure: Configure, pbtxt: str, default: str, expected: tuple[int, bool]
) -> None:
    """Layouts with a batch make the model batch, by the size configured or the server's default."""
    write([-1, 3], layout="NC")
    backend = OpenVinoBackend()
    backend.configure({"default-max-batch-size": default})
    config = await backend.complete(configure(pbtxt), tmp_path, "1")
    assert (config.max_batch_size, config.proto.HasField("dynamic_batching")) == expected
    assert config.inputs["a"].dims == (3,)


async def test_served_as_the_server_does(write: Write, serve: Callable[[str], Awaitable[TensorModel]]) -> None:
    """Completed in one process, run in another, from nothing but the file."""
    write([-1, 3], layout="NC")
    model = await serve("")
    reply = SingleReply(asyncio.get_running_loop())
    pair = [from_array(name, np.ones((2, 3), "f4"), "FP32") for name in "ab"]
    model.submit(InferRequest("m", inputs=pair), reply)
    response = await asyncio.wait_for(reply.future, 60)
    assert response.outputs[0].array().tolist() == [[2, 2, 2]] * 2


async def test_files_that_are_no_model(tmp_path: Path, configure: Configure) -> None:
    """A missing file is told without starting a process; one that cannot be read with OpenVINO's reason."""
    with pytest.raises(Unavailable, match=r"unable to find '.*/1/model.xml' for model instance 'm'"):
        await OpenVinoBackend().complete(configure(""), tmp_path, "1")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.xml").write_text("<net>")
    with pytest.raises(Exception, match="openvino error in reading model : "):
        await OpenVinoBackend().complete(configure(""), tmp_path, "1")
    with pytest.raises(InvalidArgument, match="failed to convert 'x' to integral number"):
        OpenVinoBackend().configure({"default-max-batch-size": "x"})
