"""The request plane among strangers: who may come in, what a stranger costs, and what both sides are told."""

import asyncio
import datetime as dt
import hashlib
import ipaddress
import socket

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from qa.unit.cluster.memory_discovery import MemoryDiscovery
from qa.unit.cluster.remote_fleet import Front, OpenWorker, ask, until
from structlog.testing import capture_logs

from tritium.cluster.channel import Channel
from tritium.cluster.frames import VERSION, Drain, Draining, FromWorker, Load
from tritium.cluster.plane import greeting
from tritium.cluster.plane import listener as plane_listener
from tritium.cluster.plane.address import parse_address
from tritium.cluster.plane.connection import connect
from tritium.cluster.plane.files import FileFetcher, FileServer
from tritium.cluster.plane.greeting import Greeting, Hello, Proof, Refused, Unreachable
from tritium.cluster.plane.security import PlaneSecurity, Secret, read_secret
from tritium.core.errors import InvalidArgument, Unavailable

SECRET = Secret(b"correct horse battery staple")
OTHER = Secret(b"incorrect horse battery staple")


@pytest.fixture
async def place():
    """Make workers and fronts that are ended with the test."""

    class Place:
        def __init__(self):
            self.discovery = MemoryDiscovery()
            self.made = []

        async def worker(self, security=None, address="127.0.0.1:0"):
            worker = await OpenWorker(self.discovery, "a", security=security).start(address)
            self.made.append(worker.end)
            return worker

        def front(self, security=None):
            front = Front(self.discovery, security=security)
            self.made.append(front.close)
            return front

    place = Place()
    yield place
    for end in reversed(place.made):
        await end()


class Stranger:
    """A connection that says what it likes."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, worker):
        address = parse_address(worker.instance.address)
        return cls(*await asyncio.open_connection(address.host, address.port))

    def say(self, frame):
        data = msgspec.msgpack.encode(frame)
        self.writer.write(len(data).to_bytes(4, "big") + data)

    async def hear(self):
        async with asyncio.timeout(60):
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            return msgspec.msgpack.decode(await self.reader.readexactly(length), type=Greeting)

    async def rest(self):
        """Return what comes until the end of the connection."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def end(self):
        self.writer.close()


async def trouble(front):
    """Return why a front cannot reach its worker."""
    await until(lambda: "echo" in front.fleets)
    workers = front.fleets["echo"].workers.by_name
    await until(lambda: workers and next(iter(workers.values())).trouble)
    return next(iter(workers.values())).trouble


@pytest.mark.parametrize(
    ("of_worker", "of_front", "words"),
    [
        (SECRET, OTHER, "the front does not have the secret of this worker"),
        (SECRET, None, "the worker asks for a secret, and this front has none"),
        (None, SECRET, "the worker has no secret, and this front asks for one"),
    ],
)
async def test_secrets_that_do_not_agree(place, of_worker, of_front, words):
    """Both sides must have the same secret, or both none; the front says which it is, and so does the worker, once."""
    worker = await place.worker(PlaneSecurity(of_worker))
    with capture_logs() as told:
        assert words in await trouble(place.front(PlaneSecurity(of_front)))
        await until(lambda: worker.door.refused >= 2)
    refused = [line for line in told if line["event"] == "front_refused" and line["log_level"] == "error"]
    assert [line["reason"] for line in refused] == [words]


async def test_the_same_secret_lets_in(place, collector, echo):
    """With one secret on both sides requests are served."""
    await place.worker(PlaneSecurity(SECRET))
    fleet = await place.front(PlaneSecurity(SECRET)).fleet()
    sink = collector()
    ask(fleet, sink, range(1, 9))
    await sink.end(30)
    assert sink.tokens == echo.continuation(list(range(1, 9)), 8)


async def test_a_worker_without_the_secret_is_found_out(place, monkeypatch):
    """A front does not take the word of a worker that only says it has the secret."""
    await place.worker(PlaneSecurity(OTHER))
    monkeypatch.setattr(OTHER, "proves", lambda *_: True)
    assert "does not have the secret of this front" in await trouble(place.front(PlaneSecurity(SECRET)))


async def test_a_proof_is_worth_nothing_on_another_connection(place):
    """What a front once sent does not let anybody in again: every connection has a nonce of its own."""
    worker = await place.worker(PlaneSecurity(SECRET))
    nonce = b"n" * 32
    first = await Stranger.at(worker)
    first.say(Hello(VERSION, "work", "x", nonce))
    challenge = await first.hear()
    proof = SECRET.prove(b"front", b"work", nonce, challenge.nonce)
    second = await Stranger.at(worker)
    second.say(Hello(VERSION, "work", "x", nonce))
    await second.hear()
    second.say(Proof(proof))
    assert "does not have the secret" in (await second.hear()).reason
    first.end()
    second.end()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 64,
        b"\0\0\0\4junk",
        b"\0\0\0\0",
        b"\x7f\xff\xff\xff" + b"x" * 100_000,
        b"\0\0\0\5\x92\xa2\xff\xfe\x01",
    ],
    ids=["http", "ones", "junk", "empty", "huge", "no text"],
)
async def test_garbage_is_refused(place, said):
    """What is no greeting ends the connection with a word, and harms nobody."""
    worker = await place.worker()
    stranger = await Stranger.at(worker)
    stranger.writer.write(said)
    heard = await stranger.rest()
    if heard:  # what is still unread at the other side ends some connections before the word arrives
        frame = msgspec.msgpack.decode(heard[4:], type=Greeting)
        assert frame == Refused("what came is no greeting of a Tritium cluster")
    await until(lambda: worker.door.refused == 1)
    assert not worker.door.fronts
    stranger.end()


