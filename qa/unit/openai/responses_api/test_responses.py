import asyncio

import openai
import pydantic
import pytest

from tritium.core.errors import WorkerLost
from tritium.openai.options import OpenAIOptions

REPLY = "a model repository is a folder"


def _prompt(door, place=-1):
    """Return the text of what a request asked the fleet."""
    return door.fleet.tokenizer.decode(door.fleet.requests[place].token_ids)


async def test_whole(door):
    """A text gets a response of one message, with usage that has details."""
    door.say(cached_tokens=2)
    response = await door.client.responses.create(
        model="story", input="hello", instructions="Be short.", temperature=0.5, metadata={"a": "b"}
    )
    assert (response.output_text, response.status, response.object) == (REPLY, "completed", "response")
    [message] = response.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert response.usage.input_tokens == len(door.fleet.requests[0].token_ids)
    assert response.usage.input_tokens_details.cached_tokens == 2
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert (response.instructions, response.temperature, response.metadata) == ("Be short.", 0.5, {"a": "b"})
    assert _prompt(door) == "Be short.hello"


async def test_items(door):
    """Messages, calls and their outputs become the turns of a chat."""
    items = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "rain", "annotations": []}],
        },
        {"role": "user", "content": "sure?"},
    ]
    await door.client.responses.create(model="story", input=items, instructions="Be short.")
    assert _prompt(door) == "Be short.\n\nBe kind.weather?rainsure?"


async def test_continued(door):
    """A response can be continued by its id: with what was said, but without its instructions."""
    create = door.client.responses.create
    first = await create(model="story", input="one", instructions="Be short.")
    second = await create(model="story", input="two", previous_response_id=first.id)
    third = await create(model="story", input="three", previous_response_id=second.id)
    assert _prompt(door) == f"one{REPLY}two{REPLY}three"
    assert third.previous_response_id == second.id
    with pytest.raises(openai.BadRequestError) as refused:
        await create(model="story", input="x", previous_response_id="resp_none")
    assert refused.value.code == "previous_response_not_found"


async def test_kept(door):
    """A response is kept unless store is false; it can be read, listed and deleted."""
    responses = door.client.responses
    made = await responses.create(model="story", input=[{"role": "user", "content": t} for t in ("one", "two")])
    assert await responses.retrieve(made.id) == made
    latest = [item.content[0].text async for item in responses.input_items.list(made.id)]
    assert latest == ["two", "one"]
    page = await responses.input_items.list(made.id, order="asc", limit=1)
    assert ([i.content[0].text for i in page.data], page.has_more) == (["one"], True)
    rest = await responses.input_items.list(made.id, order="asc", after=page.data[0].id)
    assert [i.content[0].text for i in rest.data] == ["two"]
    await responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await responses.retrieve(made.id)
    unkept = await responses.create(model="story", input="x", store=False)
    with pytest.raises(openai.NotFoundError):
        await responses.retrieve(unkept.id)


async def test_listed_messages_have_parts(door):
    """Texts are parts of their messages, as OpenAI lists them: of what the model said, output; of the rest, input."""
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "system")]
    made = await door.client.responses.create(model="story", input=turns)
    items = [item async for item in door.client.responses.input_items.list(made.id, order="asc")]
    kinds = [(item.role, item.content[0].type) for item in items]
    assert kinds == [("user", "input_text"), ("assistant", "output_text"), ("system", "input_text")]


async def test_reference_to_an_item(door):
    """An item that is kept can be sent by its id alone."""
    first = await door.client.responses.create(model="story", input="one")
    reference = {"type": "item_reference", "id": first.output[0].id}
    await door.client.responses.create(model="story", input=[reference, {"role": "user", "content": "two"}])
    assert _prompt(door) == f"{REPLY}two"
    lost = [{"type": "item_reference", "id": "msg_none"}]
    assert (await door.http.post("/v1/responses", json={"model": "story", "input": lost})).status_code == 404


