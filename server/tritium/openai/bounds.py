"""What the fields of requests take, in the keywords of JSON Schema, for the document at /openapi.json.

The routes themselves hold requests to the same bounds, in words that a client may read; here they are only told.
"""

from collections.abc import Mapping
from typing import Any

from tritium.llm.sampling import HUGE, MAX_STOP_CHARACTERS, MAX_STOPS, RANGES, Range
from tritium.openai.plan import MAX_LOGPROBS, MAX_TEMPERATURE
from tritium.openai.pooling.batch import MAX_PROMPTS
from tritium.openai.pooling.schema import (
    ClassifyRequest,
    EmbeddingRequest,
    PoolRequestBody,
    RerankRequest,
    ScoreRequest,
)

Keywords = Mapping[str, Any]

_AT_LEAST_ONE: Keywords = {"minItems": 1, "minLength": 1}
_SCORES: Keywords = {"minimum": 0, "maximum": MAX_LOGPROBS}
_POSITIVE: Keywords = {"minimum": 1}
_PROMPTS: Keywords = {"minItems": 1, "maxItems": MAX_PROMPTS}


def _keywords(limits: Range) -> Keywords:
    least = "exclusiveMinimum" if limits.open_low else "minimum"
    found = {least: limits.low} if limits.low > -HUGE else {}
    return found | ({"maximum": limits.high} if limits.high < HUGE else {})


_BOUNDS: dict[str, Keywords] = {
    **{name: _keywords(limits) for name, limits in RANGES.items()},
    "temperature": {"minimum": 0, "maximum": MAX_TEMPERATURE},
    "max_completion_tokens": _POSITIVE,
    "max_output_tokens": _POSITIVE,
    "best_of": _POSITIVE,
    "logprobs": _SCORES,
    "top_logprobs": _SCORES,
    "prompt_logprobs": _SCORES,
    "stop": {**_AT_LEAST_ONE, "maxItems": MAX_STOPS, "maxLength": MAX_STOP_CHARACTERS},
    "max_tokens": {"minimum": 0},  # 0 with echo: the prompt alone
    "messages": {"minItems": 1},
    "prompt": {"minItems": 1},
    "queries": _PROMPTS,
    "text_1": _PROMPTS,
    "text_2": _PROMPTS,
    "data_1": _PROMPTS,
    "data_2": _PROMPTS,
    "dimensions": _POSITIVE,
    "top_n": {"minimum": 0},
    "max_tokens_per_doc": {"minimum": 0},
    "truncate_prompt_tokens": {"minimum": -1},
    "lora_name": _AT_LEAST_ONE,
    "lora_path": _AT_LEAST_ONE,
}
"""By the field's name. A keyword binds only values of its own type."""

_OF_KIND: dict[type, dict[str, Keywords]] = {
    EmbeddingRequest: {"input": {"minItems": 1}},
    PoolRequestBody: {"input": {"minItems": 1}},
    ClassifyRequest: {"input": {"minItems": 1}},
    RerankRequest: {"documents": _PROMPTS},
    ScoreRequest: {"documents": _PROMPTS},
}
"""Fields that mean something else, or may be empty, in other requests."""


def bound(kind: type, properties: dict[str, dict[str, Any]]) -> None:
    """Add the bounds of its fields to the schema of a kind of request."""
    bounds = _BOUNDS | _OF_KIND.get(kind, {})
    for name, schema in properties.items():
        schema.update(bounds.get(name, {}))
