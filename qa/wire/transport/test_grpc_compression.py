"""Compressed answers: where the client takes them, and where they are smaller."""

import gzip
import zlib

import grpc
import grpc.aio
import pytest
from qa.wire.transport.echo import echo, echo_each
from qa.wire.transport.http2_peer import message

from tritium.wire.grpc import Effort, Methods
from tritium.wire.h2.compressed import choose
from tritium.wire.h2.frames import Kind

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
