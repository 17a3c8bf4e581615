"""Requests come out the same however the bytes that carry them are cut."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.wire import intake
from tritium.wire.h1.reader import Reading, RequestReader
from tritium.wire.http import HttpLimits


@dataclass
class Sink:
    requests: list = field(default_factory=list)
    refusals: list = field(default_factory=list)
    expects: int = 0

    def on_request(self, method, url, headers, body, *, http11, keep_alive):
        self.requests.append((method, url, tuple(headers), bytes(body), http11, keep_alive))

    def on_expect(self):
        self.expects += 1

    def on_refusal(self, status, message):
        self.refusals.append(status)


def read(pieces, limits=None, scratch_bytes=256) -> Sink:
    """Read pieces as a connection would; the small scratch makes many bodies too long for it."""
    sink = Sink()
    reader = RequestReader(sink, limits or HttpLimits(), memoryview(bytearray(scratch_bytes)))
    for piece in pieces:
        rest = piece
        while rest:
            memory = reader.offer()
            size = min(len(memory), len(rest))
            memory[:size] = rest[:size]
            reader.advance(size)
            rest = rest[size:]
    return sink


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


requests = st.lists(
    st.tuples(
        st.sampled_from(["GET", "POST", "PUT"]), st.binary(max_size=700), st.sampled_from(["length", "chunked", "h2c"])
    ),
    min_size=1,
    max_size=5,
)


@given(requests, st.lists(st.integers(0, 10_000), max_size=30))
def test_any_fragmentation_gives_the_same_requests(calls, places):
    """Lengths, chunks and declined upgrades, pipelined and cut anywhere, arrive whole and in order."""
    wire, expected = b"", []
    for number, (method, body, framing) in enumerate(calls):
        wire += f"{method} /path/{number}?q HTTP/1.1\r\nHost: h\r\nX-Number: {number}\r\n".encode()
        if framing == "h2c":
            wire += b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        if framing == "chunked":
            wire += b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 100)
        else:
            wire += b"Content-Length: %d\r\n\r\n" % len(body) + body
        expected.append((method, b"/path/%d?q" % number, b"%d" % number, body))
    sink = read(cut(wire, places))
    assert sink.refusals == []
    found = [(method, url, dict(headers)[b"X-Number"], body) for method, url, headers, body, _, _ in sink.requests]
    assert found == expected


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=10))
def test_junk_is_refused_not_crashed_on(data, places):
    """Whatever comes, the reader answers with at most one refusal."""
    sink = read(cut(data, places))
    assert len(sink.refusals) <= 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("extra", [0, 1])
def test_body_limit_is_exact(framing, extra):
    """The limit is the last size that passes."""
    body = bytes(1000 + extra)
    head = b"POST / HTTP/1.1\r\nHost: h\r\n"
    if framing == "length":
        wire = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        wire = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 64)
    sink = read([wire], HttpLimits(body_bytes=1000))
    assert (len(sink.requests), sink.refusals) == ((1, []) if not extra else (0, [413]))


def test_nothing_is_read_after_the_last_request():
    """What follows a request that ends the connection is nobody's."""
    wire = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
    sink = read([wire + b"GET /second HTTP/1.1\r\n\r\n", wire])
    assert [(url, keep_alive) for _, url, _, _, _, keep_alive in sink.requests] == [(b"/", False)]
    assert sink.refusals == []


def test_expect_is_told_once_and_only_while_the_body_is_missing():
    """A body that came along needs no invitation; HTTP/1.0 knows none."""
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert read([head, b"a", b"bc"]).expects == 1
    assert read([head + b"abc"]).expects == 0
    assert read([head.replace(b"1.1", b"1.0"), b"abc"]).expects == 0


