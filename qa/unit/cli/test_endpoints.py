"""The commands that a started server shows for copying."""

from dataclasses import dataclass

import pytest

from tritium.cli.endpoints import endpoints
from tritium.cli.openai_port import rules
from tritium.cli.options import ServeOptions, SettingsError


@dataclass
class Port:
    """An open port."""

    port: int
    host: str = "0.0.0.0"


class Nothing:
    """A catalog without models."""

    def models(self):
        return []


def commands(options: ServeOptions) -> dict[str, str]:
    """Return the command that is shown for each protocol."""
    return {row.protocol: row.command for row in endpoints(options, {"http": Port(1), "grpc": Port(2)}, Nothing())}


def test_a_port_without_tls() -> None:
    """Is spoken to plainly."""
    shown = commands(ServeOptions())
    assert shown["HTTP"].startswith("curl -s localhost:1/")
    assert "InferenceServerClient('localhost:2').get" in shown["gRPC"]


def test_a_port_with_tls() -> None:
    """The command names the certificate to trust."""
    shown = commands(ServeOptions(http_cert="s.pem", grpc_cert="s.pem"))
    assert "curl -s https://localhost:1/" in shown["HTTP"]
    assert shown["HTTP"].endswith("--cacert s.pem")
    assert "InferenceServerClient('localhost:2', ssl=True, root_certificates='s.pem').get" in shown["gRPC"]


def test_a_port_with_mutual_tls() -> None:
    """The command has places for the client's own certificate."""
    ca = {"http_client_ca": "ca.pem", "grpc_client_ca": "ca.pem"}
    shown = commands(ServeOptions(http_cert="s.pem", grpc_cert="s.pem", **ca))
    assert shown["HTTP"].endswith("--cacert s.pem --cert YOUR_CERT.pem --key YOUR_KEY.pem")
    assert "private_key='YOUR_KEY.pem', certificate_chain='YOUR_CERT.pem')" in shown["gRPC"]


def test_a_host_of_media_that_is_none() -> None:
    """Stops the start: it would list nothing."""
    with pytest.raises(SettingsError, match=r"not .https://images\.example"):
        rules(ServeOptions(allowed_media_host=("https://images.example",)))
