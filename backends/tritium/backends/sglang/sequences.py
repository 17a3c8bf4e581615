"""From our sequences to the arguments of SGLang's async_generate, and from its chunks to our deltas."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from tritium.backends.engine import Delta, FinishReason, Generate, TokenLogprob
from tritium.backends.guidance import Guidance, read_guidance
from tritium.core.errors import InvalidArgument, ModelFailed, Unsupported

RENAMED = {
    "ignore_eos": "ignore_eos",
    "frequency_penalty": "frequency_penalty",
    "max_tokens": "max_new_tokens",
    "min_p": "min_p",
    "min_tokens": "min_new_tokens",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repetition_penalty",
    "seed": "sampling_seed",
    "stop_token_ids": "stop_token_ids",
    "temperature": "temperature",
    "top_p": "top_p",
}
"""vLLM's sampling fields whose values mean the same to SGLang, with its names for them."""

REFUSED = {
    "allowed_token_ids": "SGLang cannot restrict tokens; structured_outputs with a choice or regex does the like",
    "bad_words": "SGLang has no forbidden words; logit_bias forbids tokens",
    "extra_args": "they are vLLM's own",
    "truncate_prompt_tokens": "shorten the prompt before it is sent",
    "logits_processors": "SGLang's custom processors are code of the server's, not of requests",
    "repetition_detection": "SGLang does not look for repetitions",
    "thinking_token_budget": "SGLang takes no budget for thinking",
}
"""Sampling fields that SGLang has nothing for, with what to do instead."""

_READ_HERE = ("logit_bias", "logprobs", "prompt_logprobs", "structured_outputs", "top_k")

TRANSFER = ("bootstrap_host", "bootstrap_port", "bootstrap_room")
"""Where a prompt's KV is fetched: SGLang's arguments, passed between workers as they are."""


def generate_arguments(request: Generate, context_tokens: int) -> dict[str, Any]:
    """Make the arguments of async_generate, but for those of disaggregation.

    Raises:
        InvalidArgument: a sampling field that is not known, or a value of the wrong type.
        Unsupported: a field that SGLang has nothing for.
    """
    fields = request.sampling
    parameters: dict[str, Any] = {}
    # Without it SGLang takes 128; without ours it is as many as the context holds.
    parameters["max_new_tokens"] = max(1, context_tokens - len(request.token_ids))
    arguments: dict[str, Any] = {"input_ids": request.token_ids, "sampling_params": parameters, "stream": True}
    for name, value in fields.items():
        if name in RENAMED:
            if value is not None:
                parameters[RENAMED[name]] = value
        elif name in REFUSED:
            if value:
                raise Unsupported(f"SGLang has no sampling parameter '{name}'", hint=REFUSED[name])
        elif name not in _READ_HERE:
            close = get_close_matches(name, [*RENAMED, *_READ_HERE], n=1)
            raise InvalidArgument(
                f"SGLang has no sampling parameter '{name}'" + (f"; did you mean {close[0]}?" if close else "")
            )
    if fields.get("top_k"):
        parameters["top_k"] = fields["top_k"]
    if fields.get("logit_bias"):
        parameters["logit_bias"] = {str(token): float(bias) for token, bias in fields["logit_bias"].items()}
    parameters |= _guided(read_guidance(fields.get("structured_outputs")))
    arguments |= _logprobs_wanted(fields.get("logprobs"), fields.get("prompt_logprobs"))
    if request.lora:
        arguments["lora_path"] = request.lora
    if request.cache_salt:
        arguments["cache_salt"] = request.cache_salt
    return arguments


def _guided(guidance: Guidance | None) -> dict[str, Any]:
    match guidance:
        case None:
            return {}
        case Guidance("json_object"):
            return {"json_schema": '{"type": "object"}'}
        case Guidance("json", schema):
            return {"json_schema": schema}
        case Guidance("grammar", grammar):
            return {"ebnf": grammar}
        case Guidance(kind, value):
            return {kind: value}


def _logprobs_wanted(answer: int | None, prompt: int | None) -> dict[str, Any]:
    if answer is None and prompt is None:
        return {}
    count = max(answer or 0, prompt or 0)
    if min(answer or 0, prompt or 0) < 0:
        raise Unsupported("SGLang cannot return the log probabilities of all tokens", hint="ask for a number of them")
    wanted: dict[str, Any] = {"return_logprob": True, "top_logprobs_num": count}
    if prompt is not None:
        wanted["logprob_start_len"] = 0
    return wanted


class ChunkReader:
    """Reads the chunks of one sequence: `output_ids` since the last, and `meta_info`."""

    def __init__(self, request: Generate) -> None:
        self._id = request.id
        self._stops = frozenset(request.sampling.get("stop_token_ids") or ())
        self._answer: int | None = request.sampling.get("logprobs")
        self._prompt: int | None = request.sampling.get("prompt_logprobs")
        self._first = True

    def read(self, chunk: dict[str, Any]) -> Delta:
        """Make a delta.

        Raises:
            InvalidArgument: SGLang refused the request.
            ModelFailed: SGLang gave it up.
        """
        meta = chunk["meta_info"]
        delta = Delta(self._id, list(chunk["output_ids"]))
        if self._first:
            self._first = False
            delta.cached_tokens = meta.get("cached_tokens") or 0
            if self._prompt is not None:
                delta.prompt_logprobs = _rows(
                    meta.get("input_token_logprobs"), meta.get("input_top_logprobs"), self._prompt
                )
        if self._answer is not None and delta.token_ids:
            rows = _rows(meta["output_token_logprobs"], meta.get("output_top_logprobs"), self._answer)
            delta.logprobs = [row or [] for row in rows]
        if (reason := meta.get("finish_reason")) is not None:
            self._finish(delta, reason)
        return delta

    def _finish(self, delta: Delta, reason: dict[str, Any]) -> None:
        match reason["type"]:
            case "stop":
                delta.finish = FinishReason.STOP
                if reason.get("matched") in self._stops:
                    delta.stop_token = reason["matched"]
            case "length":
                delta.finish = FinishReason.LENGTH
            case _:
                words = reason.get("message") or "the request was aborted"
                failed: Callable[[str], Exception] = (
                    InvalidArgument if reason.get("status_code") == 400 else ModelFailed
                )
                raise failed(f"SGLang: {words}")


def _rows(tokens: list[Any] | None, tops: list[Any] | None, count: int) -> list[list[TokenLogprob] | None]:
    """Order SGLang's (log probability, token, text) by place: the token itself, then the likeliest."""
    rows: list[list[TokenLogprob] | None] = []
    for place, (logprob, token, _) in enumerate(tokens or ()):
        if logprob is None:
            rows.append(None)  # nothing comes before the first token of a prompt
            continue
        top = tops[place] if tops else None
        likeliest = [TokenLogprob(other, value, rank) for rank, (value, other, _) in enumerate(top or (), 1)]
        rank = next((entry.rank for entry in likeliest if entry.token_id == token), 0)
        rows.append([TokenLogprob(token, logprob, rank), *likeliest[:count]])
    return rows
