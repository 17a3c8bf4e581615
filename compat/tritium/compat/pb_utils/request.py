"""A request: one that came to the model, or one that the model makes of another model."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tritium.compat.pb_utils.errors import TritonModelException
from tritium.compat.pb_utils.memory import PreferredMemory
from tritium.compat.pb_utils.response import InferenceResponse, ResponseIterator, check_parameters
from tritium.compat.pb_utils.runtime import runtime
from tritium.compat.pb_utils.sender import (
    TRITONSERVER_REQUEST_RELEASE_ALL,
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
    InferenceResponseSender,
)
from tritium.compat.pb_utils.tensor import Tensor

if TYPE_CHECKING:
    import asyncio

    from tritium.compat.pb_utils.runtime import Runtime


class InferenceTrace:
    """The trace that a request belongs to; hand it to requests of other models to keep them in it."""

    __slots__ = ("_context", "number")

    def __init__(self, context: str = "", number: int = 0) -> None:
        self._context = context
        self.number = number
        """What the server calls the request that it is of, 0 outside a trace."""

    def get_context(self) -> str | None:
        """Return the propagated context as JSON text, None outside a trace."""
        return self._context or None


_NO_TRACE = InferenceTrace()
_MISSING: Any = object()
NOT_OURS = -1


class InferenceRequest:
    """Inputs and what goes with them."""

    __slots__ = (
        "_correlation_id",
        "_flags",
        "_inputs",
        "_model_name",
        "_model_version",
        "_outputs",
        "_parameters",
        "_request_id",
        "_runtime",
        "_timeout",
        "_trace",
        "key",
        "rescheduled",
        "sender",
    )

    _runtime: "Runtime"
    """Of a request that came to the model."""
    key: int
    """What names the request towards the server; negative where the model made it."""
    rescheduled: bool
    """Whether the model wants to execute the request once more."""
    sender: InferenceResponseSender | None
    """The way to answer it, if the model has asked for it."""

    def __init__(  # Triton's own parameters, in Triton's order
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] = _MISSING,
        requested_output_names: Sequence[str] = _MISSING,
        model_name: str = _MISSING,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,  # noqa: ARG002  # all memory here is the host's
        trace: InferenceTrace = _NO_TRACE,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        model_name, request_id = _text(model_name), _text(request_id)
        _demand("model_name", model_name, str)
        _demand("inputs", inputs, Sequence)
        _demand("requested_output_names", requested_output_names, Sequence)
        _demand("request_id", request_id, str)
        for name, number in (("model_version", model_version), ("flags", flags), ("timeout", timeout)):
            _demand(name, number, int)
        if correlation_id is None:
            raise TypeError("correlation_id must not be None")
        if not isinstance(correlation_id, int | str):
            raise TritonModelException("Correlation ID must be integer or string")
        where = f"for request with id '{request_id}' and model name '{model_name}' should not be empty."
        for tensor in inputs:
            if tensor is None:
                raise TritonModelException(f"Input tensor {where}")
            if not isinstance(tensor, Tensor):
                raise TypeError(f"inputs must hold pb_utils.Tensor objects, found {type(tensor)}")
        for output in requested_output_names:
            _demand("requested_output_names' entries", output, str)
        if not all(requested_output_names):
            raise TritonModelException(f"Requested output name {where}")
        self.key = NOT_OURS
        self.rescheduled = False
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._inputs = list(inputs)
        self._outputs = list(dict.fromkeys(requested_output_names))
        self._model_name = model_name
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._trace = trace
        self._parameters = check_parameters(parameters)
        self.sender = None

    def inputs(self) -> list[Tensor]:
        """Return the inputs."""
        return self._inputs

    def request_id(self) -> str:
        """Return the id the client gave, empty where it gave none."""
        return self._request_id

    def correlation_id(self) -> int | str:
        """Return the id of the sequence, 0 outside one."""
        return self._correlation_id

    def requested_output_names(self) -> list[str]:
        """Return the names of the outputs to answer with."""
        return self._outputs

    @property
    def model_name(self) -> str:
        """Return the name of the model a request is made of."""
        return self._model_name

    @property
    def model_version(self) -> int:
        """Return the version a request is made of, -1 for the one the server picks."""
        return self._model_version

    def flags(self) -> int:
        """Return the sequence flags."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Set the sequence flags."""
        self._flags = flags

    def timeout(self) -> int:
        """Return the timeout in microseconds, 0 for none."""
        return self._timeout

    def parameters(self) -> str:
        """Return the parameters as JSON text, of an empty object where there are none."""
        return json.dumps(self._parameters) if self._parameters else "{}"

    @property
    def parameter_values(self) -> dict[str, Any]:
        """Return the parameters."""
        return self._parameters

    def trace(self) -> InferenceTrace:
        """Return the trace."""
        return self._trace

    def set_release_flags(self, flags: int) -> None:
        """Choose what happens when execute returns: the request is released, or executed once more (rescheduled).

        Raises:
            TritonModelException: unknown flags.
        """
        if flags not in {TRITONSERVER_REQUEST_RELEASE_ALL, TRITONSERVER_REQUEST_RELEASE_RESCHEDULE}:
            raise TritonModelException(f"unknown request release flags {flags}")
        self.rescheduled = flags == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE

    def get_response_sender(self) -> InferenceResponseSender:
        """Return the way to answer this request.

        Raises:
            TritonModelException: the model made this request itself.
        """
        if self.sender is None:
            if self.key == NOT_OURS:
                raise TritonModelException("a request that the model made itself has no response sender")
            self.sender = InferenceResponseSender(self.key, self._runtime)
        return self.sender

    def is_cancelled(self) -> bool:
        """Tell whether the client took the request back."""
        return self.key != NOT_OURS and self._runtime.cancelled(self.key)

    def exec(self, decoupled: bool = False) -> InferenceResponse | ResponseIterator:  # noqa: FBT001, FBT002  # Triton's
        """Run the request on its model and wait; `decoupled` returns an iterator of responses."""
        pending = runtime().call(self, decoupled=decoupled)
        if decoupled:
            return ResponseIterator(pending)
        response = pending.take()
        assert response is not None
        return response

    def async_exec(self, decoupled: bool = False) -> "asyncio.Future[Any]":  # noqa: FBT001, FBT002  # Triton's
        """Run the request on its model; await what is returned, which is there with the first response.

        Only the first: a loop over the iterator of `decoupled` waits for the others, and its event loop with it.
        """
        import asyncio  # noqa: PLC0415  # costs every model's start 40 ms, and is needed by few

        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        pending = runtime().call(self, decoupled=decoupled)

        def resolve() -> None:
            if not future.done():
                future.set_result(ResponseIterator(pending) if decoupled else pending.take())

        def wake() -> None:
            loop.call_soon_threadsafe(resolve)

        def give_up(future: "asyncio.Future[Any]") -> None:
            if future.cancelled():
                pending.cancel()

        future.add_done_callback(give_up)
        pending.when_done(wake)
        return future


