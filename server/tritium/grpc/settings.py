"""Log and trace settings, which can be read, and what is not served yet: setting them, and shared memory."""

from tritium.compat.protobufs import service_pb2
from tritium.core.errors import InvalidArgument, NotFound, Unsupported
from tritium.core.serving import LOG_SETTINGS, TRACE_SETTINGS, ServerState
from tritium.grpc.message import parse
from tritium.wire.grpc import Call


async def logging(message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """Return the log settings."""
    if parse(service_pb2.LogSettingsRequest, message).settings:
        raise Unsupported(
            "log settings can not be changed while the server runs yet", hint="set them on the command line"
        )
    response = service_pb2.LogSettingsResponse()
    for name, value in LOG_SETTINGS.items():
        if isinstance(value, bool):
            response.settings[name].bool_param = value
        elif isinstance(value, int):
            response.settings[name].uint32_param = value
        else:
            response.settings[name].string_param = value
    return bytes(response.SerializeToString())


async def tracing(message: bytes | memoryview, _call: Call, server: ServerState) -> bytes:
    """Return the trace settings, of the server or of a model."""
    request = parse(service_pb2.TraceSettingRequest, message)
    if request.model_name:
        try:
            server.catalog.model(request.model_name)
        except NotFound:
            raise InvalidArgument(f"Request for unknown model : {request.model_name}") from None
    if request.settings:
        raise Unsupported("tracing is not supported yet")
    response = service_pb2.TraceSettingResponse()
    for name, value in TRACE_SETTINGS.items():
        response.settings[name].value.extend([value] if isinstance(value, str) else value)
    return bytes(response.SerializeToString())


async def system_regions(message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """List the system shared memory regions: none."""
    _refuse_region(parse(service_pb2.SystemSharedMemoryStatusRequest, message).name, "system")
    return bytes(service_pb2.SystemSharedMemoryStatusResponse().SerializeToString())


async def cuda_regions(message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """List the CUDA shared memory regions: none."""
    _refuse_region(parse(service_pb2.CudaSharedMemoryStatusRequest, message).name, "CUDA")
    return bytes(service_pb2.CudaSharedMemoryStatusResponse().SerializeToString())


def _refuse_region(name: str, kind: str) -> None:
    if name:
        raise NotFound(f"Unable to find {kind} shared memory region: '{name}'")


async def register(_message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """Refuse to register a region."""
    raise Unsupported("shared memory is not supported yet", hint="send tensors in the request")


async def unregister(_message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """Unregister a region: nothing can be registered, so nothing is left to do."""
    return b""
