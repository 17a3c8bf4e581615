"""Every URL of the v2 protocol, and the way from a request to its handler.

    handler() -> find() -> restricted? -> handler of the method -> Response, or None where it streams
         `- any InferenceError or Refusal on the way -> an error in Triton's form

Paths are matched whole and undecoded, as in Triton: no trailing slash, no percent-encoded names.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache

from tritium.compat.restrictions import Api
from tritium.compat.v2 import version
from tritium.compat.v2.refusal import Refusal
from tritium.core.errors import InferenceError
from tritium.core.serving import error_of
from tritium.http import answer, generate, health, infer, memory, metadata, repository, restriction, settings
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Handler, Request, Response
from tritium.wire.prompt import in_task, prompt

Action = Callable[[Request, Front, Target], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, what answers to GET and POST of it, and the API it belongs to."""

    pattern: re.Pattern[str]
    api: Api
    get: Action | None = None
    post: Action | None = None


def route(api: Api, pattern: str, *, get: Action | None = None, post: Action | None = None) -> Route:
    """Write a route; its pattern has to fit a whole path."""
    return Route(re.compile(pattern), api, get, post)


_MODEL = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[0-9]+))?"
_REPOSITORY = r"/v2/repository(?:/(?P<repository>[^/]+))?"
_SYSTEM_MEMORY = r"/v2/systemsharedmemory(?:/region/(?P<region>[^/]+))?"
_CUDA_MEMORY = r"/v2/cudasharedmemory(?:/region/(?P<region>[^/]+))?"

ROUTES = (
    route(Api.STATISTICS, r"/v2/models/stats", get=metadata.statistics),
    route(Api.INFERENCE, _MODEL + r"/infer", post=infer.infer),
    route(Api.INFERENCE, _MODEL + r"/generate", post=generate.generate_once),
    route(Api.INFERENCE, _MODEL + r"/generate_stream", post=generate.generate_stream),
    route(Api.METADATA, _MODEL, get=metadata.model_metadata),
    route(Api.HEALTH, _MODEL + r"/ready", get=health.model_ready),
    route(Api.MODEL_CONFIG, _MODEL + r"/config", get=metadata.model_config),
    route(Api.STATISTICS, _MODEL + r"/stats", get=metadata.statistics),
    route(Api.TRACE, r"/v2/models/(?P<name>[^/]+)/trace/setting", get=settings.tracing, post=settings.set_tracing),
    route(Api.METADATA, r"/v2", get=metadata.server_metadata),
    route(Api.HEALTH, r"/v2/health/live", get=health.live),
    route(Api.HEALTH, r"/v2/health/ready", get=health.ready),
    route(Api.MODEL_REPOSITORY, _REPOSITORY + r"/index", post=repository.index),
    route(Api.MODEL_REPOSITORY, _REPOSITORY + r"/models/(?P<name>[^/]+)/load", post=repository.load),
    route(Api.MODEL_REPOSITORY, _REPOSITORY + r"/models/(?P<name>[^/]+)/unload", post=repository.unload),
    route(Api.LOGGING, r"/v2/logging", get=settings.logging, post=settings.set_logging),
    route(Api.TRACE, r"/v2/trace/setting", get=settings.tracing, post=settings.set_tracing),
    route(Api.SHARED_MEMORY, _SYSTEM_MEMORY + r"/status", get=memory.system_status),
    route(Api.SHARED_MEMORY, _SYSTEM_MEMORY + r"/register", post=memory.register_system),
    route(Api.SHARED_MEMORY, _SYSTEM_MEMORY + r"/unregister", post=memory.unregister_system),
    route(Api.SHARED_MEMORY, _CUDA_MEMORY + r"/status", get=memory.cuda_status),
    route(Api.SHARED_MEMORY, _CUDA_MEMORY + r"/register", post=memory.register_cuda),
    route(Api.SHARED_MEMORY, _CUDA_MEMORY + r"/unregister", post=memory.unregister_cuda),
)


@lru_cache(maxsize=1024)
def find(path: str) -> tuple[Route, Target] | None:
    """Find the route of a path, and what the path names."""
    for way in ROUTES:
        if match := way.pattern.fullmatch(path):
            named = {key: value for key, value in match.groupdict().items() if value}
            if "version" in named:
                named["version"] = version.plain(named["version"])
            return way, Target(**named)
    return None


def handler(front: Front) -> Handler:
    """Make the handler of a v2 HTTP port."""

    @prompt
    async def handle(request: Request) -> Response | None:
        found = find(request.path)
        if found is None:
            return answer.NOT_FOUND
        return await follow(request, front, *found)

    return handle


async def follow(request: Request, front: Front, route: Route, target: Target) -> Response | None:
    """Answer a request by the route that was found for it; what goes wrong is answered in Triton's form."""
    if front.restricted and route.api in front.restricted:
        refused = restriction.refusal(request, front.restricted[route.api])
        if refused is not None:
            return refused
    action = {"GET": route.get, "POST": route.post}.get(request.method)
    if action is None:
        return answer.METHOD_NOT_ALLOWED
    if action is not infer.infer:
        await in_task()
    try:
        return await action(request, front, target)
    except Refusal as refusal:
        return answer.error(error_of(refusal))
    except InferenceError as problem:
        return answer.error(problem)
