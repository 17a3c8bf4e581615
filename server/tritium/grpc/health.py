"""Health: Triton's three calls, and the one of grpc.health.v1 that it answers."""

from tritium.compat.protobufs import service_pb2
from tritium.compat.v2 import version
from tritium.core.errors import InferenceError
from tritium.grpc.front import Front
from tritium.grpc.message import parse
from tritium.wire.grpc import Call

_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
_NOT_SERVING = b"\x08\x02"


async def server_live(_message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Tell whether the process lives."""
    return bytes(service_pb2.ServerLiveResponse(live=front.server.live()).SerializeToString())


async def server_ready(_message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Tell whether the server is ready."""
    ready = front.server.live() and front.server.catalog.ready
    return bytes(service_pb2.ServerReadyResponse(ready=ready).SerializeToString())


async def model_ready(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Tell whether a model is ready; one that is not known is not."""
    request = parse(service_pb2.ModelReadyRequest, message)
    number = version.check(request.version)
    try:
        ready = front.server.catalog.model(request.name, number).ready
    except InferenceError:
        ready = False
    return bytes(service_pb2.ModelReadyResponse(ready=ready).SerializeToString())


async def check(_message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Answer grpc.health.v1.Health/Check, for any service alike."""
    return _SERVING if front.server.live() and front.server.catalog.ready else _NOT_SERVING
