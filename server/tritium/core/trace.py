"""What one traced request went through: moments on its way, tensors if wanted, and the requests it led to.

    front   Tracing.begin -> Trace, with its root    mark(HTTP_RECV_START), ..., close()
    model   start -> enqueue -> execute -> end       REQUEST_START, QUEUE_START, COMPUTE_*, REQUEST_END
    member  child() of the ensemble's request, or of the model's that called

A trace is finished, and handed to its sink, when its front and every request in it have ended. Moments are those of
a monotonic clock, in nanoseconds. Names are Triton's. Source: core/src/infer_trace.h, server/src/tracer.cc, 2.73.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import orjson

from tritium.core.tensor import Tensor

if TYPE_CHECKING:
    from tritium.core.instance import ExecutionTimes

REQUEST_MOMENTS: Final = ("REQUEST_START", "QUEUE_START", "REQUEST_END")
COMPUTE_MOMENTS: Final = ("COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END")
"""What the server notes of a request and of its execution; other names are of a backend."""

TIMESTAMPS, TENSORS = "TIMESTAMPS", "TENSORS"
"""What can be traced; see compat.v2.trace_setting.LEVELS."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened; `of_front` tells what the protocol's front saw from what the server did."""

    name: str
    ns: int
    of_front: bool = False


@dataclass(frozen=True, slots=True)
class TracedTensor:
    """A tensor with a copy of its bytes, and where it was seen."""

    activity: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Context:
    """A place in a distributed trace, as W3C's `traceparent` and `tracestate` headers tell it."""

    trace_id: str
    span_id: str
    flags: str = "01"
    state: str = ""

    @property
    def json(self) -> str:
        """Return the headers as a JSON object, as models are given them."""
        headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{self.flags}"}
        return orjson.dumps(headers | ({"tracestate": self.state} if self.state else {})).decode()


class Trace:
    """One sampled request of a client with everything it led to; `finished` is called once, when all of it has ended.

    `parent` is the client's own place in a distributed trace, where it told one.
    """

    def __init__(
        self,
        level: Iterable[str],
        finished: Callable[["Trace"], None],
        *,
        ids: Iterator[int],
        parent: Context | None = None,
        distributed: bool = False,
    ) -> None:
        self.timestamps = TIMESTAMPS in level
        self.tensors = TENSORS in level
        self.parent = parent
        self.ids = ids
        self.distributed = distributed
        self.trace_id = parent.trace_id if parent else secrets.token_hex(16)
        self.span_id = secrets.token_hex(8)
        """Of the span that stands for the whole of it."""
        self.began_ns = time.monotonic_ns()
        self.ended_ns = 0
        self.offset_ns = time.time_ns() - self.began_ns
        """What makes a moment of the monotonic clock one since 1970."""
        self.requests: list[TracedRequest] = []
        self.root = TracedRequest(self, 0)
        self._finished = finished
        self._open = 1

    def mark(self, name: str, ns: int = 0) -> None:
        """Note what the front saw, now or at a moment before."""
        if self.timestamps:
            self.root.moments.append(Moment(name, ns or time.monotonic_ns(), of_front=True))

    def close(self) -> None:
        """Take note that the front has nothing more to say."""
        self.ended_ns = time.monotonic_ns()
        self.leave()

    def enter(self) -> None:
        """Take note that a request of it has begun."""
        self._open += 1

    def leave(self) -> None:
        """Take note that a request of it has ended."""
        self._open -= 1
        if not self._open:
            self._finished(self)


@dataclass(slots=True, eq=False, weakref_slot=True)
class TracedRequest:
    """One request to one model within a trace."""

    trace: Trace
    parent_id: int
    id: int = 0
    model_name: str = ""
    model_version: str = ""
    request_id: str = ""
    span_id: str = ""
    moments: list[Moment | TracedTensor] = field(default_factory=list)
    open: bool = False

    def __post_init__(self) -> None:
        """Number the request."""
        self.id = next(self.trace.ids)
        self.span_id = secrets.token_hex(8)
        self.trace.requests.append(self)
        _LIVE[self.id] = self

    def child(self) -> "TracedRequest":
        """Return the trace of a request that this one makes."""
        return TracedRequest(self.trace, self.id)

    @property
    def context(self) -> str:
        """Return the place of this request in a distributed trace as JSON, empty where it is in none."""
        if not self.trace.distributed:
            return ""
        parent = self.trace.parent
        flags, state = (parent.flags, parent.state) if parent else ("01", "")
        return Context(self.trace.trace_id, self.span_id, flags, state).json

    def start(self, name: str, version: str, request_id: str, ns: int) -> None:
        """Note that a model has taken the request."""
        self.model_name, self.model_version, self.request_id = name, version, request_id
        self.open = True
        self.trace.enter()
        self._mark("REQUEST_START", ns)

    def enqueue(self, inputs: Iterable[Tensor], ns: int) -> None:
        """Note that the request waits."""
        self._mark("QUEUE_START", ns)
        self.see("TENSOR_QUEUE_INPUT", inputs)

    def execute(self, start_ns: int, times: "ExecutionTimes") -> None:
        """Note what an execution was made of."""
        input_end_ns = start_ns + times.input_ns
        output_start_ns = input_end_ns + times.infer_ns
        self._mark("COMPUTE_START", start_ns)
        self._mark("COMPUTE_INPUT_END", input_end_ns)
        self._mark("COMPUTE_OUTPUT_START", output_start_ns)
        self._mark("COMPUTE_END", output_start_ns + times.output_ns)

    def note(self, name: str) -> None:
        """Note a moment of the backend's own; what is between NAME_START and NAME_END is a span."""
        self._mark(name, time.monotonic_ns())

    def see(self, activity: str, tensors: Iterable[Tensor]) -> None:
        """Keep tensors, if the trace is to have them."""
        if self.trace.tensors:
            for tensor in tensors:
                copy = Tensor(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data))
                self.moments.append(TracedTensor(activity, copy))

    def end(self, ns: int) -> None:
        """Note that the model is done with the request."""
        if self.open:
            self.open = False
            self._mark("REQUEST_END", ns)
            self.trace.leave()

    def _mark(self, name: str, ns: int) -> None:
        if self.trace.timestamps:
            self.moments.append(Moment(name, ns))


_LIVE: Final[WeakValueDictionary[int, TracedRequest]] = WeakValueDictionary()


def traced_request(number: int) -> TracedRequest | None:
    """Return a traced request by its number: how a model in another process names the one it was called with."""
    return _LIVE.get(number)


REQUEST_IDS: Final = count(1)
"""Numbers of traced requests, in one row for the whole server."""


def read_traceparent(traceparent: str, tracestate: str = "") -> Context | None:
    """Read the headers of W3C's trace context, version 00 or later; None where they are not valid."""
    parts = traceparent.strip().split("-")
    if len(parts) < 4 or (parts[0] == "00" and len(parts) > 4):
        return None
    version, trace_id, span_id, flags = parts[:4]
    for text, length in ((version, 2), (trace_id, 32), (span_id, 16), (flags, 2)):
        if len(text) != length or set(text) - set("0123456789abcdef"):
            return None
    if version == "ff" or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Context(trace_id, span_id, flags, tracestate)
