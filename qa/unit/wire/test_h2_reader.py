"""Frames come out the same however the bytes that carry them are cut."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.wire.h2.frames import END_STREAM, PADDED, PREFACE, Code, ConnectionFault, Kind, pack_frame
from tritium.wire.h2.reader import DIRECT_BYTES, FrameReader

SCRATCH_BYTES = DIRECT_BYTES + 2048


@dataclass
class Sink:
    """Puts DATA together again, and sometimes offers memory for it, as a stream does."""

    events: list = field(default_factory=list)
    offers: bool = False
    memory: bytearray = field(default_factory=bytearray)
    direct: int = 0

    def on_frame(self, kind, flags, stream_id, payload):
        self.events.append((kind, stream_id, payload))

    def on_data(self, stream_id, piece, held, *, last):
        if held or not len(piece):
            self.events.append(["data", stream_id, b"", 0, False])
        self.events[-1][2] += piece
        self.events[-1][3] += held
        self.events[-1][4] = last

    def vacancy(self, stream_id):
        if not self.offers:
            return None
        self.memory = bytearray(1 << 20)
        return memoryview(self.memory)

    def on_filled(self, stream_id, size, *, last):
        self.direct += size
        self.on_data(stream_id, memoryview(self.memory)[:size], 0, last=last)


def read(pieces, sink: Sink) -> list:
    reader = FrameReader(sink, memoryview(bytearray(SCRATCH_BYTES)), data_limit=1 << 20, frame_limit=1000)
    for piece in pieces:
        rest = piece
        while rest:
            memory = reader.offer()
            size = min(len(memory), len(rest))
            memory[:size] = rest[:size]
            reader.advance(size)
            rest = rest[size:]
    return sink.events


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


data_frames = st.tuples(
    st.just("data"),
    st.integers(1, 9),
    st.one_of(st.integers(0, 300), st.integers(DIRECT_BYTES - 5, 5 * DIRECT_BYTES)),
    st.one_of(st.none(), st.integers(0, 255)),
    st.booleans(),
)
other_frames = st.tuples(st.sampled_from([1, 3, 4, 6, 8, 9, 0xFA]), st.integers(0, 9), st.binary(max_size=100))


@given(
    st.lists(st.one_of(data_frames, other_frames), max_size=8),
    st.lists(st.integers(0, 200_000), max_size=30),
    st.booleans(),
)
def test_any_fragmentation_gives_the_same_frames(frames, places, offers):
    """Padded, empty and long DATA among other frames, cut anywhere, read into scratch or into a message."""
    wire, expected = PREFACE, []
    for index, frame in enumerate(frames):
        if frame[0] == "data":
            _, stream, size, pad, last = frame
            payload = bytes([index]) * size
            flags = (END_STREAM if last else 0) | (0 if pad is None else PADDED)
            body = payload if pad is None else bytes([pad]) + payload + bytes(pad)
            wire += pack_frame(Kind.DATA, flags, stream, body)
            expected.append(["data", stream, payload, len(body), last])
        else:
            kind, stream, payload = frame
            wire += pack_frame(kind, 0, stream, payload)
            expected.append((kind, stream, payload))
    sink = Sink(offers=offers)
    assert [list(event) for event in read(cut(wire, places), sink)] == [list(event) for event in expected]


def test_long_data_is_read_straight_into_its_message():
    """Once a stream knows where its bytes go, they do not pass the scratch memory."""
    sink = Sink(offers=True)
    read([PREFACE, pack_frame(Kind.DATA, END_STREAM, 1, bytes(500_000))], sink)
    assert sink.direct > 500_000 - SCRATCH_BYTES - DIRECT_BYTES
    assert len(sink.events[0][2]) == 500_000


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=8))
def test_junk_is_a_fault_or_frames(data, places):
    """Whatever comes, nothing but a ConnectionFault gets out."""
    try:
        read(cut(PREFACE + data, places), Sink())
    except ConnectionFault:
        return


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", PREFACE[:10] + b"x", b"\0"])
def test_preface_must_match(start):
    """The first wrong byte is enough."""
    with pytest.raises(ConnectionFault, match="not HTTP/2"):
        read([start], Sink())


def test_frame_limits():
    """DATA and everything else have limits of their own."""
    for kind, size in ((Kind.DATA, (1 << 20) + 1), (Kind.HEADERS, 1001), (0xFA, 1001)):
        with pytest.raises(ConnectionFault) as fault:
            read([PREFACE + pack_frame(kind, 0, 1, bytes(size))], Sink())
        assert fault.value.code == (Code.FRAME_SIZE_ERROR if kind == Kind.DATA else Code.ENHANCE_YOUR_CALM)
