"""Requests made from a model's configuration: seeded, so that two runs ask the same.

A model is asked alone and in a batch, by words and by digits where it takes text, without its optional inputs, for one
output only, and in ways that it must refuse; one with sequences in two sequences side by side; a language model for
greedy text. Whole numbers are small (0 to 7): they often count or index something.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tritium.compat.datatypes import BY_CONFIG_VALUE
from tritium.migration.comparing.call import Inference
from tritium.migration.comparing.tensor import Tensor, from_elements

_WORDS = ("river", "lantern", "where is my order?", "", "naïve café", "42", "déjà vu 東京", "a b c")
_DIGITS = ("0", "1", "2", "3", "5", "7")
PROMPTS = ("What is a model repository?", "The capital of France is", "Count to five: one, two,")
GREEDY_TOKENS = 16
_GREEDY = json.dumps({"temperature": 0, "max_tokens": GREEDY_TOKENS})
# Inputs of Triton's language backends (vllm_backend, TensorRT-LLM's ensemble) by name, for greedy decoding.
_LANGUAGE: dict[str, Any] = {
    "sampling_parameters": _GREEDY, "stream": False, "max_tokens": GREEDY_TOKENS, "bad_words": "", "stop_words": "",
    "top_k": 1, "temperature": 1.0, "beam_width": 1, "exclude_input_in_output": True,
}  # fmt: skip
TEXT_INPUT = "text_input"


@dataclass(frozen=True, slots=True)
class Made:
    """The requests for one model, and what none could be made for."""

    calls: tuple[Inference, ...]
    remarks: tuple[str, ...] = ()


def make(name: str, config: Any, *, seed: int, rounds: int, protocol: str) -> Made:
    """Make requests for a model of this configuration (the protobuf message); `rounds` of ordinary ones."""
    draw = random.Random(f"{seed} {name}")  # noqa: S311  (reproducible, not secret)
    decoupled = bool(config.model_transaction_policy.decoupled)
    inputs = {tensor.name: tensor for tensor in config.input}
    remarks: list[str] = []
    if not inputs:
        return Made((), ("its configuration names no inputs",))
    if generates(config):
        return Made(tuple(_language(name, config, decoupled=decoupled, protocol=protocol)))
    if config.HasField("sequence_batching"):
        calls = list(_sequences(draw, name, config, decoupled=decoupled))
    else:
        calls = list(_ordinary(draw, name, config, rounds))
        calls = [replace(call, streamed=decoupled) for call in calls]
    if decoupled and protocol == "http":
        plain = [call for call in calls if _fits_generate(call)]
        if len(plain) < len(calls):
            remarks.append("answers of this model are streams: grpc:// compares what generate_stream cannot carry")
        calls = plain
    if not (decoupled and protocol == "http"):
        calls += _wrong(draw, name, config)
    return Made(tuple(calls), tuple(remarks))


def generates(config: Any) -> bool:
    """Tell whether a model of this configuration is a language model in the form of Triton's backends."""
    return any(tensor.name == TEXT_INPUT for tensor in config.input)


def _ordinary(draw: random.Random, name: str, config: Any, rounds: int) -> Iterator[Inference]:
    most = config.max_batch_size
    optional = [tensor.name for tensor in config.input if tensor.optional]
    takes_text = any(BY_CONFIG_VALUE[tensor.data_type].name == "BYTES" for tensor in config.input)
    for index in range(rounds):
        batch = min(most, 1 if index % 2 == 0 else draw.randint(2, 4)) if most else 0
        digits = takes_text and index % 3 == 2
        inputs = _inputs(draw, config, batch, _DIGITS if digits else _WORDS)
        about = (f"batch of {batch}" if batch > 1 else "one") + (", digits" if digits else "")
        yield Inference(name, about, inputs)
        if optional and index < 2:
            left_out = set(optional) if index == 0 else {draw.choice(optional)}
            kept = tuple(tensor for tensor in inputs if tensor.name not in left_out)
            yield Inference(name, f"without {', '.join(sorted(left_out))}", kept)
    if len(config.output) > 1:
        wanted = draw.choice([tensor.name for tensor in config.output])
        yield Inference(name, f"only {wanted}", _inputs(draw, config, min(most, 1)), (wanted,))


