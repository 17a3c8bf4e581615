"""The JSON reader: what it takes, and where and how it says a text is broken."""

import contextlib
import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.compat.v2.json_text import parse, write
from tritium.compat.v2.refusal import Code, Refusal

BROKEN = [
    (b"", "The document is empty. at 0"),
    (b"  ", "The document is empty. at 2"),
    (b"{", "Missing a name for object member. at 1"),
    (b'{"inputs": [', "Invalid value. at 12"),
    (b'{"inputs":', "Invalid value. at 10"),
    (b'{"a": 1}garbage', "The document root must not be followed by other values. at 8"),
    (b'{"a" 1}', "Missing a colon after a name of object member. at 5"),
    (b'{"a": 1 "b": 2}', "Missing a comma or } after an object member. at 8"),
    (b'{"a": [1 2], "b": "]"}', "Missing a comma or ] after an array element. at 9"),
    (b'[{"a": "]["} 2]', "Missing a comma or ] after an array element. at 13"),
    (b'["a', "Missing a closing quotation mark in string. at 1"),
    (b'["\\q"]', "Invalid escape character in string. at 2"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN)
def test_broken_text_is_named_as_rapidjson_names_it(text, words):
    """A broken text is Triton's INTERNAL, with the parser's words and the offset."""
    with pytest.raises(Refusal) as refused:
        parse(text)
    assert refused.value.message == f"failed to parse the request JSON buffer: {words}"
    assert refused.value.code is Code.INTERNAL


def test_nan_and_infinity_are_numbers():
    """Triton's parser takes the literals that JSON does not have."""
    nan, positive, negative = parse(b"[NaN, Infinity, -Infinity]")
    assert math.isnan(nan)
    assert (positive, negative) == (math.inf, -math.inf)


def test_bytes_that_are_not_utf8_survive_in_strings():
    """A string's bytes come out as they went in."""
    assert parse(b'["a\xff"]')[0].encode(errors="surrogateescape") == b"a\xff"


def test_text_ends_at_a_nul():
    """A binary tensor that no header announces does not hide what the JSON says."""
    assert parse(b'{"a": 1}\0\0\x80?') == {"a": 1}


@pytest.mark.parametrize("depth", [1_000, 5_000, 250_000])
def test_deep_nesting_is_read_as_far_as_it_matters(depth):
    """What would exhaust a stack is emptied; the types above, and what stands beside it, stay."""
    text = b'{"a": ' + b"[" * depth + b'"]"' + b"]" * depth + b', "b": ' + b'{"c":' * depth + b"1" + b"}" * depth + b"}"
    read = parse(text)
    assert (type(read["a"][0][0]), type(read["b"]["c"])) == (list, dict)


def test_deep_nesting_that_never_ends_is_broken():
    """At its end, where a value is lacking."""
    with pytest.raises(Refusal) as refused:
        parse(b"[" * 100_000)
    assert refused.value.message == "failed to parse the request JSON buffer: Invalid value. at 100000"
    assert refused.value.code is Code.INTERNAL


def test_a_number_of_thousands_of_digits_is_refused_or_read():
    """No number breaks the reader."""
    with pytest.raises(Refusal, match="Number too big"):
        parse(b"[NaN, " + b"9" * 5000 + b"]")


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (rb'"\ud800"', 1),
        (rb'[NaN,"\udc00"]', 6),
        (rb'[NaN,"\ud83d\ude00\ude00"]', 18),
        (rb'[NaN,"\ud800\ud83d\ude00"]', 6),
    ],
)
def test_half_a_pair_is_no_character(text, offset):
    """Refused as rapidjson refuses it; nothing could be written of it."""
    with pytest.raises(Refusal) as refused:
        parse(text)
    words = f"failed to parse the request JSON buffer: The surrogate pair in string is invalid. at {offset}"
    assert refused.value.message == words


def test_pairs_and_escaped_backslashes_are_characters():
    """Only what is an escape is looked at."""
    assert parse(rb'[Infinity,"\ud83d\ude00","\\ud800"]')[1:] == ["\U0001f600", r"\ud800"]


@pytest.mark.parametrize("text", [b'"\xff\x80"', b'{"k\xc3":"\xe4"}', b'["\xc3\xa4",1,true,null]'])
def test_bytes_that_are_not_utf8_are_written_as_they_were(text):
    """An id or a name in an error comes back as it was sent."""
    assert write(parse(text)) == text


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_it_reads_what_json_writes(value):
    """What is well formed means what it says."""
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_but_a_refusal(text):
    """Whatever arrives is read or refused."""
    with contextlib.suppress(Refusal):
        parse(text)


def test_many_brackets_before_a_mistake_are_no_work_for_long():
    """What it costs to name the mistake grows with the text, not with its square."""
    text = b"[" + (b"[" * 900 + b"]" * 900 + b",") * 500 + b"1 2]"
    began = time.thread_time()
    with pytest.raises(Refusal, match="Missing a comma or ] after an array element"):
        parse(text)
    assert time.thread_time() - began < 20
