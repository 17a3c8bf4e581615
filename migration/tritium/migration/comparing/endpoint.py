"""A server to compare: what `verify` asks of it, over HTTP or over gRPC."""

from typing import Any, Protocol

from tritium.migration.comparing.call import Call, Outcome, Unreachable


class Endpoint(Protocol):
    """One running server.

    `send` raises Unreachable where there is no server; every refusal of a server is an Outcome.
    """

    protocol: str
    """`http` or `grpc`: which recorded calls it can be sent."""
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


def connect(url: str, timeout_s: float) -> Endpoint:
    """Return the server at http://host:port, https://host:port or grpc://host:port.

    Raises:
        Unreachable: the URL names no protocol that is known.
    """
    scheme, _, place = url.rstrip("/").partition("://")
    if scheme in {"http", "https"} and place:
        from tritium.migration.comparing.http_endpoint import HttpEndpoint  # noqa: PLC0415  (one of the two is used)

        return HttpEndpoint(scheme, place, timeout_s)
    if scheme in {"grpc", "grpcs"} and place:
        from tritium.migration.comparing.grpc_endpoint import GrpcEndpoint  # noqa: PLC0415  (one of the two is used)

        return GrpcEndpoint(scheme, place, timeout_s)
    raise Unreachable(f"{url} is no URL of a server: write http://host:8000 or grpc://host:8001")
