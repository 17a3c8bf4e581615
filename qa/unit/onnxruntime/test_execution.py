"""ONNX models run for real: every datatype, batches, scalars, and whatever onnxruntime refuses."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.onnxruntime.backend import OnnxBackend
from tritium.backends.onnxruntime.pace import SHORT_NS, Pace
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest, InferResponse, RequestedOutput
from tritium.core.tensor import Tensor, from_array, join_bytes
from tritium.core.tensor_model import TensorModel

REPOSITORY = Path(__file__).parents[3] / "model_repository"
Serve = Callable[..., Awaitable[TensorModel]]


async def infer(model: TensorModel, *inputs: Tensor, outputs: Sequence[str] = ()) -> InferResponse:
    """Submit one request and return its response."""
    reply = SingleReply(asyncio.get_running_loop())
    asked = [RequestedOutput(name) for name in outputs]
    model.submit(InferRequest("m", inputs=list(inputs), outputs=asked), reply)
    return await asyncio.wait_for(reply.future, 60)


IDENTITY = (
    """input {{ name: "x" data_type: TYPE_{0} dims: [ -1 ] }} output {{ name: "y" data_type: TYPE_{0} dims: [ -1 ] }}"""
)

TYPES = [
    ("BOOL", TensorProto.BOOL, np.array([1, 0], "?").tobytes()),
    ("UINT8", TensorProto.UINT8, np.array([0, 255], "u1").tobytes()),
    ("UINT16", TensorProto.UINT16, np.array([0, 65535], "<u2").tobytes()),
    ("UINT32", TensorProto.UINT32, np.array([0, 2**32 - 1], "<u4").tobytes()),
    ("UINT64", TensorProto.UINT64, np.array([0, 2**64 - 1], "<u8").tobytes()),
    ("INT8", TensorProto.INT8, np.array([-128, 127], "i1").tobytes()),
    ("INT16", TensorProto.INT16, np.array([-(2**15), 1], "<i2").tobytes()),
    ("INT32", TensorProto.INT32, np.array([-(2**31), 1], "<i4").tobytes()),
    ("INT64", TensorProto.INT64, np.array([-(2**63), 1], "<i8").tobytes()),
    ("FP16", TensorProto.FLOAT16, np.array([1.5, -2], "<f2").tobytes()),
    ("FP32", TensorProto.FLOAT, np.array([1.5, -2], "<f4").tobytes()),
    ("FP64", TensorProto.DOUBLE, np.array([1.5, -2], "<f8").tobytes()),
    ("STRING", TensorProto.STRING, join_bytes(["héllo", ""])),
    ("BF16", TensorProto.BFLOAT16, b"\x80\x3f\x00\x40"),
]


@pytest.mark.parametrize(("name", "onnx_type", "data"), TYPES, ids=[t[0] for t in TYPES])
async def test_every_datatype_comes_back_as_it_went(
    identity_graph: Callable[..., Path], serve: Serve, name: str, onnx_type: int, data: bytes
) -> None:
    """y = x holds to the byte, strings and bfloat16 included, also for empty tensors."""
    model = await serve(identity_graph(onnx_type), IDENTITY.format(name))
    datatype = "BYTES" if name == "STRING" else name
    (y,) = (await infer(model, Tensor("x", datatype, (2,), data))).outputs
    assert (y.name, y.datatype, y.shape, bytes(y.data)) == ("y", datatype, (2,), data)
    (y,) = (await infer(model, Tensor("x", datatype, (0,), b""))).outputs
    assert (y.shape, bytes(y.data)) == ((0,), b"")


async def test_add_sub_of_the_sample_repository(configure: Callable[[str], ModelConfig]) -> None:
    """The sample model adds and subtracts, alone and in batches of different sizes."""
    folder = REPOSITORY / "add_sub"
    config = configure((folder / "config.pbtxt").read_text())
    instance = await OnnxBackend().open(ModelSource(config, folder, "1"), InstancePlace("add_sub_0"), BackendHost())
    model = TensorModel(config, "1", [instance])
    numbers = np.random.default_rng(1).random((6, *config.inputs["INPUT0"].dims), np.float32)
    rows = [numbers[:1], numbers[1:3], numbers[3:]]
    answers = await asyncio.gather(
        *(infer(model, from_array("INPUT0", a, "FP32"), from_array("INPUT1", a[::-1], "FP32")) for a in rows)
    )
    for a, answer in zip(rows, answers, strict=True):
        total, difference = (tensor.array() for tensor in answer.outputs)
        assert np.array_equal(total, a + a[::-1])
        assert np.array_equal(difference, a - a[::-1])
    assert {size: s.compute_infer.count for size, s in model.statistics.batches.items()} == {6: 1}
    await model.close()


async def test_only_requested_outputs_are_computed_and_returned(write_graph: Callable[..., Path], serve: Serve) -> None:
    """One request of a batch may want other outputs than the next."""
    port = ("n", 2)
    folder = write_graph(
        [("Abs", ["x"], ["a"]), ("Neg", ["x"], ["b"])],
        [("x", TensorProto.FLOAT, port)],
        [("a", TensorProto.FLOAT, port), ("b", TensorProto.FLOAT, port)],
    )
    pbtxt = """max_batch_size: 8 dynamic_batching {} input { name: "x" data_type: TYPE_FP32 dims: 2 }
        output [ { name: "b" data_type: TYPE_FP32 dims: 2 }, { name: "a" data_type: TYPE_FP32 dims: 2 } ]"""
    model = await serve(folder, pbtxt)
    x = from_array("x", np.array([[-1, 2]]), "FP32")
    wanted = [["a"], ["b"], []]
    answers = await asyncio.gather(*(infer(model, x, outputs=outputs) for outputs in wanted))
    assert [[t.name for t in answer.outputs] for answer in answers] == [["a"], ["b"], ["b", "a"]]
    assert answers[0].outputs[0].array().tolist() == [[1, 2]]


async def test_scalars(write_graph: Callable[..., Path], serve: Serve) -> None:
    """A graph's scalar is a tensor of shape [1] to clients."""
    folder = write_graph([("Identity", ["x"], ["y"])], [("x", TensorProto.FLOAT, [])], [("y", TensorProto.FLOAT, [])])
    pbtxt = """input { name: "x" data_type: TYPE_FP32 dims: 1 } output { name: "y" data_type: TYPE_FP32 dims: 1 }"""
    (y,) = (await infer(await serve(folder, pbtxt), from_array("x", np.array([3.0]), "FP32"))).outputs
    assert (y.shape, y.array().tolist()) == ((1,), [3.0])


