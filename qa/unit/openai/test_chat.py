import asyncio
import json

import openai
import pytest

from tritium.core.errors import Unavailable, WorkerLost

HELLO = [{"role": "user", "content": "What is a model repository?"}]


async def test_whole_answer(door):
    """A chat that does not stream answers with OpenAI's object, its text, its end and its token counts."""
    answer = await door.client.chat.completions.create(model="story", messages=HELLO, max_tokens=50)
    assert answer.choices[0].message.content == "a model repository is a folder"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model == "story"
    prompt = door.fleet.requests[0].token_ids
    said = len(door.fleet.tokenizer.encode_now("a model repository is a folder", add_special=False)) + 1
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), said)
    assert answer.usage.total_tokens == len(prompt) + said


async def test_prompt_is_the_template_with_no_second_start_token(door):
    """The engine gets the rendered template in token ids; the tokenizer adds nothing to what the template wrote."""
    await door.client.chat.completions.create(model="story", messages=HELLO)
    text = "<|start|><|user|>What is a model repository?<|end|><|assistant|>"
    assert door.fleet.requests[0].token_ids == door.fleet.tokenizer.encode_now(text, add_special=False)


async def test_stream_is_the_same_text(door):
    """The deltas of a stream join to the whole answer; the first has the role, the last the finish reason."""
    door.say(reply='naïve café 🙂👍🏽 日本語 and 👩‍👩‍👧 "quoted" \\ \n\t end')
    stream = await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == door.fleet.script.reply
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({c.id for c in chunks}) == 1
    assert all("�" not in (c.choices[0].delta.content or "") for c in chunks)


@pytest.mark.parametrize("step_tokens", [1, 2, 3, 7, 1000])
async def test_steps_of_many_tokens(door, step_tokens):
    """However many tokens an engine returns a step, the text is the same."""
    door.say(reply="日本語 and 👩‍👩‍👧 again", step_tokens=step_tokens)
    stream = await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
    assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "日本語 and 👩‍👩‍👧 again"


async def test_usage_chunk(door):
    """With include_usage the last chunk has no choices and all the counts, cached tokens among them."""
    door.say(cached_tokens=16)
    stream = await door.client.chat.completions.create(
        model="story", messages=HELLO, stream=True, stream_options={"include_usage": True}, max_tokens=3
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(door.fleet.requests[0].token_ids), 3)
    assert usage.prompt_tokens_details.cached_tokens == 16
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "length"


