"""Fleets of the sample model, and a sink that can be waited on."""

import asyncio
import json
from pathlib import Path

from tokenizers import Tokenizer

from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet

MODEL = Path(__file__).parents[2] / "model_repository" / "tiny_chat" / "1"
TEXT = """What is a model repository? A model repository is a folder of models. Each model has a folder of its own,
with a configuration and numbered versions. What is a batch? A batch is several requests that are run together. """


class Sink:
    """Gathers a generation; `then` is called at its token number `at`, before anything else can happen."""

    def __init__(self, at=0, then=lambda: None) -> None:
        self.at = at
        self.then = then
        self.tokens = []
        self.deltas = []
        self.error = None
        self.over = asyncio.Event()
        self.moved = asyncio.Event()

    def on_delta(self, delta) -> None:
        self.tokens += delta.token_ids
        self.deltas.append(delta)
        self.moved.set()
        if self.at and len(self.tokens) >= self.at:
            self.at = 0
            assert not delta.finish, "it must not be over when it is interfered with"
            self.then()
        if delta.finish:
            self.over.set()

    def on_failure(self, error) -> None:
        self.error = error
        self.moved.set()
        self.over.set()

    @property
    def cached_tokens(self):
        return next(delta.cached_tokens for delta in self.deltas if delta.cached_tokens is not None)


def generate(fleet, tokens, max_tokens=24, sampling=None, sink=None, **rest):
    sink = sink or Sink()
    asked = {"max_tokens": max_tokens, "temperature": 0.0, "ignore_eos": True, **(sampling or {})}
    return fleet.generate(GenerationRequest(list(tokens), asked, **rest), sink), sink


async def ask(fleet, tokens, *arguments, **rest):
    handle, sink = generate(fleet, tokens, *arguments, **rest)
    await asyncio.wait_for(sink.over.wait(), 120)
    return handle.route, sink


async def until(condition, within_s=90.0):
    """Wait for what a worker tells in its own time: a KV event, a counter."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  counters and index are read, they call nobody
            await asyncio.sleep(0.02)


def samples(fleet, name):
    return {labels.get("worker", ""): value for sample, labels, value in fleet.metrics() if sample == name}


async def sample_fleet(spec, engine):
    arguments = json.loads((MODEL / "model.json").read_text())
    folder = MODEL / arguments.pop("model")
    return await start_fleet(parse_fleet(spec), name="tiny_chat", engine=engine, folder=folder, arguments=arguments)


def sample_prompts():
    """Return prompts by their length in tokens: within a block, over block borders, and hundreds of tokens long."""
    words = Tokenizer.from_file(str(MODEL / "tiny_chat" / "tokenizer.json"))
    tokens = words.encode(TEXT * 12).ids
    return {length: tokens[offset : offset + length] for offset, length in enumerate((20, 32, 97, 160, 301, 500))}


def token_kv_bytes():
    """Return how many bytes of KV one token has in float32."""
    config = json.loads((MODEL / "tiny_chat" / "config.json").read_text())
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * 4
