"""Connections that are silent, that ping too often, or that are old."""

import asyncio

import grpc
import grpc.aio
import pytest
from qa.wire.transport.echo import ECHO
from qa.wire.transport.http2_peer import block, message

from tritium.wire.grpc import GrpcLimits, Keepalive, Methods
from tritium.wire.h2.frames import ACK, END_HEADERS, Code, Kind
from tritium.wire.listener import listen_grpc

BOUND_S = 60.0


def limits(**keepalive):
    return GrpcLimits(keepalive=Keepalive(**keepalive))


async def test_silent_client_is_asked_and_then_dropped(connect):
    """A ping comes after the silence; the connection ends when it is not answered."""
    raw = await connect(ECHO, limits(ping_s=0.05, answer_s=0.6, without_calls=True))
    ping = await raw.next(Kind.PING)
    assert not ping.flags & ACK
    await raw.send(Kind.PING, ACK, 0, ping.payload)
    assert (await raw.next(Kind.PING)).payload == ping.payload
    assert await raw.peer.closed()


async def test_client_that_answers_stays(connect):
    """Pings that are answered keep a connection for as long as its call takes."""
    raw = await connect(ECHO, limits(ping_s=0.02, answer_s=30, pings_without_data=0))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Each"}))
    for _ in range(5):
        ping = await raw.next(Kind.PING)
        await raw.send(Kind.PING, ACK, 0, ping.payload)
    await raw.send(Kind.DATA, 0, 1, message(b"there"))
    assert (await raw.next(Kind.DATA)).payload == message(b"there")


async def test_client_that_pings_too_often_is_sent_away(connect):
    """Three pings too many, and GOAWAY says what grpc's clients look for."""
    raw = await connect(ECHO, limits(strikes=2))
    for _ in range(4):
        await raw.send(Kind.PING, 0, 0, bytes(8))
    goaway = await raw.next(Kind.GOAWAY)
    assert int.from_bytes(goaway.payload[4:8], "big") == Code.ENHANCE_YOUR_CALM
    assert goaway.payload[8:] == b"too_many_pings"
    assert await raw.peer.closed()


async def test_answers_between_pings_forgive_them(connect):
    """A client that measures its bandwidth by pings, as grpc's do, is not sent away."""
    raw = await connect(ECHO, limits(strikes=1))
    for stream in range(1, 41, 2):
        await raw.works(stream)
        await raw.send(Kind.PING, 0, 0, bytes(8))
        await raw.next(Kind.PING)


async def test_old_connection_finishes_its_calls(connect):
    """At its age a connection gets GOAWAY; the call under way is answered before it closes."""
    raw = await connect(ECHO, limits(age_s=0.5))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Each"}))
    goaway = await raw.next(Kind.GOAWAY)
    assert int.from_bytes(goaway.payload[4:8], "big") == Code.NO_ERROR
    assert goaway.payload[8:] == b"max_age"
    ping = await raw.next(Kind.PING)
    await raw.send(Kind.PING, ACK, 0, ping.payload)
    assert (await raw.next(Kind.GOAWAY)).payload == bytes((0, 0, 0, 1, 0, 0, 0, 0)) + b"max_age"
    await raw.send(Kind.DATA, 1, 1, message(b"late"))
    data, trailers = await raw.reply(1)
    assert (data, trailers["grpc-status"]) == (message(b"late"), "0")
    assert await raw.peer.closed()


async def test_old_connection_ends_after_its_grace(connect):
    """A call that goes on beyond the grace is cut off."""
    raw = await connect(ECHO, limits(age_s=0.5, age_grace_s=0.1))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Each"}))
    await raw.next(Kind.GOAWAY)
    await raw.next(Kind.PING)
    assert await raw.peer.closed()


async def test_grpcio_client_survives_the_age_of_its_connections(wire):
    """A channel calls on over a new connection, and no call is lost."""
    peers = set()

    async def who(request, call):
        peers.add(call.peer)
        return bytes(request)

    listener = await wire.grpc(Methods({"/s/Who": who}), limits(age_s=0.1, age_grace_s=1))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        call = channel.unary_unary("/s/Who")
        async with asyncio.timeout(BOUND_S):
            while len(peers) < 4:
                assert await call(b"x", wait_for_ready=True) == b"x"


@pytest.mark.parametrize("transport", ["ours", "grpcio"])
async def test_grpcio_client_that_pings_too_often_slows_down(wire, transport):
    """grpc's own client pings every 10 ms at most, is told too_many_pings, and its next call is served all the same."""
    serve = wire.grpc if transport == "ours" else wire.grpcio
    listener = await serve(ECHO, limits(strikes=1, client_ping_s=60, without_calls=True))
    eager = [("grpc.keepalive_time_ms", 10), ("grpc.keepalive_permit_without_calls", 1)]
    eager += [("grpc.http2.max_pings_without_data", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=eager) as channel:
        for _ in range(3):
            assert await channel.unary_unary("/s/Echo")(b"x", wait_for_ready=True) == b"x"


async def test_shared_port():
    """Two listeners share a port, and each gets some of the connections."""
    counts = [0, 0]

    def counted(index):
        async def who(request, call):
            counts[index] += 1
            return b"%d" % index

        return Methods({"/s/Who": who})

    first = await listen_grpc(counted(0), host="127.0.0.1", port=0, shared=True)
    second = await listen_grpc(counted(1), host="127.0.0.1", port=first.port, shared=True)
    for listener in (first, second):
        await listener.begin()
    try:
        async with asyncio.timeout(BOUND_S):
            while not all(counts):
                # A pool of its own, since channels of one address share their connection.
                options = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(f"127.0.0.1:{first.port}", options=options) as channel:
                    await channel.unary_unary("/s/Who")(b"")
    finally:
        await second.close(0)
        await first.close(0)
