"""What real vLLM does beside plain generating: adapters, constraints, pooling, images; on random models made here."""

import asyncio
import importlib.util
import io
import os
import re
import signal

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from qa.e2e import tiny_models
from qa.e2e.fleets import MODEL, ask, generate, samples, until
from tokenizers import Tokenizer

from tritium.backends.engine import Media
from tritium.cluster.fleet import PoolRequest
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InvalidArgument, NotFound

START_S = 300

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(2 * START_S),
    pytest.mark.filterwarnings("ignore"),  # torch's and transformers' own, when models are made
]

WORDS = Tokenizer.from_file(str(MODEL / "tiny_chat" / "tokenizer.json"))
QUESTION = WORDS.encode("<|bos|><|user|>What is a model repository?<|end|><|assistant|>", add_special_tokens=False).ids
LONG = WORDS.encode("A model repository is a folder of models. " * 8, add_special_tokens=False).ids


async def fleet_of(folder, **arguments):
    given = {
        "dtype": "float32",
        "max_model_len": 512,
        "block_size": 32,
        "kv_cache_memory_bytes": 1 << 26,
        "enforce_eager": True,
        **arguments,
    }
    # More than the engine runs at once, so that requests wait in the engine and not in front of it.
    return await start_fleet(parse_fleet("worker_requests=8"), name="m", engine="vllm", folder=folder, arguments=given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chat(folder):
    """The sample model, with room for two adapters and four sequences."""
    tiny_models.lora(folder / "one", seed=1)
    tiny_models.lora(folder / "two", seed=5)
    arguments = {"enable_lora": True, "max_lora_rank": 8, "max_loras": 2, "max_num_seqs": 4}
    fleet = await fleet_of(MODEL / "tiny_chat", scheduling_policy="priority", **arguments)
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder(folder):
    fleet = await fleet_of(tiny_models.bert(folder / "bert"))
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ranker(folder):
    fleet = await fleet_of(tiny_models.bert(folder / "ranker", labels=1))
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seeing(folder):
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("vLLM's image models need torchvision, which has no build for a CPU's torch here")
    fleet = await fleet_of(tiny_models.vision(folder / "vision"))
    yield fleet
    await fleet.close()


async def said(fleet, tokens=QUESTION, count=24, sampling=None, **rest):
    _, sink = await ask(fleet, tokens, count, sampling, **rest)
    if sink.error is not None:
        raise sink.error
    return sink


def text(sink):
    return WORDS.decode(sink.tokens, skip_special_tokens=True)


async def numbers(fleet, task, tokens=QUESTION, **rest):
    pooled = await fleet.pool(PoolRequest(list(tokens), task, **rest))
    return np.frombuffer(pooled.data, "<f4").reshape(pooled.shape)


async def test_adapters_come_and_go(chat, folder):
    """A loaded adapter changes what is said; under its name anew, nothing computed with the old weights is reused."""
    base = await said(chat, LONG)
    await chat.load_lora("x", str(folder / "one"))
    one = await said(chat, LONG, lora="x")
    assert one.tokens != base.tokens
    assert one.cached_tokens == 0
    again = await said(chat, LONG, lora="x")
    assert (again.tokens, again.cached_tokens) == (one.tokens, len(LONG) // 32 * 32)
    await chat.load_lora("x", str(folder / "two"))
    two = await said(chat, LONG, lora="x")
    assert two.cached_tokens == 0
    assert two.tokens not in (one.tokens, base.tokens)
    await chat.unload_lora("x")
    with pytest.raises(InvalidArgument, match="no LoRA adapter 'x'"):
        await said(chat, lora="x")
    with pytest.raises(NotFound, match="no adapter 'x'"):
        await chat.unload_lora("x")


async def test_adapter_that_is_none(chat, folder):
    """A folder without an adapter is refused with its path, and the name stays free."""
    with pytest.raises(InvalidArgument, match=f"adapter 'y' cannot be loaded from {folder}"):
        await chat.load_lora("y", str(folder))
    assert not chat.workers.loras


async def test_bad_words(chat):
    """A forbidden word is not said, though its tokens after a space are others than alone."""
    assert "model" in text(await said(chat))
    without = text(await said(chat, count=48, sampling={"bad_words": ["model", "models"]}))
    assert "model" not in without


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        ({"regex": "[0-9]{6}"}, "[0-9]{6}"),
        ({"choice": ["yes", "perhaps"]}, "yes|perhaps"),
        ({"grammar": 'root ::= "ab" | "cd"'}, "ab|cd"),
        ({"json": {"enum": ["red", "blue"]}}, '"(red|blue)"'),
    ],
)
async def test_structured_outputs(chat, constraint, pattern):
    """An answer held to a form has it, to its end."""
    sink = await said(chat, sampling={"structured_outputs": constraint, "ignore_eos": False})
    assert re.fullmatch(pattern, text(sink))
    assert sink.deltas[-1].finish == "stop"


async def test_scores_of_the_prompt(chat):
    """Every token of the prompt but the first has its log probability, told once."""
    sink = await said(chat, count=2, sampling={"prompt_logprobs": 1})
    scores = sink.deltas[0].prompt_logprobs
    assert len(scores) == len(QUESTION)
    assert scores[0] is None
    assert [place[0].token_id for place in scores[1:]] == QUESTION[1:]
    assert all(place[0].logprob <= 0 for place in scores[1:])
    assert sink.deltas[-1].prompt_logprobs is None


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"thinking_token_budget": 5}, "reasoning"),
        ({"structured_outputs": {"nonesuch": "x"}}, "structured outputs"),
        ({"bad_words": [""]}, "bad_words"),
    ],
)
async def test_refusals(chat, sampling, words):
    """What this model or vLLM cannot do is the request's fault, in words that say what it is."""
    with pytest.raises(InvalidArgument, match=words):
        await said(chat, count=2, sampling=sampling)


