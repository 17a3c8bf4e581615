"""The OpenAI routes on a real model: two workers of the embedded engine behind the router."""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import httpx
import openai
import pydantic
import pytest
import tritonclient.http as http_client
from qa.e2e.product import ROOT, Product

QUESTION = [{"role": "user", "content": "What is a model repository?"}]
GREEDY = {"model": "tiny_chat", "temperature": 0, "max_tokens": 60}
GREEDY_LONG = GREEDY | {"max_tokens": 200}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Serve the sample chat model with two workers."""
    repository = tmp_path_factory.mktemp("models")
    (repository / "tiny_chat").symlink_to(ROOT / "model_repository" / "tiny_chat")
    product = Product([str(repository), "--engine=embedded", "--fleet=tiny_chat=workers=2"])
    assert "OpenAI" in product.ports, product.output
    yield product
    assert product.stop() == 0, product.output


@pytest.fixture
async def client(served: Product) -> AsyncIterator[openai.AsyncOpenAI]:
    """An OpenAI client of the server."""
    url = f"http://{served.url('OpenAI')}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as made:
        yield made


async def test_answer_makes_sense(client: openai.AsyncOpenAI) -> None:
    """The sample model answers a question about Tritium in words that make sense, and ends by itself."""
    answer = await client.chat.completions.create(messages=QUESTION, **GREEDY)
    assert "folder" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens < 60


async def test_every_protocol_says_the_same(served: Product, client: openai.AsyncOpenAI) -> None:
    """Greedy text is the same whole and streamed, from chat and completions, and from Triton's generate and infer."""
    whole = (await client.chat.completions.create(messages=QUESTION, **GREEDY)).choices[0].message.content
    stream = await client.chat.completions.create(messages=QUESTION, stream=True, **GREEDY)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == whole
    prompt = "<|bos|><|user|>What is a model repository?<|end|><|assistant|>"
    body = {"add_special_tokens": False}
    plain = await client.completions.create(prompt=prompt, extra_body=body, **GREEDY)
    assert plain.choices[0].text == whole

    asked = {"text_input": prompt, "parameters": {"temperature": 0, "max_tokens": 60}}
    base = f"http://{served.url('HTTP')}/v2/models/tiny_chat"
    async with httpx.AsyncClient(timeout=120) as http:
        generated = await http.post(f"{base}/generate", json={**asked, "exclude_input_in_output": True})
        assert generated.json()["text_output"] == whole
        events = (await http.post(f"{base}/generate_stream", json={**asked, "stream": True})).text.split("\n\n")
    parts = [json.loads(event.removeprefix("data: "))["text_output"] for event in events if event]
    assert "".join(parts) == whole
    assert len(parts) > 5


async def test_repository_index_and_metadata(served: Product, client: openai.AsyncOpenAI) -> None:
    """The one model is listed by OpenAI and by Triton, with vllm_backend's tensors."""
    assert [model.id async for model in client.models.list()] == ["tiny_chat"]
    with http_client.InferenceServerClient(served.url("HTTP")) as triton:
        metadata = triton.get_model_metadata("tiny_chat")
    assert "sampling_parameters" in {tensor["name"] for tensor in metadata["inputs"]}
    assert "text_output" in {tensor["name"] for tensor in metadata["outputs"]}


async def test_seed_repeats_and_completions_differ(client: openai.AsyncOpenAI) -> None:
    """A seed gives the same texts again; the completions of one request are not each other's copies."""
    asked = {"model": "tiny_chat", "messages": QUESTION, "temperature": 2, "seed": 11, "n": 4, "max_tokens": 48}
    once = await client.chat.completions.create(**asked)
    again = await client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in once.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) > 1


