"""POST .../generate and generate_stream against a real port."""

import asyncio
import json

import pytest


async def generate(client, model, **document):
    return await client.post(f"/v2/models/{model}/generate", json=document)


async def events(client, model, **document):
    answer = await client.post(f"/v2/models/{model}/generate_stream", json=document)
    parts = answer.text.split("\n\n")
    assert parts.pop() == ""
    return answer, [json.loads(part.removeprefix("data: ")) for part in parts]


async def test_one_response_is_one_object(client):
    """Outputs, id, model and version in one flat object."""
    answer = await generate(client, "words", id="42", text_input="hello", parameters={"temperature": 0.5})
    assert answer.content == (
        b'{"id":"42","model_name":"words","model_version":"1","text_output":"hello id=42 temperature=0.5"}'
    )


async def test_a_model_that_has_to_be_loaded_first(client, house, monkeypatch):
    """Its inputs are known once it is awake, of generate and of a raw body."""

    class Asleep:
        name, version, answers_once, config = "add_sub", "1", True, None

        async def awake(self):
            await asyncio.sleep(0)
            return awake

    awake = house.model("add_sub")
    monkeypatch.setitem(house.loaded, "add_sub", {"1": Asleep()})
    assert (await generate(client, "add_sub", INPUT0=[1, 2, 3, 4], INPUT1=[1, 1, 1, 1])).json()["OUTPUT0"][0] == 2.0
    raw = await client.post("/v2/models/add_sub/infer", content=b"", headers={"Inference-Header-Content-Length": "0"})
    assert "'add_sub'" in raw.json()["error"]


async def test_any_model_can_generate(client):
    """Tensors of numbers are arrays."""
    answer = await generate(client, "add_sub", INPUT0=[1, 2, 3, 4], INPUT1=[1, 1, 1, 1])
    assert answer.json()["OUTPUT0"] == [2.0, 3.0, 4.0, 5.0]


MANY_OR_NONE = [("words", {"text_input": "a b", "stream": True}), ("repeat", {"COUNT": 0})]


@pytest.mark.parametrize(("model", "document"), MANY_OR_NONE)
async def test_generate_wants_exactly_one_response(client, model, document):
    """More or fewer are an error, with the status that Triton gives it."""
    answer = await generate(client, model, **document)
    assert (answer.status_code, list(answer.json())) == (200, ["error"])
    assert answer.json()["error"].startswith("generate expects model to produce exactly 1 response")


async def test_each_response_is_an_event(client):
    """Server-sent events, as they come."""
    answer, items = await events(client, "words", text_input="hello big world", stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [item["text_output"] for item in items] == ["hello", "big", "world"]


async def test_an_error_is_an_event_among_events(client):
    """The stream goes on after it; the first item decides the status."""
    answer, items = await events(client, "repeat", COUNT=3, ERR_AT=1)
    assert (answer.status_code, items[1]) == (200, {"error": "error at 1"})
    answer, items = await events(client, "repeat", COUNT=3, ERR_AT=0)
    assert (answer.status_code, [item.get("OUT") for item in items]) == (400, [None, 1, 2])


async def test_no_response_is_an_empty_stream(client):
    """Nothing was produced, and nothing went wrong."""
    answer, items = await events(client, "repeat", COUNT=0)
    assert (answer.status_code, items) == (200, [])


@pytest.mark.parametrize("how", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("model", "document", "status", "words"),
    [
        ("nope", {"x": 1}, 404, "Request for unknown model: 'nope' is not found"),
        ("repeat", {}, 400, "expected number of inputs between 1 and 2 but got 0 inputs for model 'repeat'"),
        ("words", {"text_input": 5}, 500, "attempt to access JSON non-string as string"),
        ("words", {"text_input": ["a", "b"]}, 400, "can not convert input 'text_input' to tensor with proper shape"),
    ],
)
async def test_a_request_that_never_ran_is_a_plain_error(client, how, model, document, status, words):
    """Status and JSON, no stream."""
    answer = await client.post(f"/v2/models/{model}/{how}", json=document)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True)
    assert answer.headers["content-type"] == "application/json"


async def test_compressed_bodies_are_refused(client):
    """Triton's generate takes plain JSON alone."""
    answer = await client.post("/v2/models/words/generate", content=b"{}", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "Unsupported content-encoding, only 'identity' is supported.",
    )


async def test_a_client_that_leaves_a_stream_cancels_its_request(port, watched):
    """The model is told that nobody listens any more."""
    submitted, cancelled = watched("patient_stream")
    body = b'{"INPUT0": [1]}'
    head = b"POST /v2/models/patient_stream/generate_stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head % len(body) + body)
    async with asyncio.timeout(60):
        await submitted.wait()
        writer.close()
        await cancelled.wait()
        await writer.wait_closed()
