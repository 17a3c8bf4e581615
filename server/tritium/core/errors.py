"""Every error a client can be told, in one tree.

    InferenceError                 HTTP  gRPC
    |-- InvalidArgument            400   INVALID_ARGUMENT
    |   `-- SamplingRefused        400   INVALID_ARGUMENT (by an engine, which names the field)
    |-- NotFound                   404   NOT_FOUND
    |   `-- StillLoading           404   NOT_FOUND      (it will be there; the OpenAI port answers 503)
    |-- AlreadyExists              400   ALREADY_EXISTS
    |-- Cancelled                  400   CANCELLED
    |-- Unavailable                503   UNAVAILABLE
    |   `-- Overloaded             503   UNAVAILABLE    (a queue is full; retry later)
    |-- DeadlineExceeded           503   UNAVAILABLE    (Triton's answer to an expired queue timeout)
    |-- Unsupported                501   UNIMPLEMENTED
    |-- Internal                   500   INTERNAL
    |   |-- ModelFailed            500   INTERNAL       (the model raised)
    |   `-- WorkerLost             500   INTERNAL       (a process died under the request)
    `-- Unknown                    400   UNKNOWN

Rooms add leaves that only they raise, with the status of their branch (`router.admission.RoomFull`,
`cluster.plane.greeting.Unreachable`) or one of their protocol's own (`openai.errors`). Handlers raise and encoders
read; they hold no numbers. Source of the mapping: Triton's TRITONSERVER_Error codes as its HTTP and gRPC endpoints
answer them.
"""

from typing import ClassVar


class InferenceError(Exception):
    """What went wrong, as one sentence a client may read, and a hint at what to do about it."""

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[int] = 13
    reason: ClassVar[str] = "OTHER"
    """The `reason` label of nv_inference_request_failure: REJECTED, CANCELED, BACKEND or OTHER."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def told(self) -> str:
        """Return the message with the hint behind it, for where both have to be one text."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidArgument(InferenceError):
    """The request is at fault."""

    http_status = 400
    grpc_code = 3


class SamplingRefused(InvalidArgument):
    """An engine does not take one field of how a sequence is sampled; `field` is its SamplingParams name."""

    def __init__(self, field: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.field = field


class NotFound(InferenceError):
    """No such model, version, region or worker."""

    http_status = 404
    grpc_code = 5


class StillLoading(NotFound):
    """The model is there, and none of its versions is loaded yet."""


class AlreadyExists(InferenceError):
    """The name is taken."""

    http_status = 400
    grpc_code = 6


class Cancelled(InferenceError):
    """The client took the request back."""

    http_status = 400
    grpc_code = 1
    reason = "CANCELED"


class Unavailable(InferenceError):
    """The server or the model cannot take the request now."""

    http_status = 503
    grpc_code = 14
    retry_s: int = 1
    """In so many seconds it may well be otherwise; an error that knows better says so."""


class Overloaded(Unavailable):
    """A bounded queue is full."""

    reason = "REJECTED"


class DeadlineExceeded(InferenceError):
    """The request waited longer than it or its queue policy allows."""

    http_status = 503
    grpc_code = 14
    reason = "REJECTED"


class Unsupported(InferenceError):
    """The request is understood but not served here."""

    http_status = 501
    grpc_code = 12


class Internal(InferenceError):
    """The fault is ours or the model's."""

    http_status = 500
    grpc_code = 13


class ModelFailed(Internal):
    """The model raised, or answered what its configuration does not allow."""

    reason = "BACKEND"


class WorkerLost(Internal):
    """The process that ran the request died."""

    reason = "BACKEND"


class Unknown(InferenceError):
    """Triton's UNKNOWN code."""

    http_status = 400
    grpc_code = 2
