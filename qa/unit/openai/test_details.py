import json

import openai
import pytest

from tritium.llm.template import ChatTemplate
from tritium.llm.tokenizer import Tokenizer

HELLO = {"model": "story", "prompt": "hello"}
CHAT = {"model": "story", "messages": [{"role": "user", "content": "hello"}]}


async def _whole(door, path="completions", **body):
    asked = HELLO if path == "completions" else CHAT
    answer = await door.http.post(f"/v1/{path}", json={**asked, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _chunks(door, path="completions", **body):
    asked = HELLO if path == "completions" else CHAT
    answer = await door.http.post(f"/v1/{path}", json={**asked, **body, "stream": True})
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line, object_pairs_hook=_once) for line in lines]


def _once(pairs):
    """Return an object whose names are each there once."""
    assert len({name for name, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


def _ids(door, text, *, add_special=False):
    return door.fleet.tokenizer.encode_now(text, add_special=add_special)


async def test_token_ids_of_a_completion(door):
    """return_token_ids adds the ids of prompt and completion to every choice; without it they are not there."""
    [choice] = (await _whole(door, return_token_ids=True))["choices"]
    assert choice["prompt_token_ids"] == _ids(door, "hello", add_special=True)
    assert choice["token_ids"] == [*_ids(door, choice["text"]), door.fleet.end_token]
    [plain] = (await _whole(door))["choices"]
    assert "token_ids" not in plain


async def test_token_ids_of_a_stream(door):
    """In a stream every event has its tokens' ids, the first the prompt's too."""
    chunks = await _chunks(door, return_token_ids=True)
    choices = [c for chunk in chunks for c in chunk["choices"]]
    assert choices[0]["prompt_token_ids"] == _ids(door, "hello", add_special=True)
    told = [i for c in choices for i in c["token_ids"]]
    assert told == [*_ids(door, "".join(c["text"] for c in choices)), door.fleet.end_token]


async def test_token_ids_of_a_chat(door):
    """A chat tells the prompt's ids beside its choices, whole and streamed."""
    whole = await _whole(door, "chat/completions", return_token_ids=True)
    asked = door.fleet.requests[0].token_ids
    assert whole["prompt_token_ids"] == asked
    told = whole["choices"][0]["token_ids"]
    chunks = await _chunks(door, "chat/completions", return_token_ids=True)
    assert [c["prompt_token_ids"] for c in chunks if "prompt_token_ids" in c] == [asked]
    assert [i for c in chunks for x in c["choices"] for i in x.get("token_ids", [])] == told


async def test_token_ids_of_split_characters(door):
    """Ids of tokens that are no character yet come with the event that shows it."""
    door.say(reply="日本語")
    chunks = await _chunks(door, return_token_ids=True)
    told = [i for chunk in chunks for c in chunk["choices"] for i in c["token_ids"]]
    assert told == [*_ids(door, "日本語"), door.fleet.end_token]


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_as_ids(door, stream):
    """return_tokens_as_token_ids names the tokens of log probabilities by their ids."""
    body = {"logprobs": 2, "return_tokens_as_token_ids": True}
    answers = await _chunks(door, **body) if stream else [await _whole(door, **body)]
    scores = [c["logprobs"] for a in answers for c in a["choices"] if c["logprobs"]]
    names = [t for s in scores for t in s["tokens"]]
    text = "a model repository is a folder"
    assert names == [f"token_id:{i}" for i in [*_ids(door, text), door.fleet.end_token]]
    assert all(name.startswith("token_id:") for s in scores for top in s["top_logprobs"] for name in top)
    offsets = [o for s in scores for o in s["text_offset"]]
    assert offsets[-1] == len(text)


async def test_usage_as_it_grows(door):
    """continuous_usage_stats puts the usage so far into every event."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await _chunks(door, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[-1] == len(_ids(door, "a model repository is a folder")) + 1
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {len(door.fleet.requests[0].token_ids)}
    chat = await _chunks(door, "chat/completions", stream_options=options)
    assert [chunk["usage"]["completion_tokens"] for chunk in chat[:2]] == [1, 1]
    plain = await _chunks(door, stream_options={"include_usage": True})
    assert [c["usage"] for c in plain[:-1]] == [None] * (len(plain) - 1)


async def test_scores_of_the_prompt(door):
    """prompt_logprobs gives every prompt token's score with the likeliest, by token id; none for the first."""
    ids = _ids(door, "hello", add_special=True)
    [choice] = (await _whole(door, prompt_logprobs=1))["choices"]
    scores = choice["prompt_logprobs"]
    assert scores[0] is None
    for token_id, place in zip(ids[1:], scores[1:], strict=True):
        assert place[str(token_id)] | {"decoded_token": ""} == {"logprob": -0.5, "rank": 1, "decoded_token": ""}
        assert len(place) == 2
    chat = await _whole(door, "chat/completions", prompt_logprobs=0)
    assert len(chat["prompt_logprobs"]) == len(door.fleet.requests[-1].token_ids)
    refused = await door.http.post("/v1/completions", json={**HELLO, "prompt_logprobs": 1, "stream": True})
    assert refused.json()["error"]["param"] == "prompt_logprobs"


@pytest.mark.parametrize("stream", [False, True])
async def test_echo_with_scores(door, stream):
    """echo with logprobs scores the prompt's tokens before those of the completion; the first has no score."""
    body = {"echo": True, "logprobs": 1, "max_tokens": 3}
    answers = await _chunks(door, **body) if stream else [await _whole(door, **body)]
    choices = [c for a in answers for c in a["choices"]]
    text = "".join(c["text"] for c in choices)
    assert text.startswith("helloa")
    scores = [c["logprobs"] for c in choices if c["logprobs"]]
    values = [v for s in scores for v in s["token_logprobs"]]
    prompt = _ids(door, "hello", add_special=True)
    assert values == [None] + [-0.5] * (len(prompt) - 1) + [-0.25] * 3
    tokens = [t for s in scores for t in s["tokens"]]
    assert "".join(tokens) == "<|start|>" + text
    offsets = [o for s in scores for o in s["text_offset"]]
    assert offsets == [sum(map(len, tokens[:i])) for i in range(len(tokens))]


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_scored_alone(door, stream):
    """With max_tokens 0 and echo the prompt comes back, scored, and nothing after it (as evaluations ask)."""
    body = {"echo": True, "logprobs": 1, "max_tokens": 0, "stream_options": {"include_usage": True}}
    if not stream:
        del body["stream_options"]
    answers = await _chunks(door, **body) if stream else [await _whole(door, **body)]
    choices = [c for a in answers for c in a["choices"]]
    assert "".join(c["text"] for c in choices) == "hello"
    values = [v for c in choices if c["logprobs"] for v in c["logprobs"]["token_logprobs"]]
    assert values == [None] + [-0.5] * (len(_ids(door, "hello", add_special=True)) - 1)
    assert choices[-1]["finish_reason"] == "length"
    assert answers[-1]["usage"]["completion_tokens"] == 0
    refused = await door.http.post("/v1/completions", json={**HELLO, "max_tokens": 0})
    assert refused.json()["error"]["param"] == "max_tokens"


async def test_best_of(door):
    """best_of makes more completions than are given: those of the highest log probability, best first."""
    door.say(scores=(-3.0, -1.0, -2.0), reply="yes")
    answer = await door.client.completions.create(
        **HELLO, best_of=3, n=2, logprobs=0, extra_body={"return_token_ids": True}
    )
    assert [c.logprobs.token_logprobs[0] for c in answer.choices] == [-1.0, -2.0]
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.usage.completion_tokens == 3 * (len(_ids(door, "yes")) + 1)
    [only] = (await door.client.completions.create(**HELLO, best_of=3)).choices
    assert only.logprobs is None
    several = await door.client.completions.create(model="story", prompt=["one", "two"], best_of=2)
    assert [c.index for c in several.choices] == [0, 1]


@pytest.mark.parametrize("body", [{"best_of": 1, "n": 2}, {"best_of": 2, "stream": True}, {"best_of": 500}])
async def test_best_of_refused(door, body):
    """best_of is at least n, bounded, and not for streams."""
    answer = await door.http.post("/v1/completions", json={**HELLO, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "best_of")


async def test_suffix(scripted, open_door, monkeypatch):
    """A model whose vocabulary has marks for it is asked for what stands before the suffix; any other refuses."""
    async with open_door() as door:
        with pytest.raises(openai.BadRequestError, match="vocabulary") as refused:
            await door.client.completions.create(**HELLO, suffix="world")
        assert refused.value.param == "suffix"
    backend = scripted.byte_level()
    backend.add_tokens(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    tokenizer = Tokenizer(backend, ChatTemplate(scripted.TEMPLATE, {"bos_token": "<|start|>"}))
    async with open_door(tokenizer=tokenizer) as door:
        await door.client.completions.create(**HELLO, suffix="world")
        asked = door.fleet.requests[0].token_ids
        text = "".join(tokenizer.token_bytes(i).decode() for i in asked)
        assert text == "<|start|><fim_prefix>hello<fim_suffix>world<fim_middle>"
        ids = await door.http.post("/v1/completions", json={**HELLO, "prompt": [5], "suffix": "world"})
        assert ids.json()["error"]["param"] == "suffix"
