"""OpenVINO models made for the occasion, and two ways to run them: in this process, and as the server does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.hosted.model import HostedModel
from tritium.backends.openvino.backend import OpenVinoBackend
from tritium.backends.python.starter import load_message
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.tensor_model import TensorModel

ov = pytest.importorskip("openvino", reason="the openvino backend needs openvino")


@pytest.fixture
def configure() -> Callable[[str], ModelConfig]:
    """Return a function that reads a configuration of a model m."""

    def read(pbtxt: str) -> ModelConfig:
        return from_proto(text_format.Parse(f'name: "m" backend: "openvino" {pbtxt}', model_config_pb2.ModelConfig()))

    return read


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Return a function that writes s = a + b and d = a - b as version 1.

    `into` reshapes the results to a shape that cannot follow another batch; `layout` is that of every tensor.
    """

    def write_model(
        shape: Sequence[int], dtype: type = np.float32, *, into: Sequence[int] = (), layout: str = ""
    ) -> None:
        ops = ov.opset13
        a, b = (ops.parameter(shape, dtype, name=name) for name in "ab")
        made = [ops.add(a, b), ops.subtract(a, b)]
        if into:
            made = [ops.reshape(x, np.array(into), special_zero=False) for x in made]
        model = ov.Model([ops.result(x) for x in made], [a, b], "m")
        for port, name in zip((*model.inputs, *model.outputs), "absd", strict=True):
            port.tensor.set_names({name})
        if layout:
            for node in (*model.get_parameters(), *model.get_results()):
                node.set_layout(ov.Layout(layout))
        (tmp_path / "1").mkdir(exist_ok=True)
        ov.save_model(model, tmp_path / "1" / "model.xml", compress_to_fp16=False)

    return write_model


@pytest.fixture
def load(tmp_path: Path, configure: Callable[[str], ModelConfig]) -> Callable[[str], HostedModel]:
    """Return a function that loads the model in tmp_path into this process, by the class that its process would run."""
    model = pytest.importorskip("tritium.backends.openvino.model")

    def load_here(pbtxt: str) -> HostedModel:
        source = ModelSource(configure(pbtxt), tmp_path, "1")
        loaded: HostedModel = model.TritonPythonModel()
        loaded.initialize(load_message(source, InstancePlace("m_0"), runtime="any").arguments)
        return loaded

    return load_here


@pytest.fixture
async def serve(
    tmp_path: Path, configure: Callable[[str], ModelConfig]
) -> AsyncIterator[Callable[[str], Awaitable[TensorModel]]]:
    """Return a function that completes and opens the model in tmp_path as the server does."""
    models: list[TensorModel] = []

    async def open_model(pbtxt: str) -> TensorModel:
        backend = OpenVinoBackend()
        config = await backend.complete(configure(pbtxt), tmp_path, "1")
        instance = await backend.open(ModelSource(config, tmp_path, "1"), InstancePlace("m_0"), BackendHost())
        models.append(TensorModel(config, "1", [instance]))
        return models[-1]

    yield open_model
    for model in models:
        await model.close()