async def test_another_version_is_told_so(place):
    """Fronts and workers of different releases say which is which."""
    worker = await place.worker()
    stranger = await Stranger.at(worker)
    stranger.say(Hello(VERSION + 1, "work", "x", b"n"))
    reason = (await stranger.hear()).reason
    assert f"speaks frames of version {VERSION + 1}, the worker of version {VERSION}" in reason
    stranger.end()


async def test_a_slow_greeting_ends(place, monkeypatch):
    """Who says nothing is sent away after a while."""
    monkeypatch.setattr(greeting, "GREETING_S", 0.1)
    worker = await place.worker()
    stranger = await Stranger.at(worker)
    assert "no greeting within 0.1 s" in (await stranger.hear()).reason
    assert await stranger.rest() == b""
    stranger.end()


async def test_a_look_whether_the_port_is_open(place):
    """A probe that connects and goes again, as balancers and orchestrators do, is nobody who was refused."""
    worker = await place.worker()
    stranger = await Stranger.at(worker)
    await until(lambda: worker.door._greeting)
    stranger.end()
    await until(lambda: not worker.door._greeting)
    assert worker.door.refused == 0


async def test_a_worker_that_does_not_greet(monkeypatch):
    """A front does not wait for ever for a peer that takes the connection and says nothing."""
    monkeypatch.setattr(greeting, "GREETING_S", 0.1)
    over = asyncio.Event()

    async def silent(_reader, writer):
        await over.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable, match=r"did not greet within 0\.1 s"):
        await connect(parse_address(f"127.0.0.1:{port}"), PlaneSecurity(), "work", "f", lambda _: _nothing())
    over.set()
    server.close()
    await server.wait_closed()


async def test_only_so_many_greet_at_once(place, monkeypatch):
    """Beyond a number of strangers at once the one who takes longest is sent away, so that fronts still come in."""
    monkeypatch.setattr(plane_listener, "MOST_GREETING", 2)
    worker = await place.worker()
    strangers = []
    for count in (1, 2):
        strangers.append(await Stranger.at(worker))
        await until(lambda count=count: len(worker.door._greeting) == count)
    channel = Channel(FromWorker, lambda _: None, lambda _: None)
    greeted = await connect(parse_address(worker.instance.address), PlaneSecurity(), "work", "f", lambda _: channel)
    assert greeted.worker == worker.name
    assert (await strangers[0].hear()).reason == "too many are greeting at once"
    assert len(worker.door._greeting) == 1
    channel.abort()
    for stranger in strangers:
        stranger.end()


@pytest.mark.parametrize("frame", [Load(VERSION, "echo", "/", {}, "aggregated", "x"), Drain(0.0)])
async def test_a_front_cannot_do_what_a_server_does(place, frame):
    """Loading a model or ending the worker is not among what a front may say."""
    worker = await place.worker()
    lost = asyncio.Event()
    channel = Channel(FromWorker, lambda _: None, lambda _: lost.set())
    await connect(parse_address(worker.instance.address), PlaneSecurity(), "work", "f", lambda _: channel)
    channel.send(frame)
    await asyncio.wait_for(lost.wait(), 60)
    assert worker.runner.info is not None
    await until(lambda: not worker.door.fronts)


async def test_a_front_that_reads_nothing_is_given_up(place, monkeypatch):
    """What piles up for a front is bounded."""
    worker = await place.worker()
    await place.front().fleet()
    monkeypatch.setattr(plane_listener, "MOST_BACKLOG_BYTES", -1)
    [session] = worker.door.fronts
    session.peer.send(Draining())
    await until(lambda: session not in worker.door.fronts)


def _nothing():
    return Channel(FromWorker, lambda _: None, lambda _: None)


# Where a worker may listen.


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:1", "[::1]:0", "unix:/run/x.sock"])
def test_this_machine_alone_needs_no_protection(address):
    """Addresses that only this machine reaches are safe by themselves."""
    PlaneSecurity().check_bind(parse_address(address))


@pytest.mark.parametrize("address", ["0.0.0.0:0", "10.0.0.1:5", "[::]:0", "host.example:5"])
def test_other_machines_need_protection(address):
    """Without secret, TLS, or the operator's word, a worker does not listen where others reach it."""
    with pytest.raises(InvalidArgument, match="nothing keeps strangers from using the worker") as raised:
        PlaneSecurity().check_bind(parse_address(address))
    assert "--cluster-secret" in raised.value.hint
    PlaneSecurity(SECRET).check_bind(parse_address(address))
    PlaneSecurity(open=True).check_bind(parse_address(address))


