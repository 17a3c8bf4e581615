import asyncio
import base64

import numpy as np
import openai
import pytest

from tritium.core.errors import WorkerLost
from tritium.llm.model import ModelDefaults


@pytest.fixture
async def door(open_door):
    async with open_door(tasks=("embed", "token_embed", "classify")) as opened:
        yield opened


def _expected(door, token_ids):
    counts = np.bincount(np.array(token_ids) % 16, minlength=16)
    return counts.tolist()


async def test_one_text(door):
    """A text gets one vector; the client asks for base64 by itself and unpacks it."""
    answer = await door.client.embeddings.create(model="story", input="a model repository")
    ids = door.fleet.tokenizer.encode_now("a model repository", add_special=True)
    assert [d.embedding for d in answer.data] == [_expected(door, ids)]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (len(ids), len(ids))
    assert answer.model == "story"


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_encodings(door, encoding):
    """Vectors come as numbers or as little-endian float32 in base64."""
    answer = await door.http.post(
        "/v1/embeddings", json={"model": "story", "input": [[5, 6], [7]], "encoding_format": encoding}
    )
    got = [d["embedding"] for d in answer.json()["data"]]
    if encoding == "base64":
        got = [np.frombuffer(base64.b64decode(text), "<f4").tolist() for text in got]
    assert got == [_expected(door, [5, 6]), _expected(door, [7])]


@pytest.mark.parametrize(("given", "count"), [("one", 1), (["one", "two"], 2), ([5, 6, 7], 1), ([[5], [6, 7]], 2)])
async def test_inputs(door, given, count):
    """A text, token ids, or a list of either; indexes count through them."""
    answer = await door.client.embeddings.create(model="story", input=given, encoding_format="float")
    assert [d.index for d in answer.data] == list(range(count))
    assert len(door.fleet.pooled) == count
    assert {request.task for request in door.fleet.pooled} == {"embed"}


async def test_dimensions(door):
    """dimensions goes to the engine."""
    answer = await door.client.embeddings.create(model="story", input="x", dimensions=4)
    assert len(answer.data[0].embedding) == 4
    assert door.fleet.pooled[0].parameters == {"dimensions": 4}


async def test_too_long(door):
    """A text beyond the context is refused, or cut to what is asked for."""
    ids = list(range(10, 210)) * 2
    with pytest.raises(openai.BadRequestError) as refused:
        await door.client.embeddings.create(model="story", input=ids)
    assert refused.value.code == "context_length_exceeded"
    for body, kept in (
        ({"truncate_prompt_tokens": -1}, ids[:256]),
        ({"truncate_prompt_tokens": 7}, ids[:7]),
        ({"truncate_prompt_tokens": 7, "truncation_side": "left"}, ids[-7:]),
    ):
        await door.client.embeddings.create(model="story", input=ids, extra_body=body)
        assert door.fleet.pooled[-1].token_ids == kept


async def test_classes(open_door):
    """Every text gets its probabilities, and the name of the likeliest class where the model names it."""
    async with open_door(tasks=("classify",), defaults=ModelDefaults(labels={1: "joy"})) as door:
        answer = await door.http.post("/classify", json={"model": "story", "input": ["x", "y"]})
        assert [(d["index"], d["label"], d["num_classes"]) for d in answer.json()["data"]] == [
            (0, "joy", 3),
            (1, "joy", 3),
        ]
        assert answer.json()["data"][0]["probs"] == [0.25, 0.5, 0.25]


async def test_pooling(door):
    """/pooling gives the engine's numbers as they are: by default a vector a text, or one a token."""
    one = await door.http.post("/pooling", json={"model": "story", "input": [[5, 6]]})
    assert one.json()["data"][0]["data"] == _expected(door, [5, 6])
    many = await door.http.post("/pooling", json={"model": "story", "input": [[5, 6]], "task": "token_embed"})
    assert many.json()["data"][0]["data"] == [_expected(door, [5]), _expected(door, [6])]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": ""}, None),
        ("/v1/embeddings", {"input": [""]}, None),
        ("/v1/embeddings", {"input": [1, "x"]}, "input"),
        ("/v1/embeddings", {"input": [-4]}, "input"),
        ("/v1/embeddings", {"input": ["x"] * 2049}, "input"),
        ("/v1/embeddings", {"input": "x", "dimensions": 0}, "dimensions"),
        ("/v1/embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ("/v1/embeddings", {"input": "x", "truncate_prompt_tokens": 9999}, "truncate_prompt_tokens"),
        ("/v1/embeddings", {"input": ["x", "a" * 4_200_000], "truncate_prompt_tokens": 4}, "input[1]"),
        ("/pooling", {"input": "x", "task": "dream"}, "task"),
        ("/pooling", {"input": "x", "dimensions": -1}, "dimensions"),
    ],
)
async def test_refused(door, path, body, param):
    """What is at fault is named."""
    answer = await door.http.post(path, json={"model": "story", **body})
    if param is None:  # the start token alone is a prompt
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_model_that_does_not_pool(open_door):
    """A model that only generates refuses, and says what it does."""
    async with open_door() as door:
        for path in ("/v1/embeddings", "/classify", "/pooling"):
            answer = await door.http.post(path, json={"model": "story", "input": "x"})
            assert answer.status_code == 400
            assert "it does generate" in answer.json()["error"]["message"]


async def test_failure_and_leaving(door):
    """A worker that dies is an error; a client that leaves cancels what is under way."""
    door.say(failure=WorkerLost("worker w died"))
    with pytest.raises(openai.InternalServerError, match="worker w died"):
        await door.client.embeddings.create(model="story", input=["x", "y"])
    door.say(failure=None, hold_at=0)
    asking = asyncio.create_task(door.client.embeddings.create(model="story", input=["x", "y"]))
    await asyncio.wait_for(door.fleet.held.wait(), 60)
    asking.cancel()
    await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
    await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(60):
        while door.model.statistics.pending:
            await door.http.get("/ping")
