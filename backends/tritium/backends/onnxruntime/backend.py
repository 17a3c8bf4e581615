"""The door of the onnxruntime backend: completes configurations and opens instances.

Loading a graph can take seconds, so it happens in a thread. The instances of one version share one session, for
a session runs any number of batches at a time and holds the weights.
"""

import asyncio
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.onnxruntime import graph as graphs
from tritium.backends.onnxruntime.instance import Loaded, OnnxInstance
from tritium.backends.onnxruntime.session import model_file, open_session
from tritium.compat.config.model import ModelConfig

DEFAULT_MAX_BATCH_SIZE: Final = 4
"""Triton's --backend-config=default-max-batch-size."""

_Key = tuple[ModelSource, str, int]


class OnnxBackend:
    """Opens ONNX models; see `contract.TensorBackend`."""

    name = "onnxruntime"

    def __init__(self, default_max_batch_size: int = DEFAULT_MAX_BATCH_SIZE) -> None:
        self.default_max_batch_size = default_max_batch_size
        self._loaded: WeakValueDictionary[_Key, Loaded] = WeakValueDictionary()
        self._loading: dict[_Key, asyncio.Future[Loaded]] = {}

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in inputs, outputs, max_batch_size and dynamic batching from the graph, if either side is missing.

        Raises:
            InferenceError: the file is missing or no graph, or the graph contradicts the configuration.
        """
        if config.inputs and config.outputs:
            return config
        path = model_file(config, folder, version)
        session = await asyncio.to_thread(open_session, config, path, "CPU", optimize=False)
        return graphs.complete(config, graphs.read(session), self.default_max_batch_size)

    async def open(self, source: ModelSource, place: InstancePlace, host: BackendHost) -> OnnxInstance:  # noqa: ARG002  contract
        """Load the graph, or take the one that another instance of this version has loaded.

        Raises:
            InferenceError: the file is missing or no graph, or the configuration contradicts it.
        """
        loaded = await self._load(source, place)
        return OnnxInstance(place.name, source.config, source.version, loaded)

    async def _load(self, source: ModelSource, place: InstancePlace) -> Loaded:
        key = (source, place.kind, place.device if place.kind == "GPU" else 0)
        loaded = self._loaded.get(key)
        if loaded is not None:
            return loaded
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.ensure_future(asyncio.to_thread(_load, source, place))
            loading.add_done_callback(lambda _: self._loading.pop(key))
        # One of several waiting instances may be given up; the others still want the session.
        loaded = await asyncio.shield(loading)
        self._loaded[key] = loaded
        return loaded


def _load(source: ModelSource, place: InstancePlace) -> Loaded:
    config = source.config
    session = open_session(config, model_file(config, source.folder, source.version), place.kind)
    graph = graphs.read(session)
    sequences = config.proto.sequence_batching
    controls = [control.name for control in sequences.control_input]
    controls += [state.input_name for state in sequences.state]
    graphs.match(config, graph, controls)
    return Loaded(session, graph)
