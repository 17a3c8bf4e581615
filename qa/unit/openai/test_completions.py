import threading

import pytest

from tritium.llm.model import ModelDefaults
from tritium.openai import whole
from tritium.openai.logprobs import completion_logprobs


async def _texts(door, stream, **request):
    """Return the texts, finish reasons and whole logprobs of a request, however it is answered."""
    request = {"model": "story", "prompt": "hello", **request}
    if not stream:
        choices = (await door.client.completions.create(**request)).choices
        return [(c.text, c.finish_reason, c.logprobs) for c in choices]
    found = {}
    async for chunk in await door.client.completions.create(stream=True, **request):
        for c in chunk.choices:
            text, finish, logprobs = found.get(c.index, ("", None, None))
            if logprobs is None:
                logprobs = c.logprobs
            elif c.logprobs is not None:
                for column in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                    getattr(logprobs, column).extend(getattr(c.logprobs, column))
            found[c.index] = (text + c.text, c.finish_reason or finish, logprobs)
    return [found[i] for i in sorted(found)]


@pytest.mark.parametrize("stream", [False, True])
async def test_text(door, stream):
    """A plain completion continues the prompt with up to 16 tokens, OpenAI's default."""
    [(text, finish, logprobs)] = await _texts(door, stream)
    assert (text, finish, logprobs) == ("a model repository is a folder", "stop", None)
    assert door.fleet.requests[0].sampling["max_tokens"] == 16
    start = door.fleet.tokenizer.encode_now("hello", add_special=True)
    assert door.fleet.requests[0].token_ids == start
    assert start[0] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts(door, stream):
    """Each prompt gets n completions; indexes count through the prompts in order."""
    door.say(reply="yes")
    texts = await _texts(door, stream, prompt=["one", "two"], n=2, max_tokens=9)
    assert [t[0] for t in texts] == ["yes"] * 4
    prompts = [door.fleet.tokenizer.encode_now(p, add_special=True) for p in ("one", "one", "two", "two")]
    assert [r.token_ids for r in door.fleet.requests] == prompts


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7], [8]]])
async def test_token_ids(door, prompt):
    """Token ids are taken as they are."""
    await door.client.completions.create(model="story", prompt=prompt)
    expected = [prompt] if isinstance(prompt[0], int) else prompt
    assert [r.token_ids for r in door.fleet.requests] == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_echo(door, stream):
    """echo puts the prompt before the completion, also one given as token ids."""
    ids = door.fleet.tokenizer.encode_now("hello", add_special=False)
    for prompt in ("hello", ids):
        [(text, _, _)] = await _texts(door, stream, prompt=prompt, echo=True)
        assert text == "helloa model repository is a folder"


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(door, stream):
    """Scores come as columns: tokens, their scores, the likeliest ones, and where each token begins."""
    door.say(reply="a model")
    [(text, _, logprobs)] = await _texts(door, stream, logprobs=2)
    assert text == "a model"
    assert "".join(logprobs.tokens[:-1]) == "a model"
    assert logprobs.token_logprobs == [-0.25] * len(logprobs.tokens)
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    offsets = [0]
    for token in logprobs.tokens[:-1]:
        offsets.append(offsets[-1] + len(token))
    assert logprobs.text_offset == offsets


async def test_scores_of_many_tokens_are_written_in_a_thread(door, monkeypatch):
    """An answer with the scores of hundreds of tokens does not hold up the event loop, and is the same."""
    threads = []

    def noted(*arguments, **rest):
        threads.append(threading.get_ident())
        return completion_logprobs(*arguments, **rest)

    monkeypatch.setattr(whole, "completion_logprobs", noted)
    door.say(reply=" a model repository is a folder" * 10)
    short, long = [
        (await door.client.completions.create(model="story", prompt="x", n=n, logprobs=2, max_tokens=200)).choices
        for n in (1, 30)
    ]
    assert threads[0] == threading.get_ident()
    assert len(threads) == 31
    assert threading.get_ident() not in threads[1:]
    assert [c.logprobs for c in long] == [short[0].logprobs] * 30


async def test_defaults_of_the_model_hold_where_the_request_is_silent(open_door):
    """What generation_config.json recommends is used unless the request says otherwise."""
    async with open_door(defaults=ModelDefaults(sampling={"temperature": 0.6, "top_k": 20})) as door:
        await door.client.completions.create(model="story", prompt="x", temperature=0)
        assert door.fleet.requests[0].sampling == {"temperature": 0, "top_k": 20, "max_tokens": 16}


async def test_longest_answer_of_the_model(open_door):
    """No answer is longer than the model's configuration says, whether more was asked for or nothing was said."""
    async with open_door(defaults=ModelDefaults(most_tokens=9)) as door:
        for asked in (None, 5, 200):
            await door.client.chat.completions.create(
                model="story", messages=[{"role": "user", "content": "x"}], max_completion_tokens=asked
            )
        assert [request.sampling["max_tokens"] for request in door.fleet.requests] == [9, 5, 9]


async def test_adapters_are_models(open_door):
    """A LoRA adapter is listed beside its model, and a request by its name runs with it."""
    async with open_door(defaults=ModelDefaults(loras={"poet": "/adapters/poet"})) as door:
        cards = {card.id: card async for card in door.client.models.list()}
        assert list(cards) == ["story", "poet"]
        assert cards["poet"].parent == "story"
        assert (await door.client.models.retrieve("poet")).id == "poet"
        asked = {"model": "poet", "prompt": "x", "cache_salt": "tenant"}
        assert (await door.http.post("/router/explain", json=asked)).json()["model"] == "poet"
        assert door.fleet.explained == [("tenant", "poet")]
        await door.client.completions.create(model="poet", prompt="x")
        assert door.fleet.requests[0].lora == "poet"


async def test_usage_counts_each_prompt_once(door):
    """Prompt tokens are counted once a prompt, completion tokens once a completion."""
    door.say(reply="yes", cached_tokens=2)
    answer = await door.client.completions.create(model="story", prompt=["one", "two"], n=2)
    prompts = sum(len(door.fleet.tokenizer.encode_now(p, add_special=True)) for p in ("one", "two"))
    said = len(door.fleet.tokenizer.encode_now("yes", add_special=False)) + 1
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompts, 4 * said)
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


async def test_statistics_count_requests_not_completions(door):
    """The model's statistics have one success a request, as Triton counts them."""
    await door.client.completions.create(model="story", prompt=["one", "two"], n=2)
    statistics = door.model.statistics
    assert (statistics.success.count, statistics.inference_count, statistics.pending) == (1, 1, 0)
