"""Opening and closing ports, for all three protocols alike."""

import asyncio
import gc
import socket

import pytest

from tritium.wire.errors import ListenError
from tritium.wire.grpc import Methods
from tritium.wire.h1.connection import HttpConnection
from tritium.wire.h2.connection import GrpcConnection
from tritium.wire.http import Response
from tritium.wire.listener import listen_grpc, listen_grpcio, listen_http

LISTEN = {"http": listen_http, "grpc": listen_grpc, "grpcio": listen_grpcio}


async def hello(request):
    return Response(200, (), (b"hello",))


async def start(protocol, host="127.0.0.1", port=0, *, shared=False):
    return await LISTEN[protocol](hello if protocol == "http" else Methods(), host=host, port=port, shared=shared)


@pytest.mark.parametrize("protocol", LISTEN)
async def test_port_zero_takes_a_free_one(protocol):
    """The real port is known, and free again after closing."""
    listener = await start(protocol)
    assert listener.port > 0
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.transport.abort()
    await listener.close(0.1)
    again = await start(protocol, port=listener.port)
    assert again.port == listener.port
    await again.close(0)


@pytest.mark.parametrize("protocol", LISTEN)
async def test_port_in_use(protocol):
    """A port that another program has is named, with a way to find out whose it is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as error:
            await start(protocol, port=port)
    assert error.value.message == f"cannot listen on 127.0.0.1:{port}: the port is in use"
    assert f":{port}" in error.value.hint
    assert (error.value.host, error.value.port) == ("127.0.0.1", port)


@pytest.mark.parametrize("protocol", LISTEN)
@pytest.mark.parametrize(
    ("host", "words"), [("no-such-host.invalid", "unknown host"), ("203.0.113.7", "not an address of this machine")]
)
async def test_host_that_cannot_be_used(protocol, host, words):
    """A host that is not this machine is told apart from one that does not exist."""
    with pytest.raises(ListenError, match=words) as error:
        await start(protocol, host=host)
    assert error.value.hint


@pytest.mark.parametrize("protocol", LISTEN)
async def test_own_port_in_use(protocol):
    """Two listeners of ours do not share a port by accident."""
    first = await start(protocol)
    with pytest.raises(ListenError, match="in use"):
        await start(protocol, port=first.port)
    await first.close(0)


@pytest.mark.parametrize("host", ["localhost", "", "0.0.0.0"])  # that is what is tested
async def test_every_address_of_a_host_has_the_same_port(host):
    """A name with several addresses, asked for any port, gets one port for all."""
    listener = await listen_http(hello, host=host, port=0)
    found = await asyncio.get_running_loop().getaddrinfo(host or "127.0.0.1", listener.port, type=socket.SOCK_STREAM)
    for address in {info[4][0] for info in found}:
        if address == "::1" and not socket.has_ipv6:
            continue
        reader, writer = await asyncio.open_connection(address, listener.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"hello")
        writer.close()
        await writer.wait_closed()
    await listener.close(1)


@pytest.mark.parametrize("protocol", LISTEN)
async def test_closing_twice_is_harmless(protocol):
    """A second close finds nothing to do."""
    listener = await start(protocol)
    await listener.close(0)
    await listener.close(0)


@pytest.mark.parametrize("protocol", LISTEN)
async def test_shared_port_waits_for_its_process(protocol):
    """A shared port takes no connection before its process says that it can serve; it may be closed before that."""
    listener = await start(protocol, shared=True)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", listener.port)
    unused = await start(protocol, shared=True, port=listener.port)
    await unused.close(0)
    await unused.close(0)
    await listener.begin()
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.close()
    await listener.close(0)


GREETINGS = {
    "http": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
}


@pytest.fixture
def without_collector():
    """Python's collector finds circles late: of objects that were alive for long, after millions of new ones."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("greets", [False, True])
@pytest.mark.parametrize(("protocol", "kind"), [("http", HttpConnection), ("grpc", GrpcConnection)])
async def test_nothing_is_left_of_a_connection(without_collector, protocol, kind, greets):
    """Memory of idle clients that leave is free at once: nothing waits for the garbage collector."""
    listener = await start(protocol)
    clients = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(20)]
    if greets:
        for reader, writer in clients:
            writer.write(GREETINGS[protocol])
            await asyncio.wait_for(reader.read(1), 60)
    for _, writer in clients:
        writer.close()
    async with asyncio.timeout(60):
        while len(listener._roster):  # noqa: ASYNC110  # the loop itself brings it about, in a few turns
            await asyncio.sleep(0.001)
    del writer
    await listener.close(0)
    assert [found for found in gc.get_objects() if type(found) is kind] == []
