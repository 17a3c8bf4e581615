"""What the server and its models are, as the protocols and the Python API tell it: metadata and statistics."""

from collections.abc import Iterable
from typing import Any

from tritium.compat.config.model import TensorSpec
from tritium.core.model import Model
from tritium.core.serving import ServerState, full_shape, models_counted
from tritium.core.statistics import BATCH_DURATIONS, REQUEST_DURATIONS, RESPONSE_DURATIONS


def describe_server(server: ServerState) -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": server.name, "version": server.version, "extensions": list(server.extensions)}


def describe_model(server: ServerState, name: str, version: str = "") -> dict[str, Any]:
    """Return a model's metadata, of one version where one is named.

    Raises:
        InferenceError: there is no such model, or it is not ready.
    """
    model = server.catalog.model(name, version)
    return {
        "name": model.name,
        "versions": [model.version] if version else list(server.catalog.versions(model.name)),
        "platform": model.config.platform or model.config.backend,
        "inputs": _tensors(model, model.config.inputs.values()),
        "outputs": _tensors(model, model.config.outputs.values()),
    }


def describe_statistics(server: ServerState, name: str = "", version: str = "") -> dict[str, Any]:
    """Return the statistics of all models, of one, or of one version.

    Raises:
        InvalidArgument: no such version is loaded.
    """
    models = models_counted(server.catalog, name, version)
    return {"model_stats": [_model_statistics(model) for model in models]}


def _tensors(model: Model, specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": full_shape(model, spec)} for spec in specs]


def _model_statistics(model: Model) -> dict[str, Any]:
    counted = model.statistics
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": counted.last_inference_ms,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": _durations(counted, REQUEST_DURATIONS),
        "response_stats": {
            str(index): _durations(response, RESPONSE_DURATIONS)
            for index, response in sorted(counted.responses.items())
        },
        "batch_stats": [
            {"batch_size": size, **_durations(batch, BATCH_DURATIONS)}
            for size, batch in sorted(counted.batches.items())
        ],
        "memory_usage": [],
        # Not Triton's: only models that batch dynamically have it, so that the others' answers are Triton's.
        **({"batch_cuts": {str(why): count for why, count in counted.cuts.items()}} if counted.cuts else {}),
    }


def _durations(counted: Any, names: Iterable[str]) -> dict[str, dict[str, int]]:
    return {name: {"count": getattr(counted, name).count, "ns": getattr(counted, name).ns} for name in names}