def _sequences(draw: random.Random, name: str, config: Any, *, decoupled: bool) -> Iterator[Inference]:
    for step in range(3):
        for sequence in (1, 2):
            yield Inference(
                name,
                f"sequence {sequence}, request {step + 1}",
                _inputs(draw, config, min(config.max_batch_size, 1)),
                streamed=decoupled,
                sequence=sequence,
                starts=step == 0,
                ends=step == 2,
            )


def _wrong(draw: random.Random, name: str, config: Any) -> list[Inference]:
    """Return what every server refuses: an input too few, one that is unknown, a shape, an output that is unknown."""
    inputs = _inputs(draw, config, min(config.max_batch_size, 1))
    first = inputs[0]
    longer = replace(first, shape=(*first.shape, 1, 1, 1))
    stranger = from_elements("no_such_input", "FP32", (1,), [0.0])
    streamed = bool(config.model_transaction_policy.decoupled)
    cases = [
        Inference(name, "an unknown input", (*inputs, stranger)),
        Inference(name, "an input of too many dimensions", (longer, *inputs[1:])),
        Inference(name, "an unknown output", inputs, ("no_such_output",)),
    ]
    # Where others are optional, releases of Triton disagree on whether it is missed.
    if not any(tensor.optional for tensor in config.input):
        cases.append(Inference(name, f"without {first.name}", inputs[1:]))
    if config.HasField("sequence_batching"):
        return [Inference(name, "no correlation id", inputs, streamed=streamed)]
    return [replace(case, streamed=streamed) for case in cases]


def _language(name: str, config: Any, *, decoupled: bool, protocol: str) -> Iterator[Inference]:
    inputs = {tensor.name: tensor for tensor in config.input}
    batch = min(config.max_batch_size, 1)
    for prompt in PROMPTS:
        values = {key: value for key, value in _LANGUAGE.items() if key in inputs}
        tensors = [_one(inputs[TEXT_INPUT], prompt, batch)]
        tensors += [_one(inputs[key], value, batch) for key, value in values.items()]
        yield Inference(name, f"{prompt!r}, greedy", tuple(tensors), streamed=decoupled or protocol == "http")
        for key in ("stream", "streaming"):
            if key in inputs and decoupled:
                rest = [tensor for tensor in tensors if tensor.name != key]
                streamed = (*rest, _one(inputs[key], True, batch))
                yield Inference(name, f"{prompt!r}, greedy, streamed", streamed, streamed=True)


def _one(tensor: Any, value: Any, batch: int) -> Tensor:
    shape = (*(1,) * batch, *(1 if size < 0 else size for size in tensor.dims))
    return from_elements(tensor.name, BY_CONFIG_VALUE[tensor.data_type].name, shape, [value] * prod(shape))


def _inputs(draw: random.Random, config: Any, batch: int, texts: Sequence[str] = _WORDS) -> tuple[Tensor, ...]:
    # Dimensions that vary are the same in all inputs of a request: they are often tied.
    free = draw.randint(1, 6)
    return tuple(_random(draw, tensor, batch, free, texts) for tensor in config.input)


def _random(draw: random.Random, tensor: Any, batch: int, free: int, texts: Sequence[str]) -> Tensor:
    shape = (*((batch,) if batch else ()), *(free if size < 0 else size for size in tensor.dims))
    kind = BY_CONFIG_VALUE[tensor.data_type].name
    count = prod(shape)
    values: list[Any]
    if kind == "BYTES":
        values = [draw.choice(texts) for _ in range(count)]
    elif kind == "BOOL":
        values = [draw.random() < 0.5 for _ in range(count)]
    elif kind in {"FP16", "FP32", "FP64", "BF16"}:
        values = [round(draw.uniform(-1, 1), 4) for _ in range(count)]
    else:
        values = [draw.randint(0, 7) for _ in range(count)]
    return from_elements(tensor.name, kind, shape, values)


def _fits_generate(call: Inference) -> bool:
    """Tell whether `generate_stream` carries the inputs: rows of one dimension, without a sequence."""
    return not call.sequence and all(len(tensor.shape) <= 1 or tensor.elements == 1 for tensor in call.inputs)
