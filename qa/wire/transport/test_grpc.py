"""gRPC as grpcio's clients see it, against our HTTP/2 and against grpcio's own server, the reference."""

import asyncio
import gzip
import threading
import zlib

import grpc
import pytest
from qa.wire.transport.echo import ECHO
from structlog.testing import capture_logs

from tritium.wire.grpc import GrpcError, GrpcLimits, Methods
from tritium.wire.status import Status

BOUND_S = 60.0


@pytest.mark.parametrize("size", [0, 1, 5, 16_379, 16_384, 65_530, 65_536, 100_000, 1 << 20, (8 << 20) + 1])
async def test_unary_messages_of_any_size(client, size):
    """A message is answered as it was sent, from nothing to more than any window."""
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert await client(ECHO, lambda channel: channel.unary_unary("/s/Echo")(message)) == message


async def test_stream_of_messages_of_many_sizes(client):
    """A bidirectional stream keeps messages apart and in order."""
    sizes = [0, 1, 100, 70_000, 0, 3 << 20, 5, 8 << 20, 16_384]
    messages = [bytes([index]) * size for index, size in enumerate(sizes)]
    assert await client(ECHO, lambda channel: list(channel.stream_stream("/s/Each")(iter(messages)))) == messages


async def test_stream_is_a_conversation(client):
    """An answer comes before the next request is sent."""

    def work(channel):
        turns = threading.Semaphore(1)

        def requests():
            for number in range(20):
                assert turns.acquire(timeout=60)
                yield b"%d" % number

        answers = []
        for answer in channel.stream_stream("/s/Each")(requests()):
            answers.append(answer)
            turns.release()
        return answers

    assert await client(ECHO, work) == [b"%d" % number for number in range(20)]


async def test_many_calls_at_once_on_one_channel(client):
    """Five hundred calls share a connection, large ones among small ones."""

    def work(channel):
        call = channel.unary_unary("/s/Echo")
        messages = [bytes([number % 256]) * (300_000 if number % 50 == 0 else number) for number in range(500)]
        futures = [call.future(message) for message in messages]
        return all(future.result() == message for future, message in zip(futures, messages, strict=True))

    assert await client(ECHO, work)


async def test_reply_in_parts(wire):
    """A reply may be given in parts; they arrive as one message."""

    async def parts(message, call):
        return [b"head", memoryview(message), bytearray(b"tail"), b""]

    async def stream(messages, call):
        call.write([b"a", memoryview(bytes(200_000))])

    listener = await wire.grpc(Methods({"/s/Parts": parts}, {"/s/Stream": stream}))

    def call():
        with grpc.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
            small = channel.unary_unary("/s/Parts")(b"-")
            large = channel.unary_unary("/s/Parts")(bytes(1 << 20))
            return small, large, next(iter(channel.stream_stream("/s/Stream")(iter(()))))

    small, large, streamed = await asyncio.wait_for(asyncio.to_thread(call), BOUND_S)
    assert small == b"head-tail"
    assert large == b"head" + bytes(1 << 20) + b"tail"
    assert streamed == b"a" + bytes(200_000)


@pytest.mark.parametrize(
    "message", ["plain", "100% of it", "", "two\nlines", "naïve ünïcode 模型", "a" * 3000], ids=range(6)
)
async def test_error_carries_status_and_message(client, message):
    """A GrpcError reaches the client whatever its message is made of."""

    async def fail(request, call):
        raise GrpcError(Status.NOT_FOUND, message)

    async def fail_later(requests, call):
        call.write(b"one")
        raise GrpcError(Status.ABORTED, message)

    def work(channel):
        with pytest.raises(grpc.RpcError) as unary:
            channel.unary_unary("/s/Fail")(b"x")
        stream = channel.stream_stream("/s/Later")(iter((b"x",)))
        assert next(stream) == b"one"
        with pytest.raises(grpc.RpcError) as streamed:
            next(stream)
        return [(each.value.code(), each.value.details()) for each in (unary, streamed)]

    found = await client(Methods({"/s/Fail": fail}, {"/s/Later": fail_later}), work)
    assert found == [(grpc.StatusCode.NOT_FOUND, message), (grpc.StatusCode.ABORTED, message)]


