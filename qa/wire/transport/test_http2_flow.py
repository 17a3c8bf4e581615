"""Flow control of HTTP/2, both ways, with peers that use it to the last byte and beyond."""

import asyncio
import struct

import pytest
from qa.wire.transport.echo import echo
from qa.wire.transport.http2_peer import OPEN, block, message

from tritium.wire.grpc import GrpcLimits, Methods
from tritium.wire.h2.frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    Code,
    Kind,
    Setting,
    pack_frame,
    pack_settings,
    pack_window_update,
)


async def never(messages, call):
    """Take no request until the call is over."""
    over = asyncio.Event()
    call.on_cancel(over.set)
    await over.wait()


async def test_answer_waits_for_the_window(connect):
    """Not a byte more leaves than the windows allow; trailers wait behind the data."""
    raw = await connect(settings={Setting.INITIAL_WINDOW_SIZE: 10})
    await raw.call(1, b"0123456789")
    assert (await raw.frame()).kind == Kind.HEADERS
    first = await raw.frame()
    assert (first.kind, first.payload) == (Kind.DATA, message(b"0123456789")[:10])
    await raw.peer.send(pack_window_update(1, 3))
    assert (await raw.frame()).payload == message(b"0123456789")[10:13]
    await raw.send(Kind.PING, 0, 0, bytes(8))
    assert (await raw.frame()).kind == Kind.PING
    await raw.peer.send(pack_window_update(1, 100))
    last = await raw.frame()
    assert (last.payload, last.flags) == (message(b"0123456789")[13:], 0)
    assert raw.headers(await raw.frame()) == {"grpc-status": "0"}


async def test_initial_window_changes_under_way(connect):
    """A new INITIAL_WINDOW_SIZE counts for open streams, down to below zero; the answer to SETTINGS leaves first."""
    raw = await connect(settings={Setting.INITIAL_WINDOW_SIZE: 10})
    await raw.call(1, b"x" * 95)
    assert (await raw.frame()).kind == Kind.HEADERS
    assert len((await raw.frame()).payload) == 10
    await raw.peer.send(pack_settings({Setting.INITIAL_WINDOW_SIZE: 0}) + pack_window_update(1, 5))
    assert (await raw.frame()).kind == Kind.SETTINGS
    await raw.peer.send(pack_settings({Setting.INITIAL_WINDOW_SIZE: 20}))
    assert (await raw.frame()).kind == Kind.SETTINGS
    assert len((await raw.frame()).payload) == 15
    await raw.peer.send(pack_window_update(1, 1000))
    assert len((await raw.frame()).payload) == 75


async def test_connection_window_is_shared_fairly(connect):
    """With a common window too small for all, a large answer does not hold up a small one for ever."""
    raw = await connect(settings={Setting.INITIAL_WINDOW_SIZE: 1 << 30, Setting.MAX_FRAME_SIZE: 16_384})
    await raw.call(1, bytes(600_000))
    await raw.call(3, bytes(600_000))
    received = {1: 0, 3: 0}
    while sum(received.values()) < 65_535:
        frame = await raw.next(Kind.DATA)
        received[frame.stream] += len(frame.payload)
    for _ in range(8):
        await raw.peer.send(pack_window_update(0, 65_535))
    while sum(received.values()) < 65_535 * 9:
        frame = await raw.next(Kind.DATA)
        assert len(frame.payload) <= 16_384
        received[frame.stream] += len(frame.payload)
    assert min(received.values()) > 100_000


async def test_credit_is_given_back(connect):
    """A client that keeps to the windows can send for ever, on one stream and over many."""
    raw = await connect(limits=GrpcLimits(stream_window=100_000, connection_window=150_000))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Each"}))
    stream_window, window, sent = 100_000, 150_000, 0
    await raw.peer.send(pack_window_update(0, 1 << 30))
    await raw.send(Kind.SETTINGS, 0, 0, struct.pack(">HL", Setting.INITIAL_WINDOW_SIZE, 1 << 30))
    piece = message(bytes(9_995))
    while sent < 3_000_000:
        if min(stream_window, window) >= 10_000:
            await raw.send(Kind.DATA, 0, 1, piece)
            stream_window -= 10_000
            window -= 10_000
            sent += 10_000
            continue
        frame = await raw.next(Kind.WINDOW_UPDATE)
        credit = int.from_bytes(frame.payload, "big")
        if frame.stream:
            stream_window += credit
        else:
            window += credit


