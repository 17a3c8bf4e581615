"""The port of Google Vertex AI: one route for predictions, one for health, both named by its variables.

    POST AIP_PREDICT_ROUTE                                   -> infer, of the default model
    POST AIP_PREDICT_ROUTE, X-Vertex-Ai-Triton-Redirect: R   -> what R names, if it changes nothing
    GET  AIP_HEALTH_ROUTE                                    -> health

Source: server/src/vertex_ai_server.cc, 2.73.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tritium.compat.restrictions import Api
from tritium.core.catalog import Catalog
from tritium.core.errors import InvalidArgument
from tritium.core.model import State
from tritium.http import answer, health, infer, memory, repository
from tritium.http.front import Front
from tritium.http.routes import Route, find, follow, route
from tritium.http.target import Target
from tritium.wire.http import Handler, Request, Response

REDIRECT = b"x-vertex-ai-triton-redirect"

_CHANGES = frozenset(
    (
        memory.register_system,
        memory.unregister_system,
        memory.register_cuda,
        memory.unregister_cuda,
        repository.load,
        repository.unload,
    )
)
_PERMITTED = frozenset(
    (Api.HEALTH, Api.METADATA, Api.MODEL_CONFIG, Api.STATISTICS, Api.MODEL_REPOSITORY, Api.SHARED_MEMORY)
)
_PLAIN = ((b"content-type", b"text/plain"),)
_UNKNOWN, _FORBIDDEN, _METRICS = Response(400, _PLAIN), Response(403, _PLAIN), "/metrics"


@dataclass(frozen=True, slots=True)
class VertexAI:
    """The two routes, as regular expressions, and the model that predicts (none: the only one there is)."""

    predict: str
    health: str
    model: str = ""


def read(environment: Mapping[str, str], model: str) -> VertexAI:
    """Read the variables of a Vertex AI container.

    Raises:
        ValueError: a route is not named.
    """
    for variable in ("AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"):
        if not environment.get(variable):
            raise ValueError(f"{variable} is not defined for Vertex AI endpoint")
    return VertexAI(environment["AIP_PREDICT_ROUTE"], environment["AIP_HEALTH_ROUTE"], model)


def handler(front: Front, settings: VertexAI, metrics: Callable[[], str]) -> Handler:
    """Make the handler of a Vertex AI port; `metrics` writes the Prometheus page."""
    predict = re.compile(settings.predict)
    alive = route(Api.HEALTH, settings.health, get=health.ready)
    prediction = route(Api.INFERENCE, settings.predict, post=infer.infer)

    async def handle(request: Request) -> Response | None:
        if alive.pattern.fullmatch(request.path):
            return await follow(request, front, alive, Target())
        if not predict.fullmatch(request.path):
            return _UNKNOWN
        redirect = request.header(REDIRECT)
        if redirect:
            return await _redirected(request, front, "/" + redirect.decode("latin-1"), metrics)
        try:
            target = Target(settings.model or _only_model(front.server.catalog))
        except InvalidArgument as problem:
            return answer.error(problem)
        return await follow(request, front, prediction, target)

    return handle


async def _redirected(request: Request, front: Front, path: str, metrics: Callable[[], str]) -> Response | None:
    if request.method != "POST":
        return answer.METHOD_NOT_ALLOWED
    if path == _METRICS:
        return Response(200, _PLAIN, (metrics().encode(),))
    found = find(path)
    if found is None:
        return _UNKNOWN
    way, target = found
    if way.post in _CHANGES:
        return _FORBIDDEN
    if way.post is not infer.infer and way.api not in _PERMITTED:
        return _UNKNOWN
    return await follow(request, front, Route(way.pattern, way.api, post=way.post or way.get), target)


def _only_model(catalog: Catalog) -> str:
    """Return the name of the one model that is ready.

    Raises:
        InvalidArgument: there are more, or none.
    """
    names = {entry.name for entry in catalog.index(ready_only=True) if entry.state is State.READY}
    if len(names) != 1:
        raise InvalidArgument(
            "Expect the model repository contains only a single model if default model is not specified",
            hint="--vertex-ai-default-model names one",
        )
    return names.pop()
