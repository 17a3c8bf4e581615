"""SamplingParams fields as vllm_backend takes them: JSON in a tensor, or the request's own parameters.

Each field becomes what SamplingParams declares: an integer, a number, a truth value, an object in a string.
Source: triton-inference-server/vllm_backend, src/utils/vllm_backend_utils.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tritium.core.errors import InvalidArgument

# vllm/sampling_params.py, 0.32.
_INTEGERS = frozenset(
    {
        "n",
        "max_tokens",
        "min_tokens",
        "top_k",
        "seed",
        "logprobs",
        "prompt_logprobs",
        "prompt_logprob_start",
        "stream_interval",
        "thinking_token_budget",
        "routed_experts_prompt_start",
    }
)
_FLOATS = frozenset(
    {"temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty"}
)
_BOOLEANS = frozenset(
    {
        "ignore_eos",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "detokenize",
        "flat_logprobs",
        "skip_reading_prefix_cache",
    }
)
_OBJECTS = frozenset({"structured_outputs", "guided_decoding"})
"""Objects that come as JSON in a string; the second is what the first was called before vLLM 0.12."""
_LISTS = frozenset(
    {"stop_token_ids", "bad_words", "allowed_token_ids", "logprob_token_ids", "logit_bias", "extra_args"}
)
"""Lists and objects, which as request parameters can only come as JSON in a string."""

_NOT_SAMPLING = frozenset({"id", "priority", "timeout", "sequence_id", "sequence_start", "sequence_end"})
"""Keys that the generate extension leaves among the parameters though they are the server's own."""
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def fields_of(text: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling fields: those of the tensor's text if there is one, else of the request's parameters.

    Raises:
        InvalidArgument: a value is not of its field's type.
    """
    if text is None:
        given = {
            name: value
            for name, value in parameters.items()
            if name not in _NOT_SAMPLING and not name.startswith("triton_")
        }
    else:
        given = _object("sampling_parameters", text)
    fields = {name: _converted(name, value) for name, value in given.items()}
    if "guided_decoding" in fields:
        fields["structured_outputs"] = fields.pop("guided_decoding")
    return fields


def _converted(name: str, value: Any) -> Any:
    """Return a value as its field's type; vllm_backend's own samples send numbers and truth values as strings."""
    if value is None:
        return None
    if isinstance(value, str):
        if name in _OBJECTS:
            return _object(name, value)
        if name in _LISTS and value[:1] in ("[", "{"):
            value = _json(name, value, list[Any] | dict[str, Any])
    convert = _converter(name)
    if convert is None:
        return value
    try:
        return convert(value)
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError):
        raise InvalidArgument(f"sampling parameter {name} has the value '{value}'") from None


def _biases(value: Any) -> dict[int, float]:
    """Return biases by token id: JSON has strings for keys."""
    return {int(token): float(bias) for token, bias in value.items()}


def _converter(name: str) -> Callable[[Any], Any] | None:
    if name == "logit_bias":
        return _biases
    if name in _INTEGERS:
        return int
    if name in _FLOATS:
        return float
    return _truth if name in _BOOLEANS else None


def _truth(value: Any) -> bool:
    return _TRUTH[value.lower()] if isinstance(value, str) else bool(value)


def _object(name: str, text: str) -> dict[str, Any]:
    read: dict[str, Any] = _json(name, text, dict[str, Any])
    return read


def _json(name: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        what = "a JSON object" if kind == dict[str, Any] else "JSON"
        raise InvalidArgument(f"{name} is not {what}: {error}") from None
