"""Anthropic's error object, and its name for each status.

{"type": "error", "error": {"type": ..., "message": ...}, "request_id": ...}
"""

from typing import Literal

import msgspec

from tritium.core.errors import InferenceError
from tritium.openai.errors import error_object, headers_of, status_of
from tritium.openai.visit import Visit
from tritium.wire.http import Response

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; any other is api_error."""


class AnthropicErrorBody(msgspec.Struct):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(msgspec.Struct):
    """The whole of an error answer, and of the data of an error event."""

    error: AnthropicErrorBody
    request_id: str
    type: Literal["error"] = "error"


def anthropic_error(error: InferenceError, request_id: str) -> AnthropicError:
    """Return the error as Anthropic's clients read it."""
    kind = _TYPES.get(status_of(error), "api_error")
    return AnthropicError(AnthropicErrorBody(kind, error_object(error).error.message), request_id)


def anthropic_response(error: InferenceError, visit: Visit) -> Response:
    """Return the answer to a request that failed before its first token."""
    headers = [(b"content-type", b"application/json"), *headers_of(error), *visit.headers]
    return Response(status_of(error), headers, [msgspec.json.encode(anthropic_error(error, visit.id))])
