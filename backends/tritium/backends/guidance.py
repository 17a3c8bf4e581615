"""What an answer must be like, as vLLM's structured_outputs says it, for engines that say it in words of their own."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from tritium.core.errors import SamplingRefused

_FIELD = "structured_outputs"
KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
"""The kinds of constraint, of which a request has one."""
_SWITCHES = frozenset(
    {
        "disable_any_whitespace",
        "disable_additional_properties",
        "disable_fallback",
        "whitespace_pattern",
        "backend",
    }
)
"""Wishes on how an engine compiles its grammar; they are vLLM's alone, and off where they are not set."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """One of json (a schema, as text), json_object, regex, grammar or structural_tag; `value` is its text."""

    kind: str
    value: str = ""


def read_guidance(given: Any) -> Guidance | None:
    """Read the sampling field structured_outputs; a choice becomes a regular expression.

    Raises:
        SamplingRefused: it is no object, has no or several constraints, or one of the wrong type.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise SamplingRefused(_FIELD, "structured_outputs is no object")
    wanted = {name: value for name, value in given.items() if value is not None and value is not False}
    for name in [name for name in wanted if name not in KINDS]:
        if name in _SWITCHES:
            raise SamplingRefused(_FIELD, f"structured_outputs: this engine has no '{name}'")
        close = get_close_matches(name, KINDS, n=1)
        raise SamplingRefused(
            _FIELD, f"structured_outputs has no constraint '{name}'" + (f"; did you mean {close[0]}?" if close else "")
        )
    if len(wanted) != 1:
        raise SamplingRefused(_FIELD, f"structured_outputs takes one of {', '.join(KINDS)}, not {len(wanted)}")
    ((kind, value),) = wanted.items()
    if kind == "json_object":
        return Guidance(kind)
    if kind == "choice":
        if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise SamplingRefused(_FIELD, "structured_outputs: choice is a list of strings")
        return Guidance("regex", "|".join(f"({re.escape(each)})" for each in value))
    if kind in ("json", "structural_tag") and not isinstance(value, str):
        value = msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        raise SamplingRefused(_FIELD, f"structured_outputs: {kind} is a string")
    return Guidance(kind, value)
