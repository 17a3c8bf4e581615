import asyncio

import anthropic
import openai
import pytest

from tritium.openai.options import OpenAIOptions

HELLO = [{"role": "user", "content": "hello"}]
HURRIED = OpenAIOptions(timeout_s=0.5, max_inflight=1)
"""One place, so that a request which has not given its own back is noticed by the next one."""


@pytest.fixture
async def hurried(open_door):
    async with open_door(HURRIED) as door:
        door.say(endless=True, hold_at=3)
        yield door


async def is_given_up(door) -> None:
    """Check that nothing is left of a request: neither in the engine nor among those under way."""
    await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
    door.fleet.cancelled.clear()
    assert door.model.statistics.pending == 0
    door.say(endless=False, hold_at=None)
    answer = await door.client.chat.completions.create(model="story", messages=HELLO)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("hold_at", [0, 3])
async def test_whole_answer(hurried, hold_at):
    """An answer that is not whole in time is a 504, and its generation is cancelled."""
    hurried.say(hold_at=hold_at)
    with pytest.raises(openai.InternalServerError) as late:
        await hurried.client.chat.completions.create(model="story", messages=HELLO, n=2)
    error = late.value.response.json()["error"]
    assert (late.value.status_code, error["type"], error["code"]) == (504, "timeout_error", "request_timeout")
    assert "0.5 s" in error["message"]
    await is_given_up(hurried)


async def test_stream_without_a_token(hurried):
    """A stream whose first token is not there in time is a 504."""
    hurried.say(hold_at=0)
    with pytest.raises(openai.InternalServerError) as late:
        await hurried.client.completions.create(model="story", prompt="hello", stream=True)
    assert late.value.status_code == 504
    await is_given_up(hurried)


async def test_stream(hurried):
    """A stream that has begun ends with an error event, and without [DONE]."""
    body = {"model": "story", "messages": HELLO, "stream": True}
    text = (await hurried.http.post("/v1/chat/completions", json=body)).text
    events = text.strip().split("\n\n")
    assert len(events) > 2
    assert '"code":"request_timeout"' in events[-1]
    assert "[DONE]" not in text
    await is_given_up(hurried)


async def test_in_time(open_door):
    """A request that ends in time is not touched, and leaves no timer behind."""
    async with open_door(OpenAIOptions(timeout_s=30)) as door:
        stream = await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
        assert not [timer for timer in timers if "Deadline" in repr(timer)]


async def test_responses(hurried):
    """A response that streams fails by its event; one in the background is kept as failed."""
    stream = await hurried.client.responses.create(model="story", input="hello", stream=True)
    last = [event async for event in stream][-1]
    assert (last.type, last.response.error.code) == ("response.failed", "server_error")
    assert "0.5 s" in last.response.error.message
    queued = await hurried.client.responses.create(model="story", input="hello", background=True)
    async with asyncio.timeout(60):
        while (response := await hurried.client.responses.retrieve(queued.id)).status != "failed":
            pass
    assert "0.5 s" in response.error.message
    await is_given_up(hurried)


async def test_messages(hurried):
    """Anthropic's clients get a timeout in their own shape."""
    client = anthropic.AsyncAnthropic(
        base_url=hurried.url, api_key="none", max_retries=0, http_client=anthropic.DefaultAsyncHttpxClient(verify=False)
    )
    with pytest.raises(anthropic.APIStatusError) as late:
        await client.messages.create(model="story", max_tokens=100, messages=HELLO)
    assert (late.value.status_code, late.value.body["error"]["type"]) == (504, "timeout_error")
    await is_given_up(hurried)
    await client.close()


async def test_embeddings(open_door):
    """Pooling that takes too long is a 504, and is cancelled in the engine."""
    async with open_door(HURRIED, tasks=("embed",)) as door:
        door.say(hold_at=0)
        with pytest.raises(openai.InternalServerError) as late:
            await door.client.embeddings.create(model="story", input="hello")
        assert late.value.status_code == 504
        await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
        door.say(hold_at=None)
        assert (await door.client.embeddings.create(model="story", input="hello")).data
        assert door.model.statistics.pending == 0
