"""A message of 256 MiB, which nothing may copy more often than it must."""

import grpc
import grpc.aio
from qa.wire.transport.conftest import UNLIMITED

from tritium.wire.grpc import Methods

SIZE = 256 << 20


async def back(message, call):
    return message


async def test_a_quarter_of_a_gibibyte_travels_both_ways(wire):
    """It arrives as it was sent, in one piece; the handler is given the memory that the socket read into."""
    listener = await wire.grpc(Methods({"/s/Back": back}))
    sent = bytearray(SIZE)
    sent[:4], sent[-4:] = b"head", b"tail"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=UNLIMITED) as channel:
        received = await channel.unary_unary("/s/Back")(bytes(sent), timeout=60)
    assert len(received) == SIZE
    assert (received[:4], received[-4:]) == (b"head", b"tail")
