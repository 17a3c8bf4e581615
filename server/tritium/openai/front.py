"""The OpenAI routes, on the wire protocol directly: request id, key, route, answer or error object.

request -> id -> key -> route -> admission -> chat | completions | models | health | explain
                           `-> documentation and loading of models: an application built at its first request
"""

import asyncio
import hmac
import random
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec
import structlog

from tritium.core.errors import InferenceError, Internal, Overloaded
from tritium.llm.models import LanguageModels, Served
from tritium.openai.answer import Visit
from tritium.openai.chat import chat
from tritium.openai.completions import completions
from tritium.openai.errors import Unauthorized, UnknownRoute, error_response
from tritium.openai.explain import explain
from tritium.openai.options import OpenAIOptions
from tritium.openai.responses import ModelCard, ModelList
from tritium.wire.asgi import asgi_handler
from tritium.wire.http import Handler, Request, Response

log = structlog.get_logger()

Route = Callable[[Visit, LanguageModels, OpenAIOptions], Awaitable[Response | None]]


async def models_list(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /v1/models: every name a request may use."""
    return _json(visit, ModelList([_card(served) for served in models.all()]))


async def model_card(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /v1/models/{id}."""
    return _json(visit, _card(models.find(unquote(visit.request.path).removeprefix(_ONE_MODEL))))


async def health(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /health: 200 while every language model can take requests, else 503 naming those that cannot."""
    lacking = [served.name for served in models.all() if not served.lora and not served.model.ready]
    status = 503 if lacking else 200
    body = msgspec.json.encode({"status": "lacking" if lacking else "ready", "not_ready": lacking})
    return Response(status, [(b"content-type", b"application/json"), *visit.headers], [body])


_ONE_MODEL = "/v1/models/"

ROUTES: dict[str, tuple[str, Route]] = {
    "/v1/chat/completions": ("POST", chat),
    "/v1/completions": ("POST", completions),
    "/v1/models": ("GET", models_list),
    "/health": ("GET", health),
    "/router/explain": ("POST", explain),
}
_DOCUMENTS = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json"})
_OPEN = frozenset({"/health"})
_COUNTED = frozenset({"/v1/chat/completions", "/v1/completions"})


def openai_handler(models: LanguageModels, options: OpenAIOptions) -> Handler:
    """Return the handler of the OpenAI port."""
    return _Front(models, options).handle


class _Front:
    def __init__(self, models: LanguageModels, options: OpenAIOptions) -> None:
        self._models = models
        self._options = options
        self._keys = [key.encode() for key in options.api_keys]
        self._inflight = 0
        self._admin: asyncio.Task[Handler] | None = None

    async def handle(self, request: Request) -> Response | None:
        """Answer one request; every error becomes OpenAI's error object."""
        visit = _visit(request)
        try:
            if self._keys and request.path not in _OPEN:
                self._check_key(request)
            if _is_admin(request.path):
                return await self._administer(request)
            route = _route(request)
            if request.path in _COUNTED:
                self._admit(visit)
            return await route(visit, self._models, self._options)
        except asyncio.CancelledError:
            visit.end()
            raise
        except InferenceError as error:
            visit.end()
            return error_response(error, visit.headers)
        except Exception:
            visit.end()
            log.exception("openai_request_failed", path=request.path, request_id=visit.id)
            return error_response(Internal("the server failed; its log has the reason"), visit.headers)

    async def _administer(self, request: Request) -> Response | None:
        if self._admin is None:
            self._admin = asyncio.create_task(asyncio.to_thread(_build_admin, self._models))
        return await (await self._admin)(request)

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.header(b"authorization").partition(b" ")
        offered = key.strip() if scheme.lower() == b"bearer" else b""
        if not offered:
            raise Unauthorized("You didn't provide an API key.", hint="send it as Authorization: Bearer KEY")
        if not any(hmac.compare_digest(offered, known) for known in self._keys):
            raise Unauthorized("Incorrect API key provided.")

    def _admit(self, visit: Visit) -> None:
        if self._options.max_inflight and self._inflight >= self._options.max_inflight:
            raise Overloaded(f"{self._inflight} requests are under way, the most this server takes")
        self._inflight += 1
        visit.on_over = self._leave

    def _leave(self) -> None:
        self._inflight -= 1


def _route(request: Request) -> Route:
    path = request.path
    found = ROUTES.get(path)
    if found is None and path.startswith(_ONE_MODEL):
        found = ("GET", model_card)
    if found is None:
        raise UnknownRoute(f"Unknown request URL: {request.method} {path}.", 404)
    method, route = found
    if request.method != method:
        raise UnknownRoute(f"Not allowed to {request.method} on {path}: use {method}.", 405)
    return route


def _is_admin(path: str) -> bool:
    return path in _DOCUMENTS or (path.startswith(_ONE_MODEL) and path.endswith(("/load", "/unload")))


def _build_admin(models: LanguageModels) -> Handler:
    from tritium.openai.admin import admin_app  # noqa: PLC0415  half a second, which a server without need is spared

    return asgi_handler(admin_app(models))


def _visit(request: Request) -> Visit:
    given = request.header(b"x-request-id")
    return Visit(
        request,
        given.decode("latin-1") if given else f"{random.getrandbits(96):024x}",
        named=bool(given),
        explain=request.header(b"x-tritium-explain") == b"1",
        worker=request.header(b"x-tritium-worker").decode("latin-1"),
    )


def _card(served: Served) -> ModelCard:
    model = served.model
    return ModelCard(
        id=served.name,
        created=model.loaded_s,
        root=model.name,
        parent=model.name if served.lora else None,
        max_model_len=model.fleet.info.context_tokens,
    )


def _json(visit: Visit, body: msgspec.Struct) -> Response:
    return Response(200, [(b"content-type", b"application/json"), *visit.headers], [msgspec.json.encode(body)])
