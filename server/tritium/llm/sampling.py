"""How to sample, split between the engine and the front.

Clients speak in vLLM's SamplingParams names (OpenAI's are the same words for the most part). What concerns text is
done here, where the text is made: stop strings, special tokens, the number of completions. The rest passes to the
engine as it came, so that a new field of an engine needs no change here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritium.llm.errors import ContextExceeded, FieldRefused

MAX_COMPLETIONS = 128
MAX_STOPS = 64
MAX_STOP_CHARACTERS = 1_024

_FRONT = frozenset(
    {
        "n",
        "stop",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "detokenize",
        "output_kind",
    }
)
"""SamplingParams fields that the engine never sees: it returns token ids, one sequence a request, step by step."""


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers a field takes; `open_low` leaves out the lower end itself."""

    low: float
    high: float
    integer: bool = False
    open_low: bool = False

    def holds(self, value: Any) -> bool:
        """Tell whether the field takes a value."""
        kind = int if self.integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        return self.low <= value <= self.high and not (self.open_low and value == self.low)

    def __str__(self) -> str:
        what = "an integer" if self.integer else "a number"
        above = "above" if self.open_low else "from"
        return f"{what} {above} {self.low:g} to {self.high:g}" if self.high < HUGE else f"{what} {above} {self.low:g}"


HUGE = 2.0**63

# vllm/sampling_params.py, _verify_args.
RANGES: dict[str, Range] = {
    "n": Range(1, MAX_COMPLETIONS, integer=True),
    "temperature": Range(0, HUGE),
    "top_p": Range(0, 1, open_low=True),
    "top_k": Range(-1, HUGE, integer=True),
    "min_p": Range(0, 1),
    "presence_penalty": Range(-2, 2),
    "frequency_penalty": Range(-2, 2),
    "repetition_penalty": Range(0, HUGE, open_low=True),
    "max_tokens": Range(1, HUGE, integer=True),
    "min_tokens": Range(0, HUGE, integer=True),
    "logprobs": Range(-1, HUGE, integer=True),
    "seed": Range(-HUGE, HUGE, integer=True),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's sampling: `engine` goes to the workers by SamplingParams names, the rest stays here.

    `max_tokens` None means as many as the context holds; `logprobs` None means none, 0 the sampled token's alone.
    """

    engine: dict[str, Any] = dataclasses.field(default_factory=dict)
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    skip_special: bool = True
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    logprobs: int | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the client calls a field, where that is not its SamplingParams name."""

    def for_choice(self, index: int, max_tokens: int) -> dict[str, Any]:
        """Return what the engine is asked for the completion of that index; each has a seed of its own."""
        engine = {**self.engine, "max_tokens": max_tokens}
        seed = engine.get("seed")
        if index and seed is not None:
            engine["seed"] = seed + index
        return engine


def split(fields: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Sampling:
    """Check SamplingParams fields and split them; None values count as not given.

    `names` maps a field to what the client calls it, for messages.

    Raises:
        FieldRefused: a value is out of range.
    """
    given = {key: value for key, value in fields.items() if value is not None}
    names = names or {}
    for key, limits in RANGES.items():
        if key in given and not limits.holds(given[key]):
            name = names.get(key, key)
            raise FieldRefused(name, f"{name} must be {limits}, got {given[key]!r}")
    sampling = Sampling(
        engine={key: value for key, value in given.items() if key not in _FRONT and key != "max_tokens"},
        stop=_stops(given.get("stop"), names.get("stop", "stop")),
        include_stop=bool(given.get("include_stop_str_in_output", False)),
        skip_special=bool(given.get("skip_special_tokens", True)),
        n=given.get("n", 1),
        max_tokens=given.get("max_tokens"),
        min_tokens=given.get("min_tokens", 0),
        logprobs=given.get("logprobs"),
        names=names,
    )
    if sampling.max_tokens is not None and sampling.min_tokens > sampling.max_tokens:
        raise FieldRefused(
            "min_tokens", f"min_tokens ({sampling.min_tokens}) exceeds max_tokens ({sampling.max_tokens})"
        )
    if sampling.n > 1 and given.get("temperature") == 0:
        raise FieldRefused("n", f"n must be 1 when temperature is 0, got {sampling.n}: all completions would be equal")
    return sampling


def budget(sampling: Sampling, prompt_tokens: int, context_tokens: int, field: str) -> int:
    """Return how many tokens each completion may have; `field` is what holds the prompt.

    Raises:
        ContextExceeded: the prompt leaves no room, or not as much as was asked for.
    """
    asked = sampling.max_tokens or 0
    if prompt_tokens + max(asked, 1) > context_tokens:
        raise ContextExceeded(field, context_tokens, prompt_tokens, asked)
    return asked or context_tokens - prompt_tokens


def _stops(stop: Any, name: str) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else stop or ()
    if not isinstance(stops, list | tuple) or not all(isinstance(s, str) and s for s in stops):
        raise FieldRefused(name, f"{name} must be a non-empty string, or a list of them")
    if len(stops) > MAX_STOPS or any(len(s) > MAX_STOP_CHARACTERS for s in stops):
        raise FieldRefused(name, f"{name} takes up to {MAX_STOPS} strings of up to {MAX_STOP_CHARACTERS} characters")
    return tuple(stops)