async def test_logprobs_are_of_the_tokens_said(client: openai.AsyncOpenAI) -> None:
    """Greedy tokens are the likeliest of their place, their scores are the best of it, and their bytes are the text."""
    answer = await client.chat.completions.create(messages=QUESTION, logprobs=True, top_logprobs=3, **GREEDY)
    content = answer.choices[0].logprobs.content
    for entry in content:
        assert entry.token == entry.top_logprobs[0].token
        scores = [top.logprob for top in entry.top_logprobs]
        assert scores == sorted(scores, reverse=True)
        assert entry.logprob == scores[0] <= 0
    said = bytes(b for entry in content for b in entry.bytes).decode()
    assert said.removesuffix("<|end|>") == answer.choices[0].message.content


class Forecast(pydantic.BaseModel):
    """What the model, which knows no JSON, is asked for by `parse`."""

    city: Literal["Berlin", "Rome"]
    days: Literal[1, 2, 3]


async def test_answer_held_to_a_schema(client: openai.AsyncOpenAI) -> None:
    """`parse` gets an instance of its class, and a required tool call arguments by its schema; a bad one is a 400."""
    answer = await client.chat.completions.parse(messages=QUESTION, **GREEDY_LONG, response_format=Forecast)
    assert isinstance(answer.choices[0].message.parsed, Forecast)
    tool = openai.pydantic_function_tool(Forecast)
    answer = await client.chat.completions.parse(
        messages=QUESTION, **GREEDY_LONG, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Forecast)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(messages=QUESTION, **GREEDY_LONG, extra_body={"guided_regex": "("})
    assert refused.value.param == "guided_regex"


async def test_stop_string(client: openai.AsyncOpenAI) -> None:
    """A stop string cuts the greedy text before it, in stream and whole."""
    whole = (await client.chat.completions.create(messages=QUESTION, **GREEDY)).choices[0].message.content
    stop = whole[12:18]
    cut = await client.chat.completions.create(messages=QUESTION, stop=stop, **GREEDY)
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    stream = await client.chat.completions.create(messages=QUESTION, stop=stop, stream=True, **GREEDY)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == whole[: whole.index(stop)]


async def test_shared_prefix_goes_to_the_worker_that_holds_it(client: openai.AsyncOpenAI) -> None:
    """Requests with a long common beginning follow the first one, say why, and count the tokens found in the cache."""
    # A beginning that no other run of this test has left in a cache.
    beginning = f"{uuid.uuid4()} is about " + "models and folders and versions and servers and " * 12
    workers, overlaps, cached = set(), [], []
    for ending in ("one?", "two?", "three?", "four?"):
        raw = await client.chat.completions.with_raw_response.create(
            messages=[{"role": "user", "content": beginning + ending}],
            extra_headers={"x-tritium-explain": "1"},
            **{**GREEDY, "max_tokens": 2},
        )
        workers.add(raw.headers["x-tritium-worker"])
        overlaps.append(raw.headers["x-tritium-overlap"])
        cached.append(raw.parse().usage.prompt_tokens_details.cached_tokens)
        assert raw.headers["x-tritium-because"]
    assert len(workers) == 1
    assert overlaps[0].startswith("0/")
    assert all(int(overlap.split("/")[0]) >= 3 for overlap in overlaps[1:])
    assert cached[0] == 0
    assert all(tokens >= 96 for tokens in cached[1:])


async def test_explain_agrees_with_what_happens(served: Product, client: openai.AsyncOpenAI) -> None:
    """A dry run names the worker that the request then goes to, and lists every candidate."""
    messages = [{"role": "user", "content": "What would you do with a list of words such as these? " * 6}]
    for _ in range(2):
        async with httpx.AsyncClient(timeout=120) as http:
            asked = {"model": "tiny_chat", "messages": messages}
            dry = (await http.post(f"http://{served.url('OpenAI')}/router/explain", json=asked)).json()
        route = dry["prompts"][0]["route"]
        assert {candidate["worker"] for candidate in route["candidates"]} == {"worker_0", "worker_1"}
        raw = await client.chat.completions.with_raw_response.create(
            messages=messages, extra_headers={"x-tritium-explain": "1"}, **{**GREEDY, "max_tokens": 1}
        )
        assert raw.headers["x-tritium-worker"] == route["worker"]
    assert route["overlap_blocks"] > 0


