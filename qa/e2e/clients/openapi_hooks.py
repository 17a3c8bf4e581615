"""What schemathesis sends is made to reach further than the first check: names that exist, and short answers."""

from typing import Any

import schemathesis

MODEL = "tiny_chat"
_MOST_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_NEEDED = {"model", "messages", "prompt", "input", "query", "documents", "text_1", "text_2", "tokens", "stream"}


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Name the model that is served, bound the answer, and of every other body leave only what it needs."""
    if not isinstance(body, dict):
        return body
    if "model" in body:
        body["model"] = MODEL
    for name in _MOST_TOKENS:
        if type(body.get(name)) is int:
            body[name] = min(body[name], 8)
    kept = _NEEDED.union(_MOST_TOKENS)
    return {name: value for name, value in body.items() if name in kept} if len(body) % 2 else body


@schemathesis.hook
def map_path_parameters(_context: Any, parameters: Any) -> Any:
    """Name the model that is served, where a path has a name in it."""
    return dict.fromkeys(parameters, MODEL) if parameters else parameters
