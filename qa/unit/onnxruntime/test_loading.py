"""Loading ONNX models: what is filled in, what is refused, and in which words."""

import builtins
import importlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.onnxruntime.backend import OnnxBackend
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InferenceError, InvalidArgument, Unavailable
from tritium.core.tensor_model import TensorModel

Serve = Callable[..., Awaitable[TensorModel]]
Configure = Callable[[str], ModelConfig]
FP32 = TensorProto.FLOAT


async def refusal(serve: Serve, folder: Path, pbtxt: str) -> str:
    """Return the message with which loading is refused."""
    with pytest.raises(InferenceError) as caught:
        await serve(folder, pbtxt)
    return caught.value.message


async def test_batching_graph_is_completed(identity_graph: Callable[..., Path], configure: Configure) -> None:
    """An open first dimension everywhere means batching: batch size 4, dynamic batching, dims without it."""
    folder = identity_graph(FP32, ["batch", 3, "n"])
    config = await OnnxBackend().complete(configure(""), folder, "1")
    assert config.max_batch_size == 4
    assert config.proto.HasField("dynamic_batching")
    assert (config.inputs["x"].datatype, config.inputs["x"].dims) == ("FP32", (3, -1))
    assert config.outputs["y"].dims == (3, -1)


async def test_what_is_configured_stays(identity_graph: Callable[..., Path], configure: Configure) -> None:
    """A given batch size or scheduler is kept, and a complete configuration is not touched at all."""
    folder = identity_graph(FP32, ["batch", 3])
    backend = OnnxBackend()
    config = await backend.complete(configure("max_batch_size: 16 sequence_batching {}"), folder, "1")
    assert config.max_batch_size == 16
    assert not config.proto.HasField("dynamic_batching")
    whole = configure('input { name: "a" } output { name: "b" }')
    assert await backend.complete(whole, folder / "nowhere", "1") is whole
    assert (await OnnxBackend(default_max_batch_size=0).complete(configure(""), folder, "1")).max_batch_size == 0


async def test_graph_without_batch_dimension(identity_graph: Callable[..., Path], configure: Configure) -> None:
    """A closed first dimension means no batching; a batch size then is a mistake."""
    folder = identity_graph(FP32, [2, 3])
    config = await OnnxBackend().complete(configure(""), folder, "1")
    assert (config.max_batch_size, config.inputs["x"].dims) == (0, (2, 3))
    with pytest.raises(InvalidArgument) as caught:
        await OnnxBackend().complete(configure("max_batch_size: 4"), folder, "1")
    assert caught.value.message == (
        "autofill failed for model 'm': model does not support batching while non-zero max_batch_size is specified"
    )


async def test_rows_of_nothing_are_reshaped(identity_graph: Callable[..., Path], configure: Configure) -> None:
    """A graph whose only dimension is the batch's gets dims [1] with an empty reshape."""
    config = await OnnxBackend().complete(configure(""), identity_graph(FP32, ["batch"]), "1")
    assert (config.inputs["x"].dims, config.inputs["x"].reshape) == ((1,), ())


async def test_missing_file(tmp_path: Path, serve: Serve, configure: Configure) -> None:
    """The path that was looked for is in the message."""
    message = await refusal(serve, tmp_path, "")
    assert message == f"unable to find '{tmp_path}/1/model.onnx' for model instance 'm'"
    named = await refusal(serve, tmp_path, 'default_model_filename: "other.onnx"')
    assert "1/other.onnx" in named


