"""Anthropic's and OpenAI's newer protocols on a real model, by their own clients, over TLS as well."""

import asyncio
import json
import shlex
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from qa.e2e.product import ROOT, Product
from qa.own_certificate import own_certificate

MODEL = "tiny_chat"
QUESTION = [{"role": "user", "content": "What is a model repository?"}]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return own_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Product]:
    """Serve the sample chat model, with TLS on the OpenAI port."""
    repository = tmp_path_factory.mktemp("models")
    (repository / MODEL).symlink_to(ROOT / "model_repository" / MODEL)
    cert, key = certificate
    tls = [f"--openai-cert={cert}", f"--openai-cert-key={key}", "--openai-cors-origin=https://chat.example"]
    product = Product([str(repository), "--engine=embedded", *tls])
    yield product
    assert product.stop() == 0, product.output


@pytest.fixture(scope="module")
def url(served: Product) -> str:
    return f"https://{served.url('OpenAI')}"


@pytest.fixture(scope="module")
def trust(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def test_tls(served: Product, url: str, trust: ssl.SSLContext) -> None:
    """The port speaks TLS with the given certificate, and answers browsers of the given origin; the screen says so."""
    command = next(line.strip() for line in served.output.splitlines() if "/v1/chat/completions" in line)
    answer = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=120, check=True)
    assert "folder" in json.loads(answer.stdout)["choices"][0]["message"]["content"]
    with httpx.Client(verify=trust, timeout=60) as http:
        assert http.get(f"{url}/health").json()["status"] == "ready"
        origin = {"origin": "https://chat.example"}
        assert http.get(f"{url}/v1/models", headers=origin).headers["access-control-allow-origin"] == origin["origin"]
        page = http.get(f"{url}/metrics").text
    assert "nv_inference_request_success" in page
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url.replace("https", "http") + "/health", timeout=60)


async def test_anthropic_client(url: str, trust: ssl.SSLContext) -> None:
    """Anthropic's client converses, streams and counts; whole and streamed say the same."""
    http = anthropic.DefaultAsyncHttpxClient(verify=trust)
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0, http_client=http) as client:
        greedy = {"model": MODEL, "max_tokens": 60, "messages": QUESTION, "extra_body": {"temperature": 0}}
        whole = await client.messages.create(**greedy)
        assert "folder" in whole.content[0].text
        assert whole.stop_reason == "end_turn"
        async with client.messages.stream(**greedy) as stream:
            parts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        assert "".join(parts) == whole.content[0].text
        assert len(parts) > 5
        assert final.usage.output_tokens == whole.usage.output_tokens
        counted = await client.messages.count_tokens(model=MODEL, messages=QUESTION)
        # A prompt that was answered before is found in the worker's cache, but for its last block.
        assert counted.input_tokens == final.usage.input_tokens + final.usage.cache_read_input_tokens
        assert [model.id async for model in client.models.list()] == [MODEL]


async def test_responses(url: str, trust: ssl.SSLContext) -> None:
    """A response is continued, streamed, read again, and made in the background."""
    async with (
        httpx.AsyncClient(verify=trust, timeout=120) as http,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):
        first = await client.responses.create(model=MODEL, input="What is a model repository?", temperature=0)
        assert "folder" in first.output_text
        assert first.status == "completed"
        second = await client.responses.create(
            model=MODEL, input="Who are you?", previous_response_id=first.id, temperature=0
        )
        assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
        async with client.responses.stream(model=MODEL, input="What is a model repository?", temperature=0) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == first.output_text
        assert kinds[0] == "response.created"
        assert (await client.responses.retrieve(second.id)).output_text == second.output_text
        queued = await client.responses.create(model=MODEL, input="Who are you?", background=True, temperature=0)
        async with asyncio.timeout(60):
            while (done := await client.responses.retrieve(queued.id)).status in ("queued", "in_progress"):
                continue
        assert done.status == "completed"
        assert done.output_text


async def test_model_that_does_not_pool(url: str, trust: ssl.SSLContext) -> None:
    """Embeddings of a model that only generates are refused with what it does."""
    async with (
        httpx.AsyncClient(verify=trust, timeout=120) as http,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="it does generate"):
            await client.embeddings.create(model=MODEL, input="x")
