"""A whole connection without a socket: nonsense of every kind ends in frames that HTTP/2 allows, and leaves nothing."""

import asyncio
import gc

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.wire.grpc import GrpcError, GrpcLimits, Methods
from tritium.wire.h2.connection import GrpcConnection, scratch_bytes
from tritium.wire.h2.frames import PREFACE, Kind, Setting, pack_frame, pack_settings, pack_window_update
from tritium.wire.roster import Roster
from tritium.wire.status import Status

LIMITS = GrpcLimits(message_bytes=5000, stream_window=65_535, connection_window=100_000, concurrent_streams=4)


async def echo(message, call):
    if message == b"fail":
        raise GrpcError(Status.ABORTED, "as asked")
    await asyncio.sleep(0)
    return bytes(message)


async def echo_each(messages, call):
    async for message in messages:
        call.write(bytes(message))
        await call.drain()


METHODS = Methods({"/s/Echo": echo}, {"/s/Each": echo_each})

streams = st.integers(0, 9)
flags = st.sampled_from([0x0, 0x1, 0x4, 0x5, 0x8, 0x9, 0xC, 0xD, 0x20, 0x25, 0x2D])
messages = st.sampled_from(
    [b"", b"\0", b"\0\0\0\0\4fail", b"\0\0\0\0\2hi", b"\1\0\0\0\1x", b"\0\0\0\0\0" * 3, b"\0\0\0\x10\0" + bytes(5000)]
)


def head(path: bytes) -> bytes:
    return hpack.Encoder().encode(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        ]
    )


blocks = st.one_of(
    st.sampled_from([head(b"/s/Echo"), head(b"/s/Each"), head(b"/s/Nope"), b"\x82"]), st.binary(max_size=9)
)
frames = st.one_of(
    st.builds(pack_frame, st.just(Kind.HEADERS), st.sampled_from([0x4, 0x5]), st.sampled_from([1, 3, 5, 7, 9]), blocks),
    st.builds(pack_frame, st.just(Kind.DATA), st.sampled_from([0x0, 0x1]), st.sampled_from([1, 3, 5, 7, 9]), messages),
    st.builds(pack_frame, st.just(Kind.DATA), flags, streams, st.one_of(messages, st.binary(max_size=20))),
    st.builds(pack_frame, st.just(Kind.HEADERS), flags, streams, blocks),
    st.builds(pack_frame, st.just(Kind.CONTINUATION), flags, streams, blocks),
    st.builds(pack_frame, st.just(Kind.RST_STREAM), flags, streams, st.just(bytes(4))),
    st.builds(pack_window_update, streams, st.integers(0, 1 << 20)),
    st.builds(lambda size: pack_settings({Setting.INITIAL_WINDOW_SIZE: size}), st.integers(0, 1 << 20)),
    st.builds(pack_frame, st.integers(0, 12), flags, streams, st.binary(max_size=12)),
    st.just(None),
)


def kinds(data: bytes) -> list[int]:
    """Cut what the server sent, which must be whole frames of a size every client takes."""
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        assert size <= 16_384
        assert len(data) >= 9 + size
        found.append(data[3])
        data = data[9 + size :]
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(frames, max_size=25))
def test_nonsense_is_survived(memory_transport, push, sequence):
    """Frames at random, with pauses for the handlers; then the connection is lost."""

    async def run():
        transport = memory_transport()
        roster = Roster(secure=False, scratch_bytes=scratch_bytes(LIMITS))
        connection = GrpcConnection(METHODS, LIMITS, roster)
        connection.connection_made(transport)
        push(connection, PREFACE + pack_settings({}))
        for frame in sequence:
            if frame is None:
                await asyncio.sleep(0)
            else:
                push(connection, frame)
        for _ in range(5):
            await asyncio.sleep(0)
        sent = kinds(transport.take())
        assert sent.count(Kind.GOAWAY) == transport.closing
        assert transport.closing or Kind.GOAWAY not in sent
        connection.connection_lost(None)
        await asyncio.wait_for(roster.close(5), 60)
        assert len(roster) == 0
        assert not roster.running

    asyncio.run(run())


async def test_nothing_keeps_a_closed_connection(memory_transport, push):
    """A connection that served calls and is gone is free; compiled objects take no weak references to see it by."""
    gc.collect()
    roster = Roster(secure=False, scratch_bytes=scratch_bytes(LIMITS))
    connection = GrpcConnection(METHODS, LIMITS, roster)
    connection.connection_made(memory_transport())
    call = pack_frame(Kind.HEADERS, 4, 1, head(b"/s/Echo")) + pack_frame(Kind.DATA, 1, 1, b"\0\0\0\0\2hi")
    stream = pack_frame(Kind.HEADERS, 4, 3, head(b"/s/Each")) + pack_frame(Kind.DATA, 0, 3, b"\0\0\0\0\2hi")
    push(connection, PREFACE + pack_settings({}) + call + stream)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    await roster.close(1)
    known = id(connection)
    del connection
    gc.collect()
    # Their type alone: asked for their class, some of torch's objects warn that they are deprecated.
    assert known not in [id(found) for found in gc.get_objects() if type(found) is GrpcConnection]
