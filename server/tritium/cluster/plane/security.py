"""What keeps strangers from a request plane: a shared secret, certificates of an own authority, or both.

Who has the secret, or a certificate of the authority, is a member. The secret says so when a connection begins; what
goes over the wire later only TLS protects.
"""

import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path

from tritium.cluster.plane.address import PlaneAddress
from tritium.core.errors import InvalidArgument

FEWEST_SECRET_BYTES = 16


class Secret:
    """A secret that all members share; it is never shown."""

    def __init__(self, value: bytes) -> None:
        """Keep a secret.

        Raises:
            InvalidArgument: it is so short that it could be guessed.
        """
        if len(value) < FEWEST_SECRET_BYTES:
            raise InvalidArgument(
                f"the cluster's secret has {len(value)} bytes; fewer than {FEWEST_SECRET_BYTES} can be guessed",
                hint="openssl rand -hex 32 > FILE makes a good one",
            )
        self._value = value

    def __repr__(self) -> str:
        return "***"

    def prove(self, *parts: bytes) -> bytes:
        """Return what only who has the secret can say of these parts."""
        mac = hmac.new(self._value, digestmod="sha256")
        for part in parts:
            mac.update(len(part).to_bytes(4, "big") + part)
        return mac.digest()

    def proves(self, proof: bytes, *parts: bytes) -> bool:
        """Tell whether a proof is right, in a time that does not tell how wrong it is."""
        return hmac.compare_digest(proof, self.prove(*parts))


def read_secret(path: Path) -> Secret:
    """Read a secret from a file; white space around it does not count.

    Raises:
        InvalidArgument: the file cannot be read, others may read it, or it holds too little.
    """
    try:
        value = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise InvalidArgument(f"the cluster's secret cannot be read from {path}: {error.strerror}") from None
    if mode & 0o007:
        raise InvalidArgument(f"everybody may read the cluster's secret in {path}", hint=f"chmod 600 {path}")
    return Secret(value)


@dataclass(frozen=True, slots=True)
class PlaneSecurity:
    """What a member asks of others, and shows them. With `authority`, TCP is TLS and both sides show a certificate."""

    secret: Secret | None = None
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    open: bool = False
    """Listen where other machines can reach it though nothing protects it."""

    @property
    def tls(self) -> bool:
        """Tell whether TCP connections are TLS."""
        return self.authority is not None

    def check_bind(self, address: PlaneAddress) -> None:
        """Refuse to listen where strangers could use the worker.

        Raises:
            InvalidArgument: other machines can reach the address, and neither secret nor TLS keeps them off.
        """
        if not (address.private or self.secret is not None or self.tls or self.open):
            raise InvalidArgument(
                f"other machines can reach {address}, and nothing keeps strangers from using the worker",
                hint="give --cluster-secret FILE, or certificates (--cluster-ca, --cluster-cert, --cluster-cert-key); "
                "--cluster-open listens all the same",
            )

    def server_context(self) -> ssl.SSLContext | None:
        """Return what a listener on TCP needs; None where it is plain.

        Raises:
            InvalidArgument: a certificate cannot be used.
        """
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def client_context(self) -> ssl.SSLContext | None:
        """Return what connecting over TCP needs; None where it is plain.

        Raises:
            InvalidArgument: a certificate cannot be used.
        """
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        if context is not None:
            # The authority signs members alone, and workers are reached by addresses that change.
            context.check_hostname = False
        return context

    def _context(self, protocol: int) -> ssl.SSLContext | None:
        given = (self.authority, self.certificate, self.key)
        if not any(given):
            return None
        if not all(given):
            raise InvalidArgument(
                "TLS within the cluster takes an authority, a certificate and its key",
                hint="give all of --cluster-ca, --cluster-cert and --cluster-cert-key",
            )
        assert self.authority is not None
        assert self.certificate is not None
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise InvalidArgument(
                f"the cluster's certificates cannot be used: {error}",
                hint=f"{self.certificate}, {self.key} and {self.authority} must be PEM files without a password",
            ) from None
        return context


def _refuse_password() -> str:
    """Stand in for the terminal prompt that OpenSSL would wait at."""
    raise ValueError("the key is protected by a password")
