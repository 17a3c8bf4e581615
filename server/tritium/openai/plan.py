"""From an OpenAI request to what the fleet is asked: sampling by SamplingParams names, checked, with defaults."""

from dataclasses import replace
from typing import Any

from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.sampling import Sampling, split
from tritium.openai.details import Details
from tritium.openai.schema import ChatRequest, CompletionRequest, SamplingRequest
from tritium.openai.structure import Constraint, check_engine, structure_of
from tritium.openai.tools import ToolPlan

_COMPLETION_TOKENS = 16
"""OpenAI's default of max_tokens for plain completions."""

MAX_TEMPERATURE = 2
MAX_LOGPROBS = 20

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


def chat_sampling(call: ChatRequest, model: LanguageModel, plan: ToolPlan, calls: Constraint | None = None) -> Sampling:
    """Return how to sample a chat.

    The schema of a call that must be made stands before any other constraint; `calls`, to which those are held that
    the model makes or not, stands behind: where the whole answer has a form there is no room for them.

    Raises:
        FieldRefused: a field is out of range, or asks for what is not served.
    """
    fields, names = _fields(call, model)
    if plan.schema is not None:
        check_engine("tool_choice", model.fleet.info)
        fields["structured_outputs"] = {"json": plan.schema}
        names["structured_outputs"] = plan.field
    elif calls is not None and "structured_outputs" not in fields:
        fields["structured_outputs"] = calls
        names["structured_outputs"] = plan.field
    longest = "max_tokens" if call.max_completion_tokens is None else "max_completion_tokens"
    if getattr(call, longest) is not None:
        fields["max_tokens"] = getattr(call, longest)
    if call.top_logprobs is not None and not call.logprobs:
        raise FieldRefused("top_logprobs", "top_logprobs needs logprobs to be true")
    if call.logprobs:
        fields["logprobs"] = call.top_logprobs or 0
        _check_logprobs("top_logprobs", fields["logprobs"])
    return split(fields, {**names, "max_tokens": longest, "logprobs": "top_logprobs"})


def completion_sampling(call: CompletionRequest, model: LanguageModel) -> Sampling:
    """Return how to sample plain completions.

    Raises:
        FieldRefused: a field is out of range, or asks for what is not served.
    """
    fields, names = _fields(call, model)
    fields["max_tokens"] = (
        call.max_tokens if call.max_tokens is not None else fields.get("max_tokens", _COMPLETION_TOKENS)
    )
    if call.logprobs is not None:
        fields["logprobs"] = call.logprobs
        _check_logprobs("logprobs", call.logprobs)
    if call.echo and call.logprobs is not None:
        fields["prompt_logprobs"] = call.logprobs
    if only_prompt(call):
        fields["max_tokens"], fields["min_tokens"] = 1, 0
    best = best_of(call)
    if not best:
        return split(fields, names)
    # What is chosen by its score has to be scored, whether or not the client wants to see scores.
    fields |= {"n": call.best_of, "logprobs": call.logprobs or 0}
    return replace(split(fields, {**names, "n": "best_of"}), logprobs=call.logprobs)


def only_prompt(call: CompletionRequest) -> bool:
    """Tell whether a request wants its prompt back, with scores, and nothing after it."""
    return call.max_tokens == 0 and bool(call.echo)


def best_of(call: CompletionRequest) -> int:
    """Return how many of a prompt's completions are given, where more are made; else 0.

    Raises:
        FieldRefused: fewer are made than are given, or they would have to be told before they are chosen.
    """
    n = call.n or 1
    if call.best_of is None or call.best_of == n:
        return 0
    if call.best_of < n:
        raise FieldRefused("best_of", f"best_of must be at least n, got {call.best_of} for n {n}")
    if call.stream:
        raise FieldRefused("best_of", "best_of above n does not go with stream: the best are known at the end")
    return n


def details_of(call: SamplingRequest) -> Details:
    """Return what a request wants told beside the text."""
    options = call.stream_options
    return Details(
        token_ids=bool(call.return_token_ids),
        tokens_as_ids=bool(call.return_tokens_as_token_ids),
        prompt_scores=call.prompt_logprobs is not None,
        usage=options is not None and options.include_usage and options.continuous_usage_stats,
    )


def completion_details(call: CompletionRequest) -> Details:
    """Return what a plain completion wants told beside the text."""
    echo_scores = bool(call.echo) and call.logprobs is not None
    return replace(details_of(call), echo_scores=echo_scores, completion=not only_prompt(call), best=best_of(call))


def _fields(call: SamplingRequest, model: LanguageModel) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the SamplingParams fields of a call, and what the call names those that it names otherwise."""
    if call.stream_options is not None and not call.stream:
        raise FieldRefused("stream_options", "stream_options is only allowed when stream is true")
    if call.temperature is not None and call.temperature > MAX_TEMPERATURE:
        raise FieldRefused("temperature", f"temperature must be from 0 to 2, got {call.temperature:g}")
    fields: dict[str, Any] = dict(model.defaults.sampling)
    for name in _AS_THEY_ARE:
        value = getattr(call, name)
        if value is not None:
            fields[name] = value
    if call.prompt_logprobs is not None:
        _check_logprobs("prompt_logprobs", call.prompt_logprobs)
        if call.stream:
            raise FieldRefused("prompt_logprobs", "prompt_logprobs does not go with stream")
        fields["prompt_logprobs"] = call.prompt_logprobs
    if call.logit_bias:
        fields["logit_bias"] = _token_biases(call.logit_bias)
    if call.vllm_xargs:
        fields["extra_args"] = call.vllm_xargs
    structure = structure_of(call, model.fleet.info)
    if structure is None:
        return fields, {}
    fields["structured_outputs"] = structure.constraint
    return fields, {"structured_outputs": structure.field}


def _check_logprobs(field: str, count: int) -> None:
    if not 0 <= count <= MAX_LOGPROBS:
        raise FieldRefused(field, f"{field} must be from 0 to {MAX_LOGPROBS}, got {count}")


def _token_biases(biases: dict[str, float]) -> dict[int, float]:
    try:
        by_id = {int(token): bias for token, bias in biases.items()}
    except ValueError:
        raise FieldRefused("logit_bias", "logit_bias maps token ids, written as strings, to numbers") from None
    if any(not -100 <= bias <= 100 for bias in by_id.values()):
        raise FieldRefused("logit_bias", "logit_bias values go from -100 to 100")
    return by_id
