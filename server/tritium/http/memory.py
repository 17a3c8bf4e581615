"""Shared memory regions: their status, registering and unregistering them."""

from dataclasses import asdict
from typing import Any

from tritium.compat.v2 import json_text, regions
from tritium.compat.v2.refusal import Refusal, not_a, unparsable
from tritium.http import answer
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def system_status(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/systemsharedmemory[/region/{region}]/status."""
    return answer.json([asdict(status) for status in front.server.regions.status(target.region)])


async def cuda_status(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/cudasharedmemory[/region/{region}]/status."""
    return answer.json([asdict(status) for status in front.server.regions.cuda_status(target.region)])


async def register_system(request: Request, front: Front, target: Target) -> Response:
    """POST /v2/systemsharedmemory/region/{region}/register."""
    front.server.regions.check_open()
    if not target.region:
        raise Refusal("'region name' is necessary to register system shared memory region")
    wanted = _object(request)
    if "key" not in wanted:
        raise Refusal("Shared memory register request has no 'key' field")
    key, offset = _text(wanted["key"]), _unsigned(wanted.get("offset", 0))
    if "byte_size" not in wanted:
        raise Refusal("Shared memory register request has no 'byte_size' field")
    front.server.regions.register(target.region, key, offset, _unsigned(wanted["byte_size"]))
    return answer.DONE


async def register_cuda(request: Request, front: Front, target: Target) -> Response:
    """POST /v2/cudasharedmemory/region/{region}/register."""
    front.server.regions.check_open()
    if not target.region:
        raise Refusal("'region name' is necessary to register cuda shared memory region")
    wanted = _object(request)
    if "raw_handle" not in wanted:
        raise Refusal("Shared memory register request has no 'raw_handle' field")
    handle = _text(_member(wanted["raw_handle"], "b64"))
    _unsigned(_member(wanted, "byte_size"))
    _unsigned(_member(wanted, "device_id"))
    regions.check_cuda_handle(handle)
    front.server.regions.register_cuda(target.region)
    return answer.DONE


async def unregister_system(_request: Request, front: Front, target: Target) -> Response:
    """POST /v2/systemsharedmemory[/region/{region}]/unregister."""
    front.server.regions.unregister(target.region)
    return answer.DONE


async def unregister_cuda(_request: Request, front: Front, target: Target) -> Response:
    """POST /v2/cudasharedmemory[/region/{region}]/unregister."""
    front.server.regions.unregister_cuda(target.region)
    return answer.DONE


def _object(request: Request) -> dict[str, Any]:
    document = json_text.parse(request.body)
    if type(document) is not dict:
        raise unparsable("attempt to get members for non-object")
    return document


def _member(document: Any, key: str) -> Any:
    if type(document) is not dict or key not in document:
        raise unparsable(f"attempt to access non-existing object member '{key}'")
    return document[key]


def _text(value: Any) -> str:
    if type(value) is not str:
        raise unparsable(not_a("string"))
    return value


def _unsigned(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise unparsable(not_a("unsigned-integer"))
    return value