async def test_raw_stream(door):
    """On the wire a stream is data events, each a JSON object, ended by [DONE]."""
    async with door.http.stream(
        "POST", "/v1/chat/completions", json={"model": "story", "messages": HELLO, "stream": True}
    ) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        body = (await response.aread()).decode()
    events = body.split("\n\n")
    assert events[-1] == ""
    assert events[-2] == "data: [DONE]"
    for event in events[:-2]:
        chunk = json.loads(event.removeprefix("data: "))
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_string_across_tokens(door, stream):
    """A stop string ends the text before it, however tokens cut it, and the generation is cancelled in the engine."""
    door.say(reply="the answer is yes, and then much more", endless=True)
    answer = await _text(door, stream, stop=["es, an"])
    assert answer == ("the answer is y", "stop")
    assert door.fleet.generations[0].cancelled


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_string_that_does_not_come(door, stream):
    """Text that only began like a stop string is sent after all."""
    door.say(reply="the answer is yes")
    assert await _text(door, stream, stop="yes!") == ("the answer is yes", "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_string_kept(door, stream):
    """include_stop_str_in_output leaves the stop string in the text."""
    door.say(reply="the answer is yes, and more", endless=True)
    body = {"include_stop_str_in_output": True}
    assert await _text(door, stream, stop="yes,", extra_body=body) == ("the answer is yes,", "stop")


async def test_stop_token(door):
    """A token of stop_token_ids is not shown, is counted, and is named as stop_reason."""
    stop = door.fleet.tokenizer.encode_now(" folder", add_special=False)[-1]
    door.say(reply="a model", stop_token=stop)
    answer = await door.client.chat.completions.create(
        model="story", messages=HELLO, extra_body={"stop_token_ids": [stop]}
    )
    assert answer.choices[0].message.content == "a model"
    assert answer.choices[0].stop_reason == stop
    assert door.fleet.requests[0].sampling["stop_token_ids"] == [stop]


async def test_sampling_reaches_the_engine_by_vllm_names(door):
    """Fields the client set, and no others, go to the engine; text's own fields stay in the front."""
    await door.client.chat.completions.create(
        model="story",
        messages=HELLO,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        max_completion_tokens=5,
        presence_penalty=1,
        logit_bias={"5": 10},
        stop="zzz",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        extra_body={"top_k": 4, "min_p": 0.1, "ignore_eos": True, "vllm_xargs": {"deep": 1}},
    )
    assert door.fleet.requests[0].sampling == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "max_tokens": 5,
        "presence_penalty": 1,
        "logit_bias": {5: 10},
        "top_k": 4,
        "min_p": 0.1,
        "ignore_eos": True,
        "extra_args": {"deep": 1},
        "structured_outputs": {"json": {"type": "object"}},
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_several_completions(door, stream):
    """n completions are n generations with seeds of their own, told apart by index."""
    request = {"model": "story", "messages": HELLO, "n": 3, "seed": 40, "max_tokens": 4}
    if stream:
        texts = ["", "", ""]
        reasons = {}
        async for chunk in await door.client.chat.completions.create(stream=True, **request):
            choice = chunk.choices[0]
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
        assert reasons == {0: "length", 1: "length", 2: "length"}
    else:
        answer = await door.client.chat.completions.create(**request)
        texts = [choice.message.content for choice in answer.choices]
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage.completion_tokens == 12
        assert answer.usage.prompt_tokens == len(door.fleet.requests[0].token_ids)
    assert len(set(texts)) == 1
    assert texts[0]
    assert [r.sampling["seed"] for r in door.fleet.requests] == [40, 41, 42]


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(door, stream):
    """Scores come with every token: its own, its bytes, and the likeliest ones asked for."""
    door.say(reply="日 a", step_tokens=2)
    request = {"model": "story", "messages": HELLO, "logprobs": True, "top_logprobs": 2}
    if stream:
        content = []
        text = ""
        async for chunk in await door.client.chat.completions.create(stream=True, **request):
            text += chunk.choices[0].delta.content or ""
            if chunk.choices[0].logprobs:
                content += chunk.choices[0].logprobs.content
        assert text == "日 a"
    else:
        answer = await door.client.chat.completions.create(**request)
        content = answer.choices[0].logprobs.content
    ids = [*door.fleet.tokenizer.encode_now("日 a", add_special=False), door.fleet.end_token]
    assert len(content) == len(ids)
    assert bytes(b for entry in content[:-1] for b in entry.bytes).decode() == "日 a"
    assert content[-1].token == "<|end|>"
    assert all(entry.logprob == -0.25 for entry in content)
    assert [len(entry.top_logprobs) for entry in content] == [2] * len(ids)
    assert content[0].top_logprobs[0].bytes == content[0].bytes
    assert door.fleet.requests[0].sampling["logprobs"] == 2


async def test_content_parts(door):
    """A list of text parts is the same conversation as their text."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    await door.client.chat.completions.create(model="story", messages=parts)
    await door.client.chat.completions.create(model="story", messages=[{"role": "user", "content": "one\ntwo"}])
    assert door.fleet.requests[0].token_ids == door.fleet.requests[1].token_ids


async def test_continue_final_message(door):
    """continue_final_message ends the prompt inside the last message."""
    messages = [*HELLO, {"role": "assistant", "content": "It is"}]
    await door.client.chat.completions.create(
        model="story", messages=messages, extra_body={"continue_final_message": True}
    )
    text = "<|start|><|user|>What is a model repository?<|end|><|assistant|>It is"
    assert door.fleet.requests[0].token_ids == door.fleet.tokenizer.encode_now(text, add_special=False)


async def test_default_max_tokens_is_the_rest_of_the_context(door):
    """A chat without max_tokens may fill the context."""
    await door.client.chat.completions.create(model="story", messages=HELLO)
    request = door.fleet.requests[0]
    assert request.sampling["max_tokens"] == door.fleet.context_tokens - len(request.token_ids)


async def test_failure_before_the_first_token_is_an_http_error(door):
    """A generation that fails before its first token is answered with its status, also when streaming was asked."""
    door.say(fail_at=0, failure=Unavailable("no worker became ready"))
    with pytest.raises(openai.InternalServerError) as caught:
        await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
    assert caught.value.status_code == 503
    assert caught.value.body["message"] == "no worker became ready"


async def test_failure_in_the_middle_of_a_stream(door):
    """A generation that fails midway ends the stream with an error event and without [DONE]."""
    door.say(fail_at=3, failure=WorkerLost("worker worker_0 died under the request"))
    stream = await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
    assert len([await anext(stream) for _ in range(4)]) == 4
    with pytest.raises(openai.APIError, match="worker_0 died"):
        await anext(stream)
    raw = await door.http.post("/v1/chat/completions", json={"model": "story", "messages": HELLO, "stream": True})
    assert raw.text.rstrip().splitlines()[-1].startswith('data: {"error":')
    assert "[DONE]" not in raw.text


async def test_client_that_leaves_is_not_generated_for(door):
    """Closing the connection in the middle of a stream cancels the generation in the engine."""
    door.say(endless=True, hold_at=5)
    stream = await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
    await anext(aiter(stream))
    await asyncio.wait_for(door.fleet.held.wait(), 60)
    await stream.close()
    await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
    assert door.model.statistics.failures == {"CANCELED": 1}
    assert door.model.statistics.pending == 0


async def test_client_that_leaves_before_the_first_token(door):
    """Closing the connection while the answer is still being computed cancels it too."""
    door.say(hold_at=0)
    asked = asyncio.create_task(door.http.post("/v1/chat/completions", json={"model": "story", "messages": HELLO}))
    await asyncio.wait_for(door.fleet.held.wait(), 60)
    asked.cancel()
    await asyncio.wait_for(door.fleet.cancelled.wait(), 60)


async def _text(door, stream, **request):
    request = {"model": "story", "messages": HELLO, "max_tokens": 100, **request}
    if not stream:
        choice = (await door.client.chat.completions.create(**request)).choices[0]
        return choice.message.content, choice.finish_reason
    text, finish = "", None
    async for chunk in await door.client.chat.completions.create(stream=True, **request):
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    return text, finish
