"""What the server and its models are: metadata, configuration, statistics."""

from tritium.compat.config.json import to_dict
from tritium.core.description import describe_model, describe_server, describe_statistics
from tritium.http import answer
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def server_metadata(_request: Request, front: Front, _target: Target) -> Response:
    """GET /v2."""
    return answer.json(describe_server(front.server))


async def model_metadata(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/{name}[/versions/{version}]."""
    return answer.json(describe_model(front.server, target.name, target.version))


async def model_config(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/config."""
    model = front.server.catalog.model(target.name, target.version)
    return answer.json(to_dict(model.config.proto))


async def statistics(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/models/stats, /v2/models/{name}[/versions/{version}]/stats."""
    return answer.json(describe_statistics(front.server, target.name, target.version))
