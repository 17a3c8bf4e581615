"""What of a generation must be told to the worker that goes on with it, and what rules that out.

    prompt, sampling --worker lost after n tokens--> prompt + n tokens, sampling for what is left

Greedy output depends on the tokens before alone, and so goes on as if nothing had happened. What else looks back at
the output goes on only where the engine says that it takes its state up (EngineInfo.resumes). Pure.
"""

from collections.abc import Collection, Mapping
from typing import Any

LOOKS_BACK = (
    "structured_outputs",
    "presence_penalty",
    "frequency_penalty",
    "bad_words",
    "repetition_detection",
    "thinking_token_budget",
    "extra_args",
)
"""Sampling fields by which earlier output decides what may come next: taken for a prompt, it would decide otherwise.

`seed` is not among them: another draw of the same odds is as good an answer. `extra_args` are for logits processors of
the operator's own, of which nothing is known."""

_TOLD_ONCE = ("prompt_logprobs", "prompt_logprob_start")


def obstacle(sampling: Mapping[str, Any], resumes: Collection[str]) -> str:
    """Return what in a request that has tokens already keeps another worker from going on; empty if nothing does."""
    if not isinstance(sampling.get("max_tokens"), int):
        return "without max_tokens there is no telling how much is left"
    for name in LOOKS_BACK:
        if sampling.get(name) and name not in resumes:
            return f"its engine cannot take up {name} in the middle"
    return ""


def sampling_left(sampling: dict[str, Any], done: int) -> dict[str, Any]:
    """Return the sampling fields for what is left after `done` tokens."""
    left = {name: value for name, value in sampling.items() if name not in _TOLD_ONCE}
    left["max_tokens"] -= done
    if left.get("min_tokens"):
        left["min_tokens"] = max(0, left["min_tokens"] - done)
    return left
