"""A server to compare: what `verify` asks of it, over HTTP, over gRPC or by OpenAI's API."""

import os
from pathlib import Path
from typing import Any, Protocol

from tritium.migration.comparing.call import Call, Outcome, Unreachable
from tritium.migration.comparing.http_connection import HttpConnection, error_of
from tritium.migration.comparing.http_endpoint import HttpEndpoint
from tritium.migration.comparing.openai_endpoint import OpenAIEndpoint


class Endpoint(Protocol):
    """One running server.

    `send` raises Unreachable where there is no server; every refusal of a server is an Outcome.
    """

    protocol: str
    """`http`, `grpc` or `openai`: which recorded calls it can be sent."""
    url: str

    def models(self) -> dict[str, str]:
        """Return each model of the index with its state, READY where it serves."""

    def metadata(self, model: str) -> dict[str, Any]:
        """Return the model's metadata in JSON's form."""

    def config(self, model: str) -> dict[str, Any]:
        """Return the model's configuration in JSON's form."""

    def send(self, call: Call, correlation: int = 0) -> Outcome:
        """Send one call and wait for all of its answers."""

    def close(self) -> None:
        """Give the connections back."""


def connect(url: str, timeout_s: float, cafile: Path | None = None) -> Endpoint:
    """Return the server at http://host:port, https://host:port or grpc://host:port.

    A port of HTTP that has no repository of models and lists /v1/models is taken for one of OpenAI's API; the variable
    OPENAI_API_KEY holds its key, where it wants one. `cafile` is for https and grpcs.

    Raises:
        Unreachable: the URL names no protocol that is known, or nothing answers there as one.
    """
    scheme, _, place = url.rstrip("/").partition("://")
    if scheme in {"http", "https"} and place:
        connection = HttpConnection(scheme, place.removesuffix("/v1"), timeout_s, _credentials(), cafile)
        try:
            return _over_http(connection)
        except Unreachable:
            connection.close()
            raise
    if scheme in {"grpc", "grpcs"} and place:
        from tritium.migration.comparing.grpc_endpoint import GrpcEndpoint  # noqa: PLC0415  (seldom used beside HTTP)

        return GrpcEndpoint(scheme, place, timeout_s, cafile)
    raise Unreachable(f"{url} is no URL of a server: write http://host:8000 or grpc://host:8001")


def _over_http(connection: HttpConnection) -> Endpoint:
    index = connection.ask("POST", "/v2/repository/index", b"{}", {"Content-Type": "application/json"})
    connection.read(index)
    if index.status not in (404, 405):
        return HttpEndpoint(connection)
    listed = connection.ask("GET", "/v1/models")
    raw, _ = connection.read(listed)
    if listed.status == 200 and b'"data"' in raw:
        return OpenAIEndpoint(connection)
    said = f"{listed.status} {error_of(raw)}".rstrip()
    raise Unreachable(
        f"{connection.url} has neither /v2/repository/index ({index.status}) nor /v1/models ({said}): name the port of "
        "HTTP (http://host:8000), of gRPC (grpc://host:8001) or of OpenAI's API (http://host:9000)"
    )


def _credentials() -> dict[str, str]:
    key = os.environ.get("OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}
