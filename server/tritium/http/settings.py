"""Log and trace settings, which can be read and not yet set."""

from tritium.core.serving import (
    LOG_SETTINGS,
    TRACE_SETTINGS,
    ServerState,
    check_traced,
    fixed_log_settings,
    fixed_trace_settings,
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
