import asyncio
import json

import httpx
import openai
import pytest

from tritium.core.errors import Overloaded, SamplingRefused, Unavailable
from tritium.openai.errors import wire_refusal
from tritium.openai.options import OpenAIOptions
from tritium.wire.http import HttpLimits
from tritium.wire.listener import listen_http

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "story", "messages": HELLO}
PLAIN = {"model": "story", "prompt": "hello"}

REFUSED = [
    ({**CHAT, "max_tokenz": 3}, "max_tokenz", "Unrecognized request argument supplied: max_tokenz"),
    ({**CHAT, "stream_options": {"usage": True}}, "stream_options.usage", "Unrecognized request argument"),
    ({**CHAT, "max_tokens": "many"}, "max_tokens", "Expected `int | null`, got `str`"),
    ({**CHAT, "max_tokens": 0}, "max_tokens", "from 1"),
    ({**CHAT, "max_completion_tokens": -1}, "max_completion_tokens", "from 1"),
    ({**CHAT, "temperature": 3}, "temperature", "from 0 to 2"),
    ({**CHAT, "temperature": -0.1}, "temperature", "from 0"),
    ({**CHAT, "top_p": 0}, "top_p", "above 0 to 1"),
    ({**CHAT, "n": 0}, "n", "from 1 to 128"),
    ({**CHAT, "n": 2, "temperature": 0}, "n", "must be 1 when temperature is 0"),
    ({**CHAT, "stop": [1]}, "stop[0]", "Expected `str`, got `int`"),
    ({**CHAT, "stop": ""}, "stop", "non-empty"),
    ({**CHAT, "stop": ["x"] * 65}, "stop", "up to 64"),
    ({**CHAT, "top_logprobs": 2}, "top_logprobs", "needs logprobs"),
    ({**CHAT, "logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
    ({**CHAT, "logit_bias": {"a": 1}}, "logit_bias", "token ids"),
    ({**CHAT, "logit_bias": {"1": 101}}, "logit_bias", "-100 to 100"),
    ({**CHAT, "stream_options": {"include_usage": True}}, "stream_options", "only allowed when stream"),
    ({**CHAT, "response_format": {"type": "yaml"}}, "response_format.type", "Invalid enum value"),
    ({**CHAT, "response_format": {"type": "json_schema"}}, "response_format.json_schema", "json_schema.schema"),
    ({**CHAT, "messages": []}, "messages", "at least one"),
    ({**CHAT, "messages": "hi"}, "messages", "Expected `array`, got `str`"),
    ({**CHAT, "messages": [{"content": "hi"}]}, "messages[0].role", "needs a role"),
    ({**CHAT, "messages": [{"role": "user", "content": 3}]}, "messages[0].content", "a string or a list"),
    (
        {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0]",
        "takes text",
    ),
    ({**CHAT, "modalities": ["text", "audio"]}, "modalities", "only text"),
    ({**CHAT, "request_id": "a\r\nset-cookie: b"}, "request_id", "printable ASCII"),
    ({"model": "story"}, "messages", "Missing required parameter: 'messages'."),
    ({"messages": HELLO}, "model", "Missing required parameter: 'model'."),
    ({**PLAIN, "prompt": []}, "prompt", "non-empty"),
    ({**PLAIN, "prompt": [1, "a"]}, "prompt", "list of either"),
    ({**PLAIN, "prompt": [99_999]}, "prompt", "not in the vocabulary"),
    ({**PLAIN, "prompt": [-1]}, "prompt", "not in the vocabulary"),
    ({**PLAIN, "prompt": [[]]}, "prompt", "empty"),
    ({**PLAIN, "prompt": ["x"] * 600, "n": 2}, "prompt", "more than the 1024 completions"),
    ({**PLAIN, "suffix": "end"}, "suffix", "not served"),
    ({**PLAIN, "best_of": 1, "n": 2}, "best_of", "at least n"),
    ({**PLAIN, "min_tokens": 9, "max_tokens": 3}, "min_tokens", "exceeds max_tokens"),
]


@pytest.mark.parametrize(("body", "param", "words"), REFUSED, ids=[f"{p}-{w[:20]}" for _, p, w in REFUSED])
async def test_field_at_fault_is_named(door, body, param, words):
    """A wrong field is 400 with OpenAI's error object, which names the field and says what it may be."""
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    response = await door.http.post(path, json=body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert (error["param"], words in error["message"]) == (param, True), error
    assert set(error) == {"message", "type", "param", "code"}
    assert not door.fleet.requests


async def test_body_that_is_too_large():
    """What the wire refuses before there is a request has OpenAI's error object as well."""

    async def never(_request):
        raise AssertionError("a handler was asked")

    limits = HttpLimits(body_bytes=10)
    listener = await listen_http(never, host="127.0.0.1", port=0, limits=limits, refusal=wire_refusal)
    async with httpx.AsyncClient(verify=False, timeout=60) as client:
        refused = await client.post(f"http://127.0.0.1:{listener.port}/v1/chat/completions", json=CHAT)
    await listener.close(1)
    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/json")
    words = "the request body is larger than 10 bytes"
    assert refused.json()["error"] == {"message": words, "type": "invalid_request_error", "param": None, "code": None}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"model":"story","messages":' + b"[" * 5000])
async def test_body_that_is_no_request(door, body):
    """A body that is no JSON, or JSON of another kind, is 400 and leaves the server alive."""
    response = await door.http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert (await door.http.get("/health")).status_code == 200


async def test_unknown_model(door):
    """A model that is not there is 404 model_not_found."""
    with pytest.raises(openai.NotFoundError) as caught:
        await door.client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert caught.value.body["code"] == "model_not_found"
    assert "`gpt-9` does not exist" in caught.value.body["message"]


async def test_long_names_are_not_given_back_whole(door):
    """What a client sent is quoted to it in part, where it is of megabytes."""
    for body in ({"model": "x" * 1_000_000}, {"model": "story", "y" * 1_000_000: 1}):
        answer = await door.http.post("/v1/completions", json={"prompt": "a", **body})
        assert answer.status_code in (400, 404)
        assert len(answer.content) < 10_000


async def test_heavy_sampling_of_many_completions(door):
    """Sampling fields of a megabyte go with one completion, but not with a hundred of them."""
    body = {"model": "story", "prompt": "a", "max_tokens": 1, "bad_words": ["word" * 10] * 30_000}
    answer = await door.http.post("/v1/completions", json={**body, "n": 100})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
    assert "100 completions with 12" in answer.json()["error"]["message"]
    answer = await door.http.post("/v1/completions", json={**body, "prompt": ["a"] * 100})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
    assert (await door.http.post("/v1/completions", json=body)).status_code == 200


async def test_context_exceeded_by_the_prompt(door):
    """A prompt beyond the context is 400 context_length_exceeded and names both numbers."""
    long = [{"role": "user", "content": "hello " * 300}]
    with pytest.raises(openai.BadRequestError) as caught:
        await door.client.chat.completions.create(model="story", messages=long)
    body = caught.value.body
    assert (body["code"], body["param"]) == ("context_length_exceeded", "messages")
    text = "<|start|><|user|>" + "hello " * 300 + "<|end|><|assistant|>"
    prompt_tokens = len(door.fleet.tokenizer.encode_now(text, add_special=False))
    assert "256" in body["message"]
    assert str(prompt_tokens) in body["message"]


async def test_context_exceeded_by_the_tokens_asked_for(door):
    """A prompt that fits with a max_tokens that does not is refused too, not silently shortened."""
    response = await door.http.post("/v1/completions", json={**PLAIN, "max_tokens": 300})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
    assert "300 for the completion" in error["message"]


async def test_tools_of_a_model_whose_notation_nobody_knows(door):
    """Where no one could tell a call from content, tools are refused, with the names that would help."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    response = await door.http.post("/v1/chat/completions", json={**CHAT, "tools": tools})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools")
    assert "hermes" in response.json()["error"]["message"]
    response = await door.http.post("/v1/chat/completions", json={**CHAT, "tools": tools, "tool_choice": "none"})
    assert response.status_code == 200


async def test_unknown_route_and_wrong_method(door):
    """Another path is 404, another method on a known one 405; both in OpenAI's error object."""
    assert (await door.http.post("/v1/nothing")).json()["error"]["message"] == "Unknown request URL: POST /v1/nothing."
    response = await door.http.get("/v1/chat/completions")
    assert (response.status_code, response.json()["error"]["type"]) == (405, "invalid_request_error")


async def test_model_without_workers(door):
    """A request that the fleet held in vain for a worker is 503 with Retry-After, and /health tells of the model."""
    door.fleet.ready = False
    door.say(fail_at=0, failure=Unavailable("no worker of model 'story' became ready within 30 s"))
    response = await door.http.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "service_unavailable_error"
    assert response.headers["retry-after"] == "1"
    health = await door.http.get("/health")
    assert (health.status_code, health.json()["not_ready"]) == (503, ["story"])


FORM = {"json_schema": {"name": "x", "schema": {"type": "nonesuch"}}, "type": "json_schema"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": FORM}, "response_format"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"structured_outputs": {"grammar": "("}}, "structured_outputs"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tools"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "functions"),
    ],
)
async def test_form_that_the_engine_refuses(door, body, param):
    """What the engine cannot hold an answer to is 400 and names the field by which the client sent it."""
    door.say(fail_at=0, failure=SamplingRefused("structured_outputs", "cannot be compiled"))
    response = await door.http.post("/v1/chat/completions", json={**CHAT, **body})
    assert (response.status_code, response.json()["error"]) == (
        400,
        {"message": "cannot be compiled", "type": "invalid_request_error", "param": param, "code": None},
    )


async def test_full_queue(door):
    """A fleet that is full is 429, which OpenAI's clients retry."""
    door.say(fail_at=0, failure=Overloaded("model 'story' has 4096 requests under way, the most it takes"))
    with pytest.raises(openai.RateLimitError) as caught:
        await door.client.chat.completions.create(model="story", messages=HELLO)
    assert caught.value.body["code"] == "rate_limit_exceeded"


async def test_max_inflight(open_door):
    """Beyond max_inflight requests are 429; each that ends, well or badly, makes room for another."""
    async with open_door(OpenAIOptions(max_inflight=1)) as door:
        door.say(endless=True, hold_at=2)
        stream = await door.client.chat.completions.create(model="story", messages=HELLO, stream=True)
        await anext(aiter(stream))
        assert (await door.http.post("/v1/chat/completions", json=CHAT)).status_code == 429
        door.fleet.released.set()
        async for _ in stream:
            pass
        for _ in range(3):
            assert (await door.http.post("/v1/chat/completions", json={**CHAT, "n": 0})).status_code == 400
        assert (await door.http.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_api_key(open_door):
    """With keys configured every route but /health wants one of them."""
    async with open_door(keys=("sk-one", "sk-two")) as door:
        assert (await door.http.get("/health")).status_code == 200
        missing = await door.http.get("/v1/models")
        assert (missing.status_code, missing.json()["error"]["code"]) == (401, "invalid_api_key")
        wrong = openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="sk-three", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()
        await wrong.close()
        async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="sk-two") as right:
            assert [m.id async for m in right.models.list()] == ["story"]


async def test_fault_of_ours_is_500_without_its_insides(door, monkeypatch):
    """An unforeseen exception is 500 in OpenAI's error object; what it was stays in the log."""
    monkeypatch.setattr(door.model.tokenizer.template, "render", lambda *_, **__: 1 / 0)
    response = await door.http.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "division" not in response.text


async def test_request_id_is_kept_or_made(door):
    """Every answer has x-request-id: the client's own, or one made for it; the engine sees the same."""
    made = await door.http.post("/v1/chat/completions", json=CHAT)
    assert door.fleet.requests[0].request_id == made.headers["x-request-id"]
    kept = await door.http.post("/v1/nothing", headers={"x-request-id": "mine"})
    assert kept.headers["x-request-id"] == "mine"
    named = await door.http.post("/v1/chat/completions", json={**CHAT, "request_id": "from-the-body"})
    assert (named.headers["x-request-id"], named.json()["id"]) == ("from-the-body", "chatcmpl-from-the-body")


async def test_explain_header(door):
    """With x-tritium-explain: 1 the answer's headers tell the worker and why it was chosen."""
    for stream in (False, True):
        response = await door.http.post(
            "/v1/chat/completions", json={**CHAT, "stream": stream}, headers={"x-tritium-explain": "1"}
        )
        assert response.headers["x-tritium-worker"] == "worker_0"
        assert "blocks" in response.headers["x-tritium-because"]
        assert response.headers["x-tritium-overlap"] == "0/0"
        assert response.headers["x-tritium-cost"].startswith("1.5; own=1.5 eviction=0 waiting=0 ")
    plain = await door.http.post("/v1/chat/completions", json=CHAT)
    assert "x-tritium-worker" not in plain.headers


@pytest.mark.parametrize("body", [CHAT, PLAIN, {**PLAIN, "prompt": ["a", "b"]}])
async def test_explain_route(door, body):
    """/router/explain tells where each prompt would go, and generates nothing."""
    response = await door.http.post("/router/explain", json=body)
    answer = response.json()
    assert response.status_code == 200
    assert answer["model"] == "story"
    assert len(answer["prompts"]) == (2 if isinstance(body.get("prompt"), list) else 1)
    assert answer["prompts"][0]["route"]["worker"] == "worker_0"
    assert answer["prompts"][0]["route"]["price"]["own"] == 1.5
    pinned = await door.http.post("/router/explain", json=body, headers={"x-tritium-worker": "worker_7"})
    assert pinned.json()["prompts"][0]["route"]["worker"] == "worker_7"
    assert answer["prompts"][0]["prompt_tokens"] > 0
    assert not door.fleet.requests


async def test_curl(door, tmp_path):
    """curl gets a stream as it comes, and an error with its status."""

    async def curl(*arguments):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sN", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return out.decode()

    out = await curl(f"{door.url}/v1/chat/completions", "-d", json.dumps({**CHAT, "stream": True}))
    assert out.startswith('data: {"id":"chatcmpl-')
    assert out.endswith("data: [DONE]\n\n")
    assert await curl("-o", str(tmp_path / "x"), "-w", "%{http_code}", f"{door.url}/v1/models/none") == "404"


async def test_sync_client(door):
    """OpenAI's synchronous client works too, streaming and not."""

    def talk():
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key="x", http_client=httpx.Client(timeout=60)) as client:
            whole = client.chat.completions.create(model="story", messages=HELLO).choices[0].message.content
            stream = client.chat.completions.create(model="story", messages=HELLO, stream=True)
            return whole, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    whole, streamed = await asyncio.to_thread(talk)
    assert whole == streamed == "a model repository is a folder"
