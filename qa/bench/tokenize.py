"""What rendering and tokenizing a prompt costs the front, where prompts share prefixes.

    python -m qa.bench.tokenize [--prompts 1000] [--tokens 1574] [--prefixes 20]

Trains a byte-level BPE on the words it uses, builds chats of which each shares its beginning with others, and prints
the CPU time a request of rendering and encoding: cold (whole), warm (pieces kept), and by the library alone.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tritium.llm.conversation import template_messages
from tritium.llm.template import ChatTemplate
from tritium.llm.tokenizer import Tokenizer

_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_SPECIAL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_SHARED = 0.935
"""How much of a prompt is its prefix, as in the workload of Dynamo's that the figure is compared with."""


def train(words: list[str], rng: random.Random) -> tokenizers.Tokenizer:
    """Return a tokenizer of Llama 3's kind that knows the words."""
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(tokenizers.Regex(_PATTERN), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8_000,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(rng.choices(words, k=200)) for _ in range(400)], trainer)
    return backend


def chats(words: list[str], rng: random.Random, prompts: int, tokens: int, prefixes: int) -> list[list[dict[str, str]]]:
    """Return chats of one message, each prefix shared by as many."""
    shared = [" ".join(rng.choices(words, k=int(tokens * _SHARED))) for _ in range(prefixes)]
    made = [
        f"{shared[n % prefixes]} {' '.join(rng.choices(words, k=int(tokens * (1 - _SHARED))))}" for n in range(prompts)
    ]
    rng.shuffle(made)
    return [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}] for text in made]


async def measure(
    encode: Callable[[list[dict[str, str]]], Awaitable[list[int]]], asked: list[list[dict[str, str]]]
) -> str:
    """Return the CPU time a request, of this process with all its threads."""
    spent: list[float] = []
    sizes: list[int] = []
    began = time.process_time()
    for chat in asked:
        before = time.process_time()
        sizes.append(len(await encode(chat)))
        spent.append((time.process_time() - before) * 1e3)
    mean = (time.process_time() - began) / len(asked) * 1e3
    median, last = statistics.median(spent), statistics.quantiles(spent, n=100)[98]
    return f"{mean:6.3f} ms mean  {median:6.3f} p50  {last:6.3f} p99  ({statistics.mean(sizes):.0f} tokens)"


async def run(prompts: int, tokens: int, prefixes: int) -> None:
    """Measure and print the three ways."""
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 8))) for _ in range(3_000)]
    backend = train(words, rng)
    template = ChatTemplate(_TEMPLATE, {})
    tokenizer = Tokenizer(backend, template)
    asked = chats(words, rng, prompts, tokens, prefixes)

    async def encode(chat: list[dict[str, str]]) -> list[int]:
        text = await template.render_aside(await template_messages(chat, template.content_format))
        return await tokenizer.encode(text, add_special=False)

    async def whole(chat: list[dict[str, str]]) -> list[int]:
        return list(backend.encode(template.render(chat), add_special_tokens=False).ids)

    print(f"load average {os.getloadavg()[0]:.1f}; {prompts} prompts of {prefixes} prefixes")
    print("library alone  ", await measure(whole, asked[:200]))
    print("first time     ", await measure(encode, asked[:prefixes]))
    print("shared prefixes", await measure(encode, asked[prefixes:]))
    print("known prompts  ", await measure(encode, asked[:200]))
    reuse = tokenizer.reuse
    print(f"tokens reused {reuse.reused_tokens}, computed {reuse.computed_tokens}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1_000)
    parser.add_argument("--tokens", type=int, default=1_574)
    parser.add_argument("--prefixes", type=int, default=20)
    asyncio.run(run(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
