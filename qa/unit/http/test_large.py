"""Large JSON bodies are read as small ones are, and hold up nobody."""

import asyncio

import numpy as np
import orjson
import pytest

from tritium.core import check
from tritium.core.bytes_walk import LONG_BYTES
from tritium.core.errors import Internal
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import Tensor, join_bytes
from tritium.http import generate
from tritium.http.aside import LARGE_BYTES, LargeBodies

COUNT = LARGE_BYTES // 4
INFER = "/v2/models/identity_fp32/infer"


def numbers(count=COUNT):
    """A body of that many numbers."""
    head = f'{{"inputs":[{{"name":"INPUT0","shape":[{count}],"datatype":"FP32","data":['
    return head + ",".join(f"{number}.25" for number in range(count)) + "]}]}"


async def turns_during(awaited):
    """Count the turns of 1 ms that the loop takes while something is awaited; return them with its result."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counting = asyncio.create_task(count())
    result = await awaited
    counting.cancel()
    return turns, result


async def test_a_large_body_is_read_as_a_small_one_is(client):
    """Its numbers come to the model, and back."""
    answer = await client.post(INFER, content=numbers(), headers={"Content-Type": "application/json"})
    assert answer.json()["outputs"][0]["data"][-3:] == [COUNT - 3 + 0.25, COUNT - 2 + 0.25, COUNT - 1 + 0.25]


async def test_binary_tensors_behind_large_json_are_views_of_the_body(client):
    """The JSON alone goes to the other process; what follows it is taken where it is."""
    data = np.arange(5, dtype=np.float32).tobytes()
    head = '{"inputs":[{"name":"INPUT0","shape":[5],"datatype":"FP32","parameters":{"binary_data_size":20}}]'
    head += " " * LARGE_BYTES + "}"
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await client.post(INFER, content=head.encode() + data, headers=headers)
    assert answer.json()["outputs"][0]["data"] == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("path", [INFER, "/v2/models/identity_fp32/generate"])
async def test_what_is_wrong_with_a_large_body_is_said_in_the_same_words(client, path):
    """The offset is that of the whole text."""
    broken = numbers()[:-1]
    answer = await client.post(path, content=broken)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("failed to parse the request JSON buffer: Missing a comma or }")
    assert answer.json()["error"].endswith(f" at {len(broken)}")


async def test_shared_memory_is_looked_up_where_it_is(client):
    """A large body that names a region is told what a small one is told."""
    source = '{"shared_memory_region":"none","shared_memory_byte_size":16}'
    head = '{"inputs":[{"name":"INPUT0","shape":[4],"datatype":"FP32","parameters":' + source + "}]"
    small, large = [await client.post(INFER, content=head + room + "}") for room in ("", " " * LARGE_BYTES)]
    assert (small.status_code, small.text) == (large.status_code, large.text)
    assert small.status_code >= 400


async def test_others_are_served_while_a_large_broken_body_is_read(client):
    """The worst there is: a parser would hold up everybody for a second."""
    turns, answer = await turns_during(client.post(INFER, content="[" * (4 << 20)))
    assert answer.status_code == 500
    assert turns > 50


async def test_a_reader_that_is_cancelled_leaves_no_half_word_to_the_next():
    """The process that was given up is replaced."""
    large = LargeBodies()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await large.infer(b"[" * (4 << 20), 4 << 20, "m", 0)
    call = await large.infer(numbers().encode(), len(numbers()), "m", 0)
    assert len(call.inputs[0].data) == 4 * COUNT


async def test_a_process_that_dies_is_told_and_replaced():
    """Its request fails; the next one is read."""
    large = LargeBodies()
    await large.infer(numbers().encode(), len(numbers()), "m", 0)
    large.process.kill()
    with pytest.raises(Internal, match="the process that reads large JSON has ended"):
        await large.infer(numbers().encode(), len(numbers()), "m", 0)
    call = await large.infer(numbers().encode(), len(numbers()), "m", 0)
    assert len(call.inputs[0].data) == 4 * COUNT


async def test_a_large_answer_is_generated_in_slices():
    """Others have their turns while its numbers are written, and they are those of a small answer."""
    data = np.full(1 << 20, 1.25, np.float32).tobytes()
    response = InferResponse("m", "1", outputs=[Tensor("OUT", "FP32", (1 << 20,), data)])
    turns, (status, body) = await turns_during(generate.encode_item(response, InferRequest("m")))
    assert status == 200
    assert orjson.loads(body) == {"OUT": [1.25] * (1 << 20), "model_name": "m", "model_version": "1"}
    assert turns > 3


async def test_long_strings_are_walked_before_they_are_checked(client, monkeypatch):
    """In slices, with others served between them: the check of the request finds them walked, and does not walk."""
    monkeypatch.setattr(check, "walk_bytes", _not_here)
    words = [b"x" * (number % 5) for number in range(LONG_BYTES // 4)]
    data = join_bytes(words)
    head = f'{{"inputs":[{{"name":"INPUT0","shape":[{len(words)}],"datatype":"BYTES","parameters":'
    head += f'{{"binary_data_size":{len(data)}}}}}],"parameters":{{"binary_data_output":true}}}}'
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await client.post("/v2/models/identity_string/infer", content=head.encode() + data, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.content.endswith(data)


def _not_here(data, expected):
    raise AssertionError("walked all at once")
