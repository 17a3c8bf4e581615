"""OpenAI's error object, and which status and type each error of ours becomes.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

refused field, bad JSON, context exceeded   400  invalid_request_error
no or wrong API key                         401  invalid_request_error     invalid_api_key
a key that may not do this                  403  invalid_request_error     insufficient_permissions
unknown model                               404  invalid_request_error     model_not_found
unknown response or item                    404  invalid_request_error     not_found
too many requests, full queues              429  rate_limit_error          rate_limit_exceeded
no worker, unloading                        503  service_unavailable_error
longer than a request may take              504  timeout_error             request_timeout
anything else                               as the error says, 500 server_error
"""

import msgspec

from tritium.core.errors import AlreadyExists, InferenceError, InvalidArgument, NotFound, Overloaded, Unavailable
from tritium.llm.errors import ContextExceeded, FieldRefused
from tritium.wire.http import Headers, Response

_SERVER_FAULT = 500
_MOST_CHARACTERS = 4_096
"""How much of a message is sent."""


class Unauthorized(InvalidArgument):
    """The API key is missing or wrong."""

    http_status = 401
    grpc_code = 16


class Forbidden(InvalidArgument):
    """The API key is known, and may not do this."""

    http_status = 403
    grpc_code = 7


class LimitReached(Overloaded):
    """A limit of the client's own API key is reached; `retry_s` seconds from now it is not."""

    def __init__(self, message: str, retry_s: int) -> None:
        super().__init__(message, hint=f"try again in {retry_s} s")
        self.retry_s = retry_s


class TookTooLong(InferenceError):
    """The request took longer than this server lets one take."""

    http_status = 504
    grpc_code = 4

    def __init__(self, within_s: float) -> None:
        super().__init__(
            f"the request took longer than the {within_s:g} s that this server gives one",
            hint="ask for fewer tokens; --openai-timeout-s sets the limit",
        )


class NothingKept(NotFound):
    """No response or item of that id is kept."""


class UnknownRoute(InferenceError):
    """No route of that path, or not by that method."""

    def __init__(self, message: str, status: int, allowed: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.allowed = allowed
        """The methods that the path takes."""


class ErrorBody(msgspec.Struct):
    """What went wrong; `param` names the field at fault and `code` is for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorObject(msgspec.Struct):
    """The whole of an error answer, and of an error event within a stream."""

    error: ErrorBody


def status_of(error: InferenceError) -> int:
    """Return the HTTP status of an error on the OpenAI routes."""
    if isinstance(error, Overloaded):
        return 429
    return error.status if isinstance(error, UnknownRoute) else error.http_status


def error_object(error: InferenceError) -> ErrorObject:
    """Return the error as OpenAI clients read it."""
    message = _shown(error.told)
    match error:
        case FieldRefused():
            body = ErrorBody(message, "invalid_request_error", _shown(error.field) or None, error.code)
        case ContextExceeded():
            body = ErrorBody(message, "invalid_request_error", error.field, "context_length_exceeded")
        case Unauthorized():
            body = ErrorBody(message, "invalid_request_error", None, "invalid_api_key")
        case Forbidden():
            body = ErrorBody(message, "invalid_request_error", None, "insufficient_permissions")
        case NothingKept():
            body = ErrorBody(message, "invalid_request_error", None, "not_found")
        case NotFound():
            body = ErrorBody(message, "invalid_request_error", "model", "model_not_found")
        case Overloaded():
            body = ErrorBody(message, "rate_limit_error", None, "rate_limit_exceeded")
        case Unavailable():
            body = ErrorBody(message, "service_unavailable_error", None, "service_unavailable")
        case TookTooLong():
            body = ErrorBody(message, "timeout_error", None, "request_timeout")
        case UnknownRoute() | InvalidArgument() | AlreadyExists():
            body = ErrorBody(message, "invalid_request_error")
        case _:
            body = ErrorBody(message, "server_error")
    return ErrorObject(body)


def _shown(text: str) -> str:
    """Return a text as an answer may have it: what a client sent, and is quoted to it, can be of any length."""
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."


def headers_of(error: InferenceError) -> list[tuple[bytes, bytes]]:
    """Return the headers that belong to an error: when to try again, which methods there are."""
    if isinstance(error, UnknownRoute) and error.allowed:
        return [(b"allow", error.allowed.encode())]
    if isinstance(error, Unavailable):
        return [(b"retry-after", b"%d" % error.retry_s)]
    return [(b"retry-after", b"1")] if status_of(error) in {429, 503} else []


def wire_refusal(status: int, message: str) -> Response:
    """Return the answer to what never became a request, such as a body larger than the port takes."""
    kind = "invalid_request_error" if status < _SERVER_FAULT else "service_unavailable_error"
    body = msgspec.json.encode(ErrorObject(ErrorBody(message, kind)))
    return Response(status, [(b"content-type", b"application/json")], [body])


def error_response(error: InferenceError, headers: Headers) -> Response:
    """Return the answer to a request that failed before its first token."""
    return Response(
        status_of(error),
        [(b"content-type", b"application/json"), *headers_of(error), *headers],
        [msgspec.json.encode(error_object(error))],
    )
