"""From our sequences to TensorRT-LLM's sampling parameters, and from its outputs to our deltas."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from tritium.backends.engine import Delta, FinishReason, Generate, TokenLogprob
from tritium.backends.guidance import read_guidance
from tritium.core.errors import InvalidArgument, ModelFailed, Unsupported

SAME = (
    "bad_words",
    "frequency_penalty",
    "ignore_eos",
    "logprobs",
    "max_tokens",
    "min_p",
    "min_tokens",
    "presence_penalty",
    "prompt_logprobs",
    "repetition_penalty",
    "seed",
    "stop_token_ids",
    "temperature",
    "top_k",
    "top_p",
)
"""vLLM's sampling fields whose values mean the same to TensorRT-LLM; bad_words is `bad` there."""

REFUSED = {
    "allowed_token_ids": "TensorRT-LLM cannot restrict tokens; structured_outputs with a choice does the like",
    "extra_args": "they are vLLM's own",
    "truncate_prompt_tokens": "shorten the prompt before it is sent",
    "repetition_detection": "TensorRT-LLM does not look for repetitions",
    "thinking_token_budget": "TensorRT-LLM takes no budget for thinking",
}
"""Sampling fields that TensorRT-LLM has nothing for, with what to do instead."""

_READ_HERE = ("logit_bias", "structured_outputs")

_GREEDY = 1e-5
"""Below this a temperature is greedy, as vLLM's _SAMPLING_EPS."""

TRANSFER = (
    "request_type",
    "first_gen_tokens",
    "ctx_request_id",
    "opaque_state",
    "draft_tokens",
    "disagg_request_id",
    "ctx_dp_rank",
    "ctx_info_endpoint",
)
"""The fields of DisaggregatedParams that go from a context worker to a generation worker as they are."""

FIRST_LOGPROBS = "first_gen_log_probs"
"""The one that frames cannot hold as it is: by beam and token, a mapping from token to Logprob."""


def sampling_fields(request: Generate, context_tokens: int) -> dict[str, Any]:
    """Make the fields of TensorRT-LLM's SamplingParams, but for guided decoding and biases.

    Raises:
        InvalidArgument: a sampling field that is not known.
        Unsupported: one that TensorRT-LLM has nothing for.
    """
    fields: dict[str, Any] = {
        "max_tokens": max(1, context_tokens - len(request.token_ids)),
        "detokenize": False,
        # The front takes stop tokens out of the text; without this they would be missing in the tokens.
        "include_stop_str_in_output": True,
    }
    for name, value in request.sampling.items():
        if name in SAME:
            if value is not None:
                fields["bad" if name == "bad_words" else name] = value
        elif name in REFUSED:
            if value:
                raise Unsupported(f"TensorRT-LLM has no sampling parameter '{name}'", hint=REFUSED[name])
        elif name not in _READ_HERE:
            close = get_close_matches(name, [*SAME, *_READ_HERE], n=1)
            raise InvalidArgument(
                f"TensorRT-LLM has no sampling parameter '{name}'" + (f"; did you mean {close[0]}?" if close else "")
            )
    for name in ("logprobs", "prompt_logprobs"):
        if fields.get(name, 0) < 0:
            raise Unsupported("TensorRT-LLM cannot return the log probabilities of all tokens", hint="ask for a number")
    if fields.get("top_k", 1) < 1:
        del fields["top_k"]
    if fields.get("temperature", 1.0) < _GREEDY:
        # Its C++ runtime divides by the temperature.
        del fields["temperature"]
        fields["top_k"] = 1
    if request.priority:
        raise Unsupported("TensorRT-LLM takes no priority with a request", hint="leave it out, or serve with vllm")
    return fields


def guided_fields(request: Generate) -> dict[str, Any]:
    """Make the fields of TensorRT-LLM's GuidedDecodingParams; empty where nothing guides.

    Raises:
        InvalidArgument: structured_outputs cannot be read.
    """
    guidance = read_guidance(request.sampling.get("structured_outputs"))
    if guidance is None:
        return {}
    return {guidance.kind: True if guidance.kind == "json_object" else guidance.value}


