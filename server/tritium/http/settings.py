"""Log and trace settings, which can be read, and what is not served yet: setting them, and shared memory."""

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
from tritium.http import answer
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def logging(_request: Request, _server: ServerState, _target: Target) -> Response:
    """GET /v2/logging."""
    return answer.json(LOG_SETTINGS)


async def set_logging(_request: Request, _server: ServerState, _target: Target) -> Response:
    """POST /v2/logging."""
    raise fixed_log_settings()


async def tracing(_request: Request, server: ServerState, target: Target) -> Response:
    """GET /v2/trace/setting, /v2/models/{name}/trace/setting."""
    if target.name:
        check_traced(server.catalog, target.name)
    return answer.json(TRACE_SETTINGS)


async def set_tracing(_request: Request, server: ServerState, target: Target) -> Response:
    """POST /v2/trace/setting, /v2/models/{name}/trace/setting."""
    if target.name:
        check_traced(server.catalog, target.name)
    raise fixed_trace_settings()


async def no_regions(_request: Request, _server: ServerState, target: Target) -> Response:
    """GET /v2/systemsharedmemory/status, /v2/cudasharedmemory/status, of all regions or of one."""
    if target.region:
        raise unknown_region(target.memory, target.region)
    return answer.json([])


async def register(_request: Request, _server: ServerState, _target: Target) -> Response:
    """POST .../region/{region}/register."""
    raise unserved_region()


async def unregister(_request: Request, _server: ServerState, _target: Target) -> Response:
    """POST .../unregister: nothing can be registered, so nothing is left to do."""
    return answer.DONE
