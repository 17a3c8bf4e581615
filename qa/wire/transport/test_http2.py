"""HTTP/2 frame by frame: peers that keep to RFC 9113 in unusual ways, and peers that do not keep to it at all."""

import asyncio
import struct
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import hpack
import pytest

from tritium.wire.grpc import GrpcError, GrpcLimits, Methods
from tritium.wire.h2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    Code,
    Kind,
    Setting,
    pack_frame,
    pack_settings,
    pack_window_update,
)
from tritium.wire.status import Status

BOUND_S = 10.0
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/s/Echo"),
    (":authority", "h"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
BOTH = END_HEADERS | END_STREAM


async def echo(message, call):
    return bytes(message)


async def echo_each(messages, call):
    async for message in messages:
        call.write(bytes(message))
        await call.drain()


async def never(messages, call):
    """Take no request until the call is over."""
    over = asyncio.Event()
    call.on_cancel(over.set)
    await over.wait()


ECHO = Methods({"/s/Echo": echo}, {"/s/Each": echo_each})


def block(changes=(), without=()) -> bytes:
    fields = dict(REQUEST) | dict(changes)
    return hpack.Encoder().encode([(name, value) for name, value in fields.items() if name not in without])


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class RawHttp2:
    """A client that sends frames as it is told, however wrong."""

    def __init__(self, peer) -> None:
        self.peer = peer
        self.decoder = hpack.Decoder()
        self.settings: dict[int, int] = {}

    async def send(self, kind, flags, stream, payload=b"") -> None:
        await self.peer.send(pack_frame(kind, flags, stream, payload))

    async def greet(self, settings=None) -> "RawHttp2":
        await self.peer.send(PREFACE + pack_settings(settings or {}))
        hello = await self.frame()
        assert hello.kind == Kind.SETTINGS
        self.settings = dict(struct.iter_unpack(">HL", hello.payload))
        await self.send(Kind.SETTINGS, ACK, 0)
        while (frame := await self.frame()).kind != Kind.SETTINGS:
            assert frame.kind == Kind.WINDOW_UPDATE
        assert frame.flags == ACK
        return self

    async def call(self, stream: int, data: bytes = b"hi", **changes) -> None:
        await self.send(Kind.HEADERS, END_HEADERS, stream, block(**changes))
        await self.send(Kind.DATA, END_STREAM, stream, message(data))

    async def frame(self) -> Frame:
        head = await self.peer.read_exactly(9)
        size = int.from_bytes(head[:3], "big")
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), await self.peer.read_exactly(size))

    async def next(self, *kinds: int) -> Frame:
        while (frame := await self.frame()).kind not in kinds:
            pass
        return frame

    def headers(self, frame: Frame) -> dict[str, str]:
        assert frame.kind == Kind.HEADERS
        return dict(self.decoder.decode(frame.payload))

    async def reply(self, stream: int) -> tuple[bytes, dict[str, str]]:
        """Read the answer to one call: its data and its trailers."""
        data = b""
        while True:
            frame = await self.next(Kind.HEADERS, Kind.DATA, Kind.RST_STREAM, Kind.GOAWAY)
            if frame.stream != stream and frame.kind != Kind.GOAWAY:
                continue
            assert frame.kind in (Kind.HEADERS, Kind.DATA), frame
            if frame.kind == Kind.DATA:
                data += frame.payload
            elif frame.flags & END_STREAM:
                return data, self.headers(frame)
            else:
                assert self.headers(frame)[":status"] == "200"

    async def works(self, stream: int) -> None:
        """Check that the connection still serves."""
        await self.call(stream, b"still here")
        data, trailers = await self.reply(stream)
        assert (data, trailers["grpc-status"]) == (message(b"still here"), "0")

    async def goaway(self) -> Code:
        """Read until the server gives up on the connection; return why."""
        frame = await self.next(Kind.GOAWAY)
        code = Code(int.from_bytes(frame.payload[4:8], "big"))
        assert len(frame.payload) > 8
        assert await self.peer.closed()
        return code

    async def reset(self, stream: int) -> Code:
        """Read until the server resets a stream; return why."""
        while (frame := await self.next(Kind.RST_STREAM, Kind.GOAWAY)).stream != stream:
            assert frame.kind == Kind.RST_STREAM, frame
        return Code(int.from_bytes(frame.payload, "big"))


@pytest.fixture
def connect(wire):
    """Connect to a new server of the methods given."""

    async def start(methods=ECHO, limits=None, *, settings=None, greet=True):
        start.listener = await wire.grpc(methods, limits)
        raw = RawHttp2(await wire.peer(start.listener))
        return await raw.greet(settings) if greet else raw

    return start


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


# flow control


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
    limits = GrpcLimits(unsent_bytes=1 << 20, stall_s=0.4)
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


# peers that break the rules of HTTP/2: the whole connection ends


def frames(*each: tuple) -> bytes:
    return b"".join(pack_frame(*frame) for frame in each)


