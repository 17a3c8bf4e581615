"""A server with a file of keys, as clients of different keys see it."""

import openai
import pytest

from tritium.openai.keys.entry import key_hash
from tritium.openai.options import OpenAIOptions

CHAT = {"model": "story", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def key_file(tmp_path):
    """Four keys: all of it, another model only, one request a minute, few tokens."""
    entries = {
        "all": "admin = true",
        "elsewhere": 'models = ["other-*"]',
        "once": "requests_per_minute = 1",
        "frugal": "tokens_per_minute = 5",
    }
    path = tmp_path / "keys.toml"
    path.write_text(
        "".join(f'[[keys]]\nname = "{name}"\nsha256 = "{key_hash(name)}"\n{rest}\n' for name, rest in entries.items())
    )
    return path


def _client(door, key):
    return openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key=key, max_retries=0, http_client=door.http)


async def test_models_of_a_key(open_door, key_file):
    """For a key that may not use a model there is no such model, listed or asked."""
    async with open_door(key_file=key_file) as door:
        assert [m.id async for m in _client(door, "all").models.list()] == ["story"]
        assert [m.id async for m in _client(door, "elsewhere").models.list()] == []
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await _client(door, "elsewhere").chat.completions.create(**CHAT)


async def test_requests_a_minute(open_door, key_file):
    """The answer tells what is left; the refusal tells when there is more."""
    async with open_door(key_file=key_file) as door:
        client = _client(door, "once")
        answer = await client.chat.completions.with_raw_response.create(**CHAT)
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError, match="1 requests a minute") as caught:
            await client.chat.completions.create(**CHAT)
        assert 58 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert caught.value.response.headers["x-ratelimit-limit-requests"] == "1"
        assert (await _client(door, "all").chat.completions.create(**CHAT)).choices


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "hello"}),
        ("/detokenize", {"tokens": [1]}),
        ("/v1/messages/count_tokens", {"messages": CHAT["messages"]}),
        ("/router/explain", CHAT),
    ],
)
async def test_brief_requests_count(open_door, key_file, path, body):
    """What is answered without a generation counts for the key, too, and gives its place back at once."""
    async with open_door(OpenAIOptions(max_inflight=1), key_file=key_file) as door:
        for key, statuses in (("all", [200, 200, 400]), ("once", [200, 429])):
            sent = [body | {"model": "story"}, body | {"model": "story"}, {"model": "story"}]
            headers = {"authorization": f"Bearer {key}"}
            given = [(await door.http.post(path, json=one, headers=headers)).status_code for one in sent]
            assert given[: len(statuses)] == statuses
        assert (await _client(door, "all").chat.completions.create(**CHAT)).choices


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_a_minute(open_door, key_file, stream):
    """Prompt and answer count, streamed or whole, once they are known."""
    async with open_door(key_file=key_file) as door:
        client = _client(door, "frugal")
        answer = await client.chat.completions.create(**CHAT, stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
        with pytest.raises(openai.RateLimitError, match="5 tokens a minute"):
            await client.chat.completions.create(**CHAT)


async def test_tokens_of_other_routes_count_too(open_door, key_file):
    """Embeddings, messages and responses are entered into the books of their key as well."""
    text = "What is a model repository?"
    asked = {
        "/v1/embeddings": {"input": text},
        "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": text}]},
        "/v1/responses": {"input": text},
    }
    for path, body in asked.items():
        async with open_door(key_file=key_file, tasks=("generate", "embed")) as door:
            bearer = {"authorization": "Bearer frugal"}
            statuses = [
                (await door.http.post(path, json={"model": "story", **body}, headers=bearer)).status_code
                for _ in range(2)
            ]
            assert statuses == [200, 429], path


async def test_loading_needs_an_administrator(open_door, key_file):
    """A key of the file unloads nothing unless its entry says so."""
    async with open_door(key_file=key_file) as door:
        for key, status in (("once", 403), ("all", 200), ("nobody", 401)):
            answer = await door.http.post("/v1/models/story/unload", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status
