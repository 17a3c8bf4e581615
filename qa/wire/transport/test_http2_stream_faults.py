"""Peers that break the rules of one call: it ends with a reset or a status, and the others go on."""

import asyncio

import hpack
import pytest
from qa.wire.transport.echo import echo
from qa.wire.transport.http2_peer import BOTH, OPEN, REQUEST, block, frames, message

from tritium.wire.grpc import GrpcError, GrpcLimits, Methods
from tritium.wire.h2.calls import UNTOLD
from tritium.wire.h2.frames import (
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Code,
    Kind,
    Setting,
    pack_frame,
    pack_window_update,
)
from tritium.wire.status import Status

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


async def test_more_calls_before_the_limit_is_known(connect):
    """A client that has not acknowledged the settings cannot know the limit; but it has one there, too."""
    hang = asyncio.Event()

    async def wait(request, call):
        await hang.wait()
        return b""

    raw = await connect(Methods({"/s/Wait": wait}), GrpcLimits(concurrent_streams=3), greet=False)
    await raw.peer.send(PREFACE + pack_frame(Kind.SETTINGS, 0, 0))
    beyond = 2 * 3 * UNTOLD + 1
    within = range(1, beyond, 2)
    for stream in (*within, beyond):
        await raw.call(stream, changes={":path": "/s/Wait"})
    assert await raw.reset(beyond) == Code.REFUSED_STREAM
    hang.set()
    for stream in within:
        assert (await raw.reply(stream))[1]["grpc-status"] == "0"