async def test_padding_counts_and_is_given_back(connect):
    """Padding takes window and returns it, although nobody ever sees it."""
    raw = await connect(limits=GrpcLimits(stream_window=70_000, connection_window=70_000))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Each"}))
    window = {0: 70_000, 1: 70_000}
    for _ in range(600):
        while min(window.values()) < 256:
            frame = await raw.next(Kind.WINDOW_UPDATE)
            window[frame.stream] += int.from_bytes(frame.payload, "big")
        await raw.send(Kind.DATA, PADDED, 1, b"\xff" + bytes(255))
        window = {stream: left - 256 for stream, left in window.items()}
    await raw.send(Kind.DATA, END_STREAM, 1)
    assert (await raw.reply(1))[1]["grpc-status"] == "0"


async def test_window_of_zero_holds_a_bounded_amount(connect):
    """Against a client that takes nothing, new calls are refused once enough is waiting, and work is given up later."""
    limits = GrpcLimits(unsent_bytes=1 << 20, stall_s=1.5)
    raw = await connect(limits=limits, settings={Setting.INITIAL_WINDOW_SIZE: 0})
    for stream in range(1, 15, 2):
        await raw.call(stream, bytes(200_000))
        await raw.send(Kind.PING, 0, 0, bytes(8))
        last = await raw.next(Kind.PING, Kind.RST_STREAM)
    assert (last.kind, last.stream) == (Kind.RST_STREAM, 13)
    assert int.from_bytes(last.payload, "big") == Code.REFUSED_STREAM
    assert await raw.reset(1) == Code.CANCEL


async def test_client_that_does_not_read_is_dropped(connect, bounded, wire):
    """Answers nobody reads do not stay in memory for ever, whatever the windows say."""
    ended = asyncio.Event()

    async def pour(messages, call):
        call.on_cancel(ended.set)
        while not call.cancelled:
            call.write(bytes(1 << 16))
            await call.drain()

    listener = await wire.grpc(Methods(bidi={"/s/Pour": pour}), GrpcLimits(stall_s=0.3))
    peer = await wire.peer(listener, receive_bytes=4096)
    hello = PREFACE + pack_settings({Setting.INITIAL_WINDOW_SIZE: 1 << 30}) + pack_window_update(0, 1 << 30)
    await peer.send(hello + pack_frame(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Pour"})))
    await bounded(ended.wait())


async def test_data_beyond_the_stream_window(connect):
    """A peer that ignores a stream's window loses the stream, be it by one frame or because its handler is slow."""
    raw = await connect(Methods({"/s/Echo": echo}, {"/s/Lazy": never}), GrpcLimits(stream_window=65_535))
    await raw.send(*OPEN)
    await raw.send(Kind.DATA, 0, 1, message(bytes(65_531)))
    assert await raw.reset(1) == Code.FLOW_CONTROL_ERROR
    await raw.send(Kind.HEADERS, END_HEADERS, 3, block({":path": "/s/Lazy"}))
    for _ in range(20):
        await raw.send(Kind.DATA, 0, 3, message(bytes(10_000)))
    assert await raw.reset(3) == Code.FLOW_CONTROL_ERROR
    await raw.works(5)


async def test_stream_window_of_nothing_or_too_much(connect):
    """WINDOW_UPDATE errors of a stream stay on the stream."""
    raw = await connect()
    await raw.send(*OPEN)
    await raw.peer.send(pack_window_update(1, 0))
    assert await raw.reset(1) == Code.PROTOCOL_ERROR
    await raw.send(Kind.HEADERS, END_HEADERS, 3, block())
    await raw.peer.send(pack_window_update(3, (1 << 31) - 1))
    assert await raw.reset(3) == Code.FLOW_CONTROL_ERROR
    await raw.works(5)


@pytest.mark.parametrize("window", [1, 2, 7, 1000, 65_535, 1 << 20, (1 << 31) - 1])
async def test_answers_arrive_through_windows_of_any_size(connect, window):
    """From one byte at a time to as much as HTTP/2 knows, a message arrives whole, and never more than is allowed."""
    size = 40 if window < 100 else 100_000
    raw = await connect(settings={Setting.INITIAL_WINDOW_SIZE: window})
    await raw.peer.send(pack_window_update(0, (1 << 31) - 1 - 65_535))
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    await raw.call(1, data)
    received, left = b"", window
    while len(received) < size + 5:
        frame = await raw.next(Kind.DATA, Kind.RST_STREAM, Kind.GOAWAY)
        assert frame.kind == Kind.DATA
        received += frame.payload
        left -= len(frame.payload)
        assert left >= 0
        if not left:
            await raw.peer.send(pack_window_update(1, window))
            left = window
    assert received == message(data)
    assert raw.headers(await raw.next(Kind.HEADERS))["grpc-status"] == "0"
