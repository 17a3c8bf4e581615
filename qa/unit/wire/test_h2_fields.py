"""Header decompression against the `hpack` library, an independent implementation."""

import hpack
import pytest
from hpack.exceptions import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.wire.h2.fields import TABLE_BYTES, BrokenBlock, FieldDecoder, ListTooLarge
from tritium.wire.h2.huffman import decode_huffman

LIST_BYTES = 1 << 16

names = st.one_of(st.sampled_from([b":path", b"te", b"x-a", b"x-b", b"x-long-header-name"]), st.binary(max_size=20))
values = st.one_of(st.sampled_from([b"", b"trailers", b"/s/M"]), st.binary(max_size=200), st.just(b"v" * 4100))


@given(
    st.lists(st.lists(st.tuples(names, values), max_size=6), max_size=30),
    st.sampled_from([0, 50, 300, 4096]),
    st.booleans(),
)
def test_what_a_peer_encodes_is_decoded(blocks, table_bytes, huffman):
    """Any fields, in any order, with a table of any size, with and without Huffman codes."""
    encoder, decoder = hpack.Encoder(), FieldDecoder(list_bytes=1 << 20)
    encoder.header_table_size = table_bytes
    for fields in blocks:
        assert decoder.decode(encoder.encode(fields, huffman=huffman)) == fields


# Bytes that look like HPACK more often than chance would have it.
octets = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"\x82", b"\xbe", b"\xbf", b"\x40\x01a\x01b", b"\x3f\xe1\x1f", b"\x20", b"\x00\x01x\x81\x1f", b"\x41\x83"]
    ),
)


@settings(max_examples=500)
@given(st.lists(st.lists(octets, max_size=8).map(b"".join), max_size=4))
def test_junk_is_judged_as_the_library_judges_it(blocks):
    """Both decode the same fields, or both refuse; never one only."""
    ours, theirs = FieldDecoder(list_bytes=LIST_BYTES), hpack.Decoder(max_header_list_size=LIST_BYTES)
    for block in blocks:
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except (HPACKError, IndexError):
            with pytest.raises((BrokenBlock, ListTooLarge)):
                ours.decode(block)
            return
        assert ours.decode(block) == expected


@given(st.binary(max_size=300))
def test_huffman_strings(text):
    """What the library encodes comes back."""
    assert decode_huffman(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)) == text


@pytest.mark.parametrize(
    "data",
    [b"\x00", b"\x1f\xff", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\xfc"],
    ids=["zeros", "a whole byte of padding", "nothing but padding", "end of string", "end of string inside"],
)
def test_broken_huffman_strings(data):
    """Padding other than up to seven ones, and the end-of-string symbol, are errors (RFC 7541, 5.2)."""
    with pytest.raises(ValueError, match="Huffman"):
        decode_huffman(data)


def test_table_forgets_the_oldest():
    """The table holds what its size allows; an entry larger than the table empties it."""
    decoder = FieldDecoder(list_bytes=LIST_BYTES)
    half = b"v" * (TABLE_BYTES // 2 - 33)
    literal = b"\x40\x01%b\x7f%b" % (b"%b", bytes([(len(half) - 127) & 127 | 128, (len(half) - 127) >> 7]) + half)
    for name in (b"a", b"b", b"c"):
        decoder.decode(literal % name)
    assert decoder.decode(b"\xbe\xbf") == [(b"c", half), (b"b", half)]
    with pytest.raises(BrokenBlock):
        decoder.decode(b"\xc0")
    huge = hpack.Encoder().encode([(b"d", b"v" * 5000)], huffman=False)
    decoder.decode(huge)
    with pytest.raises(BrokenBlock):
        decoder.decode(b"\xbe")


def test_changes_are_counted():
    """Whoever remembers blocks learns of each change of the table, and of nothing else."""
    decoder = FieldDecoder(list_bytes=LIST_BYTES)
    for block, changes in (
        (b"\x82", 0),
        (b"\x00\x01a\x01b", 0),
        (b"\x40\x01a\x01b", 1),
        (b"\xbe", 1),
        (b"\x20\x82", 2),
    ):
        decoder.decode(block)
        assert decoder.changes == changes


def test_list_limit_counts_what_comes_out():
    """A block of few bytes may not stand for megabytes."""
    decoder = FieldDecoder(list_bytes=10_000)
    decoder.decode(hpack.Encoder().encode([(b"x", b"v" * 3000)], huffman=False))
    assert len(decoder.decode(b"\xbe" * 3)) == 3
    with pytest.raises(ListTooLarge):
        decoder.decode(b"\xbe" * 4)
