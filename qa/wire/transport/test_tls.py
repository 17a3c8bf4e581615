"""TLS and mutual TLS, for HTTP and for both gRPC transports."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tritium.wire.errors import TlsError
from tritium.wire.grpc import Methods
from tritium.wire.http import HttpLimits, Response
from tritium.wire.tls import Tls

BOUND_S = 60.0


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key, ca=True)
        self.path = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Issue a certificate; return its file and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        return self._write(f"{name}.pem", public), self._write(f"{name}.key", private)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def echo(message, call):
    return bytes(message)


async def echo_http(request):
    return Response(200, (), (request.body,))


async def https(listener, context: ssl.SSLContext, body: bytes) -> bytes:
    """Send one request over TLS and return the answer's body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
    try:
        writer.write(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_S)
        assert f"content-length: {len(body)}".encode() in head
        return await asyncio.wait_for(reader.readexactly(len(body)), BOUND_S)
    finally:
        writer.transport.abort()


async def test_https(wire, authority):
    """Requests of all sizes pass through TLS; the protocol is agreed by ALPN."""
    listener = await wire.http(echo_http, tls=Tls(*authority.issue("server")))
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    for size in (0, 10, 100_000, 3 << 20):
        assert await https(listener, context, bytes(size)) == bytes(size)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.transport.abort()


async def test_mutual_tls_over_http(wire, authority, tmp_path):
    """With a client authority, only clients that it signed get in."""
    listener = await wire.http(echo_http, tls=Tls(*authority.issue("server"), client_ca=authority.path))
    known = ssl.create_default_context(cafile=authority.path)
    known.load_cert_chain(*authority.issue("client"))
    assert await https(listener, known, b"hello") == b"hello"
    stranger = ssl.create_default_context(cafile=authority.path)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await https(listener, stranger, b"hello")
    forged = ssl.create_default_context(cafile=authority.path)
    forged.load_cert_chain(*Authority(tmp_path).issue("client"))
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await https(listener, forged, b"hello")


@pytest.mark.parametrize("transport", ["grpc", "grpcio"])
async def test_grpc_over_tls(wire, authority, transport):
    """grpcio's client, which insists on ALPN, reaches both transports."""
    listener = await getattr(wire, transport)(Methods({"/s/Echo": echo}), tls=Tls(*authority.issue("server")))

    def call():
        credentials = grpc.ssl_channel_credentials(authority.path.read_bytes())
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.secure_channel(f"127.0.0.1:{listener.port}", credentials, options) as channel:
            method = channel.unary_unary("/s/Echo")
            return [len(method(bytes(size), timeout=BOUND_S)) for size in (0, 1000, 6 << 20)]

    assert await asyncio.to_thread(call) == [0, 1000, 6 << 20]


@pytest.mark.parametrize("transport", ["grpc", "grpcio"])
async def test_mutual_tls_over_grpc(wire, authority, transport):
    """With a client authority, a client without a certificate cannot call."""
    tls = Tls(*authority.issue("server"), client_ca=authority.path)
    listener = await getattr(wire, transport)(Methods({"/s/Echo": echo}), tls=tls)
    certificate, key = authority.issue("client")

    def call(*pair):
        credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), *pair)
        with grpc.secure_channel(f"127.0.0.1:{listener.port}", credentials) as channel:
            return channel.unary_unary("/s/Echo")(b"hello", timeout=BOUND_S)

    assert await asyncio.to_thread(call, key.read_bytes(), certificate.read_bytes()) == b"hello"
    with pytest.raises(grpc.RpcError) as error:
        await asyncio.to_thread(call)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_handshake_has_a_limit(wire, authority):
    """A client that connects to a TLS port and says nothing does not hold its connection for ever."""
    listener = await wire.http(echo_http, HttpLimits(header_s=0.2), tls=Tls(*authority.issue("server")))
    assert await (await wire.peer(listener)).closed()


async def test_plain_text_on_a_tls_port(wire, authority):
    """A client that forgets TLS is let go, and the port goes on."""
    listener = await wire.http(echo_http, tls=Tls(*authority.issue("server")))
    peer = await wire.peer(listener)
    await peer.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await peer.closed()
    context = ssl.create_default_context(cafile=authority.path)
    assert await https(listener, context, b"x") == b"x"


@pytest.mark.parametrize("transport", ["http", "grpc", "grpcio"])
async def test_broken_certificates(wire, authority, tmp_path, transport):
    """A certificate that cannot be used stops the listener with a message that names the file."""
    certificate, key = authority.issue("server")
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    missing = tmp_path / "missing.pem"
    _, other_key = authority.issue("other")
    handler = echo_http if transport == "http" else Methods()
    for tls, named in (
        (Tls(missing, key), missing),
        (Tls(junk, key), junk),
        (Tls(certificate, other_key), other_key),
        (Tls(certificate, key, client_ca=junk), junk),
        (Tls(certificate, key, client_ca=missing), missing),
    ):
        with pytest.raises(TlsError) as error:
            await getattr(wire, transport)(handler, tls=tls)
        assert str(named) in error.value.message
        assert error.value.hint
