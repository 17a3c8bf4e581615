"""Every URL of the v2 protocol, and the way from a request to its handler.

    handler() -> find() -> handler of the method -> Response, or None where it streams
         `- any InferenceError or Refusal on the way -> an error in Triton's form

Paths are matched whole and undecoded, as in Triton: no trailing slash, no percent-encoded names.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache

from tritium.compat.v2 import version
from tritium.compat.v2.refusal import Refusal
from tritium.core.errors import InferenceError
from tritium.core.serving import ServerState, error_of
from tritium.http import answer, generate, health, infer, memory, metadata, repository, settings
from tritium.http.target import Target
from tritium.wire.http import Handler, Request, Response
from tritium.wire.prompt import in_task, prompt

Action = Callable[[Request, ServerState, Target], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what answers to GET and POST of it."""

    pattern: re.Pattern[str]
    get: Action | None = None
    post: Action | None = None


def _route(pattern: str, *, get: Action | None = None, post: Action | None = None) -> Route:
    return Route(re.compile(pattern), get, post)


_MODEL = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[0-9]+))?"
_REPOSITORY = r"/v2/repository(?:/(?P<repository>[^/]+))?"
_SYSTEM_MEMORY = r"/v2/systemsharedmemory(?:/region/(?P<region>[^/]+))?"
_CUDA_MEMORY = r"/v2/cudasharedmemory(?:/region/(?P<region>[^/]+))?"

ROUTES = (
    _route(r"/v2/models/stats", get=metadata.statistics),
    _route(_MODEL + r"/infer", post=infer.infer),
    _route(_MODEL + r"/generate", post=generate.generate_once),
    _route(_MODEL + r"/generate_stream", post=generate.generate_stream),
    _route(_MODEL, get=metadata.model_metadata),
    _route(_MODEL + r"/ready", get=health.model_ready),
    _route(_MODEL + r"/config", get=metadata.model_config),
    _route(_MODEL + r"/stats", get=metadata.statistics),
    _route(_MODEL + r"/trace/setting", get=settings.tracing, post=settings.set_tracing),
    _route(r"/v2", get=metadata.server_metadata),
    _route(r"/v2/health/live", get=health.live),
    _route(r"/v2/health/ready", get=health.ready),
    _route(_REPOSITORY + r"/index", post=repository.index),
    _route(_REPOSITORY + r"/models/(?P<name>[^/]+)/load", post=repository.load),
    _route(_REPOSITORY + r"/models/(?P<name>[^/]+)/unload", post=repository.unload),
    _route(r"/v2/logging", get=settings.logging, post=settings.set_logging),
    _route(r"/v2/trace/setting", get=settings.tracing, post=settings.set_tracing),
    _route(_SYSTEM_MEMORY + r"/status", get=memory.system_status),
    _route(_SYSTEM_MEMORY + r"/register", post=memory.register_system),
    _route(_SYSTEM_MEMORY + r"/unregister", post=memory.unregister_system),
    _route(_CUDA_MEMORY + r"/status", get=memory.cuda_status),
    _route(_CUDA_MEMORY + r"/register", post=memory.register_cuda),
    _route(_CUDA_MEMORY + r"/unregister", post=memory.unregister_cuda),
)


@lru_cache(maxsize=1024)
def find(path: str) -> tuple[Route, Target] | None:
    """Find the route of a path, and what the path names."""
    for route in ROUTES:
        if match := route.pattern.fullmatch(path):
            named = {key: value for key, value in match.groupdict().items() if value}
            if "version" in named:
                named["version"] = version.plain(named["version"])
            return route, Target(**named)
    return None


def handler(server: ServerState) -> Handler:
    """Make the handler of a server's v2 HTTP port."""

    @prompt
    async def handle(request: Request) -> Response | None:
        found = find(request.path)
        if found is None:
            return answer.NOT_FOUND
        route, target = found
        action = {"GET": route.get, "POST": route.post}.get(request.method)
        if action is None:
            return answer.METHOD_NOT_ALLOWED
        if action is not infer.infer:
            await in_task()
        try:
            return await action(request, server, target)
        except Refusal as refusal:
            return answer.error(error_of(refusal))
        except InferenceError as problem:
            return answer.error(problem)

    return handle
