"""Embeddings, classes and rankings by real vLLM, for OpenAI's client and as Jina's and Cohere's clients ask."""

import importlib.util
import json
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
from qa.e2e import tiny_models
from qa.e2e.product import Product

START_S = 400

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.timeout(2 * START_S),
    pytest.mark.filterwarnings("ignore"),  # torch's and transformers' own, when models are made
]

TEXTS = ["A model repository is a folder.", "The router sends a request to a worker.", "x"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Serve a BERT that embeds, one that tells three classes apart, and one that scores pairs."""
    repository = tmp_path_factory.mktemp("models")
    for name, labels in (("embedder", 0), ("classifier", 3), ("ranker", 1)):
        version = repository / name / "1"
        version.mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text('backend: "vllm"\n')
        tiny_models.bert(version / "bert", labels=labels)
        arguments = {"model": "bert", "dtype": "float32", "max_model_len": 512, "enforce_eager": True}
        (version / "model.json").write_text(json.dumps({**arguments, "kv_cache_memory_bytes": 1 << 26}))
    product = Product([str(repository), "--engine=vllm"], wait_s=START_S)
    assert "OpenAI" in product.ports, product.output
    yield product
    assert product.stop() == 0, product.output


@pytest.fixture(scope="module")
def http(served: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{served.url('OpenAI')}", timeout=60) as made:
        yield made


def test_embeddings(served: Product) -> None:
    """Vectors have length one, are the same for the same text, and differ for others."""
    with openai.OpenAI(base_url=f"http://{served.url('OpenAI')}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="embedder", input=[*TEXTS, TEXTS[0]])
        as_numbers = client.embeddings.create(model="embedder", input=TEXTS[0], encoding_format="float")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="embedder", messages=[{"role": "user", "content": "x"}])
    vectors = np.array([one.embedding for one in answer.data])
    assert vectors.shape == (4, 64)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-4)
    assert vectors[0] == pytest.approx(vectors[3], abs=1e-4)
    assert vectors[0] == pytest.approx(as_numbers.data[0].embedding, abs=1e-4)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-2
    assert answer.usage.prompt_tokens > 0


def test_scores_of_an_embedder(http: httpx.Client) -> None:
    """A model that embeds scores pairs by the cosine of their vectors: 1 for a text and itself."""
    body = {"model": "embedder", "text_1": TEXTS[0], "text_2": TEXTS}
    scores = [one["score"] for one in http.post("/score", json=body).json()["data"]]
    assert scores[0] == pytest.approx(1, abs=1e-4)
    assert scores[1] < 1


def test_classes(http: httpx.Client) -> None:
    """Probabilities sum to one, and the likeliest class is named by the model's own config."""
    answer = http.post("/classify", json={"model": "classifier", "input": TEXTS}).json()
    for one in answer["data"]:
        assert sum(one["probs"]) == pytest.approx(1, abs=1e-4)
        assert one["label"] == f"LABEL_{int(np.argmax(one['probs']))}"


def test_ranking(http: httpx.Client) -> None:
    """A cross-encoder's ranking is in the order of the scores that it gives the pairs."""
    ranked = http.post("/rerank", json={"model": "ranker", "query": "What is a folder?", "documents": TEXTS}).json()
    scores = http.post("/v1/score", json={"model": "ranker", "text_1": "What is a folder?", "text_2": TEXTS}).json()
    by_index = {one["index"]: one["score"] for one in scores["data"]}
    assert [one["index"] for one in ranked["results"]] == sorted(by_index, key=lambda i: -by_index[i])
    for one in ranked["results"]:
        assert one["relevance_score"] == pytest.approx(by_index[one["index"]], abs=1e-5)
        assert one["document"]["text"] == TEXTS[one["index"]]


def test_model_that_does_not_do_it(http: httpx.Client) -> None:
    """A task that the model does not have is refused with those that it has."""
    answer = http.post("/classify", json={"model": "embedder", "input": "x"})
    assert answer.status_code == 400
    assert "embed" in answer.json()["error"]["message"]
