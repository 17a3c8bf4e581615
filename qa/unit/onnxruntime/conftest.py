"""Graphs made for the occasion, and a way to serve them."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.onnxruntime.backend import OnnxBackend
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.tensor_model import TensorModel

Ports = Sequence[tuple[str, int, Sequence[int | str]]]


@pytest.fixture
def write_graph(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a graph as version 1 of a model, and returns the model's folder."""

    def write(nodes: Sequence[tuple[str, Sequence[str], Sequence[str]]], inputs: Ports, outputs: Ports) -> Path:
        graph = helper.make_graph(
            [helper.make_node(op, list(taken), list(made)) for op, taken, made in nodes],
            "g",
            [helper.make_tensor_value_info(*port) for port in inputs],
            [helper.make_tensor_value_info(*port) for port in outputs],
        )
        (tmp_path / "1").mkdir(exist_ok=True)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(tmp_path / "1" / "model.onnx"))
        return tmp_path

    return write


@pytest.fixture
def identity_graph(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes the graph y = x of a type and shape."""

    def write(onnx_type: int = TensorProto.FLOAT, shape: Sequence[int | str] = ("n",)) -> Path:
        return write_graph([("Identity", ["x"], ["y"])], [("x", onnx_type, shape)], [("y", onnx_type, shape)])

    return write


@pytest.fixture
def configure() -> Callable[[str], ModelConfig]:
    """Return a function that reads a configuration, named m where it has no name."""

    def read(pbtxt: str) -> ModelConfig:
        proto = text_format.Parse(pbtxt, model_config_pb2.ModelConfig())
        proto.name = proto.name or "m"
        proto.backend = "onnxruntime"
        return from_proto(proto)

    return read


@pytest.fixture
async def serve(
    configure: Callable[[str], ModelConfig],
) -> AsyncIterator[Callable[..., "object"]]:
    """Return a function that opens a model of a folder; every model is closed in the end."""
    models: list[TensorModel] = []

    async def open_model(folder: Path, pbtxt: str, instances: int = 1) -> TensorModel:
        backend = OnnxBackend()
        source = ModelSource(configure(pbtxt), folder, "1")
        opened = [await backend.open(source, InstancePlace(f"m_{n}"), BackendHost()) for n in range(instances)]
        models.append(TensorModel(source.config, "1", opened))
        return models[-1]

    yield open_model
    for model in models:
        await model.close()