def _text(value: Any) -> Any:
    """Return a string for bytes, which Triton's binding takes too; models pass elements of BYTES tensors on."""
    return value.decode() if isinstance(value, bytes) else value


def _demand(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        said = "is required" if value is _MISSING else f"must be {kind.__name__}, not {type(value).__name__}"
        raise TypeError(f"InferenceRequest: {name} {said}")


class ReceivedRequest(InferenceRequest):
    """The request that a client sent; `key` names it towards the server."""

    __slots__ = ()

    def __init__(  # called once a request, on the hot path
        self,
        key: int,
        inputs: list[Tensor],
        outputs: list[str],
        request_id: str,
        correlation_id: int | str,
        flags: int,
        timeout: int,
        parameters: dict[str, Any] | None,
        runtime: "Runtime",
    ) -> None:
        self.key = key
        self.rescheduled = False
        self._runtime = runtime
        self._inputs = inputs
        self._outputs = outputs
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._flags = flags
        self._timeout = timeout
        self._parameters = parameters or {}
        self._trace = _NO_TRACE
        self.sender = None
        self._model_name = ""
        self._model_version = -1

    def join(self, trace: InferenceTrace) -> None:
        """Make the request part of a trace."""
        self._trace = trace

    def __del__(self) -> None:
        # With a sender, the sender notices.
        if self.sender is None:
            self._runtime.dropped(self.key)