async def test_abort_at_every_phase(chat):
    """Whether a sequence waits, prefills or decodes when it is cancelled, nothing of it is left in the engine."""
    decoding = [generate(chat, [*LONG, number], 400) for number in range(4)]
    for _, sink in decoding:
        await asyncio.wait_for(sink.moved.wait(), 60)
    waiting, unheard = generate(chat, [*LONG, 99], 400, priority=5)
    await until(lambda: samples(chat, "tritium_engine_waiting").get("worker_0") == 1)
    waiting.cancel()
    for handle, _ in decoding:
        handle.cancel()
    prefilling, unheard_too = generate(chat, LONG * 3, 400)
    prefilling.cancel()
    await said(chat, count=2)
    for gauge in ("tritium_engine_running", "tritium_engine_waiting", "tritium_engine_kv_used_blocks"):
        await until(lambda name=gauge: samples(chat, name)["worker_0"] == 0)
    assert not unheard.deltas
    assert not unheard_too.deltas


async def test_vllm_metrics_pass_through(chat):
    """vLLM's own metrics are told, with the worker and the model's own name, histograms whole."""
    await said(chat, count=2)
    await until(lambda: any(own.family == "vllm:generation_tokens_total" and own.value for own in chat.own_metrics()))
    first = [own for own in chat.own_metrics() if own.family == "vllm:time_to_first_token_seconds"]
    assert {own.suffix for own in first} == {"_bucket", "_sum", "_count"}
    assert {own.kind for own in first} == {"histogram"}
    assert {(own.labels["worker"], own.labels["model_name"]) for own in first} == {("worker_0", "m")}


async def test_adapter_after_a_restart(chat, folder):
    """A worker that was killed has its adapters again before it takes requests."""
    await chat.load_lora("x", str(folder / "one"))
    before = await said(chat, LONG, lora="x")
    os.kill(chat.workers.by_name["worker_0"].pid, signal.SIGKILL)
    await until(lambda: not chat.ready)
    await until(lambda: chat.ready, START_S)
    assert (await said(chat, LONG, lora="x")).tokens == before.tokens
    await chat.unload_lora("x")


async def test_embeddings(embedder):
    """An embedding model gives vectors of length 1, the same for the same text, and one a token where asked."""
    assert embedder.info.tasks == ("embed", "token_embed")
    first, again, other = [await numbers(embedder, "embed", tokens) for tokens in (QUESTION, QUESTION, LONG)]
    assert first.shape == (64,)
    assert abs(np.linalg.norm(first) - 1) < 1e-5
    assert (first == again).all()
    assert not np.allclose(first, other)
    assert (await numbers(embedder, "token_embed")).shape == (len(QUESTION), 64)
    raw = await numbers(embedder, "embed", parameters={"use_activation": False})
    assert np.allclose(raw / np.linalg.norm(raw), first, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "parameters", "words"),
    [
        ("classify", {}, "does not classify: its engine vllm loaded it to embed, token_embed"),
        ("generate", {}, "does not generate"),
        ("embed", {"dimension": 8}, "did you mean dimensions"),
        ("embed", {"dimensions": 8}, "Matryoshka"),
    ],
)
async def test_embedder_refuses(embedder, task, parameters, words):
    """What the loaded model does not do is refused with what it does."""
    with pytest.raises(InvalidArgument, match=words):
        await numbers(embedder, task, parameters=parameters)


async def test_embedder_does_not_generate(embedder):
    """Nor does it generate."""
    with pytest.raises(InvalidArgument, match="does not generate: its engine vllm loaded it to embed"):
        await said(embedder)


async def test_many_at_once(embedder):
    """Prompts are pooled together, each answer its own."""
    texts = [LONG[:count] for count in range(1, 65)]
    together = await asyncio.gather(*(numbers(embedder, "embed", tokens) for tokens in texts))
    alone = await numbers(embedder, "embed", texts[20])
    assert np.allclose(together[20], alone, atol=1e-4)
    assert len({vector.tobytes() for vector in together}) == 64


async def test_scoring(ranker):
    """A cross-encoder scores a pair from 0 to 1, and where its second text begins matters."""
    assert ranker.info.tasks == ("classify", "score")
    pair = [*QUESTION, *LONG]
    one, segmented = await numbers(ranker, "score", pair), await numbers(ranker, "score", pair, second_at=len(QUESTION))
    assert one.shape == segmented.shape == (1,)
    assert 0 <= one[0] <= 1
    assert one[0] != segmented[0]


async def test_images(seeing):
    """An image takes the place of its placeholder: what is said depends on it, and the prompt counts its tokens."""
    assert seeing.info.modalities == ("image",)
    prompt = [1, tiny_models.image_token(), *QUESTION[2:]]
    red, blue, again = [await said(seeing, prompt, media=[picture(color)]) for color in ("red", "blue", "red")]
    assert red.tokens == again.tokens != blue.tokens
    assert red.deltas[0].prompt_tokens == len(prompt) + 3  # four patches in the place of one token
    with pytest.raises(InvalidArgument, match=r"image number 0 \(image/png\) cannot be read"):
        await said(seeing, prompt, media=[Media("image", "image/png", b"no picture")])
    with pytest.raises(InvalidArgument, match="takes no audio: it takes image"):
        await said(seeing, prompt, media=[Media("audio", "audio/wav", b"")])


def picture(color):
    data = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(data, "PNG")
    return Media("image", "image/png", data.getvalue())