def biases(request: Generate, vocabulary: int) -> dict[int, float]:
    """Return logit_bias by token.

    Raises:
        InvalidArgument: a token beyond the vocabulary.
    """
    wanted = {int(token): float(bias) for token, bias in (request.sampling.get("logit_bias") or {}).items()}
    if beyond := [token for token in wanted if not 0 <= token < vocabulary]:
        raise InvalidArgument(f"logit_bias: token {beyond[0]} is outside the vocabulary of {vocabulary}")
    return wanted


def transfer_of(parameters: Any) -> dict[str, Any]:
    """Return what a generation worker must be told, of a context worker's DisaggregatedParams."""
    values = {name: getattr(parameters, name, None) for name in TRANSFER}
    if (beams := getattr(parameters, FIRST_LOGPROBS, None)) is not None:
        values[FIRST_LOGPROBS] = [
            [[[token, entry.logprob, entry.rank] for token, entry in place.items()] for place in beam] for beam in beams
        ]
    return {name: value for name, value in values.items() if value is not None}


def parameters_of(transfer: dict[str, Any], logprob: Callable[[float, int | None], Any]) -> dict[str, Any]:
    """Return the fields of DisaggregatedParams that `transfer_of` has told of; `logprob` makes a Logprob."""
    fields = dict(transfer)
    if (beams := fields.get(FIRST_LOGPROBS)) is not None:
        fields[FIRST_LOGPROBS] = [
            [{token: logprob(value, rank) for token, value, rank in place} for place in beam] for beam in beams
        ]
    return fields


class ResultReader:
    """Reads the outputs of one sequence; TensorRT-LLM gives the same object every time, with more in it."""

    def __init__(self, request: Generate) -> None:
        self._id = request.id
        self._stops = frozenset(request.sampling.get("stop_token_ids") or ())
        self._answer: int | None = request.sampling.get("logprobs")
        self._prompt: int | None = request.sampling.get("prompt_logprobs")
        self._prompt_tokens = request.token_ids
        self._first = True

    def read(self, output: Any) -> Delta:
        """Make a delta.

        Raises:
            ModelFailed: TensorRT-LLM gave the request up.
        """
        completion = output.outputs[0]
        delta = Delta(self._id, list(completion.token_ids_diff))
        if self._first:
            self._first = False
            delta.cached_tokens = output.cached_tokens or 0
            if self._prompt is not None:
                delta.prompt_logprobs = [
                    None,
                    *_rows(completion.prompt_logprobs or (), self._prompt_tokens[1:], self._prompt),
                ]
        if self._answer is not None and delta.token_ids:
            delta.logprobs = _rows(completion.logprobs_diff, delta.token_ids, self._answer)
        match completion.finish_reason:
            case None:
                return delta
            case "stop":
                delta.finish = FinishReason.STOP
                if completion.stop_reason in self._stops:
                    delta.stop_token = completion.stop_reason
            case "length" | "not_finished":  # a context worker's sequence goes on elsewhere
                delta.finish = FinishReason.LENGTH
            case reason:
                raise ModelFailed(f"TensorRT-LLM ended the request: {reason}")
        if completion.disaggregated_params is not None:
            delta.transfer = transfer_of(completion.disaggregated_params)
        return delta


def _rows(places: Any, tokens: list[int], count: int) -> list[list[TokenLogprob]]:
    """Order TensorRT-LLM's log probabilities: by token, or the sampled tokens' alone as numbers."""
    rows = []
    for token, place in zip(tokens, places, strict=False):
        if not isinstance(place, Mapping):
            rows.append([TokenLogprob(token, float(place), 0)])
            continue
        ranked = sorted(place.items(), key=lambda pair: pair[1].rank or 0)
        likeliest = [TokenLogprob(other, entry.logprob, entry.rank or 0) for other, entry in ranked][:count]
        if token in place:
            rows.append([TokenLogprob(token, place[token].logprob, place[token].rank or 0), *likeliest])
        else:
            rows.append(likeliest)
    return rows
