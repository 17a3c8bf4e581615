"""Compressed answers: where the client takes them, and where they are smaller."""

import asyncio
import gzip
import random
import zlib

import grpc
import grpc.aio
import pytest
from qa.wire.transport.echo import echo, echo_each
from qa.wire.transport.http2_peer import block, message

from tritium.wire.grpc import Effort, GrpcError, GrpcLimits, Methods
from tritium.wire.h2.compressed import choose
from tritium.wire.h2.frames import END_HEADERS, END_STREAM, Kind
from tritium.wire.status import Status

TEXT = b"the same words again and again " * 1000
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}


def methods(effort):
    paths = frozenset(("/s/Echo", "/s/Each"))
    return Methods({"/s/Echo": echo, "/s/Plain": echo}, {"/s/Each": echo_each}, compressed=paths, effort=effort)


async def answer(raw, stream):
    """Read the head and the first message of an answer."""
    head = raw.headers(await raw.next(Kind.HEADERS))
    return head, (await raw.next(Kind.DATA)).payload


@pytest.mark.parametrize(
    ("effort", "accepted", "encoding"),
    [
        (Effort.LOW, "identity, deflate, gzip", "gzip"),
        (Effort.MEDIUM, "identity, deflate, gzip", "deflate"),
        (Effort.HIGH, "gzip,identity", "gzip"),
        (Effort.HIGH, "identity", None),
        (Effort.LOW, "zstd", None),
        (Effort.NONE, "identity, deflate, gzip", None),
    ],
)
async def test_encoding_is_one_that_the_client_takes(connect, effort, accepted, encoding):
    """The header names it, the flag is set, and the message unpacks to what was sent; otherwise it is plain."""
    raw = await connect(methods(effort))
    await raw.call(1, TEXT, changes={"grpc-accept-encoding": accepted})
    head, data = await answer(raw, 1)
    assert head.get("grpc-encoding") == encoding
    if encoding is None:
        assert data.startswith(message(TEXT)[:16])
    else:
        assert data[0] == 1
        assert len(data) - 5 == int.from_bytes(data[1:5], "big") < len(TEXT) // 10
        assert UNPACK[encoding](data[5:]) == TEXT


async def test_message_that_would_grow_is_sent_as_it_is(connect):
    """Its flag is 0; the header may name an encoding all the same."""
    raw = await connect(methods(Effort.HIGH))
    await raw.call(1, b"x", changes={"grpc-accept-encoding": "gzip"})
    head, data = await answer(raw, 1)
    assert (head["grpc-encoding"], data) == ("gzip", message(b"x"))


async def test_other_methods_are_left_alone(connect):
    """Only the methods that were named are compressed."""
    raw = await connect(methods(Effort.LOW))
    await raw.call(1, TEXT, changes={":path": "/s/Plain", "grpc-accept-encoding": "gzip"})
    head, data = await answer(raw, 1)
    assert "grpc-encoding" not in head
    assert data[0] == 0


@pytest.mark.parametrize("effort", [Effort.LOW, Effort.MEDIUM, Effort.HIGH])
@pytest.mark.parametrize("transport", ["ours", "grpcio"])
async def test_grpcio_reads_compressed_answers(wire, transport, effort):
    """Unary and streaming, small, large and beyond every window, on both transports."""
    listener = await (wire.grpc if transport == "ours" else wire.grpcio)(methods(effort))
    messages = [b"", b"x", TEXT, bytes(5 << 20), bytes(range(256)) * 4000]
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=options) as channel:
        for each in messages:
            assert await channel.unary_unary("/s/Echo")(each) == each
        assert [each async for each in channel.stream_stream("/s/Each")(iter(messages))] == messages


def test_choice_follows_grpcs_ranking():
    """Gzip for little effort, deflate for more; what is not known is passed over."""
    assert choose(Effort.LOW, b"br, gzip ,deflate") == b"gzip"
    assert choose(Effort.MEDIUM, b"gzip,deflate") == b"deflate"
    assert choose(Effort.HIGH, b"br") == b""
    assert choose(Effort.HIGH, b"") == b""


async def size(message, call):
    return b"%d" % len(message)


async def sizes(messages, call):
    async for each in messages:
        call.write(b"%d" % len(each))


