"""Log and trace settings: read, and changed while the server runs."""

from typing import Any

from tritium.compat.v2 import json_text, log_setting, trace_setting
from tritium.core.serving import check_traced
from tritium.http import answer
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Request, Response


async def logging(_request: Request, front: Front, _target: Target) -> Response:
    """GET /v2/logging."""
    return answer.json(front.server.log_settings.settings.rows())


async def set_logging(request: Request, front: Front, _target: Target) -> Response:
    """POST /v2/logging: change what is named, and answer with all settings."""
    control = front.server.log_settings
    control.update(log_setting.read_json(_document(request)))
    return answer.json(control.settings.rows())


async def tracing(_request: Request, front: Front, target: Target) -> Response:
    """GET /v2/trace/setting, /v2/models/{name}/trace/setting."""
    if target.name:
        check_traced(front.server.catalog, target.name)
    return answer.json(front.server.trace_settings.settings(target.name).rows())


async def set_tracing(request: Request, front: Front, target: Target) -> Response:
    """POST /v2/trace/setting, /v2/models/{name}/trace/setting."""
    if target.name:
        check_traced(front.server.catalog, target.name)
    control = front.server.trace_settings
    control.update(target.name, trace_setting.read_json(_document(request)))
    return answer.json(control.settings(target.name).rows())


def _document(request: Request) -> Any:
    return json_text.parse(request.body)
