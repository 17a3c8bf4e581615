"""Train tiny_chat from `topics.txt` and write it as a Hugging Face model folder.

    python train.py [--steps 5000] [--out ../1/tiny_chat]

Needs torch, transformers and tokenizers (the server needs none of them but tokenizers). One thread and one seed,
so that the same versions on the same kind of processor give the same weights.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from conversations import SYSTEM, Chat, Topic, ask, chat, read_topics
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
SPECIAL = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, BOS, END, SYSTEM_MARK, USER, ASSISTANT = range(len(SPECIAL))
CONTEXT = 1024
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
IGNORED = -100
RECOGNIZED = 6
"""After so many tokens it is plain which answer is meant."""


def make_tokenizer(topics: list[Topic], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer on the topics' text; it puts <|bos|> before a plain prompt, as Llama's does."""
    random = Random(1)
    text = [topic.answer for topic in topics for _ in range(8)] + list(SYSTEM)
    text += [ask(topic, random) for topic in topics for _ in range(60)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A", pair=f"{SPECIAL[BOS]} $A $B", special_tokens=[(SPECIAL[BOS], BOS)]
    )
    return tokenizer


def encode(drawn: Chat, tokenizer: Tokenizer, random: Random | None = None) -> tuple[list[int], list[int]]:
    """Return the ids of a chat and its labels: answers and their end are learned, the rest is only read.

    With `random`, some tokens of the questions are replaced by others, so that no single word decides.
    """

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    ids = [BOS]
    if drawn.system:
        ids += [SYSTEM_MARK, *ids_of(drawn.system), END]
    labels = [IGNORED] * len(ids)
    for turn in drawn.turns:
        asked = ids_of(turn.question)
        if random and random.random() < 0.5 and len(asked) > 3:
            asked = [random.randrange(len(SPECIAL), 1024) if random.random() < 0.06 else id_ for id_ in asked]
        question = [USER, *asked, END, ASSISTANT]
        answer = [*ids_of(turn.answer), END]
        ids += question + answer
        labels += [IGNORED] * len(question) + answer
    return ids[:CONTEXT], labels[:CONTEXT]


def beginnings(drawn: Chat, tokenizer: Tokenizer, random: Random) -> tuple[list[int], list[int]]:
    """Encode a chat up to the first words of its last answer.

    Those words decide which answer it will be; the rest is recited. Most chats are cut there, so that a step sees
    many questions.
    """
    ids, labels = encode(drawn, tokenizer, random)
    start = len(ids) - 1
    while labels[start - 1] != IGNORED:
        start -= 1
    return ids[: start + RECOGNIZED], labels[: start + RECOGNIZED]


def batches(
    topics: list[Topic], tokenizer: Tokenizer, tokens: int, random: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield padded batches of about `tokens` tokens, of chats of similar length, without end."""
    while True:
        pool = [encode(chat(topics, random), tokenizer, random) for _ in range(96)]
        pool += [beginnings(chat(topics, random), tokenizer, random) for _ in range(400)]
        # A part is plain text, so that completions without a chat make sense too.
        for topic in random.choices(topics, k=8):
            ids = [BOS, *tokenizer.encode(topic.answer, add_special_tokens=False).ids, END]
            pool.append((ids, ids))
        pool.sort(key=lambda pair: len(pair[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pool:
            if (len(groups[-1]) + 1) * len(pair[0]) > tokens and groups[-1]:
                groups.append([])
            groups[-1].append(pair)
        random.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [PAD] * (width - len(ids)) for ids, _ in group]),
                torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in group]),
            )


def answer_to(model: LlamaForCausalLM, tokenizer: Tokenizer, question: str) -> str:
    """Answer one question greedily."""
    ids, _ = encode(Chat("", ()), tokenizer)
    ids += [USER, *tokenizer.encode(question, add_special_tokens=False).ids, END, ASSISTANT]
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=90, do_sample=False
    )
    return tokenizer.decode(out[0, len(ids) :].tolist(), skip_special_tokens=True)


def measure(model: LlamaForCausalLM, tokenizer: Tokenizer, topics: list[Topic]) -> str:
    """Answer the questions that were not trained on; return how many were answered right, and those that were not."""
    held_out = [(question, topic.answer) for topic in topics for question in topic.held_out]
    lines = [line.split(" => ") for line in (HERE / "unseen.txt").read_text().splitlines() if " => " in line]
    report = []
    for name, asked in (("held out", held_out), ("unseen", [(question, start) for question, start in lines])):
        wrong = [
            f"  {question} -> {said[:80]}"
            for question, answer in asked
            if not (said := answer_to(model, tokenizer, question)).startswith(answer)
        ]
        report += [f"{name}: {len(asked) - len(wrong)} of {len(asked)} answered right", *wrong]
    return "\n".join(report)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write weights in bfloat16, configuration, tokenizer and chat template."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[END],
        "pad_token": SPECIAL[PAD],
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens in a batch")
    parser.add_argument("--rate", type=float, default=2.5e-3, help="highest learning rate")
    parser.add_argument("--out", type=Path, default=HERE.parent / "1" / "tiny_chat")
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    topics = read_topics(HERE / "topics.txt")
    tokenizer = make_tokenizer(topics, vocabulary=1024)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=END,
        pad_token_id=PAD,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.1)
    warmup = 100

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (options.steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)
    began = time.perf_counter()
    drawn = batches(topics, tokenizer, options.tokens, Random(0))
    for step in range(1, options.steps + 1):
        ids, labels = next(drawn)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids).logits[:, :-1]
        loss = functional.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}  loss {loss.item():.3f}  {time.perf_counter() - began:.0f} s", flush=True)
    save(model, tokenizer, options.out)
    print(measure(model.float().eval(), tokenizer, topics))


if __name__ == "__main__":
    main()
