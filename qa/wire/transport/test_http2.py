"""HTTP/2 frame by frame: peers that keep to RFC 9113, some in unusual ways."""

import asyncio

import h2.config
import h2.connection
import h2.events
import hpack
from qa.wire.transport.echo import ECHO
from qa.wire.transport.http2_peer import BOTH, REQUEST, block, message

from tritium.wire.grpc import GrpcLimits, Methods
from tritium.wire.h2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITY_FLAG,
    Kind,
    Setting,
    pack_frame,
)


async def test_settings_are_announced(connect):
    """A client learns the limits before it can break them."""
    raw = await connect(limits=GrpcLimits(concurrent_streams=7, header_bytes=20_000, stream_window=1 << 20))
    assert raw.settings == {
        Setting.MAX_CONCURRENT_STREAMS: 7,
        Setting.INITIAL_WINDOW_SIZE: 1 << 20,
        Setting.MAX_FRAME_SIZE: 1 << 20,
        Setting.MAX_HEADER_LIST_SIZE: 20_000,
    }


async def test_byte_by_byte(connect):
    """How the bytes are cut into packets changes nothing."""
    raw = await connect()
    call = pack_frame(Kind.HEADERS, END_HEADERS, 1, block()) + pack_frame(Kind.DATA, END_STREAM, 1, message(b"x" * 99))
    padded = pack_frame(Kind.HEADERS, END_HEADERS, 3, block()) + pack_frame(
        Kind.DATA, END_STREAM | PADDED, 3, b"\x05" + message(b"padded") + bytes(5)
    )
    await raw.peer.dribble(call + padded)
    assert (await raw.reply(1))[0] == message(b"x" * 99)
    assert (await raw.reply(3))[0] == message(b"padded")


async def test_padding_priority_and_continuation(connect):
    """All the ways to wrap a header block give the same call."""
    raw = await connect()
    whole = block()
    priority = b"\x80\x00\x00\x00\x10"
    await raw.send(Kind.HEADERS, PADDED | PRIORITY_FLAG, 1, b"\x03" + priority + whole[:4] + bytes(3))
    await raw.send(Kind.CONTINUATION, 0, 1, whole[4:9])
    await raw.send(Kind.CONTINUATION, 0, 1, b"")
    await raw.send(Kind.CONTINUATION, END_HEADERS, 1, whole[9:])
    await raw.send(Kind.PRIORITY, 0, 1, priority)
    body = message(b"in pieces")
    for index, byte in enumerate(body):
        flags = PADDED | (END_STREAM if index == len(body) - 1 else 0)
        await raw.send(Kind.DATA, flags, 1, bytes((2, byte, 0, 0)))
    assert (await raw.reply(1))[0] == body
    await raw.works(3)


async def test_unknown_frames_are_ignored(connect):
    """Extensions of HTTP/2 do not disturb."""
    raw = await connect()
    await raw.send(0xFA, 0xFF, 1, b"grease")
    await raw.send(0xFB, 0, 0, bytes(10_000))
    await raw.works(1)


async def test_ping_is_answered(connect):
    """PING comes back with its payload."""
    raw = await connect()
    await raw.send(Kind.PING, 0, 0, b"12345678")
    frame = await raw.next(Kind.PING)
    assert (frame.flags, frame.payload) == (ACK, b"12345678")


async def test_client_trailers_end_the_requests(connect):
    """A header block behind the data is taken as the end of the stream."""
    raw = await connect()
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block())
    await raw.send(Kind.DATA, 0, 1, message(b"hi"))
    await raw.send(Kind.HEADERS, BOTH, 1, hpack.Encoder().encode([("x-checksum", "1")]))
    assert (await raw.reply(1))[0] == message(b"hi")


async def test_empty_data_ends_the_requests(connect):
    """END_STREAM may come in a frame of its own."""
    raw = await connect()
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block())
    await raw.send(Kind.DATA, 0, 1, message(b"hi"))
    await raw.send(Kind.DATA, END_STREAM, 1)
    assert (await raw.reply(1))[0] == message(b"hi")


async def test_goaway_of_the_client_lets_calls_finish(connect):
    """A client that opens nothing more still gets its answers."""
    raw = await connect()
    await raw.call(1)
    await raw.send(Kind.GOAWAY, 0, 0, bytes(8))
    assert (await raw.reply(1))[0] == message(b"hi")


