"""Heads and chunks as bytes."""

import re

import pytest

from tritium.wire.h1.encode import encode_chunk, encode_head, error_response


def lines(head: bytes) -> list[str]:
    assert head.endswith(b"\r\n\r\n")
    return [re.sub(r"^date: .*", "date", line) for line in head.decode()[:-4].split("\r\n")]


def test_head_of_a_whole_answer():
    """Status line, the handler's fields, the length, the date."""
    head = encode_head(404, ((b"x", b"y"),), length=3, keep_alive=True, http11=True)
    assert lines(head) == ["HTTP/1.1 404 Not Found", "x: y", "content-length: 3", "date"]


@pytest.mark.parametrize(
    ("keep_alive", "http11", "expected"),
    [
        (True, True, ["transfer-encoding: chunked"]),
        (False, True, ["transfer-encoding: chunked", "connection: close"]),
        (True, False, ["connection: keep-alive"]),
        (False, False, ["connection: close"]),
    ],
)
def test_head_of_a_stream(keep_alive, http11, expected):
    """Each version of HTTP says in its own way how the body ends and whether the connection goes on."""
    head = encode_head(200, (), length=None, keep_alive=keep_alive, http11=http11)
    assert lines(head) == ["HTTP/1.1 200 OK", *expected, "date"]


def test_unregistered_status():
    """A status nobody knows is sent all the same."""
    assert lines(encode_head(299, (), length=0, keep_alive=True, http11=True))[0] == "HTTP/1.1 299 Unknown"


@pytest.mark.parametrize(
    "field",
    [(b"x", b"a\r\nb: c"), (b"x", b"a\rb"), (b"x\n", b"a"), (b"content-length", b"1"), (b"connection", b"close")],
)
def test_fields_that_are_refused(field):
    """Fields that break out of their line, or contradict the connection, are bugs of the handler."""
    with pytest.raises(ValueError, match=r"header|connection"):
        encode_head(200, (field,), length=0, keep_alive=True, http11=True)


@pytest.mark.parametrize("chunk", [b"hello world", bytearray(b"hello world"), memoryview(b"hello world")])
def test_chunk(chunk):
    """The size is hexadecimal and counts bytes."""
    assert encode_chunk(chunk) == b"b\r\nhello world\r\n"


def test_chunk_of_wide_items():
    """A view of numbers counts by bytes, not by items."""
    assert encode_chunk(memoryview(b"12345678").cast("I")) == b"8\r\n12345678\r\n"


def test_error_is_json():
    """Whatever the message holds, the body parses."""
    assert error_response(400, 'a "b" \n').body == (b'{"error": "a \\"b\\" \\n"}',)
