"""What an answer is held to, in the engine's words: vLLM's structured_outputs.

response_format (OpenAI), structured_outputs (vLLM), guided_json and its like (vLLM before 0.12)  --> one constraint
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from tritium.backends.engine import EngineInfo
from tritium.backends.guidance import KINDS
from tritium.llm.errors import FieldRefused
from tritium.openai.schema import ResponseFormat, SamplingRequest

_MANNERS = (
    "disable_any_whitespace",
    "disable_additional_properties",
    "whitespace_pattern",
    "disable_fallback",
    "backend",
)
_GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
"""The names of these fields before vLLM gathered them in structured_outputs."""


Constraint = dict[str, Any]
"""What the sampling field structured_outputs holds: one of guidance.KINDS, and vLLM's wishes beside it."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer is held to, and the field of the request that says so."""

    field: str
    constraint: Constraint


def check_engine(field: str, info: EngineInfo) -> None:
    """Refuse a field that holds an answer to a form where the engine does no such thing."""
    if not info.structured:
        raise FieldRefused(
            field,
            f"{field} asks for an answer of a given form, to which the {info.engine} engine holds no model",
            hint="serve the model with vllm",
        )


def structure_of(call: SamplingRequest, info: EngineInfo) -> Structure | None:
    """Return the constraint on an answer; None where there is none.

    Raises:
        FieldRefused: it is not well-formed, or there are two, or the engine does not hold a model to it.
    """
    asked: dict[str, dict[str, Any]] = {}
    if call.response_format is not None and call.response_format.type != "text":
        asked["response_format"] = _of_format(call.response_format)
    if call.structured_outputs is not None:
        asked["structured_outputs"] = _of_structured(call.structured_outputs)
    for field, kind in _GUIDED.items():
        if (value := getattr(call, field)) is not None:
            asked[field] = {kind: value}
    if len(asked) > 1:
        first, second, *_ = asked
        raise FieldRefused(second, f"{first} and {second} both hold the answer to something: send one of them")
    for field, constraint in asked.items():
        if "whitespace_pattern" not in constraint and call.guided_whitespace_pattern is not None:
            constraint["whitespace_pattern"] = call.guided_whitespace_pattern
        _check(field, constraint)
        check_engine(field, info)
        return Structure(field, constraint)
    return None


def _of_format(form: ResponseFormat) -> dict[str, Any]:
    if form.type == "json_object":
        return {"json_object": True}
    if form.type == "structural_tag":
        parts = {name: getattr(form, name) for name in ("format", "structures", "triggers")}
        given = {name: part for name, part in parts.items() if part is not None}
        if not given:
            raise FieldRefused("response_format", "response_format of type structural_tag needs format")
        return {"structural_tag": msgspec.json.encode({"type": "structural_tag", **given}).decode()}
    if form.json_schema is None or form.json_schema.schema is None:
        raise FieldRefused(
            "response_format.json_schema",
            "Missing required parameter: 'response_format.json_schema.schema'.",
            code="missing_required_parameter",
        )
    return {"json": form.json_schema.schema}


def _of_structured(given: dict[str, Any]) -> dict[str, Any]:
    known = KINDS + _MANNERS
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise FieldRefused(
                f"structured_outputs.{name}",
                f"structured_outputs has no '{name}'",
                hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}",
            )
    chosen = [name for name in KINDS if given.get(name) not in (None, False)]
    if len(chosen) != 1:
        said = " and ".join(chosen) if chosen else "none"
        raise FieldRefused("structured_outputs", f"structured_outputs takes one of {', '.join(KINDS)}, got {said}")
    return {name: value for name, value in given.items() if value is not None}


def _check(field: str, constraint: dict[str, Any]) -> None:
    """Check the type of a constraint's value; what it says is for the engine to read."""
    for kind, wanted in (("json", (str, dict)), ("regex", (str,)), ("grammar", (str,))):
        if kind in constraint and not isinstance(constraint[kind], wanted):
            raise FieldRefused(field, f"{field}: {kind} must be {'a schema' if kind == 'json' else 'a string'}")
    if isinstance(tag := constraint.get("structural_tag"), dict):
        constraint["structural_tag"] = msgspec.json.encode(tag).decode()
    if "choice" in constraint:
        choices = constraint["choice"]
        if not isinstance(choices, list) or not choices or not all(isinstance(c, str) and c for c in choices):
            raise FieldRefused(field, f"{field}: choice must be a list of strings that are not empty")