async def turns_during(awaited):
    """Count the turns of 1 ms that the loop takes while something is awaited; return them with its result."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counting = asyncio.create_task(count())
    result = await awaited
    counting.cancel()
    return turns, result


SIZES = Methods({"/s/Size": size}, {"/s/Sizes": sizes})
HUGE_BYTES = 256 << 20


async def packed_call(raw, path, data):
    """Send one compressed message, and read the answer."""
    framed = b"\1" + len(data).to_bytes(4, "big") + data
    await raw.send(Kind.HEADERS, END_HEADERS, 1, block({":path": path, "grpc-encoding": "gzip"}))
    for at in range(0, len(framed), 16384):
        last = at + 16384 >= len(framed)
        await raw.send(Kind.DATA, END_STREAM if last else 0, 1, framed[at : at + 16384])
    return await raw.reply(1)


@pytest.mark.parametrize("path", ["/s/Size", "/s/Sizes"])
async def test_others_are_served_while_a_large_request_is_unpacked(connect, path):
    """A quarter of a megabyte that unpacks to 256 MiB would hold up everybody for half a second."""
    raw = await connect(SIZES)
    data = gzip.compress(bytes(HUGE_BYTES), 9)
    turns, (answered, trailers) = await turns_during(packed_call(raw, path, data))
    assert answered[5:] == str(HUGE_BYTES).encode()
    assert trailers["grpc-status"] == "0"
    assert turns > 20


@pytest.mark.parametrize("path", ["/s/Size", "/s/Sizes"])
async def test_a_large_request_that_does_not_unpack_is_refused(connect, path):
    """Its call ends with what is wrong; so does one that unpacks to more than the limit."""
    broken = gzip.compress(random.Random(1).randbytes(64 << 10))[:-100]
    _, trailers = await packed_call(await connect(SIZES), path, broken)
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("13", "a gzip message ends too early")
    large = gzip.compress(random.Random(1).randbytes(32 << 10) + bytes(32 << 10))
    _, trailers = await packed_call(await connect(SIZES, GrpcLimits(message_bytes=64 << 10)), path, large)
    assert trailers["grpc-status"] == "0"
    _, trailers = await packed_call(await connect(SIZES, GrpcLimits(message_bytes=(64 << 10) - 1)), path, large)
    assert trailers["grpc-status"] == "8"


async def test_others_are_served_while_a_large_answer_is_compressed(connect):
    """At the highest effort 16 MiB of noise take half a second."""
    noise = random.Random(1).randbytes(16 << 20)

    async def answer(_message, _call):
        return noise

    made = Methods({"/s/Noise": answer}, compressed=frozenset(("/s/Noise",)), effort=Effort.HIGH)
    raw = await connect(made)

    async def asked():
        await raw.call(1, b"", changes={":path": "/s/Noise", "grpc-accept-encoding": "gzip"})
        return await raw.next(Kind.HEADERS)

    turns, _head = await turns_during(asked())
    assert turns > 20


def noisy(path, *parts, fault=None):
    """Return methods that stream the parts, then end with a fault."""

    async def answer(_messages, call):
        for part in parts:
            call.write(part)
            await call.drain()
        if fault is not None:
            raise fault

    return Methods({}, {path: answer}, compressed=frozenset((path,)), effort=Effort.HIGH)


async def test_others_are_served_while_a_large_streamed_answer_is_compressed(connect):
    """Messages of a stream leave the event loop as answers to unary calls do."""
    raw = await connect(noisy("/s/Noise", *[random.Random(1).randbytes(8 << 20)] * 2))

    async def asked():
        await raw.call(1, b"", changes={":path": "/s/Noise", "grpc-accept-encoding": "gzip"})
        await raw.next(Kind.HEADERS)
        return await raw.next(Kind.DATA)

    turns, _head = await turns_during(asked())
    assert turns > 20


@pytest.mark.parametrize(("fault", "status"), [(None, "0"), (GrpcError(Status.ABORTED, "enough"), "10")])
async def test_a_stream_keeps_its_order(connect, fault, status):
    """Small messages do not overtake large ones that are compressed aside, nor does the end of the call."""
    parts = [b"first", TEXT * 20, b"third", TEXT * 5, b"fifth" * 3000, TEXT]
    raw = await connect(noisy("/s/Noise", *parts, fault=fault))
    await raw.call(1, b"", changes={":path": "/s/Noise", "grpc-accept-encoding": "gzip"})
    data, trailers = await raw.reply(1)
    read = []
    while data:
        flag, size = data[0], int.from_bytes(data[1:5], "big")
        read.append(gzip.decompress(data[5 : 5 + size]) if flag else data[5 : 5 + size])
        data = data[5 + size :]
    assert read == parts
    assert trailers["grpc-status"] == status


async def test_client_that_leaves_a_stream_that_is_compressed(connect):
    """What waits to be compressed is forgotten with its client, and the next call is served."""
    ended = asyncio.Event()

    async def answer(messages, call):
        call.on_cancel(ended.set)
        async for each in messages:
            for _ in range(8):
                call.write(each or random.Random(1).randbytes(1 << 20))
                await call.drain()

    paths = frozenset(("/s/Each",))
    raw = await connect(Methods({}, {"/s/Each": answer}, compressed=paths, effort=Effort.HIGH))
    asked = {":path": "/s/Each", "grpc-accept-encoding": "gzip"}
    await raw.call(1, b"", changes=asked)
    await raw.next(Kind.HEADERS)
    await raw.send(Kind.RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    await asyncio.wait_for(ended.wait(), 60)
    await raw.send(Kind.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big"))
    await raw.call(3, b"x", changes=asked)
    data, trailers = await raw.reply(3)
    assert (data, trailers["grpc-status"]) == ((b"\0" + (1).to_bytes(4, "big") + b"x") * 8, "0")
