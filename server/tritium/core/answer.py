"""What stands between an instance and the client of one request.

    instance -> Answer.send -> [other outputs dropped, shapes as configured, id and version filled in] -> client

It is also where a request's fate is counted: once the last response is out and the execution has returned.
"""

from typing import Final

from tritium.core.clock import Clock
from tritium.core.errors import InferenceError, ModelFailed
from tritium.core.implicit_state import SequenceState
from tritium.core.instance import ExecutionTimes
from tritium.core.ledger import Ledger
from tritium.core.request import InferRequest, InferResponse, Reply, Spans
from tritium.core.reshape import Reshape

_NOTHING_RAN: Final = ExecutionTimes(0, 0, 0)


class Desk:
    """What the answers of one model share."""

    __slots__ = ("clock", "ledger", "name", "reshape", "version")

    def __init__(self, name: str, version: str, ledger: Ledger, clock: Clock, reshape: Reshape) -> None:
        self.name = name
        self.version = version
        self.ledger = ledger
        self.clock = clock
        self.reshape = reshape


class Answer:
    """The reply handed to an instance with one request."""

    __slots__ = (
        "_batch_size",
        "_desk",
        "_error",
        "_final",
        "_index",
        "_last_ns",
        "_queued_ns",
        "_request",
        "_started_ns",
        "_times",
        "reply",
        "state",
    )

    def __init__(self, desk: Desk, request: InferRequest, reply: Reply, batch_size: int, queued_ns: int) -> None:
        self.reply = reply
        """Where the responses go from here."""
        self.state: SequenceState | None = None
        """What takes the sequence's state out of the responses, where the server keeps it."""
        self._desk = desk
        self._request = request
        self._batch_size = batch_size
        self._queued_ns = queued_ns
        self._started_ns = queued_ns
        self._last_ns = queued_ns
        self._index = 0
        self._error: InferenceError | None = None
        self._final = False
        self._times: ExecutionTimes | None = None
        if request.trace is not None:
            request.trace.start(desk.name, desk.version, request.id, queued_ns)
            request.trace.enqueue(request.inputs, queued_ns)

    def starting(self, now_ns: int) -> None:
        """Take note that the request leaves the queue."""
        self._started_ns = self._last_ns = now_ns
        if self._request.trace is not None:
            self._request.trace.see("TENSOR_BACKEND_INPUT", self._request.inputs)

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Deliver one response; what an instance says after its final one is not heard."""
        if self._final:
            return
        self._final = final
        if isinstance(response, InferResponse):
            self._complete(response)
        elif response is not None:
            self._error = response
        if self._desk.ledger.decoupled:
            self._count_response(response)
        self.reply.send(response, final=final)
        if final and self._times is not None:
            self._settle(self._times)

    def executed(self, times: ExecutionTimes | None, *, later: bool = False) -> None:
        """Take note that the execution has returned; with `later` the instance answers when it can."""
        self._times = times or _NOTHING_RAN
        if self._final:
            self._settle(self._times)
        elif not self._desk.ledger.decoupled and not later:
            self.send(ModelFailed("the model returned without a response to the request"), final=True)

    def refuse(self, error: InferenceError) -> None:
        """Answer a request that never ran."""
        self._final = True
        now_ns = self._desk.clock.now_ns()
        self._desk.ledger.failure(error.reason, now_ns - self._queued_ns)
        self.reply.send(error, final=True)
        if self._request.trace is not None:
            self._request.trace.end(now_ns)

    def _complete(self, response: InferResponse) -> None:
        request, desk = self._request, self._desk
        response.id = request.id
        response.model_name = desk.name
        response.model_version = desk.version
        if self.state is not None:
            response.outputs = self.state.keep(response.outputs, request)
        if request.outputs:
            wanted = {output.name for output in request.outputs}
            response.outputs = [tensor for tensor in response.outputs if tensor.name in wanted]
        if desk.reshape.changes_outputs:
            response.outputs = desk.reshape.outputs(response.outputs)
        if request.trace is not None:
            request.trace.see("TENSOR_BACKEND_OUTPUT", response.outputs)

    def _count_response(self, response: InferResponse | InferenceError | None) -> None:
        now_ns = self._desk.clock.now_ns()
        began_ns, self._request.output_began_ns = self._request.output_began_ns, 0
        output_ns = now_ns - began_ns if began_ns else 0
        self._desk.ledger.response(self._index, response, now_ns - self._last_ns, output_ns)
        self._index += 1
        self._last_ns = now_ns

    def _settle(self, times: ExecutionTimes) -> None:
        request, ledger = self._request, self._desk.ledger
        now_ns = self._desk.clock.now_ns()
        request_ns = now_ns - self._queued_ns
        queue_ns = self._started_ns - self._queued_ns
        if self._error is None:
            ledger.success(self._batch_size, request_ns, queue_ns, times)
        else:
            # Whatever code the model gave its error, it was the model that failed the request.
            ledger.failure("CANCELED" if self._error.reason == "CANCELED" else "BACKEND", request_ns)
        if request.measured is not None:
            request.measured(Spans(queue_ns, times.input_ns, times.infer_ns, times.output_ns))
        if request.trace is not None:
            if times is not _NOTHING_RAN:
                request.trace.execute(self._started_ns, times)
            request.trace.end(now_ns)
