"""Header blocks: what they mean, and that remembering them never changes it."""

import base64

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.wire.h2.frames import Code, ConnectionFault
from tritium.wire.h2.headers import HeadDecoder, read_head, read_timeout
from tritium.wire.h2.replies import (
    INITIAL,
    MESSAGE_BYTES,
    TRAILERS_OK,
    http_refusal,
    literal,
    percent_encode,
    trailers,
    trailers_only,
)
from tritium.wire.status import Status

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/s/M"),
    (b":authority", b"h"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc+proto"),
]


def test_head():
    """Fields of the transport are taken out, the rest is metadata."""
    head = read_head(
        [
            *REQUEST,
            (b"grpc-timeout", b"1500m"),
            (b"grpc-encoding", b"gzip"),
            (b"grpc-accept-encoding", b"gzip"),
            (b"user-agent", b"u"),
            (b"x-bin", base64.b64encode(b"\x00\xff").rstrip(b"=") + b"," + base64.b64encode(b"more")),
            (b"y-bin", b"!"),
        ]
    )
    assert (head.path, head.timeout_s, head.encoding, head.malformed) == ("/s/M", 1.5, b"gzip", "")
    assert head.http_status == 200
    assert head.metadata == ((b"user-agent", b"u"), (b"x-bin", b"\x00\xff"), (b"x-bin", b"more"), (b"y-bin", b"!"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"99999999S", 99999999)],
)
def test_timeout_units(value, seconds):
    """All six units of the protocol are known."""
    assert read_timeout(value) == pytest.approx(seconds)


names = st.sampled_from([b"x-a", b"x-b", b"x-long-name", b"traceparent", b"x-raw"])
values = st.one_of(st.sampled_from([b"", b"1", b"a value"]), st.binary(max_size=300).map(base64.b64encode))


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(names, values), max_size=6), max_size=40), st.sampled_from([0, 64, 200, 4096]))
def test_remembered_blocks_mean_what_they_say(calls, table_bytes):
    """Against a client with a dynamic table of any size, every block decodes to what was encoded, cached or not."""
    encoder, decoder = hpack.Encoder(), HeadDecoder(list_bytes=1 << 20)
    encoder.header_table_size = table_bytes
    for call in calls:
        for _ in range(2):
            head = decoder.head(encoder.encode([*REQUEST, *call]))
            assert list(head.metadata) == call


def test_same_block_means_something_else_once_the_table_moved():
    """An index is only as good as the table it points into: the cache must not outlive it."""
    encoder, decoder = hpack.Encoder(), HeadDecoder(list_bytes=1 << 20)
    first = [*REQUEST, (b"x-id", b"first")]
    decoder.head(encoder.encode(first))
    steady = encoder.encode(first)
    assert decoder.head(steady) is decoder.head(steady)
    # The same size, so that counting entries and bytes would not notice.
    for number in range(200):
        decoder.fields(encoder.encode([(b"x-id", b"%05d" % number)]))
    decoder.fields(encoder.encode(REQUEST[4:]))
    other = HeadDecoder(list_bytes=1 << 20)
    assert other is not decoder
    with_other_meaning = encoder.encode([*REQUEST, (b"x-id", b"00199")])
    assert (b"x-id", b"00199") in decoder.head(with_other_meaning).metadata


def test_changes_of_equal_size_are_noticed():
    """A full table that swaps one entry for another of the same size has changed all the same."""
    encoder, decoder = hpack.Encoder(), HeadDecoder(list_bytes=1 << 20)
    encoder.header_table_size = 38 * 2
    rows = [[(b"ab", b"%04d" % number)] for number in range(5)]
    for row in (*rows, *rows):
        block = encoder.encode(row)
        assert decoder.fields(block) == row
    assert decoder.head(encoder.encode(rows[4])).malformed == decoder.head(b"\xbe").malformed


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff\xff\xff", b"\xc5", b"\x00\x05ab", b"\x40", b"\x3f\xff\xff\x7f", b"\x82\x20"]
)
def test_broken_blocks(data):
    """A block that cannot be decoded ends the connection: no later one could be trusted."""
    with pytest.raises(ConnectionFault) as fault:
        HeadDecoder(list_bytes=1 << 16).head(data)
    assert fault.value.code == Code.COMPRESSION_ERROR


def test_small_block_that_grows_large():
    """What counts is the decoded size."""
    block = hpack.Encoder().encode([(b"x", b"v" * 3000)], huffman=False) + b"\xbe" * 30
    with pytest.raises(ConnectionFault) as fault:
        HeadDecoder(list_bytes=1 << 16).head(block)
    assert fault.value.code == Code.ENHANCE_YOUR_CALM


@given(st.binary(max_size=200), st.lists(st.binary(max_size=200), max_size=3))
def test_junk_is_a_fault_or_a_head(first, more):
    """Whatever comes, nothing but a ConnectionFault gets out."""
    decoder = HeadDecoder(list_bytes=1 << 16)
    for block in (first, *more, first):
        try:
            decoder.head(block)
        except ConnectionFault:
            return


# responses


def decode(block: bytes) -> dict:
    return dict(hpack.Decoder().decode(block))


def test_reply_blocks():
    """A client's decoder reads them, and its table stays empty."""
    decoder = hpack.Decoder()
    assert dict(decoder.decode(INITIAL)) == {":status": "200", "content-type": "application/grpc"}
    assert dict(decoder.decode(TRAILERS_OK)) == {"grpc-status": "0"}
    assert dict(decoder.decode(trailers(Status.NOT_FOUND, "no"))) == {"grpc-status": "5", "grpc-message": "no"}
    assert dict(decoder.decode(http_refusal(415))) == {":status": "415"}
    only = dict(decoder.decode(trailers_only(Status.INTERNAL, "")))
    assert only == {":status": "200", "content-type": "application/grpc", "grpc-status": "13"}
    assert not decoder.header_table.dynamic_entries


@given(st.binary(min_size=1, max_size=400).map(bytes.hex), st.binary(max_size=400).map(bytes.hex))
def test_literals_of_any_length(name, value):
    """Lengths beyond one byte are encoded as HPACK wants them."""
    assert decode(literal(name.encode(), value.encode())) == {name: value}


def unquote(encoded: bytes) -> str:
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415  # an independent decoder, for this test only

    return unquote_to_bytes(encoded).decode()


@given(st.text(max_size=300))
def test_percent_encoding(message):
    """Every message comes back, and what travels is printable ASCII."""
    encoded = percent_encode(message)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded) == message


@pytest.mark.parametrize("message", ["x" * 10_000, "é" * 10_000, "%" * 10_000, "a" + "模" * 5000])
def test_long_message_is_cut_between_escapes(message):
    """A client that limits its headers still gets the status; no escape is torn."""
    encoded = percent_encode(message)
    assert MESSAGE_BYTES - 3 <= len(encoded) <= MESSAGE_BYTES
    assert len(encoded.rsplit(b"%", 1)[-1]) >= 2 or b"%" not in encoded
