"""Health: whether the process lives, the server is ready, and a model is ready."""

from tritium.core.errors import InferenceError, InvalidArgument
from tritium.http import answer
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Request, Response

_NOT_YET = Response(400, answer.EMPTY.headers)


async def live(_request: Request, front: Front, _target: Target) -> Response:
    """GET /v2/health/live."""
    return answer.EMPTY if front.server.live() else _NOT_YET


async def ready(_request: Request, front: Front, _target: Target) -> Response:
    """GET /v2/health/ready."""
    return answer.EMPTY if front.server.live() and front.server.catalog.ready else _NOT_YET


async def model_ready(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/ready."""
    try:
        is_ready = front.server.catalog.model(target.name, target.version).ready
    except InferenceError:
        is_ready = False
    if not is_ready:
        raise InvalidArgument("Model version not ready")
    return answer.EMPTY
