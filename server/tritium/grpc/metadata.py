"""What the server and its models are: metadata, configuration, statistics."""

from collections.abc import Iterable
from typing import Any

from tritium.compat.config.model import TensorSpec
from tritium.compat.protobufs import service_pb2
from tritium.compat.v2 import version
from tritium.core.model import Model
from tritium.core.serving import full_shape, models_counted
from tritium.core.statistics import BATCH_DURATIONS, REQUEST_DURATIONS, RESPONSE_DURATIONS
from tritium.grpc.front import Front
from tritium.grpc.message import parse
from tritium.wire.grpc import Call


async def server_metadata(_message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Name the server, its version and the extensions it serves."""
    response = service_pb2.ServerMetadataResponse(
        name=front.server.name, version=front.server.version, extensions=front.server.extensions
    )
    return bytes(response.SerializeToString())


async def model_metadata(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Describe a model's inputs and outputs."""
    request = parse(service_pb2.ModelMetadataRequest, message)
    model = front.server.catalog.model(request.name, version.check(request.version))
    response = service_pb2.ModelMetadataResponse(
        name=model.name,
        versions=[model.version] if request.version else front.server.catalog.versions(model.name),
        platform=model.config.platform or model.config.backend,
        inputs=_tensors(model, model.config.inputs.values()),
        outputs=_tensors(model, model.config.outputs.values()),
    )
    return bytes(response.SerializeToString())


def _tensors(model: Model, specs: Iterable[TensorSpec]) -> list[Any]:
    kind = service_pb2.ModelMetadataResponse.TensorMetadata
    return [kind(name=spec.name, datatype=spec.datatype, shape=full_shape(model, spec)) for spec in specs]


async def model_config(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Return a model's configuration, completed."""
    request = parse(service_pb2.ModelConfigRequest, message)
    model = front.server.catalog.model(request.name, version.check(request.version))
    return bytes(service_pb2.ModelConfigResponse(config=model.config.proto).SerializeToString())


async def model_statistics(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Return what was counted of every model, of one, or of one version."""
    request = parse(service_pb2.ModelStatisticsRequest, message)
    models = models_counted(front.server.catalog, request.name, version.check(request.version))
    response = service_pb2.ModelStatisticsResponse(model_stats=map(_statistics, models))
    return bytes(response.SerializeToString())


def _statistics(model: Model) -> Any:
    counted = model.statistics
    statistics = service_pb2.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=counted.last_inference_ms,
        inference_count=counted.inference_count,
        execution_count=counted.execution_count,
    )
    _fill(statistics.inference_stats, counted, REQUEST_DURATIONS)
    for index, response in counted.responses.items():
        _fill(statistics.response_stats[str(index)], response, RESPONSE_DURATIONS)
    for size, batch in sorted(counted.batches.items()):
        _fill(statistics.batch_stats.add(batch_size=size), batch, BATCH_DURATIONS)
    return statistics


def _fill(message: Any, counted: Any, names: Iterable[str]) -> None:
    """Copy durations of the same names; those that nothing was counted of are there, with zeros."""
    for name in names:
        duration = getattr(counted, name)
        target = getattr(message, name)
        target.SetInParent()
        target.count, target.ns = duration.count, duration.ns