OPEN = (Kind.HEADERS, END_HEADERS, 1, block())
CALL = (Kind.HEADERS, BOTH, 1, block())

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


# peers that break the rules of one stream: the others go on

MALFORMED = {
    "no path": block(without=(":path",)),
    "empty path": block({":path": ""}),
    "no method": block(without=(":method",)),
    "no scheme": block(without=(":scheme",)),
    "upper case": block() + hpack.Encoder().encode([("X-Upper", "v")]),
    "unknown pseudo-header": hpack.Encoder().encode([(":nope", "v"), *REQUEST]),
    "pseudo-header of a response": hpack.Encoder().encode([(":status", "200"), *REQUEST]),
    "pseudo-header twice": hpack.Encoder().encode([(":method", "POST"), *REQUEST]),
    "pseudo-header at the end": hpack.Encoder().encode([*REQUEST[1:], REQUEST[0]]),
    "connection": block({"connection": "close"}),
    "transfer-encoding": block({"transfer-encoding": "chunked"}),
    "te of something else": block({"te": "gzip"}),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_request_head(connect, name):
    """A head that is not a request resets its stream only."""
    raw = await connect()
    await raw.send(Kind.HEADERS, END_HEADERS, 1, MALFORMED[name])
    assert await raw.reset(1) == Code.PROTOCOL_ERROR
    raw2 = b"".join((frames((Kind.DATA, END_STREAM, 1, message(b"late"))),))
    await raw.peer.send(raw2)
    await raw.works(3)


async def test_content_length_must_be_true(connect):
    """A call that announces one length and sends another is malformed; one that keeps its word is served."""
    raw = await connect()
    await raw.call(1, b"hello", changes={"content-length": "10"})
    assert (await raw.reply(1))[0] == message(b"hello")
    for stream, length in ((3, "9"), (5, "11")):
        await raw.call(stream, b"hello", changes={"content-length": length})
        assert await raw.reset(stream) == Code.PROTOCOL_ERROR
    await raw.send(Kind.HEADERS, END_HEADERS, 7, block({"content-length": "ten"}))
    assert await raw.reset(7) == Code.PROTOCOL_ERROR
    await raw.works(9)


async def test_data_after_the_end(connect):
    """DATA behind END_STREAM resets the stream."""
    hang = asyncio.Event()

    async def wait(request, call):
        await hang.wait()
        return b""

    raw = await connect(Methods({"/s/Wait": wait, "/s/Echo": echo}))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Wait"}))
    await raw.send(Kind.DATA, END_STREAM, 1, message(b""))
    await raw.send(Kind.DATA, 0, 1, b"more")
    assert await raw.reset(1) == Code.STREAM_CLOSED
    await raw.send(Kind.HEADERS, END_HEADERS, 3, block({":path": "/s/Wait"}))
    await raw.send(Kind.DATA, END_STREAM, 3, message(b""))
    await raw.send(Kind.HEADERS, BOTH, 3, block())
    assert await raw.reset(3) == Code.STREAM_CLOSED
    await raw.works(5)
    hang.set()


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


async def test_priority_of_four_bytes(connect):
    """A PRIORITY of the wrong size is an error of its stream."""
    raw = await connect()
    await raw.send(Kind.PRIORITY, 0, 1, bytes(4))
    assert await raw.reset(1) == Code.FRAME_SIZE_ERROR


async def test_trailers_that_do_not_end(connect):
    """A second header block must end the stream."""
    raw = await connect()
    await raw.send(*OPEN)
    await raw.send(Kind.HEADERS, END_HEADERS, 1, hpack.Encoder().encode([("x", "y")]))
    assert await raw.reset(1) == Code.PROTOCOL_ERROR
    await raw.works(3)


async def test_too_many_streams(connect, bounded):
    """A call beyond the limit is refused, also when the slots are held by handlers whose client has gone."""
    hang = asyncio.Event()
    running = 0

    async def wait(request, call):
        nonlocal running
        running += 1
        await hang.wait()
        return b""

    raw = await connect(Methods({"/s/Wait": wait}), GrpcLimits(concurrent_streams=3))
    for stream in (1, 3, 5, 7):
        await raw.call(stream, changes={":path": "/s/Wait"})
    assert await raw.reset(7) == Code.REFUSED_STREAM
    for stream in (1, 3, 5):
        await raw.send(Kind.RST_STREAM, 0, stream, bytes(4))
    await raw.call(9, changes={":path": "/s/Wait"})
    assert await raw.reset(9) == Code.REFUSED_STREAM
    hang.set()
    await raw.send(Kind.PING, 0, 0, bytes(8))
    await raw.next(Kind.PING)
    await raw.call(11, changes={":path": "/s/Wait"})
    assert (await raw.reply(11))[1]["grpc-status"] == "0"
    assert running == 4


# peers that break the rules of gRPC: the call ends with a status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"content-type": "application/json"}, "415"),
        ({"content-type": ""}, "415"),
        ({":method": "GET"}, "405"),
    ],
)
async def test_requests_that_are_not_grpc(connect, changes, status):
    """A request of another kind gets an HTTP status; if it goes on it is told to stop, and the connection goes on."""
    raw = await connect()
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block(changes))
    frame = await raw.next(Kind.HEADERS)
    assert (raw.headers(frame)[":status"], bool(frame.flags & END_STREAM)) == (status, True)
    await raw.send(Kind.PING, 0, 0, bytes(8))
    assert (await raw.frame()).kind == Kind.PING
    for _ in range(3):
        await raw.send(Kind.DATA, 0, 1, b"more")
    assert await raw.reset(1) == Code.NO_ERROR
    await raw.works(3)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", Status.INTERNAL),
        (b"\0\0\0", Status.INTERNAL),
        (message(b"x")[:-1], Status.INTERNAL),
        (message(b"x") * 2, Status.INTERNAL),
        (b"\2" + message(b"x")[1:], Status.INTERNAL),
        (b"\1" + message(b"x")[1:], Status.INTERNAL),
        (b"\0\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
    ],
)
async def test_broken_messages(connect, data, status):
    """What is not exactly one message ends the call with the status that says why."""
    raw = await connect()
    await raw.send(*OPEN)
    await raw.send(Kind.DATA, END_STREAM, 1, data)
    assert (await raw.reply(1))[1]["grpc-status"] == str(int(status))
    await raw.works(3)


