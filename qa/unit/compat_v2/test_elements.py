"""Tensor elements between JSON and binary form."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2.elements import SLICE_ELEMENTS, from_json, join_bytes, split_bytes, to_json, to_json_slices
from tritium.compat.v2.refusal import Code, Refusal

RANGES = {
    "UINT8": (0, 2**8 - 1),
    "UINT16": (0, 2**16 - 1),
    "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**64 - 1),
    "INT8": (-(2**7), 2**7 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
}


@pytest.mark.parametrize("datatype", RANGES)
@given(data=st.data())
def test_integers_come_back_as_they_went(datatype, data):
    """Every integer of the range has the bytes numpy gives it, and the same JSON again."""
    low, high = RANGES[datatype]
    values = data.draw(st.lists(st.integers(low, high)))
    raw, count = from_json("IN", datatype, values)
    assert (raw, count) == (np.array(values, BY_NAME[datatype].numpy).tobytes(), len(values))
    assert json.loads(to_json(datatype, raw)) == values


@pytest.mark.parametrize("datatype", RANGES)
def test_integers_out_of_range_are_refused(datatype):
    """A number that does not fit is refused; Triton wraps it in silence."""
    low, high = RANGES[datatype]
    for value in (low - 1, high + 1):
        with pytest.raises(Refusal):
            from_json("IN", datatype, [value])


@given(st.lists(st.floats(width=32)))
def test_single_floats_come_back_as_they_went(values):
    """Also the ones JSON has no words for."""
    raw, _ = from_json("IN", "FP32", values)
    assert raw == np.array(values, "<f4").tobytes()
    again = json.loads(to_json("FP32", raw))
    assert np.array(again, "<f4").tobytes() == raw or any(map(math.isnan, values))


def test_floats_are_written_as_triton_writes_them():
    """A float that is whole keeps its point, an exponent has no plus, NaN and Infinity are bare."""
    raw = np.array([2, 0.1, 1e-20, 1e30, np.nan, np.inf, -np.inf], "<f4").tobytes()
    assert to_json("FP32", raw) == (
        b"[2.0,0.10000000149011612,9.999999682655225e-21,1.0000000150474662e30,NaN,Infinity,-Infinity]"
    )


@pytest.mark.parametrize(
    "nested",
    [
        [1, 2, 3, 4],
        [[1, 2], [3, 4]],
        [[[1], [2]], [[3], [4]]],
        [[[1, 2]], 3, [[[4]]]],
        [1, [2, [3, [4]]]],
    ],
)
def test_any_nesting_is_flattened(nested):
    """How data is nested says nothing; only the order of its elements counts."""
    assert from_json("IN", "UINT8", nested) == (b"\1\2\3\4", 4)


def test_strings_keep_their_bytes():
    """A BYTES tensor is its elements, each after its length."""
    raw, count = from_json("IN", "BYTES", ["abc", "", "h\u00e9llo \u4e16", b"\xff".decode(errors="surrogateescape")])
    assert count == 4
    assert split_bytes(raw) == [b"abc", b"", "h\u00e9llo \u4e16".encode(), b"\xff"]
    assert to_json("BYTES", raw) == '["abc","","h\u00e9llo \u4e16",'.encode() + b'"\xff"]'


@given(st.lists(st.binary()))
def test_joined_bytes_are_split_again(elements):
    """Joining and splitting are inverse."""
    assert split_bytes(join_bytes(elements)) == elements


@pytest.mark.parametrize("raw", [b"\1", b"\5\0\0\0abc", b"\1\0\0\0a\1"])
def test_lengths_that_do_not_add_up_are_refused(raw):
    """A model's broken BYTES output is an error, not a crash."""
    with pytest.raises(Refusal) as refused:
        split_bytes(raw)
    assert refused.value.code is Code.INTERNAL


@pytest.mark.parametrize(
    ("datatype", "data", "words"),
    [
        ("BOOL", [1, 0], "Unable to parse 'data': attempt to access JSON non-boolean as boolean"),
        ("UINT8", [-1, 1], "Unable to parse 'data': attempt to access JSON non-unsigned-integer as unsigned-integer"),
        ("INT32", [1.5, 1], "Unable to parse 'data': attempt to access JSON non-signed-integer as signed-integer"),
        ("INT32", [True], "Unable to parse 'data': attempt to access JSON non-signed-integer as signed-integer"),
        ("FP32", ["1"], "Unable to parse 'data': attempt to access JSON non-number as double"),
        ("FP32", [None, 1], "Unable to parse 'data': attempt to access JSON non-number as double"),
        ("FP32", 5, "Unable to parse 'data': attempt to access JSON non-array as array"),
        ("FP32", [{"a": 1}], "Unable to parse 'data': attempt to access JSON non-number as double"),
        ("BYTES", [1, 2], "Unable to parse JSON bytes array: attempt to access JSON non-string as string"),
        (
            "FP16",
            [1.0],
            "receiving FP16 data via JSON is not supported. Please use the binary data format for input IN",
        ),
    ],
)
def test_wrong_elements_are_refused_in_tritons_words(datatype, data, words):
    """The text a Triton client may look for."""
    with pytest.raises(Refusal) as refused:
        from_json("IN", datatype, data)
    assert refused.value.message == words


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_json(datatype):
    """Sixteen-bit floats go as bytes alone."""
    with pytest.raises(Refusal, match=f"sending {datatype} data via JSON is not supported"):
        to_json(datatype, b"\0\0")


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL", "BYTES", "UINT8"])
@pytest.mark.parametrize("count", [0, 1, SLICE_ELEMENTS, SLICE_ELEMENTS + 1, 3 * SLICE_ELEMENTS - 1])
def test_slices_are_the_whole_in_parts(datatype, count):
    """Joined, they are what is written at once."""
    if datatype == "BYTES":
        data = join_bytes([b"%d" % (index % 1000) for index in range(count)])
    else:
        data = (np.arange(count) % 2).astype(BY_NAME[datatype].numpy).tobytes()
    slices = list(to_json_slices(datatype, data))
    assert b"".join(slices) == to_json(datatype, data)
    assert len(slices) <= count // SLICE_ELEMENTS + 2


def test_what_has_no_json_form_is_refused_in_slices_too():
    """With the words of the whole."""
    with pytest.raises(Refusal, match="sending FP16 data via JSON is not supported"):
        list(to_json_slices("FP16", b"\0\0"))