async def test_reshape_to_a_vector_of_rows(identity_graph: Callable[..., Path], serve: Serve) -> None:
    """An empty reshape takes the only dimension away, leaving the batch dimension alone."""
    pbtxt = """max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 1 reshape { } }
        output { name: "y" data_type: TYPE_FP32 dims: 1 reshape { } }"""
    model = await serve(identity_graph(), pbtxt)
    (y,) = (await infer(model, from_array("x", np.array([[1.0], [2.0]]), "FP32"))).outputs
    assert (y.shape, y.array().tolist()) == ((2, 1), [[1.0], [2.0]])


async def test_text_that_is_not_utf8(identity_graph: Callable[..., Path], serve: Serve) -> None:
    """onnxruntime holds text only; other bytes are refused by name and place."""
    model = await serve(identity_graph(TensorProto.STRING), IDENTITY.format("STRING"))
    with pytest.raises(InvalidArgument, match="element 1 of input 'x' for model 'm' is not UTF-8"):
        await infer(model, Tensor("x", "BYTES", (2,), join_bytes([b"ok", b"\xff"])))
    assert (await infer(model, Tensor("x", "BYTES", (1,), join_bytes(["ok"])))).outputs


async def test_a_run_that_fails(write_graph: Callable[..., Path], serve: Serve) -> None:
    """What onnxruntime raises names the model; the next request is served."""
    folder = write_graph(
        [("MatMul", ["a", "b"], ["c"])],
        [("a", TensorProto.FLOAT, ["i", "j"]), ("b", TensorProto.FLOAT, ["k", "l"])],
        [("c", TensorProto.FLOAT, ["m", "n"])],
    )
    pbtxt = """input { name: "a" data_type: TYPE_FP32 dims: [ -1, -1 ] }
        input { name: "b" data_type: TYPE_FP32 dims: [ -1, -1 ] }
        output { name: "c" data_type: TYPE_FP32 dims: [ -1, -1 ] }"""
    model = await serve(folder, pbtxt)
    a = from_array("a", np.ones((2, 3)), "FP32")
    with pytest.raises(ModelFailed, match=r"onnx runtime error for model 'm': .*MatMul"):
        await infer(model, a, from_array("b", np.ones((2, 3)), "FP32"))
    (c,) = (await infer(model, a, from_array("b", np.ones((3, 1)), "FP32"))).outputs
    assert c.array().tolist() == [[3], [3]]
    assert model.statistics.failures == {"BACKEND": 1}


async def test_instances_share_one_session(
    identity_graph: Callable[..., Path], configure: Callable[[str], ModelConfig]
) -> None:
    """Several instances of a version hold the weights once, also when they open at the same time; none stays."""
    backend = OnnxBackend()
    source = ModelSource(configure(IDENTITY.format("FP32")), identity_graph(), "1")
    places = [InstancePlace(f"m_{n}") for n in range(3)]
    instances = await asyncio.gather(*(backend.open(source, place, BackendHost()) for place in places))
    assert len({id(instance._loaded.session) for instance in instances}) == 1
    for instance in instances:
        await instance.close()
    del instances, instance
    assert len(backend._loaded) == 0


def test_short_runs_stay_on_the_loop_once_proved() -> None:
    """A size must prove itself before it runs in place; one long run sends it back to the thread for long."""
    pace = Pace()
    assert not pace.short(100)
    for _ in range(3):
        pace.learn(100, SHORT_NS)
    assert pace.short(127)
    assert not pace.short(128), "the next magnitude has proved nothing"
    pace.learn(100, SHORT_NS + 1)
    for _ in range(20):
        pace.learn(100, 1)
    assert not pace.short(100)