async def test_answers_of_one_turn_leave_in_one_write(wire, connect):
    """Calls that arrive together are answered together."""
    raw = await connect()
    await raw.peer.send(
        b"".join(
            pack_frame(Kind.HEADERS, END_HEADERS, stream, block())
            + pack_frame(Kind.DATA, END_STREAM, stream, message(b"x"))
            for stream in range(1, 41, 2)
        )
    )
    data = await raw.peer.read()
    assert data.count(b"grpc-status") == 20


async def test_close_says_goodbye_twice(connect, bounded):
    """The first GOAWAY lets calls on their way in; the second, once the PING is answered, names the last of them."""
    release = asyncio.Event()

    async def wait(request, call):
        await release.wait()
        return b"done"

    raw = await connect(Methods({"/s/Wait": wait}))
    await raw.call(1, changes={":path": "/s/Wait"})
    await raw.send(Kind.PING, 0, 0, bytes(8))
    await raw.next(Kind.PING)
    closing = asyncio.create_task(connect.listener.close(5))
    first = await raw.next(Kind.GOAWAY)
    assert first.payload[:8] == b"\x7f\xff\xff\xff" + bytes(4)
    ping = await raw.next(Kind.PING)
    await raw.call(3, changes={":path": "/s/Wait"})
    await raw.send(Kind.PING, ACK, 0, ping.payload)
    second = await raw.next(Kind.GOAWAY)
    assert second.payload[:8] == bytes((0, 0, 0, 3, 0, 0, 0, 0))
    await raw.call(5, changes={":path": "/s/Wait"})
    release.set()
    assert (await raw.reply(1))[0] == message(b"done")
    assert (await raw.reply(3))[0] == message(b"done")
    assert await raw.peer.closed()
    await bounded(closing)


async def test_close_of_an_idle_connection(connect, bounded):
    """An idle client that answers the PING is let go at once."""
    raw = await connect()
    closing = asyncio.create_task(connect.listener.close(5))
    ping = await raw.next(Kind.PING)
    await raw.send(Kind.PING, ACK, 0, ping.payload)
    await raw.next(Kind.GOAWAY)
    assert await raw.peer.closed()
    await bounded(closing)


async def test_h2_library_as_client(wire):
    """An independent implementation agrees with ours: dynamic table, Huffman codes, big messages, flow control."""
    listener = await wire.grpc(ECHO)
    peer = await wire.peer(listener)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    await peer.send(client.data_to_send())
    sizes = {1: 5, 3: 100_000, 5: 0, 7: 700_000, 9: 16_379}
    bodies = {stream: bytes([stream]) * size for stream, size in sizes.items()}
    left = {stream: message(body) for stream, body in bodies.items()}
    received = dict.fromkeys(sizes, b"")
    trailers: dict[int, dict] = {}
    for stream in sizes:
        client.send_headers(stream, [*REQUEST, ("x-stream", str(stream)), ("user-agent", "h2 library")])
    while len(trailers) < len(sizes):
        for stream, data in left.items():
            while data:
                size = min(client.local_flow_control_window(stream), client.max_outbound_frame_size, len(data))
                if not size:
                    break
                client.send_data(stream, data[:size], end_stream=size == len(data))
                data = data[size:]  # noqa: PLW2901  # the loop consumes it
            left[stream] = data
        await peer.send(client.data_to_send())
        for event in client.receive_data(await peer.read()):
            if isinstance(event, h2.events.DataReceived):
                received[event.stream_id] += event.data
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                trailers[event.stream_id] = dict(event.headers)
            assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated))
    assert received == {stream: message(body) for stream, body in bodies.items()}
    assert all(each[b"grpc-status"] == b"0" for each in trailers.values())


async def test_close_does_not_wait_for_a_call_that_its_client_reset(connect, bounded):
    """A connection that was told to go is closed when the last of its calls is reset, as when it ends."""
    raw = await connect()
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Each"}))
    await raw.send(Kind.DATA, 0, 1, message(b"hi"))
    await raw.next(Kind.DATA)
    closing = asyncio.create_task(connect.listener.close(3600.0))
    ping = await raw.next(Kind.PING)
    await raw.send(Kind.PING, ACK, 0, ping.payload)
    await raw.next(Kind.GOAWAY)
    await raw.send(Kind.RST_STREAM, 0, 1, bytes(4))
    assert await raw.peer.closed()
    await bounded(closing)
