"""Peers that break the rules of HTTP/2: the connection ends, and they are told why."""

import asyncio

import hpack
import pytest
from qa.wire.transport.http2_peer import BOTH, CALL, OPEN, REQUEST, block, frames, message

from tritium.wire.grpc import GrpcLimits
from tritium.wire.h2.frames import (
    ACK,
    END_HEADERS,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    Code,
    Kind,
    Setting,
    pack_settings,
    pack_window_update,
)

CONNECTION_ERRORS = {
    "DATA on stream 0": (frames((Kind.DATA, 0, 0, b"x")), Code.PROTOCOL_ERROR),
    "DATA on an idle stream": (frames((Kind.DATA, 0, 1, b"x")), Code.PROTOCOL_ERROR),
    "DATA in a header block": (frames((Kind.HEADERS, 0, 1, block()), (Kind.DATA, 0, 1, b"x")), Code.PROTOCOL_ERROR),
    "DATA larger than agreed": (frames(OPEN, (Kind.DATA, 0, 1, bytes((1 << 20) + 1))), Code.FRAME_SIZE_ERROR),
    "DATA all padding": (frames(OPEN, (Kind.DATA, PADDED, 1, b"\x05abc")), Code.PROTOCOL_ERROR),
    "DATA padded without a length": (frames(OPEN, (Kind.DATA, PADDED, 1, b"")), Code.PROTOCOL_ERROR),
    "HEADERS on stream 0": (frames((Kind.HEADERS, BOTH, 0, block())), Code.PROTOCOL_ERROR),
    "HEADERS on an even stream": (frames((Kind.HEADERS, BOTH, 2, block())), Code.PROTOCOL_ERROR),
    "HEADERS of garbage": (frames((Kind.HEADERS, BOTH, 1, b"\xff\xff\xff\xff\xff\xff")), Code.COMPRESSION_ERROR),
    "HEADERS cut short": (frames((Kind.HEADERS, BOTH, 1, block()[:-3])), Code.COMPRESSION_ERROR),
    "HEADERS without their priority": (frames((Kind.HEADERS, BOTH | PRIORITY_FLAG, 1, b"ab")), Code.FRAME_SIZE_ERROR),
    "HEADERS all padding": (frames((Kind.HEADERS, BOTH | PADDED, 1, b"\x09ab")), Code.PROTOCOL_ERROR),
    "HEADERS interrupted": (
        frames((Kind.HEADERS, 0, 1, block()), (Kind.PING, 0, 0, bytes(8))),
        Code.PROTOCOL_ERROR,
    ),
    "HEADERS of another stream inside": (
        frames((Kind.HEADERS, 0, 1, block()), (Kind.HEADERS, BOTH, 3, block())),
        Code.PROTOCOL_ERROR,
    ),
    "HEADERS on an older stream": (
        frames((Kind.HEADERS, BOTH, 5, block({":path": "/s/Each"})), (Kind.HEADERS, BOTH, 3, block())),
        Code.STREAM_CLOSED,
    ),
    "CONTINUATION alone": (frames((Kind.CONTINUATION, END_HEADERS, 1, block())), Code.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        frames((Kind.HEADERS, 0, 1, block()), (Kind.CONTINUATION, END_HEADERS, 3, b"")),
        Code.PROTOCOL_ERROR,
    ),
    "CONTINUATION without end": (
        frames((Kind.HEADERS, 0, 1, b""), *((Kind.CONTINUATION, 0, 1, b""),) * 100),
        Code.ENHANCE_YOUR_CALM,
    ),
    "CONTINUATION too large": (
        frames((Kind.HEADERS, 0, 1, b""), *((Kind.CONTINUATION, 0, 1, bytes(16_000)),) * 5),
        Code.ENHANCE_YOUR_CALM,
    ),
    "headers too large when decoded": (
        # One entry of 4,000 bytes, and 30 references of one byte to it.
        frames(
            (
                Kind.HEADERS,
                BOTH,
                1,
                hpack.Encoder().encode([*REQUEST, ("x", "v" * 4000)], huffman=False) + b"\xbe" * 30,
            )
        ),
        Code.ENHANCE_YOUR_CALM,
    ),
    "PRIORITY on stream 0": (frames((Kind.PRIORITY, 0, 0, bytes(5))), Code.PROTOCOL_ERROR),
    "RST_STREAM on stream 0": (frames((Kind.RST_STREAM, 0, 0, bytes(4))), Code.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frames((Kind.RST_STREAM, 0, 1, bytes(4))), Code.PROTOCOL_ERROR),
    "RST_STREAM of five bytes": (frames(OPEN, (Kind.RST_STREAM, 0, 1, bytes(5))), Code.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frames((Kind.SETTINGS, 0, 1, b"")), Code.PROTOCOL_ERROR),
    "SETTINGS of five bytes": (frames((Kind.SETTINGS, 0, 0, bytes(5))), Code.FRAME_SIZE_ERROR),
    "SETTINGS acknowledged with more": (frames((Kind.SETTINGS, ACK, 0, bytes(6))), Code.FRAME_SIZE_ERROR),
    "SETTINGS with a window too large": (
        pack_settings({Setting.INITIAL_WINDOW_SIZE: 1 << 31}),
        Code.FLOW_CONTROL_ERROR,
    ),
    "SETTINGS with frames too small": (pack_settings({Setting.MAX_FRAME_SIZE: 16_383}), Code.PROTOCOL_ERROR),
    "SETTINGS with frames too large": (pack_settings({Setting.MAX_FRAME_SIZE: 1 << 24}), Code.PROTOCOL_ERROR),
    "SETTINGS with half a push": (pack_settings({Setting.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frames((Kind.PUSH_PROMISE, END_HEADERS, 1, bytes(4) + block())), Code.PROTOCOL_ERROR),
    "PING on a stream": (frames((Kind.PING, 0, 1, bytes(8))), Code.PROTOCOL_ERROR),
    "PING of seven bytes": (frames((Kind.PING, 0, 0, bytes(7))), Code.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frames((Kind.GOAWAY, 0, 1, bytes(8))), Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE of three bytes": (frames((Kind.WINDOW_UPDATE, 0, 0, bytes(3))), Code.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of nothing": (pack_window_update(0, 0), Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (pack_window_update(1, 5), Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE beyond all bounds": (pack_window_update(0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
    "a huge frame of a kind with no data": (frames((Kind.GOAWAY, 0, 0, bytes(300_000))), Code.ENHANCE_YOUR_CALM),
    "pings without end": (frames((Kind.PING, 0, 0, bytes(8))) * 3000, Code.ENHANCE_YOUR_CALM),
    "settings without end": (frames((Kind.SETTINGS, 0, 0, b"")) * 3000, Code.ENHANCE_YOUR_CALM),
    "priorities without end": (frames((Kind.PRIORITY, 0, 1, bytes(5))) * 3000, Code.ENHANCE_YOUR_CALM),
    "empty data without end": (frames(OPEN) + frames((Kind.DATA, 0, 1, b"")) * 3000, Code.ENHANCE_YOUR_CALM),
    "unknown frames without end": (frames((0xFA, 0, 0, b"")) * 3000, Code.ENHANCE_YOUR_CALM),
    "calls reset at once": (
        b"".join(
            frames((Kind.HEADERS, END_HEADERS, stream, block()), (Kind.RST_STREAM, 0, stream, bytes(4)))
            for stream in range(1, 3001, 2)
        ),
        Code.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
async def test_connection_error(connect, name):
    """A peer that breaks the connection's rules is told by which code, and is cut off."""
    data, code = CONNECTION_ERRORS[name]
    raw = await connect()
    sending = asyncio.create_task(raw.peer.send(data))
    assert (await raw.goaway()).name == code.name
    await asyncio.gather(sending, return_exceptions=True)


async def test_data_beyond_the_connection_window(connect):
    """A peer that ignores the connection's window is cut off."""
    raw = await connect(limits=GrpcLimits(stream_window=1 << 20, connection_window=70_000))
    await raw.send(*OPEN)
    await raw.send(Kind.DATA, 0, 1, message(bytes(70_000)))
    assert await raw.goaway() == Code.FLOW_CONTROL_ERROR


async def test_closed_stream_takes_no_headers(connect):
    """A second call on a stream that had one is an error of the connection."""
    raw = await connect()
    await raw.works(1)
    await raw.send(*CALL)
    assert await raw.goaway() == Code.STREAM_CLOSED


async def test_first_frame_must_be_settings(connect):
    """A preface without SETTINGS behind it is no preface."""
    raw = await connect(greet=False)
    await raw.peer.send(PREFACE + frames(CALL))
    assert await raw.goaway() == Code.PROTOCOL_ERROR


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"P", b"\x16\x03\x01"])
async def test_what_is_not_http2_is_told_so(connect, start):
    """A browser, or curl, on the gRPC port gets an answer it can read."""
    raw = await connect(greet=False)
    await raw.peer.send(start)
    if start == b"P":
        await raw.peer.send(b"OST / HTTP/1.1\r\n\r\n")
    answer = await raw.peer.answer()
    assert answer.status == 400
    assert b"gRPC" in answer.body
    assert await raw.peer.closed()


async def test_silent_client_is_dropped(connect):
    """A connection that never greets does not stay."""
    raw = await connect(limits=GrpcLimits(handshake_s=0.1), greet=False)
    assert await raw.peer.closed()