@pytest.mark.parametrize(
    "flood",
    [
        b"0\r\n" + b"X-Trailer: value\r\n" * 10_000,
        b"0\r\nX-Trailer: " + b"v" * 100_000,
        b"1;" + b"extension" * 10_000 + b"\r\nx\r\n",
    ],
    ids=["trailers", "one long trailer", "chunk extension"],
)
def test_framing_of_chunks_is_limited(flood):
    """What comes between the chunks of a body, and behind them, does not pile up without end."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    sink = read([head, flood], HttpLimits(header_bytes=8000))
    assert (sink.requests, sink.refusals) == ([], [431])


def test_smallest_chunks_are_fair():
    """A client may send a body byte by byte; trailers are dropped, and do not become headers."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    sink = read([head, b"1\r\nx\r\n" * 20_000, b"0\r\nX-Trailer: 1\r\n\r\n"], HttpLimits(header_bytes=8000))
    assert sink.refusals == []
    assert [(body, headers) for _, _, headers, body, _, _ in sink.requests] == [
        (b"x" * 20_000, ((b"Transfer-Encoding", b"chunked"),))
    ]


def test_connect_is_refused():
    """CONNECT asks for a proxy, and would switch protocols if it were taken."""
    assert read([b"CONNECT host:1 HTTP/1.1\r\nHost: host:1\r\n\r\n"]).refusals == [405]


def test_long_body_is_not_copied():
    """A body too long for its head's packet lands in the memory that the handler gets."""
    bodies = []

    class Keeping(Sink):
        def on_request(self, method, url, headers, body, *, http11, keep_alive):
            bodies.append(body)

    reader = RequestReader(Keeping(), HttpLimits(), memoryview(bytearray(256)))
    head = b"POST / HTTP/1.1\r\nContent-Length: 10000\r\n\r\n"
    reader.offer()[: len(head)] = head
    reader.advance(len(head))
    memory = reader.offer()
    assert len(memory) == 10_000
    memory[:] = b"x" * 10_000
    reader.advance(10_000)
    assert isinstance(bodies[0], memoryview)
    assert bodies[0].readonly
    memory[0] = ord("y")
    assert bodies[0][0] == ord("y")
    assert reader.reading is Reading.IDLE


def test_chunks_win_over_a_length_and_end_the_connection():
    """Both at once is how requests are smuggled past proxies; nothing after it is read."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    sink = read([head + b"5\r\nabc", b"de\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"])
    assert sink.refusals == []
    assert [(url, body, keep_alive) for _, url, _, body, _, keep_alive in sink.requests] == [(b"/", b"abcde", False)]


def test_too_many_chunks_are_refused():
    """The last, empty one does not count."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    limits = HttpLimits(chunks=3)
    assert len(read([head, b"1\r\nx\r\n" * 3, b"0\r\n\r\n"], limits).requests) == 1
    for rest in (b"", b"0\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"):
        sink = read([head, b"1\r\nx\r\n" * 5 + rest], limits)
        assert (sink.requests, sink.refusals) == ([], [400])


def _whole(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


@given(
    st.lists(
        st.sampled_from(
            [
                _whole(b"/a", b"1"),
                _whole(b"/a", b"2"),
                _whole(b"/b", b"1"),
                _whole(b"/a", b"12") + _whole(b"/a", b"34"),
                _whole(b"/a", b"\r\n\r\n"),
                b"GET /a HTTP/1.1\r\nHost: here\r\n\r\n",
                b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            ]
        ),
        max_size=8,
    )
)
def test_repeated_heads_are_read_as_if_parsed(packets):
    """Requests are the same whether each comes in one read, which may repeat a head, or byte by byte."""
    bytewise = read([packet[at : at + 1] for packet in packets for at in range(len(packet))])
    assert read(packets).requests == bytewise.requests
    assert not bytewise.refusals


def test_a_body_the_machine_has_no_room_for(monkeypatch):
    """A large body is refused by its announced size where the memory that is left does not hold it."""
    monkeypatch.setattr(intake, "room_bytes", lambda: 100 << 20)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    assert read([head % (101 << 20)], HttpLimits(body_bytes=0)).refusals == [413]
    assert read([head % (99 << 20)], HttpLimits(body_bytes=0)).refusals == []
