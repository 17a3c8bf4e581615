"""What the server and its models are: metadata, configuration, statistics."""

from collections.abc import Iterable
from typing import Any

from tritium.compat.config.json import to_dict
from tritium.compat.config.model import TensorSpec
from tritium.core.model import Model
from tritium.core.serving import full_shape, models_counted
from tritium.core.statistics import BATCH_DURATIONS, REQUEST_DURATIONS, RESPONSE_DURATIONS
from tritium.http import answer
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def server_metadata(_request: Request, front: Front, _target: Target) -> Response:
    """GET /v2."""
    server = front.server
    return answer.json({"name": server.name, "version": server.version, "extensions": server.extensions})


async def model_metadata(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/{name}[/versions/{version}]."""
    model = front.server.catalog.model(target.name, target.version)
    return answer.json(
        {
            "name": model.name,
            "versions": [model.version] if target.version else front.server.catalog.versions(model.name),
            "platform": model.config.platform or model.config.backend,
            "inputs": _tensors(model, model.config.inputs.values()),
            "outputs": _tensors(model, model.config.outputs.values()),
        }
    )


def _tensors(model: Model, specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": full_shape(model, spec)} for spec in specs]


async def model_config(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/config."""
    model = front.server.catalog.model(target.name, target.version)
    return answer.json(to_dict(model.config.proto))


async def statistics(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/stats, /v2/models/{name}[/versions/{version}]/stats."""
    models = models_counted(front.server.catalog, target.name, target.version)
    return answer.json({"model_stats": [_model_statistics(model) for model in models]})


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
    }


def _durations(counted: Any, names: Iterable[str]) -> dict[str, dict[str, int]]:
    return {name: {"count": getattr(counted, name).count, "ns": getattr(counted, name).ns} for name in names}
