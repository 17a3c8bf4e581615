"""The few shapes of an answer: JSON, nothing, and an error in Triton's form.

What an error has to say beyond Triton's words goes into the header `tritium-hint`, so that bodies stay equal.
"""

from typing import Any

import orjson

from tritium.compat.v2 import json_text
from tritium.core.errors import InferenceError
from tritium.wire.http import Headers, Response

JSON = (b"content-type", b"application/json")
EMPTY = Response(200, ((b"content-type", b"text/plain"),))
DONE = Response(200, (JSON,))
HINT = b"tritium-hint"


def json(value: Any) -> Response:
    """Answer 200 with a JSON document."""
    return Response(200, (JSON,), (orjson.dumps(value),))


def plain_error(status: int, message: str) -> Response:
    """Answer with a status of the protocol itself."""
    return Response(status, (JSON,), (json_text.write({"error": message}),))


NOT_FOUND = plain_error(404, "Not Found")
METHOD_NOT_ALLOWED = plain_error(405, "Method Not Allowed")


def error(problem: InferenceError, headers: Headers = ()) -> Response:
    """Answer with what went wrong, and a hint where there is one."""
    if problem.hint:
        headers = (*headers, (HINT, _line(problem.hint)))
    return Response(problem.http_status, (JSON, *headers), (error_body(problem),))


def error_body(problem: InferenceError) -> bytes:
    """Write an error as JSON."""
    return json_text.write({"error": problem.message})


def _line(text: str) -> bytes:
    """Write text as the value of a header: printable ASCII in one line."""
    return " ".join(text.split()).encode("ascii", "backslashreplace")
