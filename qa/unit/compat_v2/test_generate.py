"""The generate extension's mapping between flat JSON and tensors."""

from dataclasses import dataclass

import numpy as np
import pytest

from tritium.compat.v2.generate import decode, encode
from tritium.compat.v2.refusal import Refusal


@dataclass
class Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


LLM = {"text_input": ("BYTES", (1,)), "stream": ("BOOL", (1,)), "max_tokens": ("INT32", (1,))}


def shape(declared, count):
    body = b'{"A": [%s]}' % b",".join([b"1"] * count)
    return decode(body, {"A": ("UINT8", declared)}, Tensor).inputs[0].shape


def test_inputs_are_tensors_and_the_rest_are_parameters():
    """Wherever an input's name stands, it is the tensor; `id` is both the request's and a parameter."""
    call = decode(
        b'{"id": "9", "text_input": "hi", "temperature": 0.5, "parameters": {"max_tokens": 3, "top": "x"}}', LLM, Tensor
    )
    assert call.id == "9"
    assert call.parameters == {"id": "9", "temperature": 0.5, "top": "x"}
    assert [(t.name, t.shape, t.data) for t in call.inputs] == [
        ("text_input", (1,), b"\2\0\0\0hi"),
        ("max_tokens", (1,), b"\3\0\0\0"),
    ]


@pytest.mark.parametrize(
    ("declared", "count", "given"),
    [
        ((1,), 1, (1,)),
        ((-1,), 3, (3,)),
        ((-1, -1), 3, (1, 3)),
        ((-1, 2), 4, (2, 2)),
        ((2, -1, 3), 12, (2, 2, 3)),
        ((-1, 1), 1, (1, 1)),
    ],
)
def test_elements_are_spread_over_the_models_shape(declared, count, given):
    """The innermost open dimension takes what the fixed ones leave; other open ones are 1."""
    assert shape(declared, count) == given


@pytest.mark.parametrize(("declared", "count"), [((1,), 2), ((2, -1), 3), ((4,), 1)])
def test_elements_that_do_not_divide_are_refused(declared, count):
    """There is no shape for them."""
    with pytest.raises(Refusal, match="can not convert input 'A' to tensor with proper shape"):
        shape(declared, count)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"text_input": 5}', "Unable to parse JSON bytes array: attempt to access JSON non-string as string"),
        (b'{"max_tokens": "a"}', "Unable to parse 'data': attempt to access JSON non-signed-integer as signed-integer"),
        (b'{"x": [1]}', "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'."),
        (b'{"id": 5}', "Unable to parse 'id': attempt to access JSON non-string as string"),
        (
            b'{"parameters": 5}',
            "Expected JSON object for keyword: 'parameters': attempt to access JSON non-object as object",
        ),
        (
            b'{"parameters": {"max_tokens": "a"}}',
            (
                "Converting keyword: 'parameters': Unable to parse 'data': "
                "attempt to access JSON non-signed-integer as signed-integer"
            ),
        ),
        (
            b'{"text_input": "a", "stream": true, "stream": false, "text_input": "b"}',
            "[request id: <id_unknown>] input 'stream' already exists in request",
        ),
        (b"[]", "failed to parse the generate request: attempt to get members for non-object"),
    ],
)
def test_wrong_bodies_are_refused(body, words):
    """In Triton's words where it has some."""
    with pytest.raises(Refusal) as refused:
        decode(body, LLM, Tensor)
    assert refused.value.message == words


def test_a_response_is_one_flat_object_in_alphabetical_order():
    """One element stands without brackets, several keep theirs."""
    outputs = [
        Tensor("TEXT", "BYTES", (1,), b"\2\0\0\0hi"),
        Tensor("OUT", "FP32", (2,), np.array([1, 2], "<f4").tobytes()),
    ]
    assert encode("m", "1", "x", {"final": True}, outputs) == (
        b'{"OUT":[1.0,2.0],"TEXT":"hi","final":true,"id":"x","model_name":"m","model_version":"1"}'
    )
