"""The model repository extension: the index, and loading and unloading by hand."""

import base64
import binascii
from typing import Any

from tritium.compat.v2 import json_text
from tritium.compat.v2.refusal import Refusal, member, not_a, unparsable
from tritium.core.catalog import IndexEntry, LoadParameters
from tritium.core.errors import Internal, InvalidArgument, Unsupported
from tritium.http import answer
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def index(request: Request, front: Front, _target: Target) -> Response:
    """POST /v2/repository/index."""
    ready = _object(request).get("ready", False)
    if type(ready) is not bool:
        raise Refusal("Invalid value for 'ready': expected a boolean")
    return answer.json([_entry(entry) for entry in front.server.catalog.index(ready_only=ready)])


def _entry(entry: IndexEntry) -> dict[str, str]:
    row = {"name": entry.name, "version": entry.version, "state": entry.state or "", "reason": entry.reason}
    return {key: value for key, value in row.items() if value}


async def load(request: Request, front: Front, target: Target) -> Response:
    """POST /v2/repository/models/{name}/load."""
    _refuse_named(target)
    parameters = _parameters(request)
    config = ""
    files: dict[str, bytes] = {}
    for key, value in parameters.items():
        if type(value) is not str:
            raise unparsable(not_a("string"))
        if key != "config" and not key.startswith("file:"):
            # Triton's words; it names neither the parameter nor the two it knows.
            raise Internal("unexpected error on creating Triton parameter", hint=f"'{key}': not config or file:<path>")
        if key == "config":
            config = value
        else:
            files[key.removeprefix("file:")] = _content(key, value)
    await front.server.catalog.load(target.name, LoadParameters(config, files))
    return answer.DONE


async def unload(request: Request, front: Front, target: Target) -> Response:
    """POST /v2/repository/models/{name}/unload."""
    _refuse_named(target)
    dependents = _parameters(request).get("unload_dependents", False)
    if type(dependents) is not bool:
        raise member("unload_dependents", not_a("boolean"))
    await front.server.catalog.unload(target.name, dependents=dependents)
    return answer.DONE


def _refuse_named(target: Target) -> None:
    if target.repository:
        raise Unsupported("'repository_name' specification is not supported")


def _object(request: Request) -> dict[str, Any]:
    document = json_text.parse(request.body) if len(request.body) else {}
    if type(document) is not dict:
        raise unparsable("attempt to get members for non-object")
    return document


def _parameters(request: Request) -> dict[str, Any]:
    parameters = _object(request).get("parameters", {})
    if type(parameters) is not dict:
        raise unparsable("attempt to get members for non-object")
    return parameters


def _content(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value)  # line breaks and the like are passed over, as in Triton
    except binascii.Error:
        raise InvalidArgument(f"load parameter '{key}' is not base64") from None
