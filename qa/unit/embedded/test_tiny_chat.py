"""The sample model: small, whole, and making sense."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer

from tritium.backends.embedded.engine import EmbeddedEngine
from tritium.backends.engine import EngineSource, FinishReason

MODEL = Path(__file__).parents[3] / "model_repository" / "tiny_chat"
VERSION = MODEL / "1"
FOLDER = VERSION / "tiny_chat"

QUESTIONS = {
    "What is a model repository?": "A model repository is a folder that holds the models a server can load.",
    "what's a model repository": "A model repository is a folder that holds the models a server can load.",
    "Could you explain to me what model repositories are?": "A model repository is a folder that holds the models",
    "Hello": "Hello! I am tiny_chat",
    "hi there": "Hello! I am tiny_chat",
    "What is a KV cache?": "A KV cache keeps the keys and values that attention has computed",
    "Please explain the kv cache": "A KV cache keeps the keys and values that attention has computed",
    "Who are you?": "I am tiny_chat, a language model of about two million parameters.",
    "What is disaggregated serving?": "Disaggregated serving runs prefill and decode on different workers.",
    "Why would I disaggregate?": "Disaggregated serving runs prefill and decode on different workers.",
    "Thanks!": "You are welcome!",
}


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture
def render(tokenizer: Tokenizer) -> Callable[..., list[int]]:
    """Turn messages into a prompt by the model's own template."""
    settings = json.loads((FOLDER / "tokenizer_config.json").read_text())
    template = jinja2.Template(settings["chat_template"])

    def to_tokens(*messages: tuple[str, str]) -> list[int]:
        text = template.render(
            messages=[{"role": role, "content": content} for role, content in messages],
            add_generation_prompt=True,
            bos_token=settings["bos_token"],
        )
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return to_tokens


def run() -> EmbeddedEngine:
    return EmbeddedEngine(EngineSource(FOLDER, json.loads((VERSION / "model.json").read_text())))


def test_it_stays_small() -> None:
    """Everything that is shipped of it fits in five megabytes."""
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) < 5_000_000


async def test_it_answers_in_words_that_make_sense(
    drive: Callable[..., Any], tokenizer: Tokenizer, render: Callable[..., list[int]]
) -> None:
    """First questions, also in other words, get the right answer, and the answer ends by itself."""
    async with drive(run()) as driver:
        for question, beginning in QUESTIONS.items():
            result = await driver.generate(render(("user", question)), max_tokens=100, temperature=0.0)
            assert result.last.finish == FinishReason.STOP
            assert tokenizer.decode(result.tokens).startswith(beginning), question


async def test_it_follows_a_chat(
    drive: Callable[..., Any], tokenizer: Tokenizer, render: Callable[..., list[int]]
) -> None:
    """After a system prompt and an earlier turn it still answers the last question."""
    async with drive(run()) as driver:
        tokens = render(
            ("system", "You are a helpful assistant."),
            ("user", "Hello"),
            ("assistant", "Hello! I am tiny_chat."),
            ("user", "What is prefill?"),
        )
        result = await driver.generate(tokens, max_tokens=100, temperature=0.0)
        assert tokenizer.decode(result.tokens).startswith("Prefill is the first phase of a request")


async def test_a_draw_at_temperature_one_makes_sense_too(
    drive: Callable[..., Any], tokenizer: Tokenizer, render: Callable[..., list[int]]
) -> None:
    """OpenAI's default temperature is 1: most draws must still be the answer."""
    async with drive(run()) as driver:
        tokens = render(("user", "What is a model repository?"))
        numbers = [driver.submit(tokens, max_tokens=100, temperature=1.0, seed=seed) for seed in range(10)]
        texts = [tokenizer.decode((await driver.result(number)).tokens) for number in numbers]
        assert sum(text.startswith(QUESTIONS["What is a model repository?"]) for text in texts) >= 8
