"""A worker killed in the middle of a stream, as clients of every protocol see it: not at all."""

import asyncio
import json
import os
import signal
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from qa.bench.openai_front.model import write_model
from qa.chaos.server import FleetServer

TOKENS = 60
KILLED_AT = 20
QUESTION = "What is a model repository?"
LIMITS = {"temperature": 0, "ignore_eos": True, "stream": True}
WITHIN_S = 120


@dataclass
class Told:
    """What a stream said, whatever its protocol calls it."""

    texts: dict[int, str] = field(default_factory=dict)
    parts: int = 0
    logprobs: int = 0
    usage: dict[str, Any] = field(default_factory=dict)
    finish: set[str] = field(default_factory=set)

    def add(self, text: str, index: int = 0) -> None:
        self.texts[index] = self.texts.get(index, "") + text
        self.parts += bool(text)


def completion(told, event):
    for choice in event["choices"]:
        told.add(choice["text"], choice["index"])
        told.logprobs += len((choice.get("logprobs") or {}).get("tokens", ()))
        told.finish |= {choice["finish_reason"]} - {None}
    told.usage = event.get("usage") or told.usage


def chat(told, event):
    for choice in event["choices"]:
        told.add(choice["delta"].get("content") or "", choice["index"])
        told.logprobs += len((choice.get("logprobs") or {}).get("content", ()))
        told.finish |= {choice["finish_reason"]} - {None}
    told.usage = event.get("usage") or told.usage


def response(told, event):
    if event["type"] == "response.output_text.delta":
        told.add(event["delta"])
    told.usage = (event.get("response") or {}).get("usage") or told.usage


def message(told, event):
    if event["type"] == "content_block_delta":
        told.add(event["delta"]["text"])
    told.usage = told.usage | (event.get("usage") or (event.get("message") or {}).get("usage") or {})


def generated(told, event):
    told.add(event["text_output"])


USAGE = {"stream_options": {"include_usage": True}}
MESSAGES = {"messages": [{"role": "user", "content": QUESTION}]}
PROTOCOLS = {
    "completions": ("openai", "/v1/completions", completion, {"prompt": QUESTION, "max_tokens": TOKENS, **USAGE}),
    "several, with logprobs": (
        "openai",
        "/v1/chat/completions",
        chat,
        {**MESSAGES, "max_tokens": TOKENS, "n": 2, "logprobs": True, "temperature": 1, "seed": 4, **USAGE},
    ),
    "responses": ("openai", "/v1/responses", response, {"input": QUESTION, "max_output_tokens": TOKENS}),
    "messages": ("openai", "/v1/messages", message, {**MESSAGES, "max_tokens": TOKENS}),
    "generate_stream": (
        "http",
        "/v2/models/fleet/generate_stream",
        generated,
        {"text_input": QUESTION, "sampling_parameters": json.dumps({"max_tokens": TOKENS, "ignore_eos": True})},
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("fleet")
    write_model(scratch / "model")
    arguments = {"max_model_len": 4096, "mocker": {"timing": {"base_ms": 10}}}
    server = FleetServer(scratch, scratch / "model", "mocker", "workers=2,moves=9", arguments)
    server.start()
    yield server
    server.stop()
    assert not server.left()


async def ask(server, protocol, *, kill, **more):
    """Stream an answer; with `kill`, a worker that has a part in it dies once it has begun."""
    port, path, take, body = PROTOCOLS[protocol]
    limits = {"stream": True} if port == "http" or path.endswith(("responses", "messages")) else LIMITS
    url = f"http://127.0.0.1:{server.port if port == 'openai' else server.http_port}{path}"
    told, victim = Told(), None
    headers = {"anthropic-version": "2023-06-01"}
    async with (
        httpx.AsyncClient(timeout=WITHIN_S) as http,
        http.stream("POST", url, json={"model": "fleet", **limits, **body, **more}, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                take(told, event)
            if kill and told.parts and victim is None:
                busy = await asyncio.to_thread(server.by_worker, "tritium_router_worker_active")
                pids = await asyncio.to_thread(server.workers)
                victim = next((pids[worker] for worker, active in busy.items() if active), 0)
            if victim and told.parts >= KILLED_AT:
                os.kill(victim, signal.SIGKILL)
                victim = 0
    return told


async def ask_under_a_kill(server, protocol, **more):
    """Stream an answer whose worker dies before its end; on a slow machine the end may come first: then once more."""
    for _ in range(10):
        await whole(server)
        before = await asyncio.to_thread(server.metric, "tritium_fleet_continued_requests_total")
        told = await ask(server, protocol, kill=True, **more)
        if await asyncio.to_thread(server.metric, "tritium_fleet_continued_requests_total") > before:
            return told
    raise AssertionError("ten kills, and no answer was continued elsewhere")


async def whole(server):
    """Wait until both workers are there."""
    async with asyncio.timeout(WITHIN_S):
        while await asyncio.to_thread(server.metric, "tritium_worker_ready") < 2:  # noqa: ASYNC110  HTTP
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_killed_worker(server, protocol):
    """Text, log probabilities, usage and the reason of the end are those of the same answer undisturbed."""
    await whole(server)
    undisturbed = await ask(server, protocol, kill=False)
    told = await ask_under_a_kill(server, protocol)
    assert undisturbed.texts == told.texts
    assert len(undisturbed.texts[0].split()) > KILLED_AT
    assert undisturbed.logprobs == told.logprobs
    assert undisturbed.finish == told.finish
    shown = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
    assert [undisturbed.usage.get(name) for name in shown] == [told.usage.get(name) for name in shown]


async def test_stop_string_of_both_workers(server):
    """A stop string is found after the worker was lost, and one that both workers said together as well."""
    await whole(server)
    text = (await ask(server, "completions", kill=False)).texts[0]
    words = text.split(" ")
    stop = " ".join(words[-12:-9])
    told = await ask_under_a_kill(server, "completions", stop=[stop])
    assert told.texts[0] == text[: text.index(stop)]
    assert told.finish == {"stop"}
