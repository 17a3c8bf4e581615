"""Certificates of a listener, and the TLS contexts made of them."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from tritium.wire.errors import TlsError


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With `client_ca`, clients must present a certificate that it signed (mutual TLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self, *protocols: str) -> ssl.SSLContext:
        """Build a server context that offers `protocols` by ALPN, best first.

        Raises:
            TlsError: A file is missing, is not PEM, or the key does not belong to the certificate.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise TlsError(
                f"cannot use certificate {self.certificate} with key {self.key}: {error}",
                hint="both must be PEM files without a password, and the key must belong to the certificate",
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError) as error:
                raise TlsError(
                    f"cannot use client authority {self.client_ca}: {error}",
                    hint="it must be a PEM file with the certificates that sign your clients",
                ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(list(protocols))
        return context


def _refuse_password() -> str:
    """Stand in for the terminal prompt that OpenSSL would block a server with."""
    raise ValueError("the key is protected by a password")