@pytest.mark.parametrize("text", ["", "host", ":5", "host:x", "host:70000", "unix:", "unix:" + "x" * 200])
def test_what_is_no_address(text):
    """An address that cannot be is refused with how one looks."""
    with pytest.raises(InvalidArgument, match="no address"):
        parse_address(text)


def test_secrets_are_kept_well(tmp_path):
    """A secret is never shown, is long enough, and its file is not for everybody."""
    assert repr(SECRET) == "***"
    file = tmp_path / "secret"
    file.write_text("short\n")
    file.chmod(0o600)
    with pytest.raises(InvalidArgument, match="fewer than 16 can be guessed"):
        read_secret(file)
    file.write_text("0123456789abcdef\n")
    assert read_secret(file).proves(read_secret(file).prove(b"x"), b"x")
    file.chmod(0o644)
    with pytest.raises(InvalidArgument, match="everybody may read"):
        read_secret(file)
    with pytest.raises(InvalidArgument, match="No such file"):
        read_secret(tmp_path / "none")


async def test_a_socket_left_behind_is_taken_over(place, tmp_path):
    """A killed worker's socket does not keep its successor from starting; a living one's does."""
    path = tmp_path / "a.sock"
    server = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    with pytest.raises(InvalidArgument, match="somebody listens at"):
        await place.worker(address=f"unix:{path}")
    server.close()
    await server.wait_closed()
    with socket.socket(socket.AF_UNIX) as dead:
        path.unlink(missing_ok=True)
        dead.bind(str(path))
    assert path.is_socket()
    await place.worker(address=f"unix:{path}")
    assert path.stat().st_mode & 0o077 == 0


# TLS.


def _authority():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    return key, _sign(name, name, key.public_key(), key, authority=True)


def _sign(subject, issuer, public, signer, *, authority=False):
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(signer, hashes.SHA256())
    )


def members(folder, *names):
    """Return what members of one authority show."""
    folder.mkdir()
    signer, root = _authority()
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made = []
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = _sign(subject, root.subject, key.public_key(), signer)
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*plain))
        made.append(PlaneSecurity(None, folder / f"{name}.pem", folder / f"{name}.key", folder / "ca.pem"))
    return made


async def test_members_of_one_authority_speak_tls(place, collector, echo, tmp_path):
    """Certificates of one authority on both sides let in, and streams go over TLS as they do without."""
    of_worker, of_front = members(tmp_path / "pki", "worker", "front")
    await place.worker(of_worker)
    fleet = await place.front(of_front).fleet()
    sink = collector()
    ask(fleet, sink, range(1, 9), 200)
    await sink.end(30)
    assert sink.tokens == echo.continuation(list(range(1, 9)), 200)


async def test_certificates_of_another_authority_do_not(place, tmp_path):
    """Who has a certificate of somebody else's authority does not come in."""
    [of_worker] = members(tmp_path / "one", "worker")
    [of_front] = members(tmp_path / "two", "front")
    worker = await place.worker(of_worker)
    assert "TLS" in await trouble(place.front(of_front))
    assert not worker.door.fronts


async def test_plain_and_tls_do_not_meet(place, tmp_path):
    """A front without TLS does not get to a worker that has it, and learns that quickly."""
    [of_worker] = members(tmp_path / "pki", "worker")
    await place.worker(of_worker)
    assert "ended while greeting" in await trouble(place.front())


def test_certificates_come_together(tmp_path):
    """A certificate without its key or authority is refused before anything starts."""
    [whole] = members(tmp_path / "pki", "a")
    with pytest.raises(InvalidArgument, match="takes an authority, a certificate and its key"):
        PlaneSecurity(certificate=whole.certificate).client_context()
    with pytest.raises(InvalidArgument, match="certificates cannot be used"):
        PlaneSecurity(None, whole.certificate, tmp_path / "none", whole.authority).server_context()


# Files.


async def test_files_come_whole_or_not_at_all(tmp_path):
    """A file is what its checksum says; what the card does not name is not given."""
    data = bytes(range(256)) * 10_000
    (tmp_path / "tokenizer.json").write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    server = FileServer({sha: tmp_path / "tokenizer.json", "0" * 64: tmp_path / "tokenizer.json", "1" * 64: tmp_path})
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server.channel, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def fetch(*asked):
        fetcher = FileFetcher()
        await loop.create_connection(lambda: fetcher.channel, "127.0.0.1", port)
        try:
            return [await fetcher.fetch(sha, size, 30) for sha, size in asked]
        finally:
            fetcher.channel.close()

    assert await fetch((sha, len(data)), (sha, len(data))) == [data, data]
    for asked, size, words in (
        ("2" * 64, 1, "no such file"),
        ("0" * 64, len(data), "other contents"),
        (sha, 5, "longer than its card says"),
        ("1" * 64, 5, "Is a directory"),
    ):
        with pytest.raises(Unavailable, match=words):
            await fetch((asked, size))
    server.close()
    listening.close()
    await listening.wait_closed()
