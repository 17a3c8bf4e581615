import asyncio
import json
import socket

import anthropic
import pytest

from tritium.core.errors import WorkerLost
from tritium.openai.options import OpenAIOptions

HELLO = {"model": "story", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


async def test_whole(door, clients):
    """A message has text, a reason, and usage in Anthropic's terms: cached tokens are no input tokens."""
    door.say(cached_tokens=2)
    async with clients.aio as client:
        message = await client.messages.create(**HELLO, system="Be short.", extra_body={"temperature": 0.5, "top_k": 3})
    assert [(b.type, b.text) for b in message.content] == [("text", "a model repository is a folder")]
    assert (message.role, message.type, message.model) == ("assistant", "message", "story")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    [asked] = door.fleet.requests
    assert message.usage.cache_read_input_tokens == 2
    assert message.usage.input_tokens == len(asked.token_ids) - 2
    assert (
        message.usage.output_tokens
        == len(door.fleet.tokenizer.encode_now(message.content[0].text, add_special=False)) + 1
    )
    assert (asked.sampling["temperature"], asked.sampling["top_k"], asked.sampling["max_tokens"]) == (0.5, 3, 50)
    text = door.fleet.tokenizer.decode(asked.token_ids)
    assert text == "Be short.hello"


async def test_stream_events(door):
    """The events of a stream come in Anthropic's order, each named."""
    answer = await door.http.post("/v1/messages", json={**HELLO, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_stream_helper(door, clients):
    """The client's own helper puts the same message together that comes whole."""
    async with clients.aio as client:
        whole = await client.messages.create(**HELLO)
        async with client.messages.stream(**HELLO) as stream:
            texts = [text async for text in stream.text_stream]
            streamed = await stream.get_final_message()
    assert "".join(texts) == whole.content[0].text
    assert len(texts) > 2
    same = {"content", "stop_reason", "stop_sequence", "model", "role", "type"}
    assert streamed.to_dict().keys() >= same
    assert {k: streamed.to_dict()[k] for k in same} == {k: whole.to_dict()[k] for k in same}
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.input_tokens == whole.usage.input_tokens


async def test_synchronous_client(door, clients):
    """The synchronous client creates, streams, counts and lists."""

    def use():
        with clients.sync() as client:
            whole = client.messages.create(**HELLO).content[0].text
            with client.messages.stream(**HELLO) as stream:
                streamed = "".join(stream.text_stream)
            counted = client.messages.count_tokens(model="story", messages=HELLO["messages"]).input_tokens
            return whole, streamed, counted, [m.id for m in client.models.list()], client.models.retrieve("story").id

    whole, streamed, counted, listed, one = await asyncio.to_thread(use)
    assert whole == streamed == "a model repository is a folder"
    assert counted == len(door.fleet.requests[0].token_ids)
    assert (listed, one) == (["story"], "story")


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequences(door, clients, stream):
    """A stop sequence ends the message and is named; nothing of it is shown."""
    async with clients.aio as client:
        if stream:
            async with client.messages.stream(**HELLO, stop_sequences=[" is"]) as events:
                message = await events.get_final_message()
        else:
            message = await client.messages.create(**HELLO, stop_sequences=[" is"])
    assert message.content[0].text == "a model repository"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " is")


async def test_length(clients):
    """A message that reaches max_tokens says so."""
    async with clients.aio as client:
        message = await client.messages.create(**{**HELLO, "max_tokens": 2})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)


async def test_prefilled_answer(door, clients):
    """A conversation that ends with the assistant is continued within that turn."""
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "well, "}]
    async with clients.aio as client:
        await client.messages.create(model="story", max_tokens=5, messages=turns)
    assert door.fleet.tokenizer.decode(door.fleet.requests[0].token_ids).endswith("well, ")


@pytest.mark.parametrize(
    ("change", "status", "kind", "words"),
    [
        ({"model": "nobody"}, 404, "not_found_error", "nobody"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens must be"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "ghost", "content": "x"}]}, 400, "invalid_request_error", "role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, 400, "invalid_request_error", "video"),
        ({"tools": [{"type": "web_search_20250305", "name": "x"}]}, 400, "invalid_request_error", "Anthropic"),
        ({"tool_choice": {"type": "tool"}}, 400, "invalid_request_error", "name"),
        ({"max_tokens": 5000}, 400, "invalid_request_error", "context"),
    ],
)
async def test_errors(door, change, status, kind, words):
    """What is at fault is told in Anthropic's error object, with the request's id."""
    answer = await door.http.post("/v1/messages", json={**HELLO, **change})
    error = answer.json()
    assert (answer.status_code, error["type"], error["error"]["type"]) == (status, "error", kind)
    assert words in error["error"]["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


async def test_errors_as_the_client_raises_them(open_door):
    """Anthropic's client raises its own kinds of error."""
    async with open_door(keys=("sk-one",)) as door:
        http = anthropic.DefaultAsyncHttpxClient(verify=False)
        async with anthropic.AsyncAnthropic(base_url=door.url, api_key="sk-two", max_retries=0, http_client=http) as c:
            with pytest.raises(anthropic.AuthenticationError):
                await c.messages.create(**HELLO)
            with pytest.raises(anthropic.NotFoundError):
                await c.with_options(api_key="sk-one").messages.create(**{**HELLO, "model": "nobody"})
            await c.with_options(api_key="sk-one").messages.create(**HELLO)


async def test_failure_within_a_stream(door, clients):
    """A stream whose worker dies ends with an error event, which the client raises."""
    door.say(fail_at=3, failure=WorkerLost("worker w died"))
    async with clients.aio as client:
        stream = await client.messages.create(**HELLO, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="worker w died"):
            _ = [event async for event in stream]
    door.say(fail_at=0)
    answer = await door.http.post("/v1/messages", json={**HELLO, "stream": True})
    assert answer.status_code == 500


async def test_client_that_leaves(door, clients):
    """A client that closes its stream cancels the generation."""
    door.say(hold_at=4)
    async with clients.aio as client:
        stream = await client.messages.create(**HELLO, stream=True)
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()
    await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
    assert door.model.statistics.pending == 0


async def test_client_that_does_not_read_is_given_up(open_door):
    """Events wait for a client that reads slowly; beyond stall_bytes its generation is cancelled, and it is told."""
    async with open_door(OpenAIOptions(stall_bytes=10_000), context_tokens=5_000_000) as door:
        door.say(endless=True, step_tokens=30_000)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", door.port))
            client.setblocking(False)
            body = json.dumps({**HELLO, "max_tokens": 4_000_000, "stream": True}).encode()
            head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, head % len(body) + body)
            await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
            parts = []
            while part := await loop.sock_recv(client, 1 << 20):
                parts.append(part)
        answer = b"".join(parts)
        assert b"event: error" in answer
        assert b"reads too slowly" in answer
        assert b"message_stop" not in answer
