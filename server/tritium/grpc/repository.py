"""The model repository extension: the index, and loading and unloading by hand."""

from typing import Any

from tritium.compat.protobufs import service_pb2
from tritium.core.catalog import LoadParameters
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.grpc.front import Front
from tritium.grpc.message import parse
from tritium.wire.grpc import Call


async def index(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """List the models of the repositories, loaded or not."""
    request = parse(service_pb2.RepositoryIndexRequest, message)
    _refuse_named(request)
    response = service_pb2.RepositoryIndexResponse()
    for entry in front.server.catalog.index(ready_only=request.ready):
        response.models.add(name=entry.name, version=entry.version, state=entry.state or "", reason=entry.reason)
    return bytes(response.SerializeToString())


async def load(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Load or reload a model."""
    request = parse(service_pb2.RepositoryModelLoadRequest, message)
    _refuse_named(request)
    config = ""
    files: dict[str, bytes] = {}
    for key, value in request.parameters.items():
        if key == "config":
            config = _choice(key, value, "string_param")
        elif key.startswith("file:"):
            files[key.removeprefix("file:")] = _choice(key, value, "bytes_param")
        else:
            raise InvalidArgument(f"unrecognized load parameter '{key}'.")
    await front.server.catalog.load(request.model_name, LoadParameters(config, files))
    return bytes(service_pb2.RepositoryModelLoadResponse().SerializeToString())


async def unload(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Unload every version of a model."""
    request = parse(service_pb2.RepositoryModelUnloadRequest, message)
    _refuse_named(request)
    dependents = False
    for key, value in request.parameters.items():
        if key != "unload_dependents":
            raise InvalidArgument(f"unrecognized unload parameter '{key}'.")
        dependents = _choice(key, value, "bool_param", what="unload")
    await front.server.catalog.unload(request.model_name, dependents=dependents)
    return bytes(service_pb2.RepositoryModelUnloadResponse().SerializeToString())


def _refuse_named(request: Any) -> None:
    if request.repository_name:
        raise Unsupported("'repository_name' specification is not supported")


def _choice(key: str, value: Any, wanted: str, *, what: str = "load") -> Any:
    if value.WhichOneof("parameter_choice") != wanted:
        raise InvalidArgument(f"invalid value type for {what} parameter '{key}', expected {wanted}.")
    return getattr(value, wanted)
