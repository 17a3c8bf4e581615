"""From an OpenAI request to what the fleet is asked: sampling by SamplingParams names, checked, with defaults."""

from typing import Any

from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.sampling import Sampling, split
from tritium.openai.schema import ChatRequest, CompletionRequest, SamplingRequest
from tritium.openai.structure import check_engine, structure_of

_COMPLETION_TOKENS = 16
"""OpenAI's default of max_tokens for plain completions."""

_MAX_TEMPERATURE = 2
_MAX_LOGPROBS = 20

_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "stop_token_ids",
    "ignore_eos",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "allowed_token_ids",
    "bad_words",
    "thinking_token_budget",
)
"""Fields that OpenAI's requests and vLLM's SamplingParams call alike."""


def chat_sampling(call: ChatRequest, model: LanguageModel, schema: dict[str, Any] | None = None) -> Sampling:
    """Return how to sample a chat; `schema` is that of a call which must be made, and stands before any other.

    Raises:
        FieldRefused: a field is out of range, or asks for what is not served.
    """
    fields = _fields(call, model)
    if schema is not None:
        check_engine("tool_choice", model.fleet.info)
        fields["structured_outputs"] = {"json": schema}
    longest = "max_tokens" if call.max_completion_tokens is None else "max_completion_tokens"
    if getattr(call, longest) is not None:
        fields["max_tokens"] = getattr(call, longest)
    if call.top_logprobs is not None and not call.logprobs:
        raise FieldRefused("top_logprobs", "top_logprobs needs logprobs to be true")
    if call.logprobs:
        fields["logprobs"] = call.top_logprobs or 0
        _check_logprobs("top_logprobs", fields["logprobs"])
    return split(fields, {"max_tokens": longest, "logprobs": "top_logprobs"})


def completion_sampling(call: CompletionRequest, model: LanguageModel) -> Sampling:
    """Return how to sample plain completions.

    Raises:
        FieldRefused: a field is out of range, or asks for what is not served.
    """
    fields = _fields(call, model)
    fields["max_tokens"] = (
        call.max_tokens if call.max_tokens is not None else fields.get("max_tokens", _COMPLETION_TOKENS)
    )
    if call.logprobs is not None:
        fields["logprobs"] = call.logprobs
        _check_logprobs("logprobs", call.logprobs)
    if call.suffix:
        raise FieldRefused("suffix", "suffix is not served: no engine here fills text in")
    if call.best_of is not None and call.best_of != (call.n or 1):
        raise FieldRefused("best_of", "best_of is served only when it equals n")
    if call.echo and call.logprobs is not None:
        raise FieldRefused("echo", "echo together with logprobs is not served: engines return no scores of the prompt")
    return split(fields)


def _fields(call: SamplingRequest, model: LanguageModel) -> dict[str, Any]:
    if call.stream_options is not None and not call.stream:
        raise FieldRefused("stream_options", "stream_options is only allowed when stream is true")
    if call.temperature is not None and call.temperature > _MAX_TEMPERATURE:
        raise FieldRefused("temperature", f"temperature must be from 0 to 2, got {call.temperature:g}")
    fields: dict[str, Any] = dict(model.defaults.sampling)
    for name in _AS_THEY_ARE:
        value = getattr(call, name)
        if value is not None:
            fields[name] = value
    if call.logit_bias:
        fields["logit_bias"] = _token_biases(call.logit_bias)
    if call.vllm_xargs:
        fields["extra_args"] = call.vllm_xargs
    structure = structure_of(call, model.fleet.info)
    if structure is not None:
        fields["structured_outputs"] = structure
    return fields


def _check_logprobs(field: str, count: int) -> None:
    if not 0 <= count <= _MAX_LOGPROBS:
        raise FieldRefused(field, f"{field} must be from 0 to {_MAX_LOGPROBS}, got {count}")


def _token_biases(biases: dict[str, float]) -> dict[int, float]:
    try:
        by_id = {int(token): bias for token, bias in biases.items()}
    except ValueError:
        raise FieldRefused("logit_bias", "logit_bias maps token ids, written as strings, to numbers") from None
    if any(not -100 <= bias <= 100 for bias in by_id.values()):
        raise FieldRefused("logit_bias", "logit_bias values go from -100 to 100")
    return by_id
