"""The routes where a framework pays: documentation for people and tools, and loading models (FastAPI).

Built when the first request for one of its paths comes, for FastAPI takes half a second to import. The hot routes are
described in its document (`openai.document`), and served elsewhere.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import fastapi
import msgspec
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tritium.core.errors import InferenceError
from tritium.llm.models import LanguageModels
from tritium.openai.document import ERROR, describe
from tritium.openai.endpoints import Endpoint
from tritium.openai.errors import UnknownRoute, error_object, status_of


def admin_app(models: LanguageModels, endpoints: Sequence[Endpoint] = ()) -> fastapi.FastAPI:
    """Build the application; `endpoints` are the routes that its document describes beside its own."""
    app = fastapi.FastAPI(title="Tritium", version=version("tritium"), docs_url="/docs", redoc_url=None)

    @app.exception_handler(InferenceError)
    async def _refused(_request: fastapi.Request, error: InferenceError) -> JSONResponse:
        return JSONResponse(msgspec.to_builtins(error_object(error)), status_of(error))

    @app.exception_handler(HTTPException)
    async def _unknown(request: fastapi.Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}: {request.method} {request.url.path}"
        body = msgspec.to_builtins(error_object(UnknownRoute(message, error.status_code)))
        return JSONResponse(body, error.status_code, error.headers)

    @app.post("/v1/models/{name:path}/load", summary="Load or reload a model from its repository")
    async def _load(name: str) -> dict[str, str]:
        await models.load(name)
        return {"id": name, "status": "loaded"}

    @app.post("/v1/models/{name:path}/unload", summary="Unload a model")
    async def _unload(name: str) -> dict[str, str]:
        await models.unload(name)
        return {"id": name, "status": "unloaded"}

    own = app.openapi()
    for path in own["paths"].values():
        for operation in path.values():
            # FastAPI's own 422 never comes: a path is all there is to read.
            operation["responses"] = {"200": operation["responses"]["200"], "default": ERROR}

    def document() -> dict[str, Any]:
        paths, schemas = describe(endpoints)
        components = own.get("components", {}).get("schemas", {})
        return own | {"paths": paths | own["paths"], "components": {"schemas": components | schemas}}

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend its schema
    return app
