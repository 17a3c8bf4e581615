"""The door of the onnxruntime backend: completes configurations and opens instances.

Loading a graph can take seconds, so it happens in a thread. The instances of one version share one session, for
a session runs any number of batches at a time and holds the weights.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.onnxruntime import graph as graphs
from tritium.backends.onnxruntime.instance import Loaded, OnnxInstance
from tritium.backends.onnxruntime.session import model_file, open_session, share_threads
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.parameter_values import read_flag
from tritium.core.errors import InvalidArgument

DEFAULT_MAX_BATCH_SIZE: Final = 4
"""Where --backend-config=default-max-batch-size does not say otherwise."""

_Key = tuple[ModelSource, str, int]


class OnnxBackend:
    """Opens ONNX models; see `contract.TensorBackend`."""

    name = "onnxruntime"

    def __init__(self, default_max_batch_size: int = DEFAULT_MAX_BATCH_SIZE) -> None:
        self.default_max_batch_size = default_max_batch_size
        self._shared_threads = False
        self._loaded: WeakValueDictionary[_Key, Loaded] = WeakValueDictionary()
        self._loading: dict[_Key, asyncio.Future[Loaded]] = {}

    def configure(self, settings: Mapping[str, str]) -> None:
        """Take default-max-batch-size; enable-global-threadpool with intra_op_thread_count and inter_op_thread_count.

        Raises:
            InvalidArgument: a value is no number, or neither on nor off.
        """
        self.default_max_batch_size = _number(settings, "default-max-batch-size", DEFAULT_MAX_BATCH_SIZE)
        shared = settings.get("enable-global-threadpool", "0")
        try:
            self._shared_threads = read_flag(shared)
        except ValueError as error:
            hint = "--backend-config=onnxruntime,enable-global-threadpool"
            raise InvalidArgument(str(error), hint=hint) from None
        if self._shared_threads:
            share_threads(_number(settings, "intra_op_thread_count", 0), _number(settings, "inter_op_thread_count", 0))

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in inputs, outputs, max_batch_size and dynamic batching from the graph, if either side is missing.

        Raises:
            InferenceError: the file is missing or no graph, or the graph contradicts the configuration.
        """
        if (config.inputs or config.proto.batch_input) and config.outputs:
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
            loading = self._loading[key] = asyncio.ensure_future(asyncio.to_thread(self._open, source, place))
            loading.add_done_callback(lambda _: self._loading.pop(key))
        # One of several waiting instances may be given up; the others still want the session.
        loaded = await asyncio.shield(loading)
        self._loaded[key] = loaded
        return loaded

    def _open(self, source: ModelSource, place: InstancePlace) -> Loaded:
        config = source.config
        path = model_file(config, source.folder, source.version)
        session = open_session(config, path, place.kind, place.device, shared_threads=self._shared_threads)
        graph = graphs.read(session)
        graphs.match(config, graph)
        return Loaded(session, graph)


def _number(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            f"failed to convert '{text}' to integral number", hint=f"--backend-config=onnxruntime,{name}"
        ) from None