async def test_folder_with_external_data(identity_graph: Callable[..., Path], serve: Serve) -> None:
    """A folder in the file's place holds the graph under the default name."""
    folder = identity_graph()
    (folder / "1" / "model.onnx").rename(folder / "1" / "graph")
    (folder / "1" / "model.onnx").mkdir()
    (folder / "1" / "graph").rename(folder / "1" / "model.onnx" / "model.onnx")
    pbtxt = 'input { name: "x" data_type: TYPE_FP32 dims: -1 } output { name: "y" data_type: TYPE_FP32 dims: -1 }'
    assert (await serve(folder, pbtxt)).ready


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x08\x08"])
async def test_corrupt_file(tmp_path: Path, serve: Serve, content: bytes) -> None:
    """A file that is no graph is named, with onnxruntime's reason."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(content)
    message = await refusal(serve, tmp_path, "")
    assert message.startswith(f"unable to load model 'm' from '{tmp_path}/1/model.onnx': ")
    assert "ONNXRuntimeError" not in message


X = 'input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }'
Y = 'output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }'
B = "max_batch_size: 8 "


@pytest.mark.parametrize(
    ("pbtxt", "expected"),
    [
        (
            f'{B} {X} input {{ name: "z" data_type: TYPE_FP32 dims: 3 }} {Y}',
            "unable to load model 'm', configuration expects 2 inputs, model provides 1",
        ),
        (
            B + X.replace('"x"', '"X"') + Y,
            "unable to load model 'm', unexpected inference input 'X', allowed inputs are: x",
        ),
        (
            B + X + Y.replace('"y"', '"Y"'),
            "unable to load model 'm', unexpected inference output 'Y', allowed outputs are: y",
        ),
        (
            f"{B} {X.replace('FP32', 'INT64')} {Y}",
            (
                "unable to load model 'm', configuration expects datatype TYPE_INT64 for input 'x', "
                "model provides TYPE_FP32"
            ),
        ),
        (
            f"{B} {X} {Y.replace('[ 3 ]', '[ 4 ]')}",
            (
                "model 'm', tensor 'y': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
                "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the "
                "explicit tensor shape, making complete shape [-1,4])"
            ),
        ),
        (
            f"{X} {Y}",
            (
                "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
                "specifies 1 dimensions (shape [3])"
            ),
        ),
        (
            f"{B} {X} {Y.replace('[ 3 ]', '[ -1 ]')}",
            (
                "model 'm', tensor 'y': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
                "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the "
                "explicit tensor shape, making complete shape [-1,-1])"
            ),
        ),
        (
            B + X.replace("dims: [ 3 ]", "dims: [ 3 ] optional: true") + X.replace('"x"', '"w"') + Y,
            ("unable to load model 'm', optional input 'x' is not supported for models that support batching"),
        ),
        (
            B + X.replace("dims: [ 3 ]", "dims: [ -1 ] allow_ragged_batch: true") + Y,
            (
                "unable to load model 'm', configuration expects model provides input with shape [-1]  for ragged "
                "input 'x', model provides [-1,3]"
            ),
        ),
    ],
    ids=["count", "input name", "output name", "datatype", "shape", "no batch", "open output", "optional", "ragged"],
)
async def test_contradictions(identity_graph: Callable[..., Path], serve: Serve, pbtxt: str, expected: str) -> None:
    """Where configuration and graph disagree, the message names model, tensor and both sides."""
    assert await refusal(serve, identity_graph(FP32, ["batch", 3]), pbtxt) == expected


async def test_a_graph_that_does_not_batch(identity_graph: Callable[..., Path], serve: Serve) -> None:
    """A first dimension that is fixed cannot be the batch's."""
    message = await refusal(serve, identity_graph(FP32, [2, 3]), f"{B} {X} {Y}")
    assert message == (
        "model 'm', tensor 'x': for the model to support batching the shape should have at least 1 dimension and the "
        "first dimension must be -1; but shape expected by the model is [2,3]"
    )


async def test_sequences_are_refused(write_graph: Callable[..., Path], serve: Serve) -> None:
    """An output that is no tensor is refused when the model is loaded, with what to do about it."""
    folder = write_graph([("SequenceConstruct", ["x"], ["s"])], [("x", FP32, ["n"])], [("s", FP32, ["n"])])
    graph = onnx.load(str(folder / "1" / "model.onnx"))
    element = onnx.helper.make_tensor_type_proto(FP32, ["n"])
    graph.graph.output[0].type.CopyFrom(onnx.helper.make_sequence_type_proto(element))
    onnx.save(graph, str(folder / "1" / "model.onnx"))
    pbtxt = 'input { name: "x" data_type: TYPE_FP32 dims: -1 } output { name: "s" data_type: TYPE_FP32 dims: -1 }'
    message = await refusal(serve, folder, pbtxt)
    assert "output 's' has the ONNX type seq(tensor(float)), which no tensor datatype stands for" in message


