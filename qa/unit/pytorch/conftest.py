"""TorchScript written for the occasion, and two ways to run a model: in this process, and as the server does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import text_format

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.hosted.model import HostedModel
from tritium.backends.python.instance import PythonInstance
from tritium.backends.python.starter import load_message
from tritium.backends.pytorch.backend import PyTorchBackend
from tritium.compat.config.defaults import complete_backend
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.tensor_model import TensorModel

Load = Callable[..., HostedModel]


@dataclass(frozen=True, slots=True)
class Served:
    """A model and its only instance."""

    model: TensorModel
    instance: PythonInstance


Serve = Callable[..., Awaitable[Served]]


def configured(pbtxt: str) -> ModelConfig:
    """Return the configuration of a model m."""
    proto = text_format.Parse(f'name: "m" backend: "pytorch" {pbtxt}', model_config_pb2.ModelConfig())
    complete_backend(proto, "m", ())
    return from_proto(proto)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that loads the model in tmp_path into this process, by the class that its process would run."""

    def load_here(kind: type[HostedModel], pbtxt: str) -> HostedModel:
        source = ModelSource(configured(pbtxt), tmp_path, "1")
        loaded = kind()
        loaded.initialize(load_message(source, InstancePlace("m_0"), runtime="any").arguments)
        return loaded

    return load_here


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Return a function that opens the model in tmp_path as the server does; every model is closed in the end."""
    models: list[TensorModel] = []

    async def open_model(pbtxt: str) -> Served:
        source = ModelSource(configured(pbtxt), tmp_path, "1")
        instance = await PyTorchBackend().open(source, InstancePlace("m_0"), BackendHost())
        models.append(TensorModel(source.config, "1", [instance]))
        return Served(models[-1], instance)

    yield open_model
    for model in models:
        await model.close()
