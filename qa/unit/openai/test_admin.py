import asyncio
import subprocess
import sys

import pytest


async def test_documentation(door):
    """/docs is a page that reads /openapi.json."""
    page = await door.http.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text


async def test_document_is_complete(door):
    """/openapi.json describes every route, and every schema that it refers to is in it."""
    document = (await door.http.get("/openapi.json")).json()
    assert {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{id}",
        "/router/explain",
        "/v1/models/{name}/load",
        "/v1/models/{name}/unload",
    } <= set(document["paths"])
    references = set(_references(document))
    schemas = document["components"]["schemas"]
    assert {"#/components/schemas/ChatRequest", "#/components/schemas/ErrorObject"} <= references
    assert all(reference.rpartition("/")[2] in schemas for reference in references)
    chat = schemas["ChatRequest"]
    assert chat["required"] == ["model", "messages"]
    assert chat["additionalProperties"] is False
    assert {"temperature", "top_k", "stream_options"} <= set(chat["properties"])


async def test_document_has_the_bounds_of_fields(door):
    """What a field takes stands in its schema, and is what the routes hold a request to: beyond it is 400."""
    schemas = (await door.http.get("/openapi.json")).json()["components"]["schemas"]
    fields = schemas["ChatRequest"]["properties"]
    assert (fields["n"]["minimum"], fields["n"]["maximum"]) == (1, 128)
    assert (fields["top_p"]["exclusiveMinimum"], fields["top_p"]["maximum"]) == (0, 1)
    assert (fields["stop"]["minItems"], fields["stop"]["maxItems"]) == (1, 64)
    assert fields["temperature"]["maximum"] == 2
    chat = {"model": "story", "messages": [{"role": "user", "content": "x"}], "logprobs": True}
    beyond = [(name, field["minimum"] - 1) for name, field in fields.items() if "minimum" in field]
    beyond += [(name, field["maximum"] + 1) for name, field in fields.items() if "maximum" in field]
    for name, value in beyond:
        answer = await door.http.post("/v1/chat/completions", json={**chat, name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name), value


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_loading_on_demand(door, verb):
    """A model is loaded and unloaded by a route; an unknown one is OpenAI's 404."""
    assert (await door.http.post(f"/v1/models/story/{verb}")).json()["id"] == "story"
    assert door.models.asked == [(verb, "story")]
    wrong = await door.http.get(f"/v1/models/story/{verb}")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")
    unknown = await door.http.post(f"/v1/models/nobody/{verb}")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


async def test_keys_hold_here_too(open_door):
    """The key that other routes ask for is asked for here."""
    async with open_door(keys=("sk-one",)) as door:
        assert (await door.http.get("/openapi.json")).status_code == 401
        assert (await door.http.post("/v1/models/story/unload")).status_code == 401
        assert door.models.asked == []


async def test_first_visitors_at_once(door):
    """Several first requests build the application once, and all are answered."""
    answers = await asyncio.gather(*(door.http.get("/openapi.json") for _ in range(5)))
    assert [a.status_code for a in answers] == [200] * 5


def test_framework_is_not_imported_at_start():
    """Importing the front imports neither FastAPI nor vLLM nor transformers."""
    code = (
        "import sys, tritium.openai.front, tritium.llm.loader;"
        "print([m for m in ('fastapi', 'starlette', 'pydantic', 'vllm', 'transformers', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def _references(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
