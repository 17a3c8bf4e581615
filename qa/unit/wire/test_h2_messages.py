"""gRPC messages come out the same however DATA is cut; what breaks the format ends with the status that says why."""

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.wire.grpc import GrpcError
from tritium.wire.h2.messages import PLAIN_BYTES, Assembler
from tritium.wire.status import Status


def framed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


sizes = st.one_of(st.integers(0, 20), st.integers(PLAIN_BYTES - 2, PLAIN_BYTES + 2), st.just(100_000))


@given(st.lists(sizes, max_size=6), st.lists(st.integers(0, 400_000), max_size=20), st.booleans())
def test_any_fragmentation_gives_the_same_messages(message_sizes, places, direct):
    """Messages cut anywhere, fed or read straight into the vacancy, are the ones that were sent."""
    messages = [bytes([index + 1]) * size for index, size in enumerate(message_sizes)]
    wire = b"".join(map(framed, messages))
    edges = sorted({0, len(wire), *(place % (len(wire) + 1) for place in places)})
    assembler, found = Assembler(b"identity", 1 << 20), []
    for start, end in itertools.pairwise(edges):
        piece = wire[start:end]
        vacancy = assembler.vacancy() if direct else None
        if vacancy is not None:
            size = min(len(vacancy), len(piece))
            vacancy[:size] = piece[:size]
            found += assembler.filled(size)
            piece = piece[size:]
        if piece:
            found += assembler.feed(memoryview(piece))
    assert [bytes(each) for each in found] == messages
    assert assembler.between_messages
    assert all(isinstance(each, bytes) == (len(each) <= PLAIN_BYTES) for each in found)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_messages(compress):
    """gzip and zlib are told apart by themselves; plain messages may come in between."""
    assembler = Assembler(b"gzip", 1 << 20)
    wire = framed(compress(b"one" * 1000), 1) + framed(b"two") + framed(compress(b""), 1)
    assert assembler.feed(memoryview(wire)) == [b"one" * 1000, b"two", b""]


def test_limit_counts_after_decompression():
    """The limit is the last size that passes, and a bomb is not inflated beyond it."""
    assembler = Assembler(b"gzip", 1000)
    assert assembler.feed(memoryview(framed(gzip.compress(bytes(1000)), 1))) == [bytes(1000)]
    with pytest.raises(GrpcError) as error:
        assembler.feed(memoryview(framed(gzip.compress(bytes(100_000_000 // 100)), 1)))
    assert error.value.status is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("encoding", "wire", "status"),
    [
        (b"identity", framed(b"x", 2), Status.INTERNAL),
        (b"identity", framed(b"x", 1), Status.INTERNAL),
        (b"gzip", framed(b"junk", 1), Status.INTERNAL),
        (b"gzip", framed(gzip.compress(b"cut short")[:-5], 1), Status.INTERNAL),
        (b"gzip", framed(b"", 1), Status.INTERNAL),
        (b"identity", b"\0\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
        (b"identity", framed(bytes(1001))[:5], Status.RESOURCE_EXHAUSTED),
    ],
)
def test_broken_messages(encoding, wire, status):
    """The error comes with the first byte that proves it."""
    with pytest.raises(GrpcError) as error:
        Assembler(encoding, 1000).feed(memoryview(wire))
    assert error.value.status is status
    assert error.value.message


def test_claimed_size_takes_no_memory():
    """Two gigabytes that were only announced are not there."""
    assembler = Assembler(b"identity", (1 << 31) - 1)
    before = _resident_bytes()
    assert assembler.feed(memoryview(b"\0\x7f\xff\xff\xff" + bytes(1000))) == []
    assert not assembler.between_messages
    assert _resident_bytes() - before < 64 << 20


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123  # the shortest way to one number
        return int(file.read().split()[1]) * 4096
