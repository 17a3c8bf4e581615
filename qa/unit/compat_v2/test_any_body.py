"""Whatever JSON arrives, it is read or refused: no body raises anything else."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.compat.v2 import generate, infer_request, plain_json, regions
from tritium.compat.v2.layout import MOST, Layout, Layouts
from tritium.compat.v2.refusal import Refusal

INPUTS = {"A": ("FP32", (-1,)), "B": ("BYTES", (1,)), "C": ("INT8", (-1, 2))}

MEMBERS = "id parameters inputs outputs name shape datatype data A B C"
PARAMETERS = "binary_data_size binary_data classification sequence_id priority binary_data_output"
SHARED = "shared_memory_region shared_memory_byte_size shared_memory_offset"
words = st.sampled_from(f"{MEMBERS} {PARAMETERS} {SHARED}".split())
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values |= st.sampled_from(["A", "B", "FP32", "BYTES", "INT8", "BOOL", "FP16", [1], [4], [2, 2], [[1, 2], [3]]])
anything = st.recursive(values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=6))

places = st.fixed_dictionaries(
    {"shared_memory_region": st.sampled_from(["A", "B"]) | anything},
    optional={
        "shared_memory_byte_size": st.integers(0, 8) | st.sampled_from([1 << 63, 1 << 64]) | anything,
        "shared_memory_offset": st.integers(0, 8) | anything,
        "binary_data": st.booleans() | anything,
        "classification": st.integers(0, 2),
    },
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["A", "B"]) | anything,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT8", "UINT64", "BOOL"]) | anything,
        "shape": st.lists(st.integers(0, 4), max_size=3) | anything,
        "data": st.lists(st.integers(-200, 200) | anything, max_size=8),
        "parameters": st.dictionaries(words, st.integers(0, 8) | anything, max_size=2) | places,
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3)},
    optional={"outputs": st.lists(tensors, max_size=3) | anything, "parameters": anything, "id": anything},
)


def tensor(name, datatype, shape, data):
    assert isinstance(name, str)
    assert all(type(dim) is int and dim >= 0 for dim in shape)
    return len(data)


def whole_tensor(name, datatype, shape, data):
    return name, datatype, shape, bytes(data)


@given(requests | anything, st.binary(max_size=20))
def test_infer(document, tail):
    """JSON of any shape, with any bytes after it."""
    text = json.dumps(document).encode()
    with contextlib.suppress(Refusal):
        call = infer_request.decode(text + tail, len(text), "m", tensor)
        assert isinstance(call.id, str)
        assert all(isinstance(output.name, str) and output.classification >= 0 for output in call.outputs)


def region(name, offset, byte_size):
    """Find region A, of twelve bytes."""
    if name != "A":
        raise regions.unknown(name)
    regions.check_bounds(name, 12, offset, byte_size)
    return memoryview(bytearray(range(12)))[offset : offset + byte_size]


@given(requests, st.binary(max_size=20))
def test_plain_is_read_alike(document, tail):
    """What the quick way reads or refuses, the careful one reads to the same call, or refuses in the same words."""
    text = json.dumps(document).encode()
    body = memoryview(text + tail)
    plain = outcome(lambda: plain_json.decode(body, len(text), whole_tensor, region=region))
    if plain is not None:
        assert plain == outcome(lambda: infer_request.decode_carefully(body, len(text), "m", whole_tensor, region))


def outcome(read):
    """Return what was read, or the words and the code of the refusal."""
    try:
        return read()
    except Refusal as refusal:
        return refusal.message, refusal.code


def test_shared_memory_is_plain():
    """Tensors in regions do not need the careful way; an offset that 64 bits read as negative does."""

    def plain(**place):
        place = {"shared_memory_region": "A", "shared_memory_byte_size": 4, **place}
        inputs = [{"name": "A", "datatype": "INT8", "shape": [4], "parameters": place}]
        text = json.dumps({"inputs": inputs, "outputs": [{"name": "B", "parameters": place}]}).encode()
        return plain_json.decode(memoryview(text), len(text), whole_tensor, region=region)

    call = plain(shared_memory_offset=8)
    assert call.inputs == [("A", "INT8", (4,), bytes([8, 9, 10, 11]))]
    assert (call.outputs[0].memory, call.outputs[0].memory.readonly) == (bytes([8, 9, 10, 11]), False)
    assert plain(shared_memory_offset=1 << 63) is None
    assert plain(binary_data_size=4) is None
    with pytest.raises(Refusal, match="Unable to find shared memory region: 'B'"):
        plain(shared_memory_region="B")


def test_plain_is_quick():
    """Numbers in flat arrays and binary tensors do not need the careful way; strings, nesting and nonsense do."""

    def plain(**members):
        text = json.dumps({"inputs": [{"name": "A", "datatype": "INT8", "shape": [2], **members}]}).encode()
        return plain_json.decode(memoryview(text + b"ab"[len(members.get("data", ())) :]), len(text), whole_tensor)

    assert plain(data=[97, 98]) is not None
    assert plain(parameters={"binary_data_size": 2}) is not None
    for data in ([97, 98.5], [97, 1000], [97, True], [97, "98"], [[97, 98]], [97]):
        assert plain(data=data) is None
    assert plain(parameters={"binary_data_size": 3}) is None
    assert plain(data=[97, 98], datatype="BOOL") is None


@given(st.dictionaries(words, anything) | anything)
def test_generate(document):
    """JSON of any shape."""
    with contextlib.suppress(Refusal):
        call = generate.decode(json.dumps(document).encode(), INPUTS, tensor)
        assert all(type(value) in (str, int, float, bool) for value in call.parameters.values())


def test_known_json_is_read_alike():
    """JSON that came before is not read again: the call is the same, with the bytes of this body, shared with none."""
    inputs = [{"name": name, "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}} for name in "AB"]
    text = json.dumps({"inputs": inputs, "outputs": [{"name": "C", "parameters": {"binary_data": True}}]}).encode()

    def read(tail):
        return plain_json.decode(memoryview(text + tail), len(text), whole_tensor)

    first, second = read(b"abcd"), read(b"efgh")
    assert first.inputs == [("A", "INT8", (2,), b"ab"), ("B", "INT8", (2,), b"cd")]
    assert second.inputs == [("A", "INT8", (2,), b"ef"), ("B", "INT8", (2,), b"gh")]
    assert second.outputs == first.outputs
    assert second.outputs is not first.outputs
    second.parameters["header"] = "1"
    assert read(b"abcd") == first
    assert read(b"abc") is None
    assert read(b"abcde") is None


def test_layouts_are_forgotten():
    """However many JSONs come, a bounded number is remembered; one that is forgotten is read once more."""
    layouts = Layouts()
    for number in range(2 * MOST + 1):
        layouts.remember(b"%d" % number, Layout([], [], binary_output=False))
    assert layouts.find(b"0") is None
    assert layouts.find(b"%d" % (2 * MOST)) is not None
    assert sum(layouts.find(b"%d" % number) is not None for number in range(2 * MOST + 1)) <= MOST