async def test_events(door):
    """A stream's events come in OpenAI's order, and their numbers count them."""
    stream = await door.client.responses.create(model="story", input="hello", stream=True)
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].response.status == events[1].response.status == "in_progress"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == REPLY
    assert events[-4].text == REPLY
    final = events[-1].response
    assert (final.output_text, final.status) == (REPLY, "completed")
    assert await door.client.responses.retrieve(final.id) == final


async def test_stream_helper(door):
    """The client's own helper follows the events and has the response at the end."""
    async with door.client.responses.stream(model="story", input="hello") as stream:
        seen = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert "response.completed" in seen
    assert final.output_text == REPLY


class Answer(pydantic.BaseModel):
    city: str
    degrees: int


async def test_parse(door):
    """The client's parse asks for a JSON schema, which goes to the engine, and reads the answer by it."""
    door.say(reply='{"city": "Oslo", "degrees": 3}')
    response = await door.client.responses.parse(model="story", input="weather?", text_format=Answer)
    assert response.output_parsed == Answer(city="Oslo", degrees=3)
    schema = door.fleet.requests[0].sampling["structured_outputs"]["json"]
    assert schema["required"] == ["city", "degrees"]
    assert response.text.format.type == "json_schema"


async def test_synchronous_client(door):
    """The synchronous client creates, streams, reads and deletes."""

    def use():
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key="none", max_retries=0) as client:
            whole = client.responses.create(model="story", input="hello")
            with client.responses.stream(model="story", input="hello") as stream:
                streamed = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
            read = client.responses.retrieve(whole.id).output_text
            client.responses.delete(whole.id)
            return whole.output_text, streamed, read

    assert await asyncio.to_thread(use) == (REPLY, REPLY, REPLY)


@pytest.mark.parametrize("stream", [False, True])
async def test_cut_short(door, stream):
    """A response that reaches max_output_tokens is incomplete and says why."""
    asked = {"model": "story", "input": "hello", "max_output_tokens": 3}
    if stream:
        events = [e async for e in await door.client.responses.create(**asked, stream=True)]
        assert events[-1].type == "response.incomplete"
        response = events[-1].response
    else:
        response = await door.client.responses.create(**asked)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output[0].status == "incomplete"
    assert response.usage.output_tokens == 3


async def test_scores(door):
    """include asks for the scores of the text's tokens, whole and streamed."""
    asked = {"model": "story", "input": "x", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = await door.client.responses.create(**asked)
    scores = whole.output[0].content[0].logprobs
    assert [len(s.top_logprobs) for s in scores] == [2] * len(scores)
    events = [e async for e in await door.client.responses.create(**asked, stream=True)]
    streamed = [s.token for e in events if e.type == "response.output_text.delta" for s in e.logprobs]
    assert "".join(streamed).startswith(REPLY)


async def test_truncation(open_door):
    """A conversation beyond the context is refused, or loses its oldest turns where truncation is auto."""
    async with open_door(context_tokens=60) as door:
        door.say(reply="yes")
        items = [{"role": "system", "content": "Be."}] + [
            {"role": "user", "content": f"{n} the router"} for n in range(30)
        ]
        with pytest.raises(openai.BadRequestError) as refused:
            await door.client.responses.create(model="story", input=items)
        assert refused.value.code == "context_length_exceeded"
        await door.client.responses.create(model="story", input=items, truncation="auto", max_output_tokens=5)
        prompt = _prompt(door)
        assert prompt.startswith("Be.")
        assert prompt.endswith("29 the router")
        kept = prompt.count("the router")
        assert 0 < kept < 30
        longer = [items[0], *items[30 - kept :]]
        with pytest.raises(openai.BadRequestError):
            await door.client.responses.create(model="story", input=longer, max_output_tokens=5)


async def test_background(door):
    """A background response is queued at once, and read when it is completed."""
    door.say(hold_at=3)
    queued = await door.client.responses.create(model="story", input="hello", background=True)
    assert (queued.status, queued.background, queued.output) == ("queued", True, [])
    await asyncio.wait_for(door.fleet.held.wait(), 60)
    assert (await door.client.responses.retrieve(queued.id)).status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="in_progress"):
        await door.client.responses.create(model="story", input="x", previous_response_id=queued.id)
    door.fleet.released.set()
    await asyncio.wait_for(door.fleet.finished.wait(), 60)
    done = await door.client.responses.retrieve(queued.id)
    assert (done.status, done.output_text) == ("completed", REPLY)
    assert door.model.statistics.pending == 0


