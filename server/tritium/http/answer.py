"""The few shapes of an answer: JSON, nothing, and an error in Triton's form."""

from typing import Any

import orjson

from tritium.core.errors import InferenceError
from tritium.wire.http import Response

JSON = (b"content-type", b"application/json")
EMPTY = Response(200, ((b"content-type", b"text/plain"),))
DONE = Response(200, (JSON,))
NOT_FOUND = Response(404, (JSON,), (b'{"error":"Not Found"}',))
METHOD_NOT_ALLOWED = Response(405, (JSON,), (b'{"error":"Method Not Allowed"}',))


def json(value: Any) -> Response:
    """Answer 200 with a JSON document."""
    return Response(200, (JSON,), (orjson.dumps(value),))


def error(problem: InferenceError) -> Response:
    """Answer with what went wrong, and a hint where there is one."""
    return Response(problem.http_status, (JSON,), (error_body(problem),))


def error_body(problem: InferenceError) -> bytes:
    """Write an error as JSON."""
    body = {"error": problem.message}
    if problem.hint:
        body["hint"] = problem.hint
    return orjson.dumps(body)
