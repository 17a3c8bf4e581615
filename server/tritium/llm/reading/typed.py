"""Arguments written as text, turned to JSON by what the tool's schema says of them."""

import json
from collections.abc import Mapping
from typing import Any

from tritium.llm.reading.json_text import as_json
from tritium.llm.reading.reading import Tool

_DEEPEST = 16
"""How far alternatives within alternatives are followed."""
_ANY = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


def types_of(tool: Tool | None, parameter: str) -> frozenset[str]:
    """Return the JSON types that a parameter may have; all of them where the schema does not say."""
    properties = tool.parameters.get("properties") if tool is not None else None
    schema = properties.get(parameter) if isinstance(properties, Mapping) else None
    return _types(schema) or _ANY


def is_text(types: frozenset[str]) -> bool:
    """Tell whether nothing but a string is allowed, so that it can be sent on before its end is known."""
    return types == {"string"}


def as_typed_json(raw: str, types: frozenset[str]) -> str:
    """Return the JSON text of a value: JSON as it stands where it is of an allowed type, else a string."""
    value = raw.strip()
    spoken = {"True": "true", "False": "false", "None": "null"}.get(value, value)
    try:
        read = json.loads(spoken, strict=False)
        written = as_json(read)
    except (ValueError, RecursionError):
        return as_json(raw)
    return written if _fits(read, types) else as_json(raw)


def _fits(value: Any, types: frozenset[str]) -> bool:
    match value:
        case bool():
            return "boolean" in types
        case int():
            return bool(types & {"integer", "number"})
        case float():
            return "number" in types
        case str():
            # A string in quotes among bare ones is meant to have them, unless anything at all is allowed.
            return types == _ANY
        case list():
            return "array" in types
        case dict():
            return "object" in types
        case _:
            return "null" in types


def _types(schema: Any, depth: int = 0) -> frozenset[str]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return frozenset()
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(k for k in kind if isinstance(k, str))
    if isinstance(values := schema.get("enum"), list):
        return frozenset(_type_of(value) for value in values)
    found: frozenset[str] = frozenset()
    for word in ("anyOf", "oneOf", "allOf"):
        alternatives = schema.get(word)
        for each in alternatives if isinstance(alternatives, list) else ():
            found |= _types(each, depth + 1)
    return found


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"