async def test_broken_compression(connect):
    """Bytes that do not decompress end the call; so does an encoding we do not have, which is told what we have."""
    raw = await connect()
    await raw.call(1, changes={"grpc-encoding": "snappy"})
    trailers = (await raw.reply(1))[1]
    assert trailers["grpc-status"] == str(int(Status.UNIMPLEMENTED))
    assert trailers["grpc-accept-encoding"] == "identity,deflate,gzip"
    await raw.send(Kind.HEADERS, END_HEADERS, 3, block({"grpc-encoding": "gzip"}))
    await raw.send(Kind.DATA, END_STREAM, 3, b"\1" + message(b"not gzip")[1:])
    assert (await raw.reply(3))[1]["grpc-status"] == str(int(Status.INTERNAL))


async def test_message_too_large_is_refused_at_its_first_byte(connect):
    """The answer does not wait for the rest; what comes later is thrown away, and its window given back."""
    raw = await connect(limits=GrpcLimits(message_bytes=1000, connection_window=70_000))
    await raw.send(*OPEN)
    await raw.send(Kind.DATA, 0, 1, b"\0" + (100_000).to_bytes(4, "big"))
    assert (await raw.reply(1))[1]["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))
    for _ in range(3):
        for _ in range(4):
            await raw.send(Kind.DATA, 0, 1, bytes(10_000))
        await raw.next(Kind.WINDOW_UPDATE)
    await raw.works(3)


@pytest.mark.parametrize("value", ["", "5", "S", "123456789S", "1x", "-1S"])
async def test_unreadable_deadline(connect, value):
    """A grpc-timeout that makes no sense sets no deadline."""
    raw = await connect()
    await raw.call(1, changes={"grpc-timeout": value})
    assert (await raw.reply(1))[0] == message(b"hi")


async def test_deadline_is_kept_by_the_server(connect):
    """The status comes from the server even if the client does not watch its clock."""

    async def wait(request, call):
        await asyncio.Event().wait()

    raw = await connect(Methods({"/s/Wait": wait}))
    await raw.call(1, changes={":path": "/s/Wait", "grpc-timeout": "50m"})
    trailers = (await raw.reply(1))[1]
    assert trailers["grpc-status"] == str(int(Status.DEADLINE_EXCEEDED))


async def test_reset_stops_the_answer(connect):
    """After RST_STREAM of the client nothing more is sent on the stream."""
    raw = await connect(settings={Setting.INITIAL_WINDOW_SIZE: 100})
    await raw.call(1, bytes(1000))
    await raw.next(Kind.DATA)
    await raw.send(Kind.RST_STREAM, 0, 1, Code.CANCEL.to_bytes(4, "big"))
    await raw.peer.send(pack_window_update(1, 5000))
    await raw.send(Kind.PING, 0, 0, bytes(8))
    assert (await raw.frame()).kind == Kind.PING


async def test_cancelled_requests_raise(connect, bounded):
    """A streaming handler learns of RST_STREAM from the iterator of its requests."""
    ended = asyncio.get_running_loop().create_future()

    async def listen(requests, call):
        try:
            async for _ in requests:
                pass
        except GrpcError as error:
            ended.set_result((error.status, call.cancelled))

    raw = await connect(Methods(bidi={"/s/Listen": listen}))
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": "/s/Listen"}))
    await raw.send(Kind.DATA, 0, 1, message(b"1"))
    await raw.send(Kind.RST_STREAM, 0, 1, bytes(4))
    assert await bounded(ended) == (Status.CANCELLED, True)


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
