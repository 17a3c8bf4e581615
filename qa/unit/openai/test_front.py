import pytest

from tritium.llm.model import ModelDefaults
from tritium.openai.options import OpenAIOptions


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_readiness(door, path):
    """Readiness is 200 while every model can take requests, and 503 with the names of those that cannot."""
    assert (await door.http.get(path)).json() == {"status": "ready", "not_ready": []}
    door.fleet.ready = False
    answer = await door.http.get(path)
    assert (answer.status_code, answer.json()["not_ready"]) == (503, ["story"])
    assert (await door.http.get("/health/live")).status_code == 200
    assert (await door.http.get("/ping")).status_code == 200


async def test_not_ready_before_all_models_are_loaded(door):
    """While the server loads what it begins with it lives, and is not ready."""
    door.models.starting = True
    answer = await door.http.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "loading", "not_ready": []})
    assert (await door.http.get("/health/live")).status_code == 200


async def test_list_before_any_model_is_loaded(open_door, monkeypatch):
    """An empty list while the server loads would be an answer: it is 503 until there is a model to list."""
    async with open_door() as door:
        door.models.starting = True
        assert [one["id"] for one in (await door.http.get("/v1/models")).json()["data"]] == ["story"]
        monkeypatch.setattr(door.models, "all", list)
        waiting = await door.http.get("/v1/models")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
        door.models.starting = False
        assert (await door.http.get("/v1/models")).json()["data"] == []


async def test_readiness_of_a_model(door):
    """A model is ready while it can take requests, also one whose name has slashes; an unknown one is a 404."""
    assert (await door.http.get("/v1/models/story/ready")).json() == {"id": "story", "ready": True}
    door.fleet.ready = False
    assert (await door.http.get("/v1/models/story/ready")).status_code == 503
    assert (await door.http.get("/v1/models/some/body/ready")).status_code == 404


async def test_version_and_metrics(door):
    """The release, and the page of metrics that the server hands in, are served."""
    assert (await door.http.get("/version")).json()["version"]
    page = await door.http.get("/metrics")
    assert (page.text, page.headers["content-type"]) == ("fleet_workers 1\n", "text/plain; charset=utf-8")


async def test_health_needs_no_key(open_door):
    """With keys, health is open and the rest is not; a key may come as Anthropic's clients send it."""
    async with open_door(keys=("sk-one",)) as door:
        assert {(await door.http.get(p)).status_code for p in ("/health", "/health/live", "/ping")} == {200}
        assert {(await door.http.get(p)).status_code for p in ("/metrics", "/version", "/v1/models")} == {401}
        assert (await door.http.get("/v1/models", headers={"x-api-key": "sk-one"})).status_code == 200


async def test_methods(door):
    """HEAD is answered as GET without a body, OPTIONS with the methods; any other method is told which there are."""
    head = await door.http.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    options = await door.http.options("/v1/models")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    wrong = await door.http.put("/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST, OPTIONS")
    assert (await door.http.get("/v1/nothing")).status_code == 404


async def test_models_as_anthropic_lists_them(open_door):
    """Who sends anthropic-version gets Anthropic's shapes, pages and errors."""
    async with open_door(defaults=ModelDefaults(loras={"poet": "/a", "cook": "/b"})) as door:
        ask = {"anthropic-version": "2023-06-01"}

        async def page(query=""):
            return (await door.http.get(f"/v1/models{query}", headers=ask)).json()

        whole = await page()
        assert [(m["type"], m["id"]) for m in whole["data"]] == [("model", n) for n in ("story", "poet", "cook")]
        assert (whole["has_more"], whole["first_id"], whole["last_id"]) == (False, "story", "cook")
        first = await page("?limit=2")
        assert ([m["id"] for m in first["data"]], first["has_more"]) == (["story", "poet"], True)
        assert [m["id"] for m in (await page("?after_id=poet"))["data"]] == ["cook"]
        last = await page("?before_id=cook&limit=1")
        assert ([m["id"] for m in last["data"]], last["has_more"]) == (["poet"], True)
        assert (await page("?limit=0"))["error"]["type"] == "invalid_request_error"
        assert (await page("?after_id=nobody"))["type"] == "error"
        one = (await door.http.get("/v1/models/poet", headers=ask)).json()
        assert (one["id"], one["max_input_tokens"]) == ("poet", 256)


async def test_pages_of_allowed_origins(open_door):
    """A page of an allowed origin may read answers and asks before it sends; any other gets no permission."""
    async with open_door(OpenAIOptions(cors_origins=("https://chat.example",))) as door:
        asks = {"origin": "https://chat.example", "access-control-request-method": "POST"}
        asks["access-control-request-headers"] = "authorization, content-type"
        first = await door.http.options("/v1/chat/completions", headers=asks)
        assert first.headers["access-control-allow-origin"] == "https://chat.example"
        assert first.headers["access-control-allow-methods"] == "POST, OPTIONS"
        assert first.headers["access-control-allow-headers"] == "authorization, content-type"
        body = {"model": "story", "messages": [{"role": "user", "content": "x"}]}
        for path, sent in (("completions", body), ("completions", body | {"stream": True}), ("completions", {})):
            answer = await door.http.post(f"/v1/chat/{path}", json=sent, headers={"origin": "https://chat.example"})
            assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        other = await door.http.options("/v1/models", headers=asks | {"origin": "https://elsewhere.example"})
        assert not [name for name in other.headers if name.startswith("access-control")]
        assert other.headers["vary"] == "origin"


async def test_pages_read_limits(open_door):
    """A page may read the headers that say what is left of its limits, and when to try again."""
    async with open_door(OpenAIOptions(cors_origins=("*",))) as door:
        answer = await door.http.get("/v1/models", headers={"origin": "https://any.example"})
        readable = answer.headers["access-control-expose-headers"].split(", ")
        told = {"x-request-id", "retry-after", "x-ratelimit-remaining-requests", "x-ratelimit-reset-tokens"}
        assert told <= {*readable}


async def test_any_origin(open_door):
    """`*` allows every page; without the setting no header of the kind is sent."""
    async with open_door(OpenAIOptions(cors_origins=("*",))) as door:
        answer = await door.http.get("/v1/models", headers={"origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
    async with open_door() as door:
        answer = await door.http.get("/v1/models", headers={"origin": "https://any.example"})
        assert "access-control-allow-origin" not in answer.headers
