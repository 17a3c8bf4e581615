"""Log and trace settings, which can be read, and what is not served yet: setting them, and shared memory."""

from tritium.core.errors import InvalidArgument, NotFound, Unsupported
from tritium.core.serving import LOG_SETTINGS, TRACE_SETTINGS, ServerState
from tritium.http import answer
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def logging(_request: Request, _server: ServerState, _target: Target) -> Response:
    """GET /v2/logging."""
    return answer.json(LOG_SETTINGS)


async def set_logging(_request: Request, _server: ServerState, _target: Target) -> Response:
    """POST /v2/logging."""
    raise Unsupported("log settings can not be changed while the server runs yet", hint="set them by flag")


async def tracing(_request: Request, server: ServerState, target: Target) -> Response:
    """GET /v2/trace/setting, /v2/models/{name}/trace/setting."""
    if target.name:
        check_traced_model(server, target.name)
    return answer.json(TRACE_SETTINGS)


async def set_tracing(_request: Request, server: ServerState, target: Target) -> Response:
    """POST /v2/trace/setting, /v2/models/{name}/trace/setting."""
    if target.name:
        check_traced_model(server, target.name)
    raise Unsupported("tracing is not supported yet")


def check_traced_model(server: ServerState, name: str) -> None:
    """Refuse a model that is not loaded, in the words of the trace extension."""
    try:
        server.catalog.model(name)
    except NotFound:
        raise InvalidArgument(f"Request for unknown model : {name}") from None


async def no_regions(_request: Request, _server: ServerState, target: Target) -> Response:
    """GET /v2/systemsharedmemory/status, /v2/cudasharedmemory/status, of all regions or of one."""
    if target.region:
        raise NotFound(f"Unable to find system shared memory region: '{target.region}'")
    return answer.json([])


async def register(_request: Request, _server: ServerState, _target: Target) -> Response:
    """POST .../region/{region}/register."""
    raise Unsupported("shared memory is not supported yet", hint="send tensors in the request")


async def unregister(_request: Request, _server: ServerState, _target: Target) -> Response:
    """POST .../unregister: nothing can be registered, so nothing is left to do."""
    return answer.DONE
