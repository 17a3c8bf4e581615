"""What both ports are told in the same way."""

import pytest

from tritium.cli import port_rules
from tritium.cli.options import SettingsError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("", "key.pem", ""), "grpc_key and grpc_client_ca need grpc_cert"),
        (("", "", "ca.pem"), "grpc_key and grpc_client_ca need grpc_cert"),
        (("cert.pem", "", ""), "grpc_cert needs grpc_key"),
    ],
)
def test_half_of_what_tls_needs_is_refused(given, words):
    """A port that was to be secured must not speak in the clear."""
    with pytest.raises(SettingsError, match=words):
        port_rules.tls("grpc", *given)


def test_a_port_without_certificates_speaks_in_the_clear():
    """TLS is on where a certificate is given."""
    assert port_rules.tls("http", "", "", "") is None
    tls = port_rules.tls("http", "cert.pem", "key.pem", "ca.pem")
    assert tls is not None
    assert (str(tls.certificate), str(tls.key), str(tls.client_ca)) == ("cert.pem", "key.pem", "ca.pem")


def test_patterns_and_restrictions_are_refused_by_name():
    """The setting is named, the secret is not."""
    with pytest.raises(SettingsError, match="http_forward_headers is no regular expression"):
        port_rules.forwarded("http_forward_headers", "(")
    with pytest.raises(SettingsError, match="unknown restricted protocol 'tea'") as refused:
        port_rules.restricted(("tea:key=secret",), what="protocol")
    assert "secret" not in str(refused.value)