async def test_backend_settings(identity_graph: Callable[..., Path], configure: Configure) -> None:
    """--backend-config sets the batch size that is filled in; what is no number is refused."""
    backend = OnnxBackend()
    backend.configure({"default-max-batch-size": "32", "enable-global-threadpool": "off"})
    folder = identity_graph(FP32, ["batch", 3])
    assert (await backend.complete(configure(""), folder, "1")).max_batch_size == 32
    with pytest.raises(InvalidArgument, match="failed to convert 'many' to integral number"):
        backend.configure({"default-max-batch-size": "many"})


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "two" } }',
            "convert 'two' to integral number",
        ),
        ('parameters { key: "execution_mode" value { string_value: "2" } }', "are 0 or 1 but got 2"),
        (
            'parameters { key: "enable_mem_arena" value { string_value: "maybe" } }',
            "convert 'maybe' to boolean",
        ),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "warp" } } }',
            "unknown Execution Accelerator 'warp' is requested",
        ),
    ],
)
async def test_wrong_options(identity_graph: Callable[..., Path], serve: Serve, extra: str, expected: str) -> None:
    """An option that cannot be used is refused at load, by name."""
    assert expected in await refusal(serve, identity_graph(FP32, ["batch", 3]), f"{B} {X} {Y} {extra}")


@pytest.mark.parametrize("name", ["openvino", "tensorrt"])
async def test_an_accelerator_of_tritons_images_that_is_not_installed(
    identity_graph: Callable[..., Path], serve: Serve, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model is opened without it, and a warning names it."""
    extra = f'optimization {{ execution_accelerators {{ cpu_execution_accelerator {{ name: "{name}" }} }} }}'
    await serve(identity_graph(FP32, ["batch", 3]), f"{B} {X} {Y} {extra}")
    said = capsys.readouterr().out
    assert ("accelerator_left_out" in said, f"accelerator={name}" in said) == (True, True)


async def test_options_reach_the_session(
    identity_graph: Callable[..., Path], configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thread counts, graph level, execution mode and session entries are set on the session."""
    seen: list[ort.SessionOptions] = []
    real = ort.InferenceSession

    def watch(path: str, options: ort.SessionOptions, **rest: object) -> ort.InferenceSession:
        seen.append(options)
        return real(path, options, **rest)

    monkeypatch.setattr(ort, "InferenceSession", watch)
    pbtxt = f"""{B} {X} {Y} optimization {{ graph {{ level: -1 }} }}
        parameters {{ key: "intra_op_thread_count" value {{ string_value: "3" }} }}
        parameters {{ key: "inter_op_thread_count" value {{ string_value: "2" }} }}
        parameters {{ key: "execution_mode" value {{ string_value: "1" }} }}
        parameters {{ key: "enable_mem_pattern" value {{ string_value: "0" }} }}
        parameters {{ key: "session.intra_op.allow_spinning" value {{ string_value: "1" }} }}"""
    source = ModelSource(configure(pbtxt), identity_graph(FP32, ["batch", 3]), "1")
    instance = await OnnxBackend().open(source, InstancePlace("m_0"), BackendHost())
    await instance.close()
    (options,) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert not options.enable_mem_pattern
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"


async def test_without_onnxruntime(
    identity_graph: Callable[..., Path], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the package is missing, the model is refused with the command that installs it."""

    def missing(name: str, package: str | None = None) -> ModuleType:
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'")
        return builtins.__import__(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Unavailable) as caught:
        await serve(identity_graph(), f"{X} {Y}")
    assert "pip install onnxruntime" in caught.value.message
