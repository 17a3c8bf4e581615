"""Why a generation ends before its last token, in words for its client and hints for its operator. Pure."""

from tritium.backends.engine import Delta
from tritium.core.errors import (
    InferenceError,
    InvalidArgument,
    ModelFailed,
    Overloaded,
    SamplingRefused,
    Unavailable,
    WorkerLost,
)


def too_many(model: str, most: int) -> Overloaded:
    """Return what a request is told beyond the bound of its fleet."""
    words = f"model '{model}' has {most} requests under way, the most it takes"
    return Overloaded(words, hint="retry later, or raise max_requests in the fleet's setting")


def unloading(model: str) -> Unavailable:
    """Return what a request is told whose fleet is being closed."""
    return Unavailable(f"model '{model}' is unloading")


def no_worker(model: str, hold_s: float) -> Unavailable:
    """Return what a request is told that was held for too long."""
    words = f"no worker of model '{model}' became ready within {hold_s:g} s"
    return Unavailable(words, hint="the server's log says why its workers do not start")


def overdue(worker: str, token_s: float) -> Unavailable:
    """Return what a request is told that its worker, though alive, does not get on with."""
    words = f"worker {worker} had no token for the request within {token_s:g} s"
    return Unavailable(words, hint="retry later, or raise token_s in the fleet's setting")


def lost(worker: str, why_not: str) -> WorkerLost:
    """Return what a request is told whose worker was lost; `why_not` says what kept it from going on elsewhere."""
    return WorkerLost(f"worker {worker} was lost under the request", hint=f"it could not go on elsewhere: {why_not}")


def unsendable(error: Exception) -> InvalidArgument:
    """Return what a request is told that no frame can carry: a number beyond 64 bits, say."""
    return InvalidArgument(f"the request cannot be sent to a worker: {error}")


def refused(delta: Delta) -> InferenceError:
    """Return what a request is told that an engine does not take or cannot finish, in the engine's words."""
    words = words_of_failure(delta)
    if not delta.invalid:
        return ModelFailed(words)
    return SamplingRefused(delta.field, words) if delta.field else InvalidArgument(words)


def words_of_failure(delta: Delta) -> str:
    """Return what an engine says of the failure that a delta tells of."""
    return delta.error or "the engine failed without a reason"
