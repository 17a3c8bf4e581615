"""The routes where a framework pays: documentation for people and tools, and loading models (FastAPI).

Built when the first request for one of its paths comes, for FastAPI takes half a second to import. The hot routes are
described here by the structs that read and write them, and served elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import fastapi
import msgspec
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tritium.core.errors import InferenceError
from tritium.llm.models import LanguageModels
from tritium.openai.errors import ErrorObject, UnknownRoute, error_object, status_of
from tritium.openai.explain import Explanation
from tritium.openai.responses import ChatCompletion, Completion, ModelCard, ModelList
from tritium.openai.schema import ChatRequest, CompletionRequest

_REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class _Described:
    """One of the hot routes, as the document tells of it."""

    path: str
    method: str
    summary: str
    answer: Any
    body: Any = None


_HOT: Sequence[_Described] = (
    _Described("/v1/chat/completions", "post", "Answer a conversation", ChatCompletion, ChatRequest),
    _Described("/v1/completions", "post", "Continue prompts", Completion, CompletionRequest),
    _Described("/v1/models", "get", "List the models", ModelList),
    _Described("/v1/models/{id}", "get", "Describe a model", ModelCard),
    _Described("/router/explain", "post", "Tell where a request would go, and why", Explanation, ChatRequest),
)


def admin_app(models: LanguageModels) -> fastapi.FastAPI:
    """Build the application."""
    app = fastapi.FastAPI(title="Tritium", version=version("tritium"), docs_url="/docs", redoc_url=None)

    @app.exception_handler(InferenceError)
    async def _refused(_request: fastapi.Request, error: InferenceError) -> JSONResponse:
        return JSONResponse(msgspec.to_builtins(error_object(error)), status_of(error))

    @app.exception_handler(HTTPException)
    async def _unknown(request: fastapi.Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}: {request.method} {request.url.path}"
        return JSONResponse(
            msgspec.to_builtins(error_object(UnknownRoute(message, error.status_code))), error.status_code
        )

    @app.post("/v1/models/{name:path}/load", summary="Load or reload a model from its repository")
    async def _load(name: str) -> dict[str, str]:
        await models.load(name)
        return {"id": name, "status": "loaded"}

    @app.post("/v1/models/{name:path}/unload", summary="Unload a model")
    async def _unload(name: str) -> dict[str, str]:
        await models.unload(name)
        return {"id": name, "status": "unloaded"}

    own = app.openapi()

    def document() -> dict[str, Any]:
        paths, schemas = _hot_routes()
        components = own.get("components", {}).get("schemas", {})
        return own | {"paths": paths | own["paths"], "components": {"schemas": components | schemas}}

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend its schema
    return app


def _hot_routes() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the paths and schemas of the hot routes."""
    kinds = [kind for route in _HOT for kind in (route.body, route.answer) if kind is not None]
    _, schemas = msgspec.json.schema_components([*kinds, ErrorObject], ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for route in _HOT:
        operation: dict[str, Any] = {
            "summary": route.summary,
            "responses": {
                "200": {"description": "The answer.", "content": _content(route.answer)},
                "default": {"description": "OpenAI's error object.", "content": _content(ErrorObject)},
            },
        }
        if route.body is not None:
            operation["requestBody"] = {"required": True, "content": _content(route.body)}
        if "{id}" in route.path:
            operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
        paths[route.path] = {route.method: operation}
    return paths, schemas


def _content(kind: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(name=kind.__name__)}}}
