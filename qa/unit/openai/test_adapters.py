"""Loading and unloading LoRA adapters at run time: a real fleet of mock workers behind the OpenAI port."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import httpx
import pytest
from qa.unit.cluster.watched_fleet import WatchedFleet

from tritium.cluster.spec import parse_fleet
from tritium.llm.model import LanguageModel, ModelDefaults
from tritium.openai.front import openai_handler
from tritium.openai.options import OpenAIOptions
from tritium.wire.listener import listen_http


@pytest.fixture
async def shop(scripted, tokenizer, tmp_path):
    """Open a port over a fleet of two workers of the mock engine, with one adapter from multi_lora.json."""
    async with opened(scripted, tokenizer, tmp_path) as both:
        yield both


@asynccontextmanager
async def opened(scripted, tokenizer, folder):
    lost = asyncio.Event()
    fleet = WatchedFleet(
        parse_fleet("workers=2"), "story", lambda event: lost.set() if event.kind == "worker_lost" else None
    )
    await fleet.workers.start("mocker", folder, {})
    try:
        fleet.lost = lost
        fleet.tokenizer = tokenizer
        made = scripted.language_model(fleet, ModelDefaults(loras={"cook": "/adapters/cook"}))
        assert isinstance(made, LanguageModel)
        handler = openai_handler(scripted.OneModel(made), OpenAIOptions(), str)
        listener = await listen_http(handler, host="127.0.0.1", port=0)
        url = f"http://127.0.0.1:{listener.port}"
        async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as http:
            yield http, fleet
        await listener.close(1)
    finally:
        await fleet.close()


async def names(http) -> list[str]:
    return [card["id"] for card in (await http.get("/v1/models")).json()["data"]]


async def complete(http, model):
    return await http.post("/v1/completions", json={"model": model, "prompt": "a folder", "max_tokens": 2})


async def test_loads_and_unloads(shop, tmp_path):
    """A loaded adapter is a model that answers; unloaded, it is none any more."""
    http, fleet = shop
    loaded = await http.post("/v1/load_lora_adapter", json={"lora_name": "poet", "lora_path": str(tmp_path)})
    assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'poet' added successfully.")
    assert await names(http) == ["story", "cook", "poet"]
    assert (await complete(http, "poet")).status_code == 200
    assert dict(fleet.workers.loras) == {"poet": str(tmp_path)}
    unloaded = await http.post("/v1/unload_lora_adapter", json={"lora_name": "poet"})
    assert (unloaded.status_code, unloaded.text) == (200, "Success: LoRA adapter 'poet' removed successfully.")
    assert await names(http) == ["story", "cook"]
    assert (await complete(http, "poet")).status_code == 404
    assert not fleet.workers.loras


async def test_survives_a_restart(shop, tmp_path):
    """A worker that is killed has the adapter again when it is back."""
    http, fleet = shop
    await http.post("/v1/load_lora_adapter", json={"lora_name": "poet", "lora_path": str(tmp_path)})
    worker = fleet.workers.by_name["worker_0"]
    told = []
    calls = worker._lora_calls
    load = calls.load

    async def noted(name, path):
        await load(name, path)
        told.append((name, path, worker.ready))

    calls.load = noted
    os.kill(worker.pid, signal.SIGKILL)
    await asyncio.wait_for(fleet.lost.wait(), 60)
    answer = await http.post(
        "/v1/completions",
        json={"model": "poet", "prompt": "a folder", "max_tokens": 2},
        headers={"x-tritium-worker": "worker_0"},
    )
    assert answer.status_code == 200
    assert told == [("poet", str(tmp_path), False)], "loaded before the first request may come"


async def test_name_that_was_unloaded_begins_anew(shop, tmp_path):
    """An adapter that is unloaded and loaded again may have other weights: engines know it by another key."""
    http, fleet = shop
    body = {"lora_name": "poet", "lora_path": str(tmp_path)}
    keys = []
    for _ in range(3):
        assert (await http.post("/v1/load_lora_adapter", json=body)).status_code == 200
        keys.append(fleet.adapters.key("poet"))
        assert (await http.post("/v1/unload_lora_adapter", json={"lora_name": "poet"})).status_code == 200
    assert keys[0] == "poet"
    assert len(set(keys)) == 3
    assert list(fleet.workers.loras) == []


async def test_loading_anew_needs_to_be_asked_for(shop, tmp_path):
    """A name that is taken is refused; in place, its blocks are not mistaken for those of before."""
    http, fleet = shop
    body = {"lora_name": "poet", "lora_path": str(tmp_path)}
    await http.post("/v1/load_lora_adapter", json=body)
    prompt = tuple(range(20, 120))
    before = fleet.adapters.key("poet")
    again = await http.post("/v1/load_lora_adapter", json=body)
    assert again.status_code == 400
    assert "load_inplace" in again.json()["error"]["message"]
    assert (await http.post("/v1/load_lora_adapter", json=body | {"load_inplace": True})).status_code == 200
    assert fleet.adapters.key("poet") != before
    assert list(fleet.workers.loras) == [fleet.adapters.key("poet")]
    router = fleet.workers.generating
    assert router.prompt(prompt, lora=before).blocks != router.prompt(prompt, lora=fleet.adapters.key("poet")).blocks


@pytest.mark.parametrize(
    ("route", "body", "status", "words"),
    [
        ("load", {"lora_name": "poet"}, 400, "lora_path"),
        ("load", {"lora_name": "", "lora_path": "/x"}, 400, "'lora_name' is empty"),
        ("load", {"lora_name": "poet", "lora_path": "/nowhere"}, 400, "there is no folder /nowhere"),
        ("load", {"lora_name": "story", "lora_path": "/x"}, 400, "is the name of a model"),
        ("load", {"lora_name": "cook", "lora_path": "/x", "load_inplace": True}, 400, "multi_lora.json"),
        ("load", {"lora_name": "poet", "lora_path": "/x", "model": "other"}, 404, "other"),
        ("unload", {"lora_name": "poet"}, 404, "no adapter 'poet'"),
        ("unload", {"lora_name": "story"}, 404, "no adapter 'story'"),
        ("unload", {"lora_name": "cook"}, 400, "only adapters loaded at run time"),
    ],
)
async def test_refusals(shop, route, body, status, words):
    """What cannot be loaded or unloaded is told by name, and leaves the adapters as they were."""
    http, _ = shop
    answer = await http.post(f"/v1/{route}_lora_adapter", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (words in error["message"], error["type"]) == (True, "invalid_request_error")
    assert await names(http) == ["story", "cook"]


async def test_engine_without_adapters(open_door, tmp_path):
    """Where no engine takes adapters, loading one says what would."""
    async with open_door() as door:
        body = {"lora_name": "poet", "lora_path": str(tmp_path)}
        answer = await door.http.post("/v1/load_lora_adapter", json=body)
        assert answer.status_code == 400
        assert "no model here takes adapters" in answer.json()["error"]["message"]
