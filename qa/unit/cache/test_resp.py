"""What Redis speaks: replies are found in any pieces, and what is no reply is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.cache.resp import ProtocolError, RedisError, Reply, ReplyReader, command


def test_a_command_is_an_array_of_strings() -> None:
    """Every part goes with its length, so any bytes may be in it."""
    assert command(b"SET", b"k", b"\r\n$") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\r\n$\r\n"


def wire(reply: Reply) -> bytes:
    """Write a reply as Redis does."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, RedisError):
        return b"-" + reply.message.encode() + b"\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return b"$%d\r\n%s\r\n" % (len(reply), reply)


@given(
    st.lists(
        st.one_of(st.none(), st.integers(), st.binary(max_size=50), st.builds(RedisError, st.text("abc ", max_size=9)))
    ),
    st.lists(st.integers(1, 9)),
)
def test_replies_in_any_pieces(replies: list[Reply], sizes: list[int]) -> None:
    """However the stream is cut, the same replies come out in order."""
    stream = b"".join(wire(reply) for reply in replies)
    reader = ReplyReader()
    read: list[Reply] = []
    for size in sizes:
        read += reader.feed(stream[:size])
        stream = stream[size:]
    read += reader.feed(stream)
    assert read == replies


def test_a_line_is_bytes() -> None:
    """+OK and the like come out as their text."""
    assert ReplyReader().feed(b"+OK\r\n+\r\n") == [b"OK", b""]


@pytest.mark.parametrize(
    "stream", [b"*1\r\n", b"HTTP/1.1 200\r\n", b":x\r\n", b"$-7\r\n", b"$99999999999\r\n", b"x" * 70_000]
)
def test_what_is_no_reply_is_refused(stream: bytes) -> None:
    """Kinds that no command of ours has, numbers that are none, and sizes that nobody sends."""
    with pytest.raises(ProtocolError):
        ReplyReader().feed(stream)
