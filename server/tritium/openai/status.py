"""How the server is: health in three kinds, its version, and its metrics."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

import msgspec

from tritium.llm.models import LanguageModels
from tritium.openai.endpoints import Route
from tritium.openai.options import OpenAIOptions
from tritium.openai.visit import Visit
from tritium.wire.http import Response

MetricsPage = Callable[[], str]
"""Writes the page of all metrics in Prometheus' text form."""

Readiness = Literal["ready", "loading", "lacking"]


class Health(msgspec.Struct):
    """Whether language requests can be served; `not_ready` names the models that cannot take any."""

    status: Readiness
    not_ready: list[str]


class Liveness(msgspec.Struct):
    """The server answers."""

    status: str = "live"


class Version(msgspec.Struct):
    """The server's release."""

    version: str


async def health(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /health, /health/ready: 200 while every language model can take requests, else 503 with those that cannot.

    While the server loads what it begins with it is 503 as well; a model that is loaded later does not make it so.
    """
    lacking = [served.name for served in models.all() if not served.lora and not served.model.ready]
    status: Readiness = "loading" if models.starting else "lacking" if lacking else "ready"
    headers = [(b"content-type", b"application/json"), *visit.headers]
    return Response(200 if status == "ready" else 503, headers, [msgspec.json.encode(Health(status, lacking))])


async def live(visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /health/live, /ping: 200 while the server answers at all."""
    return json_response(visit, Liveness())


async def show_version(visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /version."""
    return json_response(visit, Version(version("tritium")))


def metrics_route(page: MetricsPage) -> Route:
    """Return GET /metrics: the page that the metrics port has."""

    async def metrics(visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
        return Response(200, [(b"content-type", b"text/plain; charset=utf-8"), *visit.headers], [page().encode()])

    return metrics


def json_response(visit: Visit, body: msgspec.Struct) -> Response:
    """Return a struct as the answer."""
    return Response(200, [(b"content-type", b"application/json"), *visit.headers], [msgspec.json.encode(body)])