@pytest.mark.parametrize("worker", ["worker_0", "worker_1"])
async def test_a_request_goes_to_the_worker_it_names(client: openai.AsyncOpenAI, worker: str) -> None:
    """x-tritium-worker pins a request; a name that the model has not is refused with the names it has."""
    headers = {"x-tritium-explain": "1", "x-tritium-worker": worker}
    asked = {**GREEDY, "max_tokens": 1, "messages": QUESTION}
    raw = await client.chat.completions.with_raw_response.create(extra_headers=headers, **asked)
    assert raw.headers["x-tritium-worker"] == worker
    with pytest.raises(openai.NotFoundError, match=r"no worker 'worker_9'.*worker_0, worker_1"):
        await client.chat.completions.create(extra_headers={"x-tritium-worker": "worker_9"}, **asked)


async def test_client_that_leaves_frees_the_worker(served: Product, client: openai.AsyncOpenAI) -> None:
    """When a client closes its stream, its generation is taken off its worker at once, and counted as cancelled."""
    asked = {"model": "tiny_chat", "max_tokens": 900, "messages": QUESTION, "extra_body": {"ignore_eos": True}}
    canceled = 'nv_inference_request_failure{model="tiny_chat",reason="CANCELED"'
    before = _metric(served, canceled)
    stream = await client.chat.completions.create(stream=True, **asked)
    await anext(stream)
    assert _metric(served, "tritium_router_worker_active") == 1
    await stream.close()
    await asyncio.to_thread(_wait_until_idle, served)
    assert _metric(served, canceled) == before + 1


async def test_prompt_beyond_the_context(client: openai.AsyncOpenAI) -> None:
    """A prompt longer than the context is refused with both numbers, and the server goes on."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="tiny_chat", messages=[{"role": "user", "content": "word " * 2000}])
    assert caught.value.code == "context_length_exceeded"
    assert "1024" in caught.value.body["message"]
    assert (await client.chat.completions.create(messages=QUESTION, **GREEDY)).choices


async def test_field_that_only_the_engine_can_judge(client: openai.AsyncOpenAI) -> None:
    """A sampling field that the engine does not have is the client's error, in the engine's words."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(messages=QUESTION, extra_body={"bad_words": ["a"]}, **GREEDY)
    assert "bad_words" in caught.value.body["message"]


@pytest.mark.parametrize("page", ["openai.md", "language-models.md"])
def test_commands_of_the_documentation(served: Product, page: str) -> None:
    """Every shell and Python block of the page runs as it is written, but for the ports, and answers in words."""
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert blocks
    for language, written in blocks:
        code = written.replace("localhost:9000", served.url("OpenAI")).replace("localhost:8000", served.url("HTTP"))
        line = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "model" in done.stdout
        assert '"error"' not in done.stdout


def test_curl_as_the_ready_screen_shows(served: Product) -> None:
    """curl without any header gets a whole answer."""
    body = json.dumps({"messages": QUESTION, **GREEDY})
    line = ["curl", "-s", f"{served.url('OpenAI')}/v1/chat/completions", "-d", body]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert "folder" in json.loads(done.stdout)["choices"][0]["message"]["content"]


def _metric(served: Product, beginning: str) -> float:
    """Return the sum of the model's samples that begin so."""
    with urllib.request.urlopen(f"http://{served.url('metrics')}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(beginning) and "tiny_chat" in line)


def _wait_until_idle(served: Product, within_s: float = 60) -> None:
    """Wait until no worker has a request."""
    deadline = time.monotonic() + within_s
    while _metric(served, "tritium_router_worker_active") or _metric(served, "nv_inference_pending_request_count"):
        assert time.monotonic() < deadline, "a request is still under way"
        time.sleep(0.01)