async def test_exception_is_unknown_and_logged(client):
    """A bug in a handler ends its call only, and leaves an event in the log."""

    async def buggy(request, call):
        raise ZeroDivisionError("oops")

    async def buggy_stream(requests, call):
        raise ZeroDivisionError("oops")

    def work(channel):
        with pytest.raises(grpc.RpcError) as unary:
            channel.unary_unary("/s/Bug")(b"x")
        with pytest.raises(grpc.RpcError) as streamed:
            list(channel.stream_stream("/s/Bugs")(iter(())))
        return [(each.value.code(), each.value.details()) for each in (unary, streamed)]

    with capture_logs() as logs:
        found = await client(Methods({"/s/Bug": buggy}, {"/s/Bugs": buggy_stream}), work)
    assert found == [(grpc.StatusCode.UNKNOWN, "unexpected ZeroDivisionError: oops")] * 2
    assert [(entry["event"], entry["method"]) for entry in logs] == [
        ("grpc_handler_failed", "/s/Bug"),
        ("grpc_handler_failed", "/s/Bugs"),
    ]


async def test_cancelled_future_ends_its_call_only(client):
    """Something a handler waits for may be cancelled; its client is told, and the next call works."""

    async def fragile(request, call):
        if request:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return b"fine"

    def work(channel):
        call = channel.unary_unary("/s/Fragile")
        with pytest.raises(grpc.RpcError) as error:
            call(b"x")
        return error.value.code(), call(b"")

    assert await client(Methods({"/s/Fragile": fragile}), work) == (grpc.StatusCode.CANCELLED, b"fine")


async def test_unknown_method(client):
    """A method that is not served is UNIMPLEMENTED, however it is called."""

    def work(channel):
        with pytest.raises(grpc.RpcError) as unary:
            channel.unary_unary("/s/Nope")(b"x")
        with pytest.raises(grpc.RpcError) as streamed:
            list(channel.stream_stream("/t/Nope")(iter((b"x",) * 3)))
        return [each.value.code() for each in (unary, streamed)]

    assert await client(ECHO, work) == [grpc.StatusCode.UNIMPLEMENTED] * 2


async def test_metadata_reaches_the_handler(client):
    """Text as it is, binary decoded, repeated keys in order; the peer is named."""
    seen = []

    async def look(request, call):
        seen.append((call.method, [pair for pair in call.metadata if pair[0].startswith(b"x-")], call.deadline_s))
        assert call.peer
        return b""

    metadata = [("x-text", "value"), ("x-many", "1"), ("x-many", "2"), ("x-raw-bin", b"\x00\xff,\x80")]

    def work(channel):
        for _ in range(3):
            channel.unary_unary("/s/Look")(b"", metadata=metadata)

    await client(Methods({"/s/Look": look}), work)
    expected = [(b"x-text", b"value"), (b"x-many", b"1"), (b"x-many", b"2"), (b"x-raw-bin", b"\x00\xff,\x80")]
    assert seen == [("/s/Look", expected, None)] * 3


async def test_metadata_that_changes_with_every_call(client):
    """Remembered header blocks are never mistaken for one another, not even when the client's table overflows."""

    async def look(request, call):
        return b"|".join(value for key, value in call.metadata if key.startswith(b"x-"))

    def work(channel):
        call = channel.unary_unary("/s/Look")
        for number in range(300):
            pairs = [("x-id", f"{number % 40:04}"), (f"x-key-{number % 7}", "v" * (number % 90))]
            assert call(b"", metadata=pairs) == "|".join(value for _, value in pairs).encode()
        return True

    assert await client(Methods({"/s/Look": look}), work)


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests(client, algorithm):
    """gzip and deflate requests reach the handler in plain."""
    message = b"compressible " * 50_000
    assert await client(ECHO, lambda channel: channel.unary_unary("/s/Echo")(message, compression=algorithm)) == message


async def test_message_over_the_limit(client):
    """A message that is too large is RESOURCE_EXHAUSTED; the largest allowed one passes, and the channel goes on."""

    def work(channel):
        call = channel.unary_unary("/s/Echo")
        with pytest.raises(grpc.RpcError) as error:
            call(bytes(100_001))
        return error.value.code(), error.value.details(), len(call(bytes(100_000)))

    code, details, size = await client(ECHO, work, limits=GrpcLimits(message_bytes=100_000))
    assert (code, size) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 100_000)
    assert "larger than max (100001 vs. 100000)" in details


async def test_compressed_message_over_the_limit(client):
    """What counts is the size after decompression: a small bomb does not go off."""

    def work(channel):
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/s/Echo")(bytes(50 << 20), compression=grpc.Compression.Gzip)
        return error.value.code()

    found = await client(ECHO, work, limits=GrpcLimits(message_bytes=1 << 20))
    assert found == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compression_algorithms_are_what_grpc_calls_them():
    """gRPC's deflate is zlib's format, not raw deflate."""
    from tritium.wire.h2.messages import inflate  # noqa: PLC0415  # only this test looks inside

    assert inflate(zlib.compress(b"x"), b"deflate", 10) == b"x"
    assert inflate(gzip.compress(b"x"), b"gzip", 10) == b"x"
