import numpy as np
import pytest

DOCUMENTS = ["a folder", "the router sends a request", "x"]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_pairs_read_as_one(open_door, path):
    """A model that scores pairs reads each as one prompt, with both texts in it."""
    async with open_door(tasks=("score",)) as door:
        answer = await door.http.post(path, json={"model": "story", "text_1": "what?", "text_2": DOCUMENTS})
        data = answer.json()["data"]
        assert [d["index"] for d in data] == [0, 1, 2]
        lengths = [len(r.token_ids) for r in door.fleet.pooled]
        assert [d["score"] for d in data] == pytest.approx([n / 1000 for n in lengths])
        for request, text in zip(door.fleet.pooled, DOCUMENTS, strict=True):
            assert door.fleet.tokenizer.decode(request.token_ids) == f"what?{text}"
        assert answer.json()["usage"]["prompt_tokens"] == sum(lengths)


async def test_vectors_compared(open_door):
    """A model that embeds reads every text once; pairs are scored by the cosine of their vectors."""
    async with open_door(tasks=("embed",)) as door:
        answer = await door.http.post("/score", json={"model": "story", "text_1": DOCUMENTS, "text_2": DOCUMENTS[::-1]})
        scores = [d["score"] for d in answer.json()["data"]]
        assert scores[1] == pytest.approx(1)
        assert scores[0] == pytest.approx(scores[2])
        vectors = []
        for text in DOCUMENTS:
            ids = door.fleet.tokenizer.encode_now(text, add_special=True)
            vectors.append(np.bincount(np.array(ids) % 16, minlength=16))
        one, other = vectors[0], vectors[2]
        assert scores[0] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), rel=1e-5)
        assert len(door.fleet.pooled) == 6


async def test_tokens_compared(open_door):
    """A model that embeds tokens scores by the nearest token of the other text, summed."""
    async with open_door(tasks=("token_embed",)) as door:
        answer = await door.http.post("/score", json={"model": "story", "text_1": "a folder", "text_2": "a folder"})
        ids = door.fleet.tokenizer.encode_now("a folder", add_special=True)
        assert answer.json()["data"][0]["score"] == len(ids)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_ranking(open_door, path):
    """Documents come best first, by where they stood; texts and objects with a text are both documents."""
    async with open_door(tasks=("score",)) as door:
        documents = [DOCUMENTS[0], {"text": DOCUMENTS[1]}, DOCUMENTS[2]]
        asked = {"model": "story", "query": "what?", "documents": documents}
        ranking = (await door.http.post(path, json=asked)).json()
        assert [r["index"] for r in ranking["results"]] == [1, 0, 2]
        assert ranking["results"][0]["document"] == {"text": DOCUMENTS[1]}
        scores = [r["relevance_score"] for r in ranking["results"]]
        assert scores == sorted(scores, reverse=True)
        best = (await door.http.post(path, json={**asked, "top_n": 1, "return_documents": False})).json()
        assert len(best["results"]) == 1
        assert "document" not in best["results"][0]


async def test_long_documents(open_door):
    """max_tokens_per_doc cuts what is read of a document, not what is given back."""
    async with open_door(tasks=("score",)) as door:
        asked = {"model": "story", "query": "q", "documents": DOCUMENTS[1:2], "max_tokens_per_doc": 2}
        ranking = (await door.http.post("/rerank", json=asked)).json()
        assert ranking["results"][0]["document"]["text"] == DOCUMENTS[1]
        whole = len(door.fleet.tokenizer.encode_now(DOCUMENTS[1], add_special=False))
        assert len(door.fleet.pooled[0].token_ids) < whole


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/score", {"text_1": "x"}, "text_2"),
        ("/score", {}, "text_1"),
        ("/score", {"text_1": "x", "text_2": "y", "queries": "z"}, "text_1"),
        ("/score", {"text_1": ["x", "y"], "text_2": ["a", "b", "c"]}, "text_1"),
        ("/score", {"text_1": "x", "text_2": []}, "text_2"),
        ("/rerank", {"query": "x", "documents": []}, "documents"),
        ("/rerank", {"query": "x", "documents": [5]}, "documents[0]"),
        ("/rerank", {"query": "x", "documents": [{"title": "x"}]}, "documents[0]"),
        ("/rerank", {"query": "x", "documents": ["x"], "top_n": -1}, "top_n"),
        ("/rerank", {"documents": ["x"]}, "query"),
        ("/rerank", {"query": "x" * 1_000_000, "documents": ["x"] * 70, "truncate_prompt_tokens": 4}, "input"),
        ("/score", {"text_1": "x", "text_2": "a" * 4_200_000}, "input"),
    ],
)
async def test_refused(open_door, path, body, param):
    """What is at fault is named."""
    async with open_door(tasks=("score",)) as door:
        answer = await door.http.post(path, json={"model": "story", **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