async def test_background_cancelled(open_door):
    """Cancelling ends the generation and gives its place back; any other response cannot be cancelled."""
    async with open_door(OpenAIOptions(max_inflight=1)) as door:
        door.say(hold_at=3)
        queued = await door.client.responses.create(model="story", input="hello", background=True)
        await asyncio.wait_for(door.fleet.held.wait(), 60)
        with pytest.raises(openai.RateLimitError):
            await door.client.responses.create(model="story", input="x")
        cancelled = await door.client.responses.cancel(queued.id)
        assert cancelled.status == "cancelled"
        await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
        door.say(hold_at=None)
        other = await door.client.responses.create(model="story", input="x")
        with pytest.raises(openai.BadRequestError, match="background"):
            await door.client.responses.cancel(other.id)


async def test_background_cancelled_when_it_is_over(door):
    """Cancelling again, or what has ended by itself, gives the response as it is, as OpenAI does."""
    queued = await door.client.responses.create(model="story", input="hello", background=True)
    async with asyncio.timeout(60):
        while (await door.client.responses.retrieve(queued.id)).status != "completed":
            pass
    for _ in range(2):
        over = await door.client.responses.cancel(queued.id)
        assert (over.status, over.output_text) == ("completed", REPLY)


async def test_background_that_fails(door):
    """A background response whose worker dies is kept as failed, with the reason."""
    door.say(fail_at=2, failure=WorkerLost("worker w died"))
    queued = await door.client.responses.create(model="story", input="hello", background=True)
    async with asyncio.timeout(60):
        while (response := await door.client.responses.retrieve(queued.id)).status != "failed":
            pass
    assert (response.error.code, response.error.message) == ("server_error", "worker w died")


async def test_failure(door):
    """A failure before the first token is an HTTP error, after it the event response.failed."""
    door.say(fail_at=0, failure=WorkerLost("worker w died"))
    with pytest.raises(openai.InternalServerError, match="worker w died"):
        await door.client.responses.create(model="story", input="x", stream=True)
    door.say(fail_at=3)
    events = [e async for e in await door.client.responses.create(model="story", input="x", stream=True)]
    assert events[-1].type == "response.failed"
    assert (events[-1].response.status, events[-1].response.error.message) == ("failed", "worker w died")


async def test_responses_belong_to_their_key(open_door):
    """What one key asked for, another cannot see."""
    async with open_door(keys=("sk-one", "sk-two")) as door:
        one, two = (door.client.with_options(api_key=key) for key in ("sk-one", "sk-two"))
        made = await one.responses.create(model="story", input="hello")
        assert (await one.responses.retrieve(made.id)).id == made.id
        with pytest.raises(openai.NotFoundError):
            await two.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError):
            await two.responses.create(model="story", input="x", previous_response_id=made.id)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": "x", "colour": 1}, "colour"),
        ({"input": [{"role": "user", "content": "x"}] * 20_000}, "input"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "ghost", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": "x", "background": True, "store": False}, "store"),
        ({"input": "x", "background": True, "stream": True}, "stream"),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"input": "x", "truncation": "some"}, "truncation"),
    ],
)
async def test_refused(door, body, param):
    """What is at fault is named."""
    answer = await door.http.post("/v1/responses", json={"model": "story", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
