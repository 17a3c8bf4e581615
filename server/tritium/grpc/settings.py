"""Log and trace settings, which can be read, and what is not served yet: setting them, and shared memory."""

from tritium.compat.protobufs import service_pb2
from tritium.core.serving import (
    LOG_SETTINGS,
    TRACE_SETTINGS,
    ServerState,
    check_traced,
    fixed_log_settings,
    fixed_trace_settings,
    unknown_region,
    unserved_region,
)
from tritium.grpc.message import parse
from tritium.wire.grpc import Call


async def logging(message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """Return the log settings."""
    if parse(service_pb2.LogSettingsRequest, message).settings:
        raise fixed_log_settings()
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
        check_traced(server.catalog, request.model_name)
    if request.settings:
        raise fixed_trace_settings()
    response = service_pb2.TraceSettingResponse()
    for name, value in TRACE_SETTINGS.items():
        response.settings[name].value.extend([value] if isinstance(value, str) else value)
    return bytes(response.SerializeToString())


async def system_regions(message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """List the system shared memory regions: none."""
    if name := parse(service_pb2.SystemSharedMemoryStatusRequest, message).name:
        raise unknown_region("system", name)
    return bytes(service_pb2.SystemSharedMemoryStatusResponse().SerializeToString())


async def cuda_regions(message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """List the CUDA shared memory regions: none."""
    if name := parse(service_pb2.CudaSharedMemoryStatusRequest, message).name:
        raise unknown_region("cuda", name)
    return bytes(service_pb2.CudaSharedMemoryStatusResponse().SerializeToString())


async def register(_message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """Refuse to register a region."""
    raise unserved_region()


async def unregister(_message: bytes | memoryview, _call: Call, _server: ServerState) -> bytes:
    """Unregister a region: nothing can be registered, so nothing is left to do."""
    return b""
