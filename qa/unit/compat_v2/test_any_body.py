"""Whatever JSON arrives, it is read or refused: no body raises anything else."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from tritium.compat.v2 import generate, infer_request, plain_json
from tritium.compat.v2.refusal import Refusal

INPUTS = {"A": ("FP32", (-1,)), "B": ("BYTES", (1,)), "C": ("INT8", (-1, 2))}

MEMBERS = "id parameters inputs outputs name shape datatype data A B C"
PARAMETERS = "binary_data_size binary_data classification shared_memory_region sequence_id priority binary_data_output"
words = st.sampled_from(f"{MEMBERS} {PARAMETERS}".split())
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values |= st.sampled_from(["A", "B", "FP32", "BYTES", "INT8", "BOOL", "FP16", [1], [4], [2, 2], [[1, 2], [3]]])
anything = st.recursive(values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=6))

tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["A", "B"]) | anything,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT8", "UINT64", "BOOL"]) | anything,
        "shape": st.lists(st.integers(0, 4), max_size=3) | anything,
        "data": st.lists(st.integers(-200, 200) | anything, max_size=8),
        "parameters": st.dictionaries(words, st.integers(0, 8) | anything, max_size=2),
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


@given(requests, st.binary(max_size=20))
def test_plain_is_read_alike(document, tail):
    """What the quick way reads, the careful one reads to the same call."""
    text = json.dumps(document).encode()
    body = memoryview(text + tail)
    plain = plain_json.decode(body, len(text), whole_tensor)
    if plain is not None:
        assert plain == infer_request.decode_carefully(body, len(text), "m", whole_tensor)


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
