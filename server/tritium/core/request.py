"""One inference request and its responses, as every protocol decodes and every backend sees them.

    decode -> InferRequest -> Model.submit(request, reply) -> scheduler -> instance -> reply.send(response) -> encode

A request is answered through its `Reply`: once for an ordinary model, any number of times for a decoupled one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tritium.core.errors import InferenceError
from tritium.core.tensor import Tensor

if TYPE_CHECKING:
    from tritium.core.trace import TracedRequest
    from tritium.core.waits import Wait

Parameter = str | int | float | bool


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """Where a request stands in its sequence; `correlation_id` is 0 or "" when it belongs to none."""

    correlation_id: int | str = 0
    start: bool = False
    end: bool = False


@dataclass(slots=True, init=False)
class RequestedOutput:
    """An output the client named, with how it wants it; `classification` 0 means the raw tensor."""

    name: str
    classification: int

    # Written out, for one that dataclass writes is not compiled.
    def __init__(self, name: str, classification: int = 0) -> None:
        self.name = name
        self.classification = classification


NO_SEQUENCE = SequenceStep()


@dataclass(frozen=True, slots=True)
class Spans:
    """How long the parts of one request took, in nanoseconds."""

    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


class InferRequest:
    """A decoded request. `outputs` empty means all of them; `timeout_us` and `priority` 0 mean the default.

    `cancel()` may come from any layer at any time; `on_cancel` callbacks run once, at once when already cancelled.
    An instance may set `output_began_ns` when it begins to make the outputs of its next response, to have that time
    counted apart; one that can wait sets `hold`, which lets it wait before its next response (True) and go on again
    (False). `measured`, where set, is called once when a tensor model has run the request; that may be after
    its last response. `trace` is where its moments are noted, if it is traced; `wait` is the execution of another model
    that waits for it, if one does.
    """

    __slots__ = (
        "_watchers",
        "arrival_ns",
        "cancelled",
        "hold",
        "id",
        "inputs",
        "measured",
        "model_name",
        "model_version",
        "output_began_ns",
        "outputs",
        "parameters",
        "priority",
        "sequence",
        "timeout_us",
        "trace",
        "wait",
    )

    # No dataclass: the __init__ that it writes is not compiled, and every inference makes one of these.
    def __init__(
        self,
        model_name: str,
        model_version: str = "",
        id: str = "",  # noqa: A002  # as the protocol calls it
        inputs: list[Tensor] | None = None,
        outputs: list[RequestedOutput] | None = None,
        parameters: dict[str, Parameter] | None = None,
        sequence: SequenceStep = NO_SEQUENCE,
        priority: int = 0,
        timeout_us: int = 0,
        arrival_ns: int = 0,
        measured: Callable[[Spans], None] | None = None,
        trace: "TracedRequest | None" = None,
        wait: "Wait | None" = None,
    ) -> None:
        self.model_name = model_name
        self.model_version = model_version
        self.id = id
        self.inputs = [] if inputs is None else inputs
        self.outputs = [] if outputs is None else outputs
        self.parameters = {} if parameters is None else parameters
        self.sequence = sequence
        self.priority = priority
        self.timeout_us = timeout_us
        self.arrival_ns = arrival_ns
        self.cancelled = False
        self.output_began_ns = 0
        self.measured = measured
        self.trace = trace
        self.wait = wait
        self.hold: Callable[[bool], None] | None = None
        self._watchers: list[Callable[[], None]] | None = None

    @property
    def about(self) -> str:
        """Return how Triton's messages about a request begin."""
        return f"[request id: {self.id or '<id_unknown>'}] "

    def cancel(self) -> None:
        """Mark the request as no longer wanted and tell everyone who watches it."""
        if self.cancelled:
            return
        self.cancelled = True
        watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            watcher()

    def on_cancel(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when the request is cancelled."""
        if self.cancelled:
            watcher()
        elif self._watchers is None:
            self._watchers = [watcher]
        else:
            self._watchers.append(watcher)

    def forget(self, watcher: Callable[[], None]) -> None:
        """Take back an `on_cancel`: whoever is done with the request is not kept alive by it."""
        if self._watchers is not None and watcher in self._watchers:
            self._watchers.remove(watcher)

    def input(self, name: str) -> Tensor | None:
        """Return the input of that name, if the request has one."""
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        return None


class InferResponse:
    """One response. `model_version` is the version that ran, never empty once a model has answered."""

    __slots__ = ("id", "model_name", "model_version", "outputs", "parameters")

    def __init__(
        self,
        model_name: str,
        model_version: str,
        id: str = "",  # noqa: A002  # as the protocol calls it
        outputs: list[Tensor] | None = None,
        parameters: dict[str, Parameter] | None = None,
    ) -> None:
        self.model_name = model_name
        self.model_version = model_version
        self.id = id
        self.outputs = [] if outputs is None else outputs
        self.parameters = {} if parameters is None else parameters


class Reply(Protocol):
    """Where the responses to one request go; called on the event loop, in order.

    Contract: `send` is called until one call has `final=True`, and never after it. `response` is an
    InferResponse, an InferenceError (which answers in a response's place), or None with `final=True`:
    the end of a decoupled stream that carries no last response.
    """

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Deliver one response."""
        ...
