"""The OpenAPI document of the OpenAI port, made from the route table and from the structs that read and write it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tritium.openai.bounds import bound
from tritium.openai.endpoints import Endpoint
from tritium.openai.errors import ErrorObject
from tritium.openai.messages.errors import AnthropicError

References = Mapping[type, dict[str, Any]]
"""How the document refers to each kind of body."""

_REFERENCE = "#/components/schemas/{name}"
_HOLE = re.compile(r"\{(\w+)\}")
_MESSAGES = "/v1/messages"
_TEXT: dict[str, Any] = {"type": "string"}
_EVENT: dict[str, Any] = {"type": "object", "properties": {"event": _TEXT, "data": _TEXT}, "required": ["data"]}

ERROR = {
    "description": "An error.",
    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(name=ErrorObject.__name__)}}},
}
"""How the document tells of an error in OpenAI's shape."""


def describe(endpoints: Sequence[Endpoint]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the paths and the schemas of the routes."""
    read_or_written = (kind for one in endpoints for kind in (*one.bodies, one.answer) if kind is not None)
    kinds: list[type] = list(dict.fromkeys([*read_or_written, ErrorObject, AnthropicError]))
    # Structs of one name are told apart by their modules, so what refers to which is msgspec's to say.
    found, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    references = dict(zip(kinds, found, strict=True))
    for kind in dict.fromkeys(kind for one in endpoints for kind in one.bodies):
        name = references[kind]["$ref"].rpartition("/")[2]
        bound(kind, schemas[name]["properties"])
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.plain_path, {})[endpoint.method.lower()] = _operation(endpoint, references)
    return paths, schemas


def _operation(endpoint: Endpoint, references: References) -> dict[str, Any]:
    error = AnthropicError if endpoint.path.startswith(_MESSAGES) else ErrorObject
    content = _json([endpoint.answer], references) if endpoint.answer is not None else {"text/plain": {"schema": _TEXT}}
    if endpoint.streams:
        content["text/event-stream"] = {"schema": _EVENT}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {"description": "An error.", "content": _json([error], references)},
        },
    }
    if endpoint.bodies:
        operation["requestBody"] = {"required": True, "content": _json(endpoint.bodies, references)}
    if holes := _HOLE.findall(endpoint.plain_path):
        operation["parameters"] = [{"name": hole, "in": "path", "required": True, "schema": _TEXT} for hole in holes]
    return operation


def _json(kinds: Sequence[type], references: References) -> dict[str, Any]:
    schemas = [references[kind] for kind in kinds]
    return {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
